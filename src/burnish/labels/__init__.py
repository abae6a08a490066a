"""What labels mean: votes, and the one way from votes to soft labels. Pure functions over records;
no database, no files."""
