"""The history of runs in SQL."""
