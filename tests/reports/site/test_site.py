"""The site of a history: its files, what is written again, what a browser makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from builders import HOSTILE, hostile_run, latency, recorded, row, run, speed
from html_pages import check
from playwright.sync_api import Browser
from typer.testing import CliRunner

from bench.cli.main import app
from bench.errors import BenchError
from bench.records.export import parse_export
from bench.store import queries
from bench.store.schema import CHECKS
from bench.store.store import Store
from reports.site import feed, index
from reports.site.feed import NAMESPACE
from reports.site.folder import MANIFEST, SiteFolder

ATOM = f"{{{NAMESPACE}}}"


def history(folder: Path) -> Store:
    """Twelve runs of one workload whose level changes, a real run, a hostile one, and a check."""
    store = Store(str(folder / "history.db"))
    for number in range(12):
        value = (100.0 if number < 6 else 80.0) * (1 + 0.001 * (number % 3))
        rows = [
            row(
                "a",
                [speed([value, value * 1.01, value * 0.99]), latency([0.01])],
                versions={"torch": str(1 + number // 6)},
            )
        ]
        store.add(run(*rows, name=f"run-{number:02}", started_at=f"2026-01-{1 + number:02}T00:00:00+00:00"))
    for made in (recorded(), hostile_run()):
        store.add(made.model_copy(update={"records": [r.model_copy(update={"ratios": []}) for r in made.records]}))
    store.put(CHECKS, check().name, check().model_dump_json())
    return store


def made(folder: Path, store: Store, *options: str, code: int = 0) -> str:
    command = ["site", "--store", str(store.file), "--output", str(folder), *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == code, done.output
    return done.output if code == 0 else str(done.exception)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Links(HTMLParser):
    """Where a page's links, scripts and styles lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]


def test_every_link_leads_to_a_file_of_the_site(tmp_path: Path) -> None:
    made(tmp_path / "site", history(tmp_path))
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) == 3 + 14 + 1 + 2 + 9, "lists, runs, a check, the trends of every workload"
    for page in pages:
        links = [link for link in Links(page.read_text()).found if not link.startswith(("#", "data:"))]
        assert len(links) > 5
        for link in links:
            target = (page.parent / link).resolve()
            assert target.is_file(), f"{page}: {link}"
            assert tmp_path / "site" in target.parents
    scripts = [path for path in contents(tmp_path / "site") if "plotly" in path]
    assert scripts == ["assets/plotly.js"], "once for the whole site"
    assert max(len(page.read_bytes()) for page in pages) < 400_000


def test_the_json_beside_a_page_is_what_export_writes(tmp_path: Path) -> None:
    store = history(tmp_path)
    made(tmp_path / "site", store)
    for name in ("run-03", recorded().name):
        text = (tmp_path / "site" / "runs" / f"{name}.json").read_text()
        assert parse_export(text, name).name == name
    assert json.loads((tmp_path / "site" / "checks" / "check-1.json").read_text())["verdict"] == "regression"
    listed = json.loads((tmp_path / "site" / "runs.json").read_text())
    assert [each["name"] for each in listed][:1] == [recorded().name]
    whole = json.loads((tmp_path / "site" / "index.json").read_text())
    assert (whole["runs"], whole["checks"]) == (14, 1)
    trend = (tmp_path / "site" / whole["trends"]["m/d/r"]).with_suffix(".json")
    (series,) = (one for one in json.loads(trend.read_text()) if one["figure"][0] == "throughput")
    assert len(series["points"]) == 12
    versions = {number: point["versions"] for number, point in enumerate(series["points"]) if "versions" in point}
    assert versions == {0: {"torch": "1"}, 6: {"torch": "2"}}, "where they change"


def test_trends_show_the_change_and_the_version(tmp_path: Path) -> None:
    made(tmp_path / "site", history(tmp_path))
    text = (tmp_path / "site" / "trends" / f"{index.slug('m/d/r')}.html").read_text()
    assert "torch 1 to 2" in text
    assert "-20.0%" in text


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    store, site = history(tmp_path), tmp_path / "site"
    made(site, store)
    before = contents(site)
    assert ", 0 written, 0 removed" in made(site, store)
    assert contents(site) == before
    (site / "runs" / "run-03.json").unlink()
    made(site, store)
    assert contents(site) == before, "what was taken away is written again"

    store.add(run(row("a", [speed([90.0])]), name="run-99", started_at="2026-02-01T00:00:00+00:00"))
    made(site, store)
    changed = {path for path, content in contents(site).items() if before.get(path) != content}
    trend = f"trends/{index.slug('m/d/r')}"
    lists = {"index.html", "index.json", "runs.html", "runs.json", MANIFEST}
    assert changed == {"runs/run-99.html", "runs/run-99.json", f"{trend}.html", f"{trend}.json"} | lists

    before_note = contents(site)
    queries.acknowledge(store, "run-06", "a new compiler")
    made(site, store)
    changed = {path for path, content in contents(site).items() if before_note.get(path) != content}
    assert {f"{trend}.html", f"{trend}.json"} <= changed <= {f"{trend}.html", f"{trend}.json"} | lists

    queries.delete(store, ["run-99"])
    (site / "CNAME").write_text("bench.example")
    assert ", 2 removed" in made(site, store)
    assert contents(site).keys() - before.keys() == {"CNAME"}, "a file of somebody else stays"


