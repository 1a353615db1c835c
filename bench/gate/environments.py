"""Virtual environments that a gate measures its other side in: built once with venv and pip, cached, locked.

An environment for a requirement is the present one with only that requirement and, of its own dependencies, those that
it will not have at their present version changed. It holds what the rows' workers need and nothing else: NumPy, psutil,
the frameworks; our two packages come by path.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import backends
from bench.errors import BenchError, UsageError

ALWAYS = ("numpy", "psutil")
"""What every worker needs."""


class CannotInstall(BenchError):
    """pip refused a requirement: no such version, or none that fits here."""


@dataclass(frozen=True)
class Lock:
    """What an environment holds: ``roots`` are asked for, ``pins`` hold all their dependencies, by canonical name."""

    python: str
    """Its version, major and minor."""
    roots: tuple[str, ...]
    pins: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"python": self.python, "roots": list(self.roots), "pins": dict(self.pins)}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Lock:
        """Of ``to_dict``."""
        return cls(told["python"], tuple(told["roots"]), dict(told["pins"]))


def present(names: Iterable[str]) -> Lock:
    """The lock of this environment, as far as these backends need it."""
    roots = list(ALWAYS)
    for name in names:
        roots += _roots(name)
    pins = _closure(*roots)
    return Lock(_python(), tuple(sorted({canonicalize_name(root) for root in roots} & set(pins))), pins)


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _roots(backend: str) -> list[str]:
    """Distributions that a backend is said to need, by itself, by its extra, and by its own package if it has one: that
    itself every worker gets by path."""
    adapter = backends.load(backend)
    found = [name for alternatives in adapter.REQUIRES for name in alternatives]
    if adapter.EXTRA is not None:
        ours = [Requirement(text) for text in metadata.requires("evenbench") or []]
        found += [r.name for r in ours if r.marker and _holds(r, adapter.EXTRA) and not _holds(r, "")]
    points = metadata.entry_points(group=backends.ENTRY_POINT_GROUP, name=backend)
    needed = [Requirement(text) for point in points if point.dist is not None for text in point.dist.requires or []]
    return found + [r.name for r in needed if canonicalize_name(r.name) != "evenbench" and _holds(r, "")]


def _holds(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return True
    environment: dict[str, str] = {**default_environment(), "extra": extra}  # type: ignore[dict-item]
    return requirement.marker.evaluate(environment)


def _closure(*names: str) -> dict[str, str]:
    """Installed versions of distributions and of all that they depend on, whatever the extra."""
    found: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        try:
            found[one] = metadata.version(one)
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an extra that nobody asked for
        waiting += [canonicalize_name(Requirement(text).name) for text in metadata.requires(one) or []]
    return found


def parse(text: str) -> list[Requirement]:
    """``torch==2.13.0 numpy<2.3`` to requirements.

    Raises:
        UsageError: not requirements, or one without a version.
    """
    try:
        found = [Requirement(part) for part in text.split()]
    except InvalidRequirement as error:
        raise UsageError(f"'{text}': not a requirement such as torch==2.13.0 ({str(error).splitlines()[0]})") from error
    if bare := [r.name for r in found if not r.specifier and r.url is None]:
        raise UsageError(f"'{text}': which version of {bare[0]}? such as {bare[0]}==2.13.0")
    return found


def changed(lock: Lock, requirements: Sequence[Requirement], cache: Path) -> Path:
    """The interpreter of an environment that is ``lock`` with these requirements changed.

    Raises:
        CannotInstall: pip refuses it.
        UsageError: a package that no row here needs.
    """
    for requirement in requirements:
        if canonicalize_name(requirement.name) not in lock.pins:
            raise UsageError(f"{requirement.name} is not among what these rows need; bench list shows their versions")
    key = {**lock.to_dict(), "changed": sorted(map(str, requirements))}

    def install(python: Path) -> None:
        loose: set[str] = set()
        for requirement in requirements:
            loose |= _moved(requirement, _requires(python, requirement), lock.pins)
        names = {canonicalize_name(requirement.name) for requirement in requirements}
        roots = [f"{root}=={lock.pins[root]}" for root in lock.roots if root not in loose | names]
        free = [root for root in lock.roots if root in loose - names]
        pins = {name: version for name, version in lock.pins.items() if name not in loose | names}
        _pip_install(python, [*map(str, requirements), *roots, *free], pins)

    return _built(key, ", ".join(map(str, requirements)), cache, install)


def locked(lock: Lock, told: str, cache: Path) -> Path:
    """The interpreter of an environment that is ``lock``.

    Raises:
        CannotInstall: pip refuses it.
        UsageError: it is of another Python.
    """
    if lock.python != _python():
        raise UsageError(f"{told} was saved under Python {lock.python}, this is {_python()}; run it under that one")
    roots = [f"{root}=={lock.pins[root]}" for root in lock.roots]
    return _built(lock.to_dict(), told, cache, lambda python: _pip_install(python, roots, lock.pins))


def _moved(requirement: Requirement, requires: Sequence[str], pins: Mapping[str, str]) -> set[str]:
    """Packages that cannot keep their present version when the requirement is met, each with all below it."""
    loose: set[str] = set()
    for text in requires:
        needed = Requirement(text)
        version = pins.get(canonicalize_name(needed.name))
        wanted = any(_holds(needed, extra) for extra in ("", *requirement.extras))
        if version is not None and wanted and not needed.specifier.contains(version, prereleases=True):
            loose |= set(_closure(needed.name))
    return loose - set(ALWAYS)


def _requires(python: Path, requirement: Requirement) -> list[str]:
    """Dependencies of the version that pip would take."""
    only = ("--dry-run", "--no-deps", "--ignore-installed", "--report", "-")
    told = _pip(python, str(requirement), "install", *only, str(requirement))
    chosen = json.loads(told)["install"]
    if not chosen:
        raise UsageError(f"'{requirement}' does not apply to this system: its marker is false")
    found: list[str] = chosen[0]["metadata"].get("requires_dist", [])
    return found


def _built(key: Mapping[str, Any], told: str, cache: Path, install: Any) -> Path:
    """The interpreter of the environment with this key: there, or made under a lock."""
    from filelock import FileLock

    interpreter = [platform.python_version(), platform.machine(), sys.base_prefix]
    name = hashlib.sha256(json.dumps([interpreter, key], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / "environments" / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not ((folder / "complete.json").exists() and python.exists()):
                print(f"building an environment for {told} in {folder} (once)", file=sys.stderr, flush=True)
                shutil.rmtree(folder, ignore_errors=True)
                _run([sys.executable, "-m", "venv", str(folder)], told)
                install(python)
                (folder / "complete.json").write_text(json.dumps({"for": told, "key": key}, indent=1))
    except OSError as error:
        raise BenchError(f"cannot build an environment in {folder}: {error.strerror or error}; --cache DIR") from error
    return python


def _pip_install(python: Path, requirements: Sequence[str], pins: Mapping[str, str]) -> None:
    constraints = python.parent.parent / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    _pip(python, requirements[0], "install", "--constraint", str(constraints), *requirements)


def _pip(python: Path, what: str, *arguments: str) -> str:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    return _run([str(python), "-m", "pip", arguments[0], *quiet, *arguments[1:]], what)


def _run(command: Sequence[str], what: str) -> str:
    """Standard output of a command.

    Raises:
        CannotInstall: it failed; the reason is the first error that it tells.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
        raise CannotInstall(f"cannot install {what}: {reason.removeprefix('ERROR: ')}")
    return done.stdout


def released(package: str) -> list[str]:
    """Versions of a package that pip can install here, oldest first, final releases only.

    Raises:
        CannotInstall: pip does not know it.
    """
    from packaging.version import Version

    told = _run([sys.executable, "-m", "pip", "index", "versions", package], package)
    listed = next((line for line in told.splitlines() if line.startswith("Available versions:")), ":")
    versions = [Version(part.strip()) for part in listed.partition(":")[2].split(",") if part.strip()]
    return [str(version) for version in sorted(versions) if not version.is_prerelease]
