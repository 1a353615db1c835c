"""Which stored figures may be put beside one another: the comparability key of a record. Pure functions.

The key is the job without its seed, the data's hash, the machine's fingerprint. Fields at their default are left out,
so that a field which a later version adds changes no older key. Versions of packages are not part of it: that they
change is what history is for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bench.errors import UsageError
from bench.records.record import Record
from bench.worker.protocol import Job

Key = dict[str, str]

DATA, MACHINE = "data", "machine"
PLURALS = {"machines": MACHINE, "devices": "device", "backends": "backend", "models": "model", "datasets": "dataset"}
ALWAYS = {"versions"}
"""What ``--across`` takes though it never keeps two figures apart."""


def key(record: Record) -> Key:
    """Name to value, as text, of what must agree."""
    parts: dict[str, Any] = {
        field.name: value
        for field in fields(Job)
        if field.name != "seed" and (value := getattr(record.job, field.name)) != field.default
    }
    parts |= {DATA: record.data.sha256, MACHINE: record.machine.get("id", "unknown")}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in sorted(parts.items())}


def digest(of: Mapping[str, str]) -> str:
    """24 hexadecimal digits that stand for a key."""
    return hashlib.sha256(json.dumps(sorted(of.items())).encode()).hexdigest()[:24]


def differences(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Parts of two keys that differ; what only one names is at its default in the other."""
    names = sorted({*a, *b})
    return {n: (a.get(n, "default"), b.get(n, "default")) for n in names if a.get(n) != b.get(n)}


def across(text: str | None) -> frozenset[str]:
    """``machines,threads`` to the parts of a key that may differ.

    Raises:
        UsageError: not a part of a key.
    """
    given = [part.strip() for part in (text or "").split(",") if part.strip()]
    names = {PLURALS.get(part, part) for part in given}
    known = {*(field.name for field in fields(Job)), DATA, MACHINE, *ALWAYS} - {"seed"}
    if unknown := sorted(names - known):
        raise UsageError(
            f"--across {unknown[0]}: not a part of the comparability key; one of {', '.join(sorted(known))}"
        )
    return frozenset(names)


def place(record: Record) -> dict[str, Any]:
    """What history is searched by."""
    job = record.job
    return {
        "backend": job.backend,
        "model": job.model,
        "dataset": job.dataset,
        "recipe": job.recipe,
        "machine": record.machine.get("id", "unknown"),
        "commit": record.commit,
        "series": digest(key(record)),
    }
