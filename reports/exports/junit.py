"""The verdicts of a check as JUnit XML: a test case for every metric of every row.

A regression is a failure and what is invalid an error. What stays inconclusive is skipped, or passes or fails as
``--inconclusive`` says. The format is that of https://github.com/testmoapp/junitxml, which CI systems read.
"""

from __future__ import annotations

from typing import Literal, TypeAlias
from xml.etree import ElementTree

from bench.errors import UsageError
from bench.records.gate_result import Check, MetricVerdict
from reports.content.comparison import metric_name
from reports.content.verdicts import verdict_line
from reports.table import printable

Inconclusive: TypeAlias = Literal["pass", "fail"] | None


def choice(text: str | None) -> Inconclusive:
    """What ``--inconclusive`` says.

    Raises:
        UsageError: neither pass nor fail.
    """
    if text in (None, "pass", "fail"):
        return text  # type: ignore[return-value]
    raise UsageError(f"--inconclusive {text}: pass or fail")


def document(check: Check, inconclusive: Inconclusive = None) -> str:
    """The XML document."""
    cases = [_case(check, figure, inconclusive) for figure in check.figures]
    counts = {
        "tests": len(cases),
        **{f"{tag}s": sum(case.find(tag) is not None for case in cases) for tag in ("failure", "error")},
        "skipped": sum(case.find("skipped") is not None for case in cases),
    }
    attributes = {name: str(count) for name, count in counts.items()}
    suite = ElementTree.Element(
        "testsuite",
        {"name": printable(check.name), **attributes, "time": f"{check.seconds:.3f}", "timestamp": check.started_at},
    )
    properties = ElementTree.SubElement(suite, "properties")
    sides = (("base", check.base.label), ("present", check.present.label))
    for name, value in (("command", check.command), ("verdict", check.verdict), *sides):
        ElementTree.SubElement(properties, "property", {"name": name, "value": printable(value)})
    suite.extend(cases)
    suites = ElementTree.Element("testsuites", {"name": "bench check", **attributes, "time": f"{check.seconds:.3f}"})
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _case(check: Check, figure: MetricVerdict, inconclusive: Inconclusive) -> ElementTree.Element:
    name = metric_name((figure.name, figure.task, figure.batch_size, figure.boundary))
    case = ElementTree.Element("testcase", {"classname": printable(figure.label), "name": printable(name), "time": "0"})
    line = printable(verdict_line(figure))
    tag = _tag(figure, inconclusive)
    if tag is not None:
        ElementTree.SubElement(case, tag, {"message": line, **({} if tag == "skipped" else {"type": figure.verdict})})
    ElementTree.SubElement(case, "system-out").text = line
    return case


def _tag(figure: MetricVerdict, inconclusive: Inconclusive) -> str | None:
    if figure.verdict == "inconclusive":
        return {None: "skipped", "pass": None, "fail": "failure"}[inconclusive]
    return {"regression": "failure", "invalid": "error"}.get(figure.verdict)
