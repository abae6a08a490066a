"""What the answers of a project say: agreement, reliability, model ranking, biases, pace. Pure:
answers in, numbers out."""
