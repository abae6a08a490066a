"""Intervals, paired tests, agreement, reliability, ranking, win rates at equal length. Pure:
numbers in, numbers out; nothing of ours."""
