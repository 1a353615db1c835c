"""Pages in a real browser: Chromium opens them from a file, as a user does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from builders import HOSTILE, hostile_run, latency, recorded, row, run, speed
from html_pages import pages, series
from playwright.sync_api import Browser, Page

from bench.analysis import trends
from bench.records.export import export
from reports.pages import html

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


Opens = Callable[..., Page]


@pytest.fixture
def opens(browser: Browser, tmp_path: Path) -> Iterator[Opens]:
    """Opens pages; at the end it asserts that there were no errors and no network requests."""
    complaints: list[str] = []
    requests: list[str] = []
    contexts = []

    def open_(text: str, size: dict[str, int] = WIDE, scheme: str = "light") -> Page:
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        draw_all(page)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def draw_all(page: Page) -> None:
    """Draw all plots: the page draws a plot when it becomes visible, or before printing."""
    page.evaluate("dispatchEvent(new Event('beforeprint')); dispatchEvent(new Event('afterprint'))")
    page.wait_for_function("[...document.querySelectorAll('.plot')].every(p => p.querySelector('.main-svg'))")


def forty() -> str:
    rows = [
        row(f"backend-{i}", [speed([100.0 + i, 101.0 + i, 99.5 + i]), latency([0.001 * (1 + i), 0.0011 * (1 + i)])])
        for i in range(40)
    ]
    return html.run_page(run(*rows))


def test_the_table_holds_the_exports_numbers(opens: Opens) -> None:
    page = opens(html.run_page(recorded()))
    shown = page.eval_on_selector_all(
        "#grid tbody tr",
        "rows => rows.map(r => [...r.cells].slice(1).map(c => [c.dataset.figure, c.dataset.value ?? null]))",
    )
    records = json.loads(export(recorded()))["records"]
    assert len(shown) == len(records)
    compared = 0
    for cells, record in zip(shown, records, strict=True):
        for key, value in cells:
            name, *place = key.split("-", 1)
            figures = [f for f in record["figures"] if key == key_of(f)]
            assert (value is None) == (not figures or figures[0]["value"] is None), (name, place)
            if value is not None:
                assert float(value) == figures[0]["value"]
                compared += 1
    assert compared > 80


def key_of(figure: dict[str, object]) -> str:
    parts = (figure[name] for name in ("name", "task", "boundary", "batch_size"))
    return "-".join(str(part) for part in parts if part is not None)


def column(page: Page, key: str) -> list[str]:
    values: list[str] = page.eval_on_selector_all(
        f'td[data-figure="{key}"]', "cells => cells.map(c => c.dataset.value ?? '')"
    )
    return values


def test_sorting_hiding_and_the_theme(opens: Opens) -> None:
    page = opens(html.run_page(recorded()))
    key = "throughput-infer-end-to-end-128"
    head = page.locator("#grid thead th", has_text="inference, batch 128").first
    head.locator("button").click()
    values = [float(value) for value in column(page, key) if value]
    assert values == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    values = [float(value) for value in column(page, key) if value]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    accuracy = column(page, "accuracy")
    page.locator("#grid thead th button", has_text="accuracy").first.click()
    assert column(page, "accuracy")[-1] == "", f"what was not measured stays last: {accuracy}"

    assert page.locator(f'td[data-figure="{key}"]').first.is_visible()
    page.locator("summary", has_text="Columns").click()
    page.locator("#columns label", has_text="inference, batch 128").first.uncheck()
    assert not page.locator(f'td[data-figure="{key}"]').first.is_visible()
    page.locator("#columns label", has_text="cold start").check()
    assert page.locator('td[data-figure^="cold_start"]').first.is_visible()

    ground = "getComputedStyle(document.body).backgroundColor"
    title = "getComputedStyle(document.querySelector('.plot .xtitle')).fill"
    before = page.evaluate(ground), page.evaluate(title)
    page.locator("#theme").click()
    page.wait_for_function(f"{title} !== '{before[1]}'")
    assert page.evaluate(ground) != before[0]
    assert page.locator("#theme").inner_text() == "Light"


def test_hovering_shows_the_number(opens: Opens) -> None:
    page = opens(html.run_page(recorded()))
    plot = page.locator('[data-figure="throughput-infer-end-to-end"]')
    plot.scroll_into_view_if_needed()
    bar = plot.locator(".bars .point path").first.bounding_box()
    assert bar is not None
    page.mouse.move(bar["x"] + bar["width"] - 2, bar["y"] + bar["height"] / 2)
    hover = plot.locator(".hoverlayer .hovertext")
    hover.wait_for()
    assert "throughput [images/s]" in (hover.text_content() or "")


@pytest.mark.parametrize("name", ["run", "check", "comparison", "history", "forty"])
def test_no_serious_accessibility_fault_and_no_overflow(opens: Opens, name: str) -> None:
    text = forty() if name == "forty" else pages()[name]
    for size, scheme in ((WIDE, "light"), (PHONE, "dark")):
        page = opens(text, size, scheme)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], f"{width} px wide in {size['width']}"
        violations = Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in violations
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []


def test_hostile_names_are_shown_as_text(opens: Opens) -> None:
    for size in (WIDE, PHONE):
        page = opens(html.run_page(hostile_run()), size)
        body = page.locator("body").inner_text()
        assert "<script>alert(1)</script>" in body
        assert "{{ 7 * 7 }}" in body
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        in_plots = page.eval_on_selector_all(".plot .ytick text", "texts => texts.map(t => t.textContent).join(' ')")
        assert "<script>" in in_plots
        assert page.locator(".plot a, .plot img, .plot script").count() == 0
    assert len(HOSTILE) == 9


def test_filters_of_the_history(opens: Opens) -> None:
    both = [series(30, "pytorch", 0.9), series(30, "keras")]
    page = opens(html.history_page(both, trends.all_level_shifts(both), "bench history"))
    assert page.locator("#series figure:visible").count() == 2
    page.locator('select[data-filter="backend"]').select_option("keras")
    assert page.locator("#series figure:visible").count() == 1
    assert page.locator("#series figure:visible figcaption").inner_text().startswith("keras")
    page.locator('select[data-filter="backend"]').select_option("")
    assert page.locator("#series figure:visible").count() == 2
    marks = page.eval_on_selector_all('[data-figure="series-0"] .annotation-text', "t => t.map(x => x.textContent)")
    assert re.search(r"-\d+\.\d%: torch 2 to", " ".join(marks)), marks


def test_it_prints_in_light_with_every_plot(opens: Opens) -> None:
    page = opens(html.run_page(recorded()), scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#theme").is_visible()
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
