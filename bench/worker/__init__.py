"""The child process. Needs NumPy, psutil, a framework, and our two packages only."""
