"""Errors that the command line shows as one line and turns into an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from bench.secrecy import hide


class BenchError(Exception):
    """An error that stops the command; the message says what to do next.

    Exit code 2: 1 is a verdict, of `bench check` a regression.
    """

    exit_code = 2

    def __init__(self, text: str) -> None:
        super().__init__(hide(text))


class UsageError(BenchError):
    """The user's request is invalid: an unknown name, a wrong value, a missing file."""


def closest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'pytorch'?``, empty if no known name is similar."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """``unknown backend 'pytroch'; did you mean 'pytorch'? (bench list shows all)``."""
    return UsageError(f"unknown {kind} '{name}'{closest(name, known) or ';'} (bench list shows all)")
