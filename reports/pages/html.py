"""Self-contained HTML pages: one file, no network, Plotly's script inlined once. Jinja escapes all foreign text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.analysis.run_comparison import Comparison
from bench.analysis.trends import LevelShift
from bench.records.gate_result import Check
from bench.records.record import Run
from bench.records.series import Series
from reports.content import (
    advice,
    answers,
    columns,
    details,
    explanations,
    footnotes,
    forest,
    history,
    plots,
    trend_plots,
    verdicts,
)
from reports.content import comparison as compared
from reports.content.definitions import definitions
from reports.plot import Plot, Section
from reports.render import plotly
from reports.table import Document


def run_page(run: Run) -> str:
    """The page of a run: the whole report."""
    sections = plots.run_sections(run)
    grid = columns.grid(run)
    return _render(
        "run.html.j2",
        sections,
        run=run,
        answers=answers.answer_all(run),
        advice=advice.apply_rules(run),
        grid=grid,
        missing=columns.missing_reasons(grid.rows),
        notes=footnotes.lines(run),
        classes=details.classes(run),
        tables=details.tables(run),
        facts=details.machine(run),
        definitions=definitions(),
    )


def check_page(check: Check) -> str:
    """The page of a check: the verdicts, then the forest plots."""
    document = verdicts.document(check)
    return _comparison(
        document,
        document.headline or check.name,
        [*forest.check_sections(check), *explanations.sections(check)],
        check.command,
    )


def comparison_page(comparison: Comparison, margins: Mapping[str, float], command: str) -> str:
    """The page of two stored runs: their differences, the ratios, the forest plots."""
    headline = f"{comparison.second} against {comparison.first}"
    return _comparison(
        compared.document(comparison), headline, forest.comparison_sections(comparison, margins), command
    )


def _comparison(document: Document, headline: str, sections: Sequence[Section], command: str) -> str:
    return _render(
        "comparison.html.j2",
        sections,
        headline=headline,
        tables=document.tables,
        notes=document.notes,
        command=command,
    )


def history_page(series: Sequence[Series], shifts: Sequence[LevelShift], command: str) -> str:
    """The page of the history: every series over time, with its level shifts."""
    document = history.change_points(series, shifts)
    trends = trend_plots.all_trends(series, shifts)
    names = ("backend", "machine", "workload", "metric")
    filters = {name: sorted({getattr(trend, name) for trend in trends}) for name in names}
    notes = [*([document.headline] if document.headline else []), *document.notes]
    return _render(
        "history.html.j2",
        [],
        [trend.plot for trend in trends],
        trends=trends,
        filters=filters,
        tables=document.tables,
        notes=notes,
        command=command,
    )


def _render(template: str, sections: Sequence[Section], more: Sequence[Plot] = (), **content: Any) -> str:
    drawn = [*(plot for section in sections for plot in section.plots), *more]
    figures = {plot.key: plotly.figure(plot) for plot in drawn}
    return _environment().get_template(template).render(
        sections=sections,
        figures=_script_json(figures),
        plotly=_plotly() if figures else "",
        **content,
    )  # fmt: skip


def _script_json(content: Mapping[str, Any]) -> Markup:
    """JSON that is safe inside a script element: it cannot end the element."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  (what ends a script is escaped above)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reports.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _plotly() -> Markup:
    """Plotly's script, from its Python package."""
    text = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    return Markup(text.replace("</script", "<\\/script"))  # noqa: S704  (Plotly's own file)
