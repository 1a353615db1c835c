"""A real stored run, of the first schema; and a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from bench.analysis.ratios import with_ratios
from bench.records.export import parse_export
from bench.records.record import Run

SCHEMA1 = Path(__file__).parents[1] / "data" / "schema1.json"


@pytest.fixture
def run() -> Run:
    stored = parse_export(SCHEMA1.read_text(), str(SCHEMA1))
    return stored.model_copy(update={"records": with_ratios(stored.records)})


CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")


@pytest.fixture(scope="module")
def browser(process: None) -> Iterator[Browser]:
    """Chromium."""
    installed = [path for path in CHROMIUM if Path(path).exists()]
    if not installed:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=installed[0], args=["--no-sandbox"])
        yield opened
        opened.close()
