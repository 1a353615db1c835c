"""Records of every schema version, brought to the present one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.records.export import export, parse_export
from bench.records.gate_result import CHECK_SCHEMA, Check
from bench.records.record import SCHEMA, Run
from bench.records.upgrade import BY_SEED

DATA = Path(__file__).parents[1] / "data"
OLD = sorted(DATA.glob("schema*.json"))


@pytest.fixture(params=OLD, ids=[path.stem for path in OLD])
def document(request: pytest.FixtureRequest) -> str:
    """What each version exported."""
    return Path(request.param).read_text()


def test_there_is_a_record_of_every_version() -> None:
    assert [json.loads(path.read_text())["schema"] for path in OLD] == list(range(1, SCHEMA + 1))


def test_what_points_at_a_row_is_its_id(document: str) -> None:
    run = parse_export(document, "x")
    ids = {record.id for record in run.records}
    assert len(ids) == len(run.records)
    assert all("/cpu/" in row_id for row_id in ids)
    assert {row_id for order in run.schedule for row_id in order} <= ids
    assert {row_id for r in run.records for phase in r.phases for row_id in phase.alive_with} <= ids
    assert {ratio.against for record in run.records for ratio in record.ratios} <= ids
    assert any(record.ratios for record in run.records)


def test_samples_by_seed_say_the_seed(document: str) -> None:
    for record in parse_export(document, "x").records:
        for figure in record.figures:
            expected = [record.job.seed + s.round if figure.name in BY_SEED else None for s in figure.samples]
            assert [sample.seed for sample in figure.samples] == expected, figure.name


def test_the_values_are_those_that_were_measured(document: str) -> None:
    old = json.loads(document)
    run = parse_export(document, "x")
    for before, record in zip(old["records"], run.records, strict=True):
        assert [(f["name"], f["value"], f["n"]) for f in before["figures"]] == [
            (f.name, f.value, f.n) for f in record.figures
        ]
        assert (before["status"], before["versions"]) == (record.status, record.versions)


def test_a_flag_is_a_flag(document: str) -> None:
    slices = [
        piece
        for record in parse_export(document, "x").records
        for figure in record.figures
        for sample in figure.samples
        for piece in sample.slices
    ]
    assert all(type(piece.noise["asleep"]) is bool for piece in slices if "asleep" in piece.noise)


def test_what_is_exported_comes_back(document: str) -> None:
    run = parse_export(document, "x")
    text = export(run)
    assert json.loads(text)["schema"] == SCHEMA
    assert parse_export(text, "x") == run
    assert all({"id", "comparable"} <= record.keys() for record in json.loads(text)["records"])


def test_a_computed_field_cannot_lie(document: str) -> None:
    plain = json.loads(export(parse_export(document, "x")))
    plain["records"][0] |= {"comparable": not plain["records"][0]["comparable"], "id": "another"}
    assert parse_export(json.dumps(plain), "x") == parse_export(document, "x")


def test_a_newer_schema_is_refused(document: str) -> None:
    newer = json.dumps({**json.loads(document), "schema": SCHEMA + 1})
    with pytest.raises(BenchError, match="newer evenbench"):
        parse_export(newer, "x")


def test_a_check_of_the_first_version_is_read() -> None:
    place = {"row": "onnxruntime <- keras", "name": "throughput", "task": "infer", "batch_size": 1}
    plain = {
        "schema_version": 1, "name": "check-1", "command": "bench check", "started_at": "2026-01-01T00:00:00+00:00",
        "base": {"told": "torch==2.13.0", "versions": {}}, "present": {"told": "this environment"},
        "figures": [{**place, "unit": "images/s", "margin": 0.005, "verdict": "no change"}],
        "looks": [4], "alpha": 0.05, "machine": {}, "data": {"name": "d", "sha256": "0", "train": 1, "test": 1},
    }  # fmt: skip
    check = Check.model_validate_json(json.dumps(plain))
    assert check.schema_version == CHECK_SCHEMA
    assert (check.base.label, check.present.label) == ("torch==2.13.0", "this environment")
    assert check.figures[0].label == check.figures[0].row == "onnxruntime <- keras"
    assert Check.model_validate_json(check.model_dump_json()) == check
    assert Run.model_fields.keys() >= {"name", "records"}
