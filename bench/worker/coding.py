"""Dataclasses as plain values for JSON, and back. Another type, an unknown field or a missing one is refused.

It needs only the standard library, because a worker may run in another environment.
"""

from __future__ import annotations

import json
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

LARGEST_INTEGER = 2**63
"""Of those that become a float; a larger one may be too large for one."""


class ProtocolError(ValueError):
    """A line that is not a valid request or reply; the message names the field."""


def encode(value: Any) -> Any:
    """Plain values for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: encode(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: encode(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    return value


def decode(kind: Any, plain: Any, where: str = "") -> Any:
    """An instance of ``kind`` (a dataclass, or a type of its fields) from plain values.

    Raises:
        ProtocolError: a value of another type, an unknown field, or a missing one.
    """
    if is_dataclass(kind):
        return _decode_dataclass(kind, plain, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, plain, where)
    if origin is Literal:
        return _expect(plain in arguments, plain, " or ".join(map(str, arguments)), where)
    if origin in (tuple, list):
        _expect(isinstance(plain, list | tuple), plain, "a list", where)
        return origin(decode(arguments[0], inner, f"{where}[{i}]") for i, inner in enumerate(plain))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(plain, dict), plain, "an object", where)
        return {_shared(name): decode(arguments[1], inner, f"{where}.{name}") for name, inner in plain.items()}
    return _decode_plain(kind, plain, where)


def _shared(plain: Any) -> Any:
    """Plain values with one copy of each text: the replies of a thousand workers hold the same names and versions."""
    if isinstance(plain, str):
        return sys.intern(plain)
    if isinstance(plain, dict):
        return {_shared(name): _shared(value) for name, value in plain.items()}
    return [_shared(value) for value in plain] if isinstance(plain, list) else plain


def _decode_plain(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any or (kind is str and isinstance(plain, str)):
        return _shared(plain)
    if kind is Path:
        return Path(_expect(isinstance(plain, str), plain, "a path", where))
    if kind is float:
        _expect(type(plain) is float or (type(plain) is int and abs(plain) < LARGEST_INTEGER), plain, "a number", where)
        return float(plain)
    return _expect(type(plain) is kind, plain, kind.__name__, where)


def _decode_union(kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
    """Decode None, the only other type, or the one of several dataclasses that has exactly these fields."""
    if plain is None and type(None) in kinds:
        return None
    candidates = [kind for kind in kinds if kind is not type(None)]
    if len(candidates) == 1:
        return decode(candidates[0], plain, where)
    keys = set(plain) if isinstance(plain, dict) else set()
    matches = [kind for kind in candidates if is_dataclass(kind) and keys == {each.name for each in fields(kind)}]
    _expect(len(matches) == 1, plain, " or ".join(kind.__name__ for kind in candidates), where)
    return _decode_dataclass(matches[0], plain, where)


def _decode_dataclass(kind: Any, plain: Any, where: str) -> Any:
    _expect(isinstance(plain, dict), plain, f"a {kind.__name__}", where)
    hints, values = _hints(kind), {}
    for each in fields(kind):
        place = f"{where}.{each.name}" if where else each.name
        if each.name in plain:
            values[each.name] = decode(hints[each.name], plain[each.name], place)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ProtocolError(f"{place} is missing")
    if unknown := sorted(set(plain) - set(hints)):
        raise ProtocolError(f"{kind.__name__} has no field '{unknown[0]}'")
    try:
        return kind(**values)
    except ValueError as error:
        raise ProtocolError(f"{where or kind.__name__}: {error}") from error


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _expect(valid: bool, plain: Any, expected: str, where: str) -> Any:
    if not valid:
        raise ProtocolError(f"{where or 'it'} is {json.dumps(plain)[:40]}, not {expected}")
    return plain
