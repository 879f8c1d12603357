"""What is computed on query results."""
