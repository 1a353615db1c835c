"""Older exported and stored forms, brought to the present one step by step, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from bench.records.metrics import METRICS
from bench.records.record import SCHEMA, label
from bench.worker.protocol import Job, RowKey

JUDGES_PRECISION = "fp64"
"""Before schema 4 a record did not say whether its row competes; the judge alone ran in this precision."""
BY_SEED = {name for name, metric in METRICS.items() if metric.spread_over == "seeds"}
"""Figures whose samples are by seed."""


def upgraded_run(run: dict[str, Any], schema: int) -> dict[str, Any]:
    """A run with its records, all of this schema.

    Raises:
        KeyError, TypeError: it is no run.
    """
    if schema >= SCHEMA:
        return run
    ids = _ids_by_label([record["job"] for record in run["records"]])
    return {
        **run,
        "schedule": [[ids.get(name, name) for name in order] for order in run.get("schedule", [])],
        "records": [upgraded_record(record, schema, ids) for record in run["records"]],
    }


def upgraded_record(record: dict[str, Any], schema: int, ids: dict[str, str]) -> dict[str, Any]:
    """A record of this schema; ``ids`` are those of its run's rows by label."""
    if schema >= SCHEMA:
        return record
    seed = record["job"].get("seed", 0)
    return {
        **record,
        "contender": record["job"].get("precision") != JUDGES_PRECISION,
        "figures": [_figure(figure, seed) for figure in record.get("figures", [])],
        "ratios": [{**ratio, "against": _id(ids, ratio["against"])} for ratio in record.get("ratios", [])],
        "phases": [
            {**phase, "alive_with": [_id(ids, name) for name in phase.get("alive_with", [])]}
            for phase in record.get("phases", [])
        ],
    }


def renamed(content: Any, **names: str) -> Any:
    """A stored object with fields under their present names (old name to new)."""
    if not isinstance(content, dict):
        return content
    return {names.get(name, name): value for name, value in content.items()}


def _ids_by_label(jobs: Sequence[dict[str, Any]]) -> dict[str, str]:
    defaults = {field.name: field.default for field in fields(Job)}
    keys = [RowKey(*(job.get(name, defaults[name]) for name in RowKey._fields)) for job in jobs]
    return {label(key, keys): key.id for key in keys}


def _id(ids: dict[str, str], name: str) -> str:
    """A label that names no row of the run (another side, a twin) stays as it is."""
    return ids.get(name, name)


def _figure(figure: dict[str, Any], seed: int) -> dict[str, Any]:
    samples = [_sample(sample) for sample in figure.get("samples", [])]
    if figure["name"] in BY_SEED:
        samples = [{**sample, "seed": seed + sample["round"]} for sample in samples]
    return {**figure, "samples": samples}


def _sample(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "slices": [_slice(piece) for piece in sample.get("slices", [])]}


def _slice(piece: dict[str, Any]) -> dict[str, Any]:
    """Schema 3 wrote ``asleep`` as 1 or 0."""
    noise = piece.get("noise", {})
    if "asleep" not in noise:
        return piece
    return {**piece, "noise": {**noise, "asleep": bool(noise["asleep"])}}
