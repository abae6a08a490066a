"""Exact worlds in which over-optimization of a reward model is measured."""
