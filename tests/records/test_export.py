"""What is exported, held against its JSON Schema; what ``bench.load`` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import recorded
from html_pages import check
from jsonschema import Draft202012Validator

import bench
from bench.errors import BenchError
from bench.records.export import export, export_check
from bench.store.store import Store

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["run", "check"])
def test_what_is_written_fits_its_schema(name: str) -> None:
    schema = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    document = json.loads(export(recorded()) if name == "run" else export_check(check()))
    assert list(Draft202012Validator(schema).iter_errors(document)) == []
    for key in ("schema", name):
        broken = {**document, key: [document[key]]}
        assert list(Draft202012Validator(schema).iter_errors(broken)), f"{key} of another type"
    assert list(Draft202012Validator(schema).iter_errors({**document, "more": 1})), "a key that it does not have"


def test_load_reads_an_exported_file_and_a_store(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(export(recorded()))
    loaded = bench.load(path)
    assert loaded == recorded()
    Store(str(tmp_path / "history.db")).add(recorded())
    assert bench.load(tmp_path / "history.db", recorded().name) == recorded()
    with pytest.raises(BenchError, match="cannot read"):
        bench.load(tmp_path / "nothing.json")
