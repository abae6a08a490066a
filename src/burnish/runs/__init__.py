"""Runs: checkpoints, metrics and the manifest of a run's folder."""
