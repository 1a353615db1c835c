"""Bytes and JSON documents that are nearly right."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

PIECES = (
    b"", b"\x00", b"\xff", b"\n", b'"', b"{", b"[", b"]" * 50, b"[" * 2000, b'{"a":' * 2000, b"-", b"1e999", b"NaN",
    b"-Infinity", b"null", b"9" * 5000, b"\\ud800", b"../../etc/passwd", b"\x1b[2J", b"a" * 2000,
)  # fmt: skip
VALUES = (
    None, True, False, 0, -1, 1.5, 1e308, -1e-308, 2**63, 10**400, "", "x", "../x", "\x1b[31m", "\u2028", "\ud800",
    "a" * 3000, [], {}, [[]], {"": {}}, ["x"] * 300, float("nan"), float("inf"),
)  # fmt: skip


def of_bytes(corpus: bytes, drawn: Random) -> bytes:
    """The bytes with one to eight changes."""
    content = bytearray(corpus)
    for _ in range(drawn.randint(1, 8)):
        place = drawn.randint(0, len(content))
        length = min(len(content) - place, drawn.choice((1, 1, 2, 4, 16, 256)))
        kind = drawn.randrange(5)
        if kind == 0:
            content[place : place + length] = drawn.randbytes(length)
        elif kind == 1:
            content[place:place] = drawn.choice(PIECES)
        elif kind == 2:
            del content[place : place + length]
        elif kind == 3:
            content[place:place] = content[place : place + length] * drawn.choice((1, 2, 40))
        else:
            del content[place:]
        if drawn.random() < 0.02:
            content.clear()
    return bytes(content)


def of_document(document: Any, drawn: Random) -> Any:
    """A JSON document with one to four values, names or lists changed."""
    changed = copy.deepcopy(document)
    for _ in range(drawn.randint(1, 4)):
        holder, key = _place(changed, drawn)
        if holder is None:
            return drawn.choice(VALUES)
        kind = drawn.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[drawn.choice(("", "x", "__class__", "a" * 2000, str(key).upper()))] = holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder[key:key] = [copy.deepcopy(holder[key])] * drawn.choice((1, 3, 30))
        else:
            holder[key] = copy.deepcopy(drawn.choice(VALUES))
    return changed


def of_json(corpus: str, drawn: Random) -> str:
    """The text of a document that is changed as a document, or as text."""
    if drawn.random() < 0.3:
        return of_bytes(corpus.encode(), drawn).decode(errors="replace")
    return json.dumps(of_document(json.loads(corpus), drawn))


def _place(document: Any, drawn: Random) -> tuple[Any, Any]:
    """A random place in a document: what holds the value, and the value's name or number in it."""
    holder, key, inner = None, None, document
    while isinstance(inner, dict | list) and inner and (holder is None or drawn.random() < 0.85):
        holder = inner
        key = drawn.choice(list(inner)) if isinstance(inner, dict) else drawn.randrange(len(inner))
        inner = holder[key]
    return holder, key
