"""What is run: models, recipes, data sets, files."""
