"""The judges: they hold what workers did against what it must be. They run in the parent, out of the workers' reach."""
