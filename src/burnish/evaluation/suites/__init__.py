"""Suites: what a model is measured on besides the taste of its judges. Items, how each form of them
is scored, how two models are compared item by item, and the section of the report. Everything here
is pure; `burnish.stages.suites` runs the models."""
