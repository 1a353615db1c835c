"""The worker process. It needs only NumPy, psutil, a framework, and the packages ``bench`` and ``backends``."""
