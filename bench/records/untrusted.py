"""A document from elsewhere, checked before it becomes a run: sizes, names, numbers, dates, and what must agree.

Whatever is wrong is named with its place, such as ``records[3].figures[7].value``.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from bench.records.metrics import METRICS, RATE, SAMPLE_RATE
from bench.records.record import Figure, Record, Run

LARGEST_FILE = 256 * 2**20
"""Bytes of a document; a run of 20 rows and 20 rounds has about 20 MB."""
DEEPEST = 32
"""Levels of nesting; a document of schema 4 has 12."""
LONGEST_NAME = 1000
"""Characters of a text, unless it is one of ``TEXTS``."""
LONGEST_TEXT = 100_000
LARGEST, SMALLEST = 1e100, 1e-100
"""Of the magnitudes of numbers, zero apart: reports multiply and divide them."""
TEXTS = frozenset({"log", "error", "command", "reason", "note", "inputs", "environment"})
"""Fields that hold sentences and lines, not names."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, terminal escapes, changes of the writing direction, and halves of characters."""
_CONTROL_BUT_LINES = re.compile(rf"(?![\n\t\r]){_CONTROL.pattern}")
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SPEEDS = (RATE.unit, SAMPLE_RATE.unit, "s", "bytes")


class RefusedError(ValueError):
    """What is wrong with a document, and where."""


def parse(text: str) -> dict[str, Any]:
    """The JSON object of a document, within the limits of this module.

    Raises:
        RefusedError: it is none, or exceeds a limit.
    """
    if len(text) > LARGEST_FILE:
        _refuse("the document", f"larger than {LARGEST_FILE >> 20} MiB")
    try:
        document = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_object)
    except RecursionError:
        _refuse("the document", f"nested deeper than {DEEPEST} levels")
    if not isinstance(document, dict) or not isinstance(document.get("records"), list):
        _refuse("the document", "it has no list 'records'")
    for place, depth, value in _values(document):
        _check_value(place, depth, value)
    return document


