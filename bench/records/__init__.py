"""What is kept, and what a number means."""
