"""The output of ``bench check`` and ``bench bisect``, verdicts first."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from bench.analysis.bisection import Bisection
from bench.records.gate_result import Check, MetricVerdict
from bench.records.metrics import METRICS
from reports.content import explanations
from reports.content.cells import with_unit
from reports.content.comparison import metric_name
from reports.content.footnotes import not_alone, went_on
from reports.table import Document, Table, printable

DIGITS = 5
"""Significant digits of base and present: enough to show a change of 0.01%."""


def document(check: Check) -> Document:
    """The verdict in one line, the metrics, the differences between the environments, the notes."""
    tables = []
    if check.figures:
        headers = ["row", "metric", "verdict", "change", "interval", "pairs", "could find", "base", "present"]
        rows = [_row(one) for one in check.figures]
        tables.append(Table("Verdicts", headers, rows, numbers_from=3, optional_columns=(7, 8, 6)))
    tables += explanations.tables(check)
    differing = [
        [name, check.base.versions.get(name, "not there"), check.present.versions.get(name, "not there")]
        for name in sorted({*check.base.versions, *check.present.versions})
        if check.base.versions.get(name) != check.present.versions.get(name)
    ]
    nothing = [["no version", "", ""]]
    title = "What differs between the environments"
    tables.append(Table(title, ["package", check.base.label, check.present.label], differing or nothing))
    return Document(tables, _notes(check), headline(check))


def listing(checks: Sequence[Check]) -> Document:
    """A table of checks."""
    if not checks:
        return Document(headline="No check yet; bench check --against BASE makes one.")
    rows = [[check.name, check.started_at, headline(check), check.command] for check in checks]
    return Document([Table("Checks", ["check", "started", "verdict", "command"], rows, optional_columns=(3,))])


def headline(check: Check) -> str:
    """``regression: 1 regression, 4 no change (...)``: the verdict, and the number of metrics with each verdict."""
    counts = Counter(figure.verdict for figure in check.figures)
    verdicts = ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "no metric was judged"
    return printable(f"{check.verdict}: {verdicts} ({check.present.label} against {check.base.label})")


def change(one: MetricVerdict) -> tuple[str, str]:
    """The change and its interval as text, in percent (accuracy in points)."""
    if one.change is None or one.low is None or one.high is None:
        return "n/m", "n/m"
    return f"{100 * one.change:+.2f}{unit(one)}", f"[{100 * one.low:+.2f}, {100 * one.high:+.2f}]"


def verdict_line(one: MetricVerdict) -> str:
    """``regression: -2.00% [-2.50, -1.50] over 6 pairs, margin 0.5%``, and the reason."""
    value, interval = change(one)
    reason = f": {one.reason}" if one.reason else ""
    return f"{one.verdict}: {value} {interval} over {one.n} pairs, margin {100 * one.margin:.2g}{unit(one)}{reason}"


def unit(one: MetricVerdict) -> str:
    """The unit of changes and margins: percent, or points for metrics judged by differences."""
    return " points" if METRICS[one.name].quantity.absolute else "%"


def levels(one: MetricVerdict) -> tuple[float, float] | None:
    """Base and present in the stored unit: the median base of the pairs that count, and that base with the change
    applied. The median of the present's own values would not agree with the change, which is estimated from the
    ratios within pairs."""
    counted = [pair.base for pair in one.pairs if pair.counts]
    if not counted or one.change is None:
        return None
    base = statistics.median(counted)
    return base, base + one.change if METRICS[one.name].quantity.absolute else base * (1 + one.change)


def _row(one: MetricVerdict) -> list[str]:
    base_and_present = levels(one)
    values = ["n/m", "n/m"]
    if base_and_present is not None:
        values = [with_unit(one.name, value, one.unit, DIGITS) for value in base_and_present]
    smallest = "n/m" if one.smallest is None else f"{100 * one.smallest:.1f}{unit(one)}"
    name = metric_name((one.name, one.task, one.batch_size, one.boundary))
    verdict = one.verdict.upper() if one.verdict == "regression" else one.verdict
    return [one.label, name, verdict, *change(one), str(one.n), smallest, *values]


def _notes(check: Check) -> list[str]:
    lines = [
        "pair: two workers of one row, base and present, alive together and measured in turns (accuracy: one seed);",
        f"change: present / base - 1, from the pairs; interval: {100 * (1 - 2 * check.alpha):.0f}%, valid at every look"
        f" (after {', '.join(map(str, check.looks))} pairs);",
        "could find: the smallest true harm (change for the worse) that these pairs would call a regression with a"
        " probability of 80%;",
        "base: median over the pairs that count; present: that base with the change; n/m: not measured.",
        "Definitions: docs/method.md.",
    ]
    for one in check.figures:
        if one.reason:
            name = metric_name((one.name, one.task, one.batch_size, one.boundary))
            lines.append(f"{one.label}, {name}: {one.verdict}: {one.reason}")
        disturbed = sum(not pair.counts for pair in one.pairs)
        if disturbed and one.verdict != "invalid":
            lines.append(f"{one.label}, {one.name}: {disturbed} disturbed pairs do not count (they are in the record)")
    lines += explanations.sentences(check)
    lines += not_alone(check.turn) + went_on(check.resumed, "rounds of pairs")
    margins = {f"{one.name} {100 * one.margin:.2g}{unit(one)}" for one in check.figures}
    lines.append(f"margins: {', '.join(sorted(margins))}; measured for {check.seconds:.0f} s; check {check.name}")
    return lines


def bisection(search: Bisection) -> Document:
    """The steps of a bisection, and its conclusion."""
    rows = [
        [f"{search.package} {step.version}", step.outcome, step.evidence, step.check or ""] for step in search.steps
    ]
    steps = Table(f"Bisection of {search.package} by {search.metric}", ["version", "outcome", "seen", "check"], rows)
    return Document([steps], [conclusion(search)])


def conclusion(search: Bisection) -> str:
    """The first bad release, or the reason why it is not known."""
    first, last = search.versions[0], search.versions[-1]
    if search.outcome(last) == "skipped":
        evidence = next(step.evidence for step in reversed(search.steps) if step.version == last)
        return printable(f"{search.package} {last} could not be judged ({evidence}); the same command tries it again")
    if search.outcome(last) != "bad":
        return f"{search.package} {last} is not called a regression against {first}: there is nothing to search for."
    suspects = search.suspects[1:]
    if len(suspects) == 1:
        return f"first bad release: {search.package} {suspects[0]} (good: {search.suspects[0]})"
    return (
        f"the first bad release is one of {', '.join(suspects)} (good: {search.suspects[0]});"
        " the others could not be judged"
    )
