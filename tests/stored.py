"""The least that a store takes: a record with one figure, and a run."""

from __future__ import annotations

from bench.records.record import Data, Figure, Parity, Record, Run
from bench.worker.protocol import Job


def record(backend: str = "pytorch", status: str = "ok", value: float = 1.0) -> Record:
    job = Job(backend=backend, mode="eager", model="m", dataset="d", recipe="r", threads=2)
    return Record(
        status=status,
        job=job,
        figures=[
            Figure(name="throughput", task="train", batch_size=1, boundary="device", value=value, unit="images/s")
        ],
        machine={"id": "x", "gpus": []},
        data=Data(name="d", sha256="0" * 64, train=1, test=1),
        started_at="2026-01-01T00:00:00+00:00",
    )


def run(name: str = "20260101T000000-aaaa") -> Run:
    return Run(name=name, command="bench run", started_at="2026-01-01T00:00:00+00:00", rounds=3, schedule=[["pytorch"]])


def comparable(value: float = 100.0, backend: str = "pytorch", **changes: object) -> Record:
    made = record(backend, value=value).model_copy(update={"parity": Parity(comparable=True, checks=[])})
    return made.model_copy(update=changes)
