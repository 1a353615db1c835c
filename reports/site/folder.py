"""The folder of a site: files that are complete or not there, and a list of what each was made of.

Only what has changed is written again, and only what an earlier site wrote is ever removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError

MANIFEST = "site.json"
"""Which files the site has, and of what each was made."""


class SiteFolder:
    """The files of a site. A file has a key: what it was made of, as a short text; while the key is the same, the file
    is left as it is.

    Raises:
        BenchError: the folder cannot be written, or has files that are not of a site.
    """

    def __init__(self, folder: Path) -> None:
        self.path = self._folder = folder
        self.written = 0
        """Files that were written."""
        self._made: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            manifest = folder / MANIFEST
            if manifest.exists():
                self._before = _read(manifest)
            elif any(folder.iterdir()):
                raise BenchError(f"{folder} has files that are not of a site of bench; give an empty or new --output")
            else:
                self._before = {}
                write(manifest, json.dumps({"files": {}}))  # if it is cut off, the folder is known as a site's
        except OSError as error:
            raise BenchError(f"cannot write to {folder}: {error.strerror or error}; give another --output") from error

    def is_there(self, path: str, key: str) -> bool:
        """Whether the file of this key is there already; then it stays."""
        there = self._before.get(path) == key and (self._folder / path).is_file()
        if there:
            self._made[path] = key
        return there

    def make(self, path: str, key: str, content: Callable[[], str]) -> None:
        """Write a file, unless that of this key is there."""
        if not self.is_there(path, key):
            self.put(path, key, content())

    def put(self, path: str, key: str, content: str) -> None:
        """Write a file.

        Raises:
            BenchError: it would lie outside the folder, or cannot be written.
        """
        self.check(path)
        write(self._folder / path, content)
        self.note(path, key)

    def check(self, path: str) -> None:
        """Raise BenchError if a file would lie outside the folder."""
        if not _is_inside(path):
            raise BenchError(f"{path!r} is no file of a site: rename what has this name")

    def note(self, path: str, key: str) -> None:
        """A file was written, perhaps by another process."""
        self._made[path] = key
        self.written += 1

    def end(self) -> int:
        """Remove the files that the site no longer has, and keep the list of those that it has; how many went."""
        gone = [path for path in self._before if path not in self._made]
        for path in gone:
            (self._folder / path).unlink(missing_ok=True)
        write(self._folder / MANIFEST, json.dumps({"files": self._made}, indent=0, sort_keys=True))
        return len(gone)

    @property
    def files(self) -> int:
        """Number of files of the site, without the list."""
        return len(self._made)


def write(path: Path, content: str) -> None:
    """Write a file beside, then in its place.

    Raises:
        BenchError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_text(content, encoding="utf-8", errors="backslashreplace")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise BenchError(f"cannot write {path}: {error.strerror or error}; give another --output") from error


def _read(manifest: Path) -> Mapping[str, str]:
    """The keys by path.

    Raises:
        BenchError: it is no list of a site's files.
    """
    try:
        found: Any = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        inside = all(isinstance(path, str) and isinstance(key, str) and _is_inside(path) for path, key in found.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        inside = False
    if not inside:
        raise BenchError(f"{manifest} is no list of a site's files; remove the folder, or give another --output")
    return dict(found)


def _is_inside(path: str) -> bool:
    """Whether a path stays in the folder: a list that someone wrote removes nothing elsewhere."""
    parts = Path(path).parts
    return bool(parts) and not Path(path).is_absolute() and ".." not in parts
