"""What this computer is, and what it does meanwhile."""
