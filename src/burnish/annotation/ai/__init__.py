"""Models as annotators: they label by a written constitution, and write demonstrations by critique
and revision."""
