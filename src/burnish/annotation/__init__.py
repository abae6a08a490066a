"""Annotation: the store of prompts, candidates and rankings, the simulated panel, agreement and
aggregation. No torch here."""
