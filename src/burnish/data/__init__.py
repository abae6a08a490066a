"""Data: rows from files and hubs, chat templates to tokens, prompts in a resumable order,
comparisons to groups."""
