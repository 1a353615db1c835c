"""The same jobs on other machines: which nodes, what is sent to them, and what comes back."""
