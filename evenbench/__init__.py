"""The entry points of evenbench, under a name that no other package has: the command ``bench`` and the pytest plug-in.

What they start is in ``bench``, ``backends`` and ``reports``, names that many projects use as well.
"""
