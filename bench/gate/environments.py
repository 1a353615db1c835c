"""Virtual environments for the other side of a check: built once with venv and pip, then cached under a lock.

An environment for a requirement differs from the current one only in that requirement and in those of its dependencies
that cannot keep their current version. It holds only what the rows' workers need: NumPy, psutil and the frameworks. Our
two packages come by path.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

import backends
from bench.errors import BenchError, UsageError
from bench.gate.package_index import PIPS_OWN, PackageIndex

ALWAYS = ("numpy", "psutil")
"""Distributions that every worker needs."""


class CannotInstall(BenchError):
    """pip refused a requirement: no such version, or none that fits here."""


@dataclass(frozen=True)
class Lock:
    """The contents of an environment: the requested ``roots``, and in ``pins`` the version of every distribution."""

    python: str
    """Python's version, major and minor."""
    roots: tuple[str, ...]
    pins: Mapping[str, str]

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Lock:
        """The inverse of ``asdict``."""
        return cls(plain["python"], tuple(plain["roots"]), dict(plain["pins"]))


def current_lock(names: Iterable[str]) -> Lock:
    """The lock of the current environment, limited to what these backends need."""
    roots = list(ALWAYS)
    for name in names:
        roots += _roots(name)
    pins = _installed_closure(*roots)
    return Lock(_python_version(), tuple(sorted({canonicalize_name(root) for root in roots} & set(pins))), pins)


def _python_version() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _roots(backend: str) -> list[str]:
    """Distributions that a backend needs: those of its ``REQUIRES``, of its extra, and of its own package, if any. That
    package itself comes by path."""
    adapter = backends.describe(backend)
    roots = [name for alternatives in adapter.REQUIRES for name in alternatives]
    if adapter.EXTRA is not None:
        ours = [Requirement(text) for text in metadata.requires("evenbench") or []]
        roots += [r.name for r in ours if r.marker and _marker_applies(r, adapter.EXTRA) and not _marker_applies(r, "")]
    points = metadata.entry_points(group=backends.ENTRY_POINT_GROUP, name=backend)
    needed = [Requirement(text) for point in points if point.dist is not None for text in point.dist.requires or []]
    return roots + [r.name for r in needed if canonicalize_name(r.name) != "evenbench" and _marker_applies(r, "")]


def _marker_applies(requirement: Requirement, extra: str) -> bool:
    if requirement.marker is None:
        return True
    environment: dict[str, str] = {**default_environment(), "extra": extra}  # type: ignore[dict-item]
    return requirement.marker.evaluate(environment)


def _installed_closure(*names: str, extras: bool = True) -> dict[str, str]:
    """Installed versions of these distributions and of all their dependencies; ``extras``: of every extra too."""
    versions: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        one = waiting.pop()
        if one in versions:
            continue
        try:
            versions[one] = metadata.version(one)
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed
        needed = map(Requirement, metadata.requires(one) or [])
        waiting += [canonicalize_name(each.name) for each in needed if extras or _marker_applies(each, "")]
    return versions


def parse_requirements(text: str) -> list[Requirement]:
    """Parse requirements such as ``torch==2.13.0 numpy<2.3``.

    Raises:
        UsageError: an invalid requirement, or one without a version.
    """
    try:
        requirements = [Requirement(part) for part in text.split()]
    except InvalidRequirement as error:
        raise UsageError(f"'{text}': not a requirement such as torch==2.13.0 ({str(error).splitlines()[0]})") from error
    if bare := [r.name for r in requirements if not r.specifier and r.url is None]:
        raise UsageError(f"'{text}': which version of {bare[0]}? such as {bare[0]}==2.13.0")
    return requirements


def build_changed(lock: Lock, requirements: Sequence[Requirement], cache: Path, index: PackageIndex = PIPS_OWN) -> Path:
    """Build the environment of ``lock`` with these requirements changed; the path of its interpreter.

    Raises:
        CannotInstall: pip refuses the requirements.
        UsageError: a package that no row here needs.
    """
    for requirement in requirements:
        if canonicalize_name(requirement.name) not in lock.pins:
            raise UsageError(f"{requirement.name} is not needed by these rows; bench list shows their versions")
    key = {**asdict(lock), "changed": sorted(map(str, requirements))}

    def install(python: Path) -> None:
        unpinned: set[str] = set()
        for requirement in requirements:
            unpinned |= _find_unpinned(requirement, _dependencies(python, requirement, index), lock.pins)
        names = {canonicalize_name(requirement.name) for requirement in requirements}
        roots = [f"{root}=={lock.pins[root]}" for root in lock.roots if root not in unpinned | names]
        free = [root for root in lock.roots if root in unpinned - names]
        pins = {name: version for name, version in lock.pins.items() if name not in unpinned | names}
        _pip_install(python, [*map(str, requirements), *roots, *free], pins, index)

    return _build(_with_sources(key, index), ", ".join(map(str, requirements)), cache, install)


def build_locked(lock: Lock, label: str, cache: Path, index: PackageIndex = PIPS_OWN) -> Path:
    """Build the environment of ``lock``; the path of its interpreter. ``label`` names it in messages.

    Raises:
        CannotInstall: pip refuses the lock.
        UsageError: the lock is of another Python.
    """
    if lock.python != _python_version():
        problem = f"{label} was saved under Python {lock.python}, this is {_python_version()}"
        raise UsageError(f"{problem}; run it under that one")
    roots = [f"{root}=={lock.pins[root]}" for root in lock.roots]

    def install(python: Path) -> None:
        _pip_install(python, roots, lock.pins, index)

    return _build(_with_sources(asdict(lock), index), label, cache, install)


