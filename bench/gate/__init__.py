"""Compare base and present."""
