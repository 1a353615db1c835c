"""What an adapter says of itself: the class attributes of ``Backend``, without its code.

The parent of workers judges their results, so it runs no third-party code. ``python -m backends.description NAME...``
prints those of third-party adapters as JSON, from a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.base import Backend

SECONDS = 10.0
"""The longest time for the import of third-party adapters: they import no framework."""


@dataclass(frozen=True)
class Description:
    """The class attributes of an adapter, under their names in ``Backend``."""

    TASKS: frozenset[str]
    DEVICES: tuple[str, ...]
    PRECISIONS: tuple[str, ...]
    MODES: tuple[str, ...]
    CONTENDS: bool
    WRITES: tuple[str, ...]
    READS: tuple[str, ...]
    COMPILES: bool
    UNOPTIMIZED_MODE: str | None
    TOLERANCES: Mapping[str, Mapping[str, float]]
    REQUIRES: tuple[tuple[str, ...], ...]
    EXTRA: str | None
    SCALES_BY: str
    NOT_SCALED: str

    @classmethod
    def of(cls, adapter: type[Backend]) -> Description:
        """Of an adapter's class.

        Raises:
            AttributeError: it lacks one of them.
        """
        return cls(**{each.name: getattr(adapter, each.name) for each in fields(cls)})

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Description:
        """From what ``main`` printed.

        Raises:
            ValueError: it has other fields, or values of another type.
        """
        if set(plain) != {each.name for each in fields(cls)}:
            raise ValueError("an adapter's description has other fields")
        for name in ("TASKS", "DEVICES", "PRECISIONS", "MODES", "WRITES", "READS"):
            values, may_be_empty = plain[name], name in ("WRITES", "READS")
            names = isinstance(values, list) and all(isinstance(value, str) for value in values)
            if not names or not (values or may_be_empty):
                raise ValueError(f"{name} is not a list of names")
        return cls(
            TASKS=frozenset(plain["TASKS"]),
            DEVICES=tuple(plain["DEVICES"]),
            PRECISIONS=tuple(plain["PRECISIONS"]),
            MODES=tuple(plain["MODES"]),
            CONTENDS=bool(plain["CONTENDS"]),
            WRITES=tuple(plain["WRITES"]),
            READS=tuple(plain["READS"]),
            COMPILES=bool(plain["COMPILES"]),
            UNOPTIMIZED_MODE=None if plain["UNOPTIMIZED_MODE"] is None else str(plain["UNOPTIMIZED_MODE"]),
            TOLERANCES={
                str(precision): {str(check): float(limit) for check, limit in limits.items()}
                for precision, limits in dict(plain["TOLERANCES"]).items()
            },
            REQUIRES=tuple(tuple(map(str, names)) for names in plain["REQUIRES"]),
            EXTRA=None if plain["EXTRA"] is None else str(plain["EXTRA"]),
            SCALES_BY=str(plain["SCALES_BY"]),
            NOT_SCALED=str(plain["NOT_SCALED"]),
        )


def third_party(names: Sequence[str]) -> dict[str, Description | str]:
    """By name the description of a third-party adapter, or why it cannot be imported: from a process of its own."""
    return _third_party(tuple(names), tuple(sys.path), os.environ.get("PYTHONPATH", ""))


@lru_cache(maxsize=8)
def _third_party(names: tuple[str, ...], path: tuple[str, ...], pythonpath: str) -> dict[str, Description | str]:
    """All in one process; where one of them ends it, each in its own, so that it costs none of the others."""
    found = _import(names, path)
    if isinstance(found, dict):
        return found
    if len(names) == 1:
        return {names[0]: found}
    return {name: _third_party((name,), path, pythonpath)[name] for name in names}


def _import(names: tuple[str, ...], path: tuple[str, ...]) -> dict[str, Description | str] | str:
    """What a new process says of these adapters, or how it failed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-P", "-m", "backends.description", *names]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"its import takes longer than {SECONDS:g} s; import a framework in __init__ or later"
    except OSError as error:
        return f"cannot start {sys.executable}: {error.strerror}"
    try:
        printed = json.loads(done.stdout.splitlines()[-1])
        return {name: _read(printed[name]) for name in names}
    except (ValueError, LookupError, TypeError):
        last = next((line.strip() for line in reversed(done.stderr.splitlines()) if line.strip()), "it printed nothing")
        return f"its import ended the process with exit code {done.returncode}: {last[:200]}"


def _read(plain: Any) -> Description | str:
    try:
        return plain if isinstance(plain, str) else Description.from_dict(plain)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def main() -> None:
    """Print a JSON object of the named adapters as the last line: a description, or the error of its import."""
    import backends

    found: dict[str, Any] = {}
    for name in sys.argv[1:]:
        try:
            found[name] = asdict(Description.of(backends.load(name)))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (third-party code: its error is the answer)
            found[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(found, default=sorted))


if __name__ == "__main__":
    main()
