"""Self-contained HTML pages: one file, no network; what they use of Plotly is inlined. Jinja escapes foreign text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata, resources
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


@dataclass(frozen=True)
class Frame:
    """What a page stands in: nothing, or a site."""

    assets: str = ""
    """The folder of scripts and styles, relative to the page; empty: the page has them in itself."""
    links: tuple[tuple[str, str], ...] = ()
    """Texts and pages of the site that stand at the top."""

    @property
    def alone(self) -> bool:
        """Whether the page stands alone."""
        return not self.assets


ALONE = Frame()


def run_page(run: Run, frame: Frame = ALONE) -> str:
    """The page of a run: the whole report."""
    sections = plots.run_sections(run)
    grid = columns.grid(run)
    return _render(
        "run.html.j2",
        frame,
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


def check_page(check: Check, frame: Frame = ALONE) -> str:
    """The page of a check: the verdicts, then the forest plots."""
    document = verdicts.document(check)
    return _comparison(
        document,
        document.headline or check.name,
        [*forest.check_sections(check), *explanations.sections(check)],
        check.command,
        frame,
    )


def comparison_page(comparison: Comparison, margins: Mapping[str, float], command: str) -> str:
    """The page of two stored runs: their differences, the ratios, the forest plots."""
    headline = f"{comparison.second} against {comparison.first}"
    return _comparison(
        compared.document(comparison), headline, forest.comparison_sections(comparison, margins), command
    )


def _comparison(
    document: Document, headline: str, sections: Sequence[Section], command: str, frame: Frame = ALONE
) -> str:
    return _render(
        "comparison.html.j2",
        frame,
        sections,
        headline=headline,
        tables=document.tables,
        notes=document.notes,
        command=command,
    )


def history_page(
    series: Sequence[Series], shifts: Sequence[LevelShift], command: str, title: str = "History", frame: Frame = ALONE
) -> str:
    """The page of the history: every series over time, with its level shifts."""
    document = history.change_points(series, shifts)
    trends = trend_plots.all_trends(series, shifts)
    names = ("backend", "machine", "workload", "metric")
    filters = {name: sorted({getattr(trend, name) for trend in trends}) for name in names}
    notes = [*([document.headline] if document.headline else []), *document.notes]
    return _render(
        "history.html.j2",
        frame,
        [],
        [trend.plot for trend in trends],
        headline=title,
        trends=trends,
        filters=filters,
        tables=document.tables,
        notes=notes,
        command=command,
    )


def listings_page(headline: str, summary: str, listings: Sequence[Any], frame: Frame) -> str:
    """A page of tables of links (``reports.site.index.Listing``)."""
    return _render("listings.html.j2", frame, [], headline=headline, summary=summary, listings=listings)


def assets() -> dict[str, str]:
    """The scripts and styles of pages in a site, by the names of their files."""
    folder = resources.files("reports.pages").joinpath("templates")
    own = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")}
    return {**own, "plotly.js": plotly_script()}


def version() -> str:
    """What decides how pages look, as a short text: another version of evenbench or of its templates is another one."""
    folder = resources.files("reports.pages").joinpath("templates")
    texts = [path.read_bytes() for path in sorted(folder.iterdir(), key=lambda path: path.name) if path.is_file()]
    parts = [metadata.version("evenbench").encode(), plotly_script().encode(), *texts]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _render(template: str, frame: Frame, sections: Sequence[Section], more: Sequence[Plot] = (), **content: Any) -> str:
    drawn = [*(plot for section in sections for plot in section.plots), *more]
    figures = {plot.key: plotly.figure(plot) for plot in drawn}
    return _environment().get_template(template).render(
        sections=sections,
        figures=_script_json(figures),
        drawn=bool(figures),
        plotly=_inlined_plotly() if figures and frame.alone else "",
        frame=frame,
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
def plotly_script() -> str:
    """Plotly's basic bundle (lines, points, bars), a quarter of the whole: https://www.npmjs.com/package/plotly.js-basic-dist-min."""
    return resources.files("reports.pages").joinpath("scripts", "plotly-basic.min.js").read_text(encoding="utf-8")


@cache
def _inlined_plotly() -> Markup:
    return Markup(plotly_script().replace("</script", "<\\/script"))  # noqa: S704  (Plotly's own file)
