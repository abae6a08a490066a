"""What a run will need before it begins: memory, time, people."""
