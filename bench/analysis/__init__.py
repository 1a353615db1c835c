"""Pure functions of numbers and records."""