def test_a_run_that_has_not_ended_is_written_again(tmp_path: Path) -> None:
    store, site = history(tmp_path), tmp_path / "site"
    unended = run(name="now", started_at="2026-03-01T00:00:00+00:00")
    store.add_run(unended, {"begun": b"{}"})
    made(site, store)
    store.save("now", row("a", [speed([50.0])]))
    made(site, store)
    assert parse_export((site / "runs" / "now.json").read_text(), "now").records[0].job.backend == "a"
    trend = (site / "trends" / index.slug("m/d/r")).with_suffix(".json")
    before = trend.read_text()
    store.save("now", row("b", [speed([70.0])]))
    made(site, store)
    assert trend.read_text() != before, "its newest row is in the trends"


def test_a_site_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    SiteFolder(tmp_path / "site").put("runs/half.html", "key", "half")  # and then the process ended
    assert "removed" in made(tmp_path / "site", history(tmp_path))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    store = history(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    assert "has files that are not of a site" in made(tmp_path / "photos", store, code=1)
    assert contents(tmp_path / "photos") == {"cat.jpg": b"cat"}


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"files": 3}',
        '{"files": {"../history.db": "x"}}',
        '{"files": {"/etc/passwd": "x"}}',
        "[" * 9999,
    ],
)
def test_a_list_of_files_that_someone_wrote_removes_nothing(text: str, tmp_path: Path) -> None:
    store, site = history(tmp_path), tmp_path / "site"
    site.mkdir()
    (site / MANIFEST).write_text(text)
    with pytest.raises(BenchError, match="is no list of a site's files"):
        SiteFolder(site)
    assert store.file is not None
    assert store.file.exists()


def test_the_feed_is_atom(tmp_path: Path) -> None:
    made(tmp_path / "site", history(tmp_path), "--url", "https://bench.example/site")
    root = ElementTree.parse(tmp_path / "site" / "feed.xml").getroot()
    assert root.tag == f"{ATOM}feed"
    assert {child.tag.removeprefix(ATOM) for child in root} >= {"id", "title", "updated", "author", "link", "entry"}
    (entry,) = root.findall(f"{ATOM}entry")
    assert entry.findtext(f"{ATOM}title", "").startswith("regression: 1 regression")
    assert entry.find(f"{ATOM}link").get("href") == "https://bench.example/site/checks/check-1.html"  # type: ignore[union-attr]
    assert "-2.00%" in entry.findtext(f"{ATOM}summary", "")


def test_foreign_text_in_the_feed_is_text() -> None:
    (figure,) = check().figures
    for text in HOSTILE:
        hostile = check(figures=[{**figure.model_dump(exclude={"n"}), "label": text}], command=text)
        root = ElementTree.fromstring(feed.document([hostile], "", "2026-01-01T00:00:00Z"))
        assert len(root.findall(f"{ATOM}entry")) == 1


def test_names_of_workloads_are_files_of_their_own() -> None:
    names = {index.slug(text) for text in ("a/b/c", "a b/c", "a/b c", "../../etc/passwd", "a/b/c ", "")}
    assert len(names) == 6
    assert all("/" not in name and not name.startswith(".") for name in names)


def test_an_empty_history_is_a_site_too(tmp_path: Path) -> None:
    made(tmp_path / "site", Store(str(tmp_path / "empty.db")))
    assert "0 runs, 0 checks" in (tmp_path / "site" / "index.html").read_text()


def test_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["site", "--store", str(tmp_path / "x.db")])
    assert "--output DIR" in str(done.exception)


@pytest.mark.slow
def test_a_browser_shows_every_page_and_asks_for_nothing_else(browser: Browser, tmp_path: Path) -> None:
    site = tmp_path / "site"
    made(site, history(tmp_path))
    shown = ["index.html", "runs.html", "checks.html", "checks/check-1.html", f"runs/{recorded().name}.html",
             f"trends/{index.slug('m/d/r')}.html"]  # fmt: skip
    for width, scheme in ((1280, "light"), (390, "dark")):
        complaints: list[str] = []
        requests: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)  # noqa: B023
        page.on("pageerror", lambda error: complaints.append(str(error)))  # noqa: B023
        page.on("request", lambda request: requests.append(request.url))  # noqa: B023
        for name in shown:
            page.goto((site / name).as_uri())
            page.evaluate("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
            page.wait_for_function("[...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            assert complaints == [], name
            violations = Axe().run(page).response["violations"]
            assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == [], name
            complaints.clear()  # axe asks for the style sheet by itself, which the page's policy refuses
        context.close()
        inside: Callable[[str], bool] = lambda url: url.startswith((site.as_uri(), "data:", "blob:"))  # noqa: E731
        assert [url for url in requests if not inside(url)] == []
