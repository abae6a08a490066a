"""Generation: the native torch engine, its sampling arithmetic and its requests."""
