"""Where pip looks for the packages of a built environment: options, the variables of pip, and those of uv.

pip reads its own variables and its configuration file. It gets everything else as variables too: a URL may hold a
password, and other users of the machine can read a command line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

ELSEWHERE = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN", "PIP_REPORT")
"""Variables that make pip install somewhere else, or nothing. A built environment is not touched by them."""

NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)")
"""An entry of ``UV_INDEX`` with a name."""


@dataclass(frozen=True)
class PackageIndex:
    """The user's choice of indexes. What is empty is left to pip's own variables and configuration."""

    url: str = ""
    """In place of PyPI."""
    extra: tuple[str, ...] = ()
    """Besides it."""
    links: tuple[str, ...] = ()
    """Pages or folders with packages."""
    trusted: tuple[str, ...] = ()
    """Hosts whose certificate is not verified."""

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment of a pip process that installs from here."""
        kept = {name: value for name, value in environment.items() if name not in ELSEWHERE}
        given = {
            "PIP_INDEX_URL": self.url,
            "PIP_EXTRA_INDEX_URL": " ".join(self.extra),
            "PIP_FIND_LINKS": " ".join(self.links),
            "PIP_TRUSTED_HOST": " ".join(self.trusted),
        }
        return kept | {name: value for name, value in given.items() if value}

    def sources(self, environment: Mapping[str, str]) -> list[str]:
        """The URLs that decide which build of a package is found, without passwords; empty: PyPI, or pip's
        configuration."""
        variables = self.variables(environment)
        names = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")
        return [f"{name}={_without_user(part)}" for name in names for part in variables.get(name, "").split()]


PIPS_OWN = PackageIndex()
"""What pip's own variables and configuration say."""


def chosen(
    url: str | None = None, extra: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> PackageIndex:
    """The index of the options, else of pip's variables (which pip reads itself), else of uv's."""
    default = environment.get("UV_DEFAULT_INDEX") or environment.get("UV_INDEX_URL") or ""
    besides = [*environment.get("UV_INDEX", "").split(), *environment.get("UV_EXTRA_INDEX_URL", "").split()]
    return PackageIndex(
        url or ("" if environment.get("PIP_INDEX_URL") else _with_user(default, environment)),
        tuple(extra)
        or (() if environment.get("PIP_EXTRA_INDEX_URL") else tuple(_with_user(one, environment) for one in besides)),
        () if environment.get("PIP_FIND_LINKS") else _split(environment.get("UV_FIND_LINKS", ""), ","),
        () if environment.get("PIP_TRUSTED_HOST") else tuple(environment.get("UV_INSECURE_HOST", "").split()),
    )


def _split(text: str, at: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(at) if part.strip())


def _with_user(entry: str, environment: Mapping[str, str]) -> str:
    """The URL of an entry such as ``internal=https://host/simple``, with the user that uv's variables give for its
    name (docs.astral.sh/uv/concepts/indexes, "Providing credentials directly")."""
    named = NAMED.fullmatch(entry)
    if named is None:
        return entry
    prefix = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", named[1].upper())
    user, password = environment.get(f"{prefix}_USERNAME", ""), environment.get(f"{prefix}_PASSWORD", "")
    parts = urlsplit(named[2])
    if not (user or password) or "@" in parts.netloc:
        return named[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"))


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
