"""Runs with known numbers, for the tests of reports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.ratios import with_ratios
from bench.records.export import parse_export
from bench.records.metrics import METRICS
from bench.records.record import Record, Run

MACHINE = {"id": "feedc0de", "cpu": "a cpu", "cores": 2, "memory": 8e9, "gpus": [], "system": "Linux", "kernel": "6"}


def figure(name: str, values: Sequence[float], **place: Any) -> dict[str, Any]:
    """With a sample per value, and an interval of two standard errors of the logarithm where there are several."""
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / len(logs)
    half = 0.0
    if len(logs) > 1:
        half = 2 * math.sqrt(math.fsum((x - mean) ** 2 for x in logs) / (len(logs) - 1) / len(logs))
    bounds = (math.exp(mean - half), math.exp(mean + half)) if len(logs) > 1 else (None, None)
    samples = [
        {"round": i, "value": value, "slices": [{"seconds": 0.1, "images": round(value / 10) or 1, "turn": 0,
                                                "latencies": [value] * 3 if name.startswith("latency") else None}]}
        for i, value in enumerate(values)
    ]  # fmt: skip
    found = {"name": name, "unit": METRICS[name].unit, "value": math.exp(mean), "n": len(values), **place}
    return found | {"low": bounds[0], "high": bounds[1], "samples": samples}


def speed(values: Sequence[float], task: str = "infer", batch_size: int = 128) -> dict[str, Any]:
    """Throughput, end-to-end; its slices agree with it."""
    return figure("throughput", values, task=task, batch_size=batch_size, boundary="end-to-end")


def latency(values: Sequence[float]) -> dict[str, Any]:
    """p50 at batch 1, end-to-end."""
    return figure("latency_p50", values, task="infer", batch_size=1, boundary="end-to-end")


def row(
    backend: str, figures: Sequence[Mapping[str, Any]], job: Mapping[str, Any] | None = None, **more: Any
) -> Record:
    """A comparable record."""
    plain = {"backend": backend, "mode": "usual", "model": "m", "dataset": "d", "recipe": "r", "threads": 1}
    check = {"name": "logits", "value": 1e-7, "tolerance": 1e-6, "passed": True}
    content = {
        "status": "ok",
        "job": {**plain, **(job or {})},
        "figures": [dict(one) for one in figures],
        "parity": {"comparable": True, "checks": [check]},
        "machine": MACHINE,
        "versions": {backend: "1.0"},
        "data": {"name": "d", "sha256": "0" * 64, "train": 10, "test": 10},
        "started_at": "2026-01-01T00:00:00+00:00",
    }
    return Record.model_validate({**content, **more})


def run(*records: Record, **more: Any) -> Run:
    """With the ratios to the fastest."""
    told = {"name": "20260101T000000-aaaa", "command": "bench run --backend all", "rounds": 3}
    content = {**told, "started_at": "2026-01-01T00:00:00+00:00", **more}
    return Run(**content, records=with_ratios(list(records)))


CURVE = [
    {"epoch": epoch, "seconds": 2.0 * epoch, "train_loss": 1 / epoch, "split": "validation", "loss": 2 / epoch,
     "accuracy": 0.1 * epoch}
    for epoch in (1, 1.5, 2)
]  # fmt: skip


def trained_run() -> Run:
    """A row with trainings of two seeds, and one that is not certified."""
    score = {"precision": 1, "recall": 1, "f1": 1, "support": 5}
    outcome = {
        "classes": [{**score, "name": name} for name in ("cat", "dog")],
        "confusion": [[4, 1], [0, 5]],
        "trainings": [{"seed": 0, "curve": CURVE}, {"seed": 1, "curve": CURVE[:1]}],
    }
    trained = row("a", [speed([100.0, 110.0]), latency([0.01, 0.02])], outcome=outcome)
    return run(trained, row("b", [speed([1.0])], parity={"comparable": False, "checks": []}))


HOSTILE = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil.example","x")',
    r"\input{/etc/passwd} $x$ % #",
    "\x1b[2J\x07\x9b31m bell",
    "a|b\n# head\r\n| c | d |",
    "[x](javascript:alert(1)) `code` **bold**",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "{{ 7 * 7 }} {% raw %}",
    "]]></script><img src=x onerror=alert(1)>",
)


def hostile_run() -> Run:
    """Foreign text wherever a record can hold it: names, reasons, notes, versions, classes, the command."""
    records = []
    for number, text in enumerate(HOSTILE):
        curve = [{"epoch": 1, "seconds": 1, "train_loss": 1, "split": "test", "loss": 1, "accuracy": 0.5}]
        outcome = {
            "classes": [{"name": text, "precision": 1, "recall": 1, "f1": 1, "support": 5}] * 2,
            "confusion": [[4, 1], [0, 5]],
            "trainings": [{"seed": 0, "curve": curve}],
        }
        check = {"name": text, "value": 1.0, "tolerance": 0.5, "passed": number % 2 == 0, "note": text}
        records.append(
            row(
                f"{text} {number}",
                [speed([100.0, 110.0, 105.0]), latency([0.01, 0.011, 0.012])],
                job={"mode": text, "model": text, "recipe": text},
                parity={"comparable": number % 2 == 0, "checks": [check]},
                outcome=outcome,
                disturbance={"disturbed": True, "reason": text, "slices": 3, "marked": 2},
                settings={"fast_path": text, text: text},
                versions={text: text},
                phases=[{"kind": text, "round": 0, "seconds": {text: 1.0}, "life": 2.0}],
                data={"name": text, "sha256": text, "train": 1, "test": 1, "note": text},
                commit=text,
            )
        )
    records.append(row("failed", [], status="crashed", error="; ".join(HOSTILE), parity=None))
    return run(*records, command=f"bench run --model '{' '.join(HOSTILE)}'", name="hostile")


SCHEMA3 = Path(__file__).parent / "data" / "schema3.json"


def recorded() -> Run:
    """A real stored run, of the third schema."""
    found = parse_export(SCHEMA3.read_text(), str(SCHEMA3))
    return found.model_copy(update={"records": with_ratios(found.records)})
