"""What a run or check that stopped goes on from: the results of its rows after every job and every round, as parts that
the store keeps beside the records. What a worker did is kept as the parent read it; nothing is judged twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from bench.errors import BenchError
from bench.runner.classification import ClassReport
from bench.runner.judges.result import Result
from bench.runner.judges.scoring import Fitted, Scores
from bench.runner.kept_rounds import KeptRounds, SavedRound
from bench.runner.part import Part
from bench.runner.row_result import RowResult
from bench.runner.timing import Timing
from bench.worker.protocol import Certified, TimedMetric

COURSE, ROW, ROUND, WEIGHTS = "course", "row ", "round ", "weights "
"""The names of parts begin with these; a row's id follows, a round's number before it."""


class Course(Part):
    """How far it is."""

    schedule: list[list[str]]
    timing: Timing
    ended: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """By row id: status and reason of those that are not ok."""


class SavedRow(Part):
    """A row that is certified, and perhaps trained."""

    certified: Certified
    checks: list[Result]
    repeats: bool
    uncertified: str
    fits: list[Fitted]
    scores: Scores | None
    classes: ClassReport | None
    timed: list[Result]
    arena: list[tuple[TimedMetric, list[float]]]
    arena_error: str | None
    round_numbers: list[int]
    """Rounds of an earlier beginning of the row may still be stored: they are not of it any more."""


def parts_of(result: RowResult, but: frozenset[int] | set[int] = frozenset()) -> Iterator[tuple[str, bytes]]:
    """The parts of a row that is ok so far; without the rounds ``but``, which are stored."""
    if result.certified is None:
        return
    fields = {name: getattr(result, name) for name in SavedRow.model_fields}
    yield f"{ROW}{result.row.id}", SavedRow.model_validate(fields).encoded()
    for number in result.rounds:
        if number not in but:
            yield f"{ROUND}{number} {result.row.id}", result.rounds.encoded(number)


def course_of(parts: Mapping[str, bytes], owner: str) -> Course | None:
    """How far it was; None: nothing had been done.

    Raises:
        BenchError: it is damaged.
    """
    course: Course | None = _decoded(Course, parts[COURSE], owner) if COURSE in parts else None
    return course


def restore(results: Mapping[str, RowResult], parts: Mapping[str, bytes], owner: str) -> None:
    """Give rows their results back.

    Raises:
        BenchError: a part is damaged.
    """
    for row_id, result in results.items():
        content = parts.get(f"{ROW}{row_id}")
        if content is None or result.row.problem is not None:
            continue
        saved = _decoded(SavedRow, content, owner)
        for name in set(SavedRow.model_fields) - {"round_numbers"}:
            setattr(result, name, getattr(saved, name))
        result.rounds = _rounds(row_id, saved.round_numbers, parts, owner)
        result.restored = True


def parts_to_forget(parts: Mapping[str, bytes], owner: str) -> list[str]:
    """The names of the parts of rows that failed a check of their work, which begin anew: half of their rounds would be
    those that happened to pass.

    Raises:
        BenchError: it is damaged.
    """
    course = course_of(parts, owner)
    ended = {} if course is None else course.ended
    failed = tuple(f" {row_id}" for row_id, (status, _) in ended.items() if status == "failed")
    return [name for name in parts if failed and name.endswith(failed)]


def _rounds(row_id: str, numbers: Sequence[int], parts: Mapping[str, bytes], owner: str) -> KeptRounds:
    """Those that are stored: the database may have been away when one ended."""
    names = {number: f"{ROUND}{number} {row_id}" for number in numbers}
    rounds = {n: _decoded(SavedRound, parts[name], owner).measured for n, name in names.items() if name in parts}
    return KeptRounds(rounds)


def _decoded(kind: Any, content: bytes, owner: str) -> Any:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        reason = str(error).splitlines()[0]
        raise BenchError(f"what {owner} would go on from is damaged ({reason}); begin anew without --resume") from error
