"""Algorithms: pure arithmetic on tensors. Keyword arguments in, tensors out; no config, no I/O, no
globals."""
