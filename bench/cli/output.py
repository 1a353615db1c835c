"""Where what a command shows goes: to the terminal, or whole into a file."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.errors import BenchError

PAGE = "html"
"""The format that is a page of its own where a command has one."""


CLOSED = "the output was closed; what was measured is stored (bench report shows it)"


class Output(io.TextIOWrapper):
    """Standard output that says when its reader has gone. Rich and Typer end the process with exit code 1 on a
    ``BrokenPipeError``, which is a verdict."""

    def write(self, text: str) -> int:
        """As of a text stream.

        Raises:
            BenchError: the reader has gone.
        """
        try:
            return super().write(text)
        except BrokenPipeError as error:
            raise BenchError(CLOSED) from error

    def flush(self) -> None:
        """As of a text stream.

        Raises:
            BenchError: the reader has gone.
        """
        try:
            super().flush()
        except BrokenPipeError as error:
            raise BenchError(CLOSED) from error


def open_output() -> None:
    """A character that the output's encoding lacks is replaced; an output that was closed before fails when written."""
    if sys.stdout is None:
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding, by_line = sys.stdout.encoding, sys.stdout.line_buffering
        sys.stdout = Output(sys.stdout.detach(), encoding, "replace", line_buffering=by_line)


def drop_output() -> None:
    """What could not be written is given up, so that the end of the process does not fail on it again."""
    try:
        sys.stdout.flush()
    except (OSError, BenchError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(document: Any, format_name: str, out: Path | None, page: Callable[[], str] | None = None) -> None:
    """A document in a format, as a page if it is to be HTML and there is one; on standard output, or in a file."""
    from reports.render.terminal import as_utf8, show
    from reports.render.text import render

    if format_name == PAGE and out is None:
        as_utf8()
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
            beside.write_text(text, encoding="utf-8", errors="backslashreplace")
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write {out}: {error.strerror or error}; give another path in --output") from error
