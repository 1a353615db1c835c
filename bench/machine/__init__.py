"""The computer: its hardware, its settings, and its load during a measurement."""
