"""Verdicts as JUnit XML, read back by junitparser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench
from builders import HOSTILE
from html_pages import check
from junitparser import JUnitXml

from bench.errors import UsageError
from bench.records.gate_result import Check
from bench.store.schema import CHECKS
from bench.store.store import Store
from reports.exports import junit

VERDICTS = ("regression", "improvement", "no change", "inconclusive", "invalid")


def with_verdicts(**changes: Any) -> Check:
    (figure,) = check().figures
    plain = figure.model_dump(exclude={"n"})
    return check(figures=[{**plain, "label": f"row {kind}", "verdict": kind, **changes} for kind in VERDICTS])


def results(made: Check, inconclusive: junit.Inconclusive = None) -> dict[str, list[str]]:
    """The kinds of result by class name."""
    read = JUnitXml.fromstring(junit.document(made, inconclusive).encode())
    cases = [case for suite in read for case in suite]
    for suite in read:
        counts = [len([case for case in cases if tag in kinds(case)]) for tag in ("Failure", "Error", "Skipped")]
        assert [suite.tests, suite.failures, suite.errors, suite.skipped] == [len(cases), *counts]
    return {case.classname: kinds(case) for case in cases}


def kinds(case: Any) -> list[str]:
    return [type(result).__name__ for result in case.result]


@pytest.mark.parametrize(("inconclusive", "kind"), [(None, ["Skipped"]), ("pass", []), ("fail", ["Failure"])])
def test_every_verdict_has_its_result(inconclusive: junit.Inconclusive, kind: list[str]) -> None:
    assert results(with_verdicts(), inconclusive) == {
        "row regression": ["Failure"], "row improvement": [], "row no change": [], "row inconclusive": kind,
        "row invalid": ["Error"],
    }  # fmt: skip


def test_a_case_says_what_was_found() -> None:
    (suite,) = JUnitXml.fromstring(junit.document(check()).encode())
    (case,) = suite
    assert case.name == "train throughput end-to-end, batch 128"
    assert case.result[0].message == "regression: -2.00% [-2.50, -1.50] over 6 pairs, margin 0.5%"
    assert {one.name: one.value for one in suite.properties()}["command"] == check().command


def test_foreign_text_is_text() -> None:
    for text in HOSTILE:
        (suite,) = JUnitXml.fromstring(junit.document(with_verdicts(label=text, reason=text)).encode())
        assert len(list(suite)) == len(VERDICTS)


def test_another_word_is_refused() -> None:
    with pytest.raises(UsageError, match="pass or fail"):
        junit.choice("maybe")


def test_the_command_exports_a_stored_check(bench: Bench, tmp_path: Path) -> None:
    none = bench("export", "--format", "junit")
    assert (none.returncode, none.stderr[:15]) == (2, "bench: no check")
    Store(str(bench.store)).put(CHECKS, check().name, check().model_dump_json())
    done = bench("export", "--format", "junit", "-o", str(tmp_path / "verdicts.xml"))
    assert done.returncode == 0, done.stderr
    assert [suite.failures for suite in JUnitXml.fromfile(str(tmp_path / "verdicts.xml"))] == [1]
    wrong = bench("export", "--format", "json", "--inconclusive", "pass")
    assert wrong.returncode == 2
