"""How tables and plots are drawn."""
