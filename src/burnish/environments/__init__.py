"""Environments: what answers a policy between its turns. Torch-free; knows records only."""
