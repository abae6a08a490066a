"""Evaluation: intervals and paired tests, what to say of a reward model, and the report. Never
imports trainers."""
