"""A run as other tools read it."""
