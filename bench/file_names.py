"""File names as text."""

from __future__ import annotations


def readable(name: str) -> str:
    """A name that can be stored and shown: bytes that are no UTF-8 (of another system, of an old archive) are escaped.
    Python keeps them as lone surrogates (PEP 383), which no database and no JSON takes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
