"""Configuration: the recipe's schema, and reading it from YAML and the command line. Torch-free."""
