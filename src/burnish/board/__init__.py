"""A local page over all runs, while they train and after."""
