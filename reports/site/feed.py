"""An Atom feed (RFC 4287) of the verdicts of checks."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from bench.records.gate_result import Check
from reports.content import verdicts
from reports.table import printable

NAMESPACE = "http://www.w3.org/2005/Atom"
NEWEST = 50
"""Entries of the feed."""


def document(checks: Sequence[Check], url: str, updated: str) -> str:
    """The feed. ``checks``: the newest first; ``url``: where the site will be, with a slash at its end, or empty;
    ``updated``: the time of the newest change, in ISO 8601."""
    feed = ElementTree.Element("feed", {"xmlns": NAMESPACE})
    _texts(feed, id=f"{url}feed.xml" if url else "urn:evenbench:verdicts", title="Verdicts of bench check")
    _texts(feed, updated=updated)
    ElementTree.SubElement(feed, "link", {"href": f"{url}index.html"})
    ElementTree.SubElement(feed, "link", {"rel": "self", "href": f"{url}feed.xml"})
    author = ElementTree.SubElement(feed, "author")
    _texts(author, name="evenbench")
    for check in checks[:NEWEST]:
        entry = ElementTree.SubElement(feed, "entry")
        _texts(entry, id=f"urn:evenbench:check:{check.name}", title=verdicts.headline(check), updated=check.started_at)
        ElementTree.SubElement(entry, "link", {"href": f"{url}checks/{check.name}.html"})
        ElementTree.SubElement(entry, "category", {"term": check.verdict})
        lines = [f"{figure.label}: {verdicts.verdict_line(figure)}" for figure in check.figures]
        _texts(entry, summary="\n".join([*lines, check.command]))
    ElementTree.indent(feed)
    return ElementTree.tostring(feed, encoding="unicode", xml_declaration=True) + "\n"


def _texts(element: ElementTree.Element, **texts: str) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(element, name).text = "\n".join(map(printable, text.splitlines()))
