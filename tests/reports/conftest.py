"""A real stored run, of the first schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.analysis.ratios import with_ratios
from bench.records.record import Record, Run

SCHEMA1 = Path(__file__).parents[1] / "data" / "schema1.json"


@pytest.fixture
def run() -> Run:
    document = json.loads(SCHEMA1.read_text())
    records = [Record.model_validate(record) for record in document["records"]]
    return Run(
        name=document["run"],
        command=document["command"],
        started_at=document["started_at"],
        rounds=document["rounds"],
        records=with_ratios(records),
    )
