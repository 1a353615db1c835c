"""Plain code of a framework for one row, as its user would write it: what a bug report upstream has in it.

An adapter makes a ``Script`` (``Backend.script``); ``reports.exports.reproducer`` adds what times it. The code names no
package of ours. ``infer(x)`` takes images ``(N, H, W, C)`` float32 and returns logits, as an array of NumPy.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 118
FILE = "model.onnx"
"""The file that the code of a trainer writes for a runtime."""


@dataclass(frozen=True)
class Script:
    """Lines of code in the order in which they stand."""

    packages: tuple[str, ...]
    """What to install."""
    imports: tuple[str, ...]
    settings: tuple[str, ...]
    """Of the framework: threads and the like."""
    model: tuple[str, ...]
    """The model ``model``, and its weights from ``rng``, a generator with the row's seed."""
    infer: tuple[str, ...]
    export: tuple[str, ...] = ()
    """Writes ``FILE``; empty: the framework writes no ONNX."""
    exporter: tuple[str, ...] = ()
    """What to install besides, to write it."""


def packed(parts: Sequence[str], indent: str) -> list[str]:
    """Parts of a list, as many on a line as fit."""
    lines = textwrap.wrap(
        ", ".join(part.replace(" ", "\0") for part in parts) + ",",
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]