def printable(content: Any, field: str = "") -> Any:
    """Plain values with a question mark for every character that an import refuses, such as a terminal escape in a
    worker's log. ``field``: the name of what ``content`` is the value of."""
    if isinstance(content, str):
        refused = _CONTROL_BUT_LINES if field in TEXTS else _CONTROL
        return content if content.isprintable() else refused.sub("?", content)
    if isinstance(content, dict):
        return {name: value if isinstance(value, float) else printable(value, name) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [value if isinstance(value, float) else printable(value) for value in content]
    return content


def check_shape(document: dict[str, Any]) -> None:
    """Check what ``bench.records.upgrade`` walks through in an older document.

    Raises:
        RefusedError: a list or an object that it needs is something else.
    """
    _check_shape("", document, SHAPE)


def check_run(run: Run) -> None:
    """Check what a run's models cannot check one by one: names that must differ, counts, dates, intervals, facts.

    Raises:
        RefusedError: it is no run that a report can be made of.
    """
    if not RUN_NAME.fullmatch(run.name) or run.name == "last":
        _refuse("run", f"{_shown(run.name)} is no name of a run (letters, digits, '.', '_', '-')")
    _check_date("started_at", run.started_at)
    _check_counts("rounds", run.rounds)
    _check_facts(Timing, "timing", run.timing)
    ids = [record.id for record in run.records]
    for number, record in enumerate(run.records):
        place = f"records[{number}]"
        if ids.index(record.id) < number:
            _refuse(place, f"a second row {record.id}")
        _check_record(place, record)


def first_error(error: ValidationError) -> str:
    """The first error of a validation with its place, on one line."""
    first = error.errors()[0]
    return f"{_join(first['loc']) or 'the document'}: {first['msg'].splitlines()[0]}"


class _Facts(BaseModel):
    """Facts that reports read from a plain object; others may stand beside them."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class Gpu(_Facts):
    """A GPU of a machine."""

    name: str


class Machine(_Facts):
    """A machine (``bench.machine.host.fingerprint``); older records lack some facts."""

    id: str = ""
    cpu: str = ""
    cores: int = 0
    memory: float = 0.0
    gpus: list[Gpu] = []
    system: str = ""
    kernel: str = ""


class Timing(_Facts):
    """Wall seconds of a run by use (``bench.runner.workspace.Timing``)."""

    wall: float = 0.0
    timed: float = 0.0
    parent_cpu_while_timed: float = 0.0
    asleep_wait: float = 0.0
    phases: dict[str, float] = {}


SHAPE: dict[str, Any] = {
    "schedule": [[""]],
    "records": [
        {
            "job": {"backend": "", "mode": "", "seed": 0},
            "figures": [{"name": "", "samples": [{"round": 0, "slices": [{"noise": {}}]}]}],
            "ratios": [{"against": ""}],
            "phases": [{"alive_with": [""]}],
        }
    ],
}
"""The types of what ``bench.records.upgrade`` walks through, where it is there."""


def _no_constant(name: str) -> NoReturn:
    _refuse("the document", f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        _refuse("the document", f"{_shown(twice)} stands twice in one object")
    return found


def _values(document: Any) -> Iterator[tuple[str, int, Any]]:
    """Every value with its place and depth, and every key as a value."""
    waiting: list[tuple[str, int, Any]] = [("", 0, document)]
    while waiting:
        place, depth, value = waiting.pop()
        yield place, depth, value
        if isinstance(value, dict):
            for name, inner in value.items():
                yield f"{place or 'the document'} (a name)", depth, name
                waiting.append((f"{place}.{name}" if place else name, depth + 1, inner))
        elif isinstance(value, list):
            waiting.extend((f"{place}[{number}]", depth + 1, inner) for number, inner in enumerate(value))


def _check_value(place: str, depth: int, value: Any) -> None:
    if depth > DEEPEST:
        _refuse(place[:LONGEST_NAME], f"nested deeper than {DEEPEST} levels")
    if isinstance(value, str):
        lines = place.rpartition(".")[2] in TEXTS
        longest = LONGEST_TEXT if lines else LONGEST_NAME
        if len(value) > longest:
            _refuse(place, f"a text of {len(value):,} characters; at most {longest:,}")
        if (_CONTROL_BUT_LINES if lines else _CONTROL).search(value):
            _refuse(place, f"control characters in {_shown(value)}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(place, "a number that is not finite")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            _refuse(place, "a whole number of more than 64 bits")
        if value and not SMALLEST <= abs(value) <= LARGEST:
            _refuse(place, f"{value:g} is no number that is measured")


def _check_shape(place: str, value: Any, shape: Any) -> None:
    if not isinstance(value, type(shape)):
        kinds = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
        _refuse(place, f"it is not {kinds[type(shape)]}")
    if isinstance(value, list):
        for number, inner in enumerate(value):
            _check_shape(f"{place}[{number}]", inner, shape[0])
    elif isinstance(value, dict):
        for name in shape.keys() & value.keys():
            _check_shape(f"{place}.{name}" if place else name, value[name], shape[name])


def _check_record(place: str, record: Record) -> None:
    _check_date(f"{place}.started_at", record.started_at)
    for name in ("backend", "device", "precision", "mode", "model", "dataset", "recipe"):
        if not getattr(record.job, name).strip():
            _refuse(f"{place}.job.{name}", "it is empty")
    _check_facts(Machine, f"{place}.machine", record.machine)
    data = record.data
    _check_counts(f"{place}.data", data.train, data.validation, data.test)
    seen = set()
    for number, figure in enumerate(record.figures):
        within = f"{place}.figures[{number}]"
        if figure.key in seen:
            _refuse(within, f"a second figure {_shown(figure.name)} of the same task, batch size and boundary")
        seen.add(figure.key)
        _check_figure(within, figure)
    for kind in ("ratios", "arena"):
        for number, ratio in enumerate(getattr(record, kind)):
            within = f"{place}.{kind}[{number}]"
            if ratio.name not in METRICS:
                _refuse(f"{within}.name", f"unknown figure {_shown(ratio.name)}")
            _check_counts(within, ratio.n, ratio.batch_size - 1)
            _check_interval(within, ratio.value, ratio.low, ratio.high)
            if ratio.value <= 0 or (ratio.low or 1) <= 0:
                _refuse(within, "a ratio that is not above zero")
    for number, check in enumerate(record.parity.checks if record.parity else []):
        for name, detail in check.details.items():
            if isinstance(detail, dict | list):
                _refuse(f"{place}.parity.checks[{number}].details.{name}", "it is neither a number nor a text")
        if not isinstance(check.details.get("off_other_form", 0.0), int | float):
            _refuse(f"{place}.parity.checks[{number}].details.off_other_form", "it is no number")
    if record.outcome is not None:
        classes, confusion = record.outcome.classes, record.outcome.confusion
        if any(len(line) != len(confusion) for line in confusion) or len(confusion) != len(classes):
            _refuse(f"{place}.outcome.confusion", f"it is no square of the {len(classes)} classes")
        _check_counts(f"{place}.outcome", *(one.support for one in classes), *(n for line in confusion for n in line))


def _check_figure(place: str, figure: Figure) -> None:
    metric = METRICS.get(figure.name)
    if metric is None:
        _refuse(f"{place}.name", f"unknown figure {_shown(figure.name)}")
    if figure.batch_size is not None and figure.batch_size < 1:
        _refuse(f"{place}.batch_size", "it is below 1")
    if figure.value is None and not figure.reason:
        _refuse(f"{place}.reason", "a value that was not measured has a reason")
    _check_counts(f"{place}.n", figure.n)
    _check_interval(place, figure.value, figure.low, figure.high)
    # What is averaged by its logarithm is above zero.
    smallest = 0.0 if figure.unit in SPEEDS and metric.spread_over == "processes" else -math.inf
    values = [(f"{place}.value", figure.value), (f"{place}.low", figure.low)]
    for number, sample in enumerate(figure.samples):
        within = f"{place}.samples[{number}]"
        values.append((f"{within}.value", sample.value))
        _check_counts(f"{within}.round", sample.round)
        for index, piece in enumerate(sample.slices):
            if piece.images < 1:
                _refuse(f"{within}.slices[{index}].images", "it is below 1")
            durations = (piece.seconds, *(piece.latencies or []))
            if min(durations) <= 0:
                _refuse(f"{within}.slices[{index}]", "a time that is not above zero")
    for within, value in values:
        if value is not None and value <= smallest:
            _refuse(within, f"{value:g} is not above zero")


def _check_interval(place: str, value: float | None, low: float | None, high: float | None) -> None:
    if (low is None) != (high is None):
        _refuse(place, "an interval with one end")
    if low is not None and high is not None:
        slack = 1e-9 * max(abs(low), abs(high))
        if value is None or not low - slack <= value <= high + slack:
            _refuse(place, f"the value is not within its interval [{low:g}, {high:g}]")


def _check_counts(place: str, *counts: int) -> None:
    if min(counts, default=0) < 0:
        _refuse(place, "a count below zero")


def _check_date(place: str, text: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        _refuse(place, f"{_shown(text)} is no date of ISO 8601")
    if moment.tzinfo is None:
        _refuse(place, f"{_shown(text)} has no time zone")


def _check_facts(model: type[_Facts], place: str, facts: dict[str, Any]) -> None:
    try:
        TypeAdapter(model).validate_python(facts)
    except ValidationError as error:
        first = error.errors()[0]
        _refuse(_join((place, *first["loc"])), first["msg"].splitlines()[0])


def _join(place: Iterable[str | int]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return "".join(parts).removeprefix(".")


def _shown(text: str) -> str:
    """A foreign text, short and without control characters."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _refuse(place: str, why: str) -> NoReturn:
    raise RefusedError(f"{''.join(c if c.isprintable() else '?' for c in place[:200])}: {why}")
