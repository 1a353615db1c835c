"""The series of a workload as data: JSON beside the page of its trends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from bench.records.series import Series


def document(series: Sequence[Series]) -> str:
    """Every series with its points, in order. A point has ``versions`` where they differ from those before it."""
    return json.dumps([{**asdict(replace(one, points=())), "points": _points(one)} for one in series])


def _points(series: Series) -> list[dict[str, Any]]:
    points, before = [], None
    for point in series.points:
        fields = dict(vars(point))
        if fields["versions"] == before:
            del fields["versions"]
        before = point.versions
        points.append(fields)
    return points
