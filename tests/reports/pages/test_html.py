"""Pages as files: one file, no network, escaped; and the commands that write them.

Their behaviour in a browser: test_html_in_browser.py.
"""

from __future__ import annotations

import errno
import hashlib
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from bench_command import Bench
from builders import hostile_run, recorded, row, run, speed
from html_pages import check, pages

from bench.cli import output
from bench.errors import BenchError
from bench.records.export import export
from bench.records.record import Figure, Run
from reports.pages import html


class Reader(HTMLParser):
    """The elements of a page with their attributes; scripts are not parsed as markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.parametrize("name", ["run", "hostile", "check", "comparison", "history"])
def test_a_page_is_one_file_that_requests_nothing(name: str) -> None:
    text = pages()[name]
    page = Reader(text)
    assert not [script for script in page.all("script") if "src" in script]
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert page.all("img") == []
    assert "default-src 'none'" in page.all("meta")[3]["content"]
    assert len(page.all("h1")) == 1
    assert text.count("plotly.js (basic - minified) v") <= 1, "inlined once"
    assert len(text.encode()) < 1_500_000


def test_the_page_of_the_main_job_is_short_too() -> None:
    """Thirteen rows, with as many calls in every distribution as a real one has."""
    drawn, made = random.Random(0), recorded()
    timed = made.records[0].figures[0].samples[0].slices[0]

    def with_calls(figure: Figure) -> Figure:
        if figure.name != "latency_p50" or figure.value is None:
            return figure
        calls = [figure.value * (1 + drawn.random()) for _ in range(1000)]
        slices = [timed.model_copy(update={"latencies": calls, "disturbed": False})]
        return figure.model_copy(update={"samples": [figure.samples[0].model_copy(update={"slices": slices})]})

    records = []
    for number in range(13):
        record = made.records[number % len(made.records)]
        changes = {"figures": list(map(with_calls, record.figures)), "job": replace(record.job, threads=number + 1)}
        records.append(record.model_copy(update=changes))
    text = html.run_page(made.model_copy(update={"records": records}))
    assert len(text.encode()) < 1_500_000


def test_foreign_text_makes_no_elements() -> None:
    tame, hostile = Reader(html.run_page(recorded())), Reader(pages()["hostile"])
    assert {tag for tag, _ in hostile.elements} <= {tag for tag, _ in tame.elements}
    assert not [name for _, attributes in hostile.elements for name in attributes if name.startswith("on")]
    named = html.run_page(hostile_run().model_copy(update={"name": "{{ 7 * 7 }}"}))
    assert re.findall(r"<h1>(.*?)</h1>", named) == ["Run {{ 7 * 7 }}"], "no template in a name is rendered"


def test_the_numbers_are_the_exports() -> None:
    made = recorded()
    exported = {
        (record["job"]["backend"], record["job"]["source"], record["job"]["precision"]): record
        for record in json.loads(export(made))["records"]
    }
    text = html.run_page(made)
    shown = 0
    for record in exported.values():
        for figure in record["figures"]:
            if figure["value"] is not None and figure["name"] in ("throughput", "accuracy", "peak_rss"):
                assert f'data-value="{figure["value"]}"' in text
                shown += 1
    assert shown > 20


def test_a_section_without_data_is_absent() -> None:
    text = html.run_page(run(row("failed", [], status="crashed", error="signal SIGSEGV", parity=None)))
    ids = [attributes["id"] for attributes in Reader(text).all("section") if "id" in attributes]
    assert ids == ["comparison", "machine", "definitions"]
    assert "crashed: signal SIGSEGV" in text
    assert "plotly.js (basic" in html.run_page(recorded())
    assert "plotly.js (basic" not in text, "no plot, no library"


def test_verdicts_come_first_and_the_margin_is_shaded() -> None:
    text = html.check_page(check())
    assert "<h1>regression: 1 regression (this environment against torch==2.13.0)</h1>" in text
    figures = json.loads(text.split('id="figures">')[1].split("</script>")[0])
    (band, _) = figures["forest-throughput"]["layout"]["shapes"]
    assert (band["x0"], band["x1"]) == (-0.5, 0.5)
    assert figures["forest-throughput"]["data"][0]["x"] == [-2.0]
    assert "2.13.0" in text


def test_level_shifts_are_marked_with_versions() -> None:
    text = pages()["history"]
    figures = json.loads(text.split('id="figures">')[1].split("</script>")[0])
    (layout,) = [figure["layout"] for figure in figures.values()]
    assert "torch 2 to" in layout["annotations"][0]["text"]
    assert layout["shapes"][0]["x0"] == "2026-01-01 15:00:00"


@pytest.fixture
def stored(bench: Bench) -> Bench:
    made: Run = recorded()
    (bench.folder / "run.json").write_text(export(made))
    assert bench("import", "run.json").returncode == 0
    return bench


def test_report_writes_a_page_and_images(stored: Bench) -> None:
    done = stored("report", "--format", "html", "-o", "report.html", "--figures", "plots")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"report.html written \([\d,]+ kB\)\n", done.stdout)
    assert (stored.folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert list((stored.folder / "plots").glob("*.svg"))
    assert stored("report", "--format", "html").stdout.startswith("<!DOCTYPE html>")


def test_the_comment_of_a_pull_request(stored: Bench) -> None:
    done = stored("report", "--summary")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Benchmark ")
    assert "<details><summary>" in done.stdout
    assert len(done.stdout) < 60_000


def test_every_table_as_csv_and_json(stored: Bench) -> None:
    for command in (("report",), ("history",), ("list",), ("history", "checks")):
        done = stored(*command, "--format", "json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout).keys() == {"headline", "tables", "notes"}
        assert stored(*command, "--format", "csv").returncode == 0


def test_the_history_as_a_page(stored: Bench) -> None:
    done = stored("history", "--format", "html", "-o", "history.html")
    assert done.returncode == 0, done.stderr
    assert "series-0" in (stored.folder / "history.html").read_text()


def test_two_runs_as_a_page(stored: Bench) -> None:
    document = json.loads((stored.folder / "run.json").read_text())
    (stored.folder / "other.json").write_text(json.dumps({**document, "run": "20270101T000000-bbbb"}))
    assert stored("import", "other.json").returncode == 0
    done = stored("compare", "last~1", "last", "--format", "html", "-o", "compare.html")
    assert done.returncode == 0, done.stderr
    text = (stored.folder / "compare.html").read_text()
    figures = json.loads(text.split('id="figures">')[1].split("</script>")[0])
    for name, margin in (("throughput", 0.5), ("latency_p50", 0.5), ("peak_rss", 1.0)):
        assert figures[f"forest-{name}"]["layout"]["shapes"][0]["x1"] == margin, "the gate's margin is shaded"
    assert figures["forest-cold_start"]["layout"]["shapes"][0]["type"] == "line", "the gate does not judge it"


def test_a_file_that_cannot_be_written_is_one_line(stored: Bench) -> None:
    done = stored("report", "--format", "html", "-o", "/proc/report.html")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: cannot write /proc/report.html: ")
    assert done.stderr.count("\n") == 1


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report.html"
    output.write("old", out)
    assert out.read_text() == "old"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BenchError, match="No space left on device; give another path in --output"):
        output.write("new", out)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "old"


def test_long_comments_are_cut_by_whole_parts() -> None:
    from reports.pages import pull_request

    many = run(*(row(f"backend {i}", [speed([100.0 + i, 101.0 + i])], versions={"p": "1" * 2000}) for i in range(60)))
    text = pull_request.run_comment(many)
    assert len(text) < 60_000
    assert text.count("<details>") == text.count("</details>")
    assert "more parts are left out for length" in text


def test_plotly_is_the_file_that_npm_has() -> None:
    content = html.plotly_script().encode()
    assert content.startswith(b"/**\n* plotly.js (basic - minified) v4.1.1\n")
    assert hashlib.sha256(content).hexdigest() == "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
    license_file = resources.files("reports.pages").joinpath("scripts", "plotly-basic.LICENSE")
    assert "MIT License" in license_file.read_text(encoding="utf-8")
