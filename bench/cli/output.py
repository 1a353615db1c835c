"""Where what a command shows goes: to the terminal, or whole into a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.errors import BenchError

PAGE = "html"
"""The format that is a page of its own where a command has one."""


def tell(document: Any, format_name: str, out: Path | None, page: Callable[[], str] | None = None) -> None:
    """A document in a format, as a page if it is to be HTML and there is one; on standard output, or in a file."""
    from reports.render.terminal import show
    from reports.render.text import render

    if page is not None and format_name == PAGE:
        put(page(), out, document.headline)
    elif out is not None:
        put(render(document, format_name), out, document.headline)
    else:
        show(document, format_name)


def put(text: str, out: Path | None, headline: str | None = None) -> None:
    """Text on standard output; or into a file, complete or not at all, and a line that says so.

    Raises:
        BenchError: it cannot be written.
    """
    if out is None:
        print(text.removesuffix("\n"))
        return
    write(text, out)
    if headline is not None:
        print(headline)
    print(f"{out} written ({os.path.getsize(out) / 1e3:,.0f} kB)")


def write(text: str, out: Path) -> None:
    """Into a file beside, then in its place."""
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write {out}: {error.strerror or error}; give another path in --output") from error