def _with_sources(key: Mapping[str, Any], index: PackageIndex) -> Mapping[str, Any]:
    """The key of an environment from this index: another index may have other builds of the same versions."""
    sources = index.sources(os.environ)
    return {**key, "sources": sources} if sources else key


def _find_unpinned(requirement: Requirement, requires: Sequence[str], pins: Mapping[str, str]) -> set[str]:
    """Packages that cannot keep their current version under this requirement, each with all its dependencies."""
    unpinned: set[str] = set()
    for text in requires:
        needed = Requirement(text)
        version = pins.get(canonicalize_name(needed.name))
        wanted = any(_marker_applies(needed, extra) for extra in ("", *requirement.extras))
        if version is not None and wanted and not needed.specifier.contains(version, prereleases=True):
            unpinned |= set(_installed_closure(needed.name, extras=False))
    return unpinned - set(ALWAYS)


def _dependencies(python: Path, requirement: Requirement, index: PackageIndex) -> list[str]:
    """Dependencies of the version that pip would install."""
    only = ("--dry-run", "--no-deps", "--ignore-installed", "--report", "-")
    report = _pip(python, index, str(requirement), "install", *only, str(requirement))
    chosen = json.loads(report)["install"]
    if not chosen:
        raise UsageError(f"'{requirement}' does not apply to this system: its marker is false")
    dependencies: list[str] = chosen[0]["metadata"].get("requires_dist", [])
    return dependencies


def _build(key: Mapping[str, Any], label: str, cache: Path, install: Any) -> Path:
    """The interpreter of the environment with this key, which is built under a file lock if it does not exist."""
    from filelock import FileLock

    interpreter = [platform.python_version(), platform.machine(), sys.base_prefix]
    name = hashlib.sha256(json.dumps([interpreter, key], sort_keys=True).encode()).hexdigest()[:16]
    folder = cache / "environments" / name
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not ((folder / "complete.json").exists() and python.exists()):
                print(f"building an environment for {label} in {folder} (once)", file=sys.stderr, flush=True)
                shutil.rmtree(folder, ignore_errors=True)
                _make_venv(folder, label)
                install(python)
                (folder / "complete.json").write_text(json.dumps({"for": label, "key": key}, indent=1))
    except OSError as error:
        raise BenchError(f"cannot build an environment in {folder}: {error.strerror or error}; --cache DIR") from error
    return python


def _make_venv(folder: Path, label: str) -> None:
    """An empty environment with pip. The current one may have no pip (uv makes such), its Python has one inside."""
    if importlib.util.find_spec("ensurepip") is None:
        python = f"Python {_python_version()} ({sys.base_prefix})"
        raise CannotInstall(f"cannot install {label}: {python} has no ensurepip; Debian: apt install python3-venv")
    _run([sys.executable, "-I", "-m", "venv", str(folder)], label, os.environ)


def _pip_install(python: Path, requirements: Sequence[str], pins: Mapping[str, str], index: PackageIndex) -> None:
    constraints = python.parent.parent / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(pins.items())))
    try:
        _pip(python, index, requirements[0], "install", "--constraint", str(constraints), *requirements)
    except CannotInstall as error:
        local = sorted(f"{name}=={version}" for name, version in pins.items() if "+" in version)
        if not any(pin.partition("==")[2] in str(error) for pin in local):
            raise
        hint = "--extra-index-url URL names the index that this build came from"
        raise CannotInstall(f"{error}; {', '.join(local)}: {hint}") from error


def _pip(python: Path, index: PackageIndex, what: str, *arguments: str) -> str:
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    command = [str(python), "-I", "-m", "pip", arguments[0], *quiet, *arguments[1:]]
    return _run(command, what, index.variables(os.environ))


def _run(command: Sequence[str], what: str, environment: Mapping[str, str]) -> str:
    """Standard output of a command.

    Raises:
        CannotInstall: the command failed; the message holds its first error line.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
        raise CannotInstall(f"cannot install {what}: {reason.removeprefix('ERROR: ')}")
    return done.stdout


def list_releases(package: str, cache: Path | None = None, index: PackageIndex = PIPS_OWN) -> list[str]:
    """Versions of a package that pip can install here, oldest first, final releases only. Where the current environment
    has no pip, one with pip is kept in ``cache``.

    Raises:
        CannotInstall: pip does not know the package, or there is no pip.
    """
    from packaging.version import Version

    python = Path(sys.executable)
    if importlib.util.find_spec("pip") is None:
        if cache is None:
            raise CannotInstall(f"cannot list the releases of {package}: no pip in {sys.prefix}")
        python = _build({"only": "pip"}, "pip", cache, lambda _: None)
    command = [str(python), "-I", "-m", "pip", "index", "versions", package]
    output = _run(command, package, index.variables(os.environ))
    listed = next((line for line in output.splitlines() if line.startswith("Available versions:")), ":")
    versions = [Version(part.strip()) for part in listed.partition(":")[2].split(",") if part.strip()]
    return [str(version) for version in sorted(versions) if not version.is_prerelease]
