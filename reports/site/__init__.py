"""A static site of the history."""
