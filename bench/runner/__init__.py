"""The parent: plans, spawns workers, interleaves them, builds records."""
