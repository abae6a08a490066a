"""Past one process: engines as a service, weights on their way to them, rollouts on disk."""
