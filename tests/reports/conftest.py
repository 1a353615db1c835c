"""A real stored run, of the first schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.analysis.ratios import with_ratios
from bench.records.export import parse_export
from bench.records.record import Run

SCHEMA1 = Path(__file__).parents[1] / "data" / "schema1.json"


@pytest.fixture
def run() -> Run:
    stored = parse_export(SCHEMA1.read_text(), str(SCHEMA1))
    return stored.model_copy(update={"records": with_ratios(stored.records)})
