"""Models: the backbone, its adapters, the roles that are views of it, and their weights on disk."""
