"""Workloads: models, recipes, data sets, and files of the user."""
