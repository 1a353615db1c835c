"""The gate: base and present of every row measured now, as live pairs that take turns, until each verdict is clear.

Every pair is two fresh workers of one row, one in either environment; which begins alternates. At preplanned looks the
figures that are not settled yet are judged (``regression``); a row whose figures are all settled is measured no more.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.analysis import sequential_test
from bench.analysis.sequential_test import ALPHA, Evidence, Verdict
from bench.gate.gated_metric import IMAGES, IN_PAIRS, Criteria, Target, as_change, needs, read
from bench.machine.host import fingerprint
from bench.records.gate_result import Check, Environment, FigureVerdict, Pair, Sides
from bench.records.metrics import gated
from bench.runner.plan import Plan, Row, Side
from bench.runner.record_builder import to_record
from bench.runner.rounds import Runner
from bench.runner.worker_process import WorkerError

BASE, PRESENT = "base", "present"
SECOND_TRIES = 4
"""Pairs of a row that are measured again because something disturbed them, at most."""


def two_sided(plan: Plan, base: Side, present: Side, criteria: Criteria) -> Plan:
    """Every row in both environments, and the figures that the criteria need. Rows that nobody named and that cannot
    run in the present one are left out."""
    pairs = [(row.on(base), row.on(present)) for row in plan.rows]
    rows = [row for pair in pairs for row in pair if row.required or pair[1].problem is None]
    wanted = set(IN_PAIRS) & set(criteria.figures)
    figures = [
        figure
        for figure in plan.figures
        if figure.boundary == criteria.boundary
        and (figure.name in wanted or (figure.name == "throughput" and "memory" in wanted))
    ]
    return replace(plan, rows=tuple(rows), figures=tuple(figures))


@dataclass
class Gate(Runner):
    """One check of a ``two_sided`` plan. ``keep`` is called with all that is known after every round of pairs."""

    base: Side = field(default_factory=lambda: Side(BASE, ""))
    present: Side = field(default_factory=lambda: Side(PRESENT, ""))
    criteria: Criteria = field(default_factory=Criteria)
    name: str = ""
    command: str = ""
    keep: Callable[[Check], None] = lambda check: None
    pairs: dict[Target, list[Pair]] = field(default_factory=dict)
    verdicts: dict[Target, Verdict] = field(default_factory=dict)
    seconds: float = 0.0
    _machine_at_end: dict[str, Any] = field(default_factory=dict)
    _ills: dict[str, tuple[tuple[str, int], str]] = field(default_factory=dict)
    """Of each row what ``_ill`` said, and of which state: a record is long to make."""
    _second_tries: dict[str, int] = field(default_factory=dict)
    _last: float = 0.0
    """Seconds of the last round."""

    def run(self) -> None:
        """As ``Runner.run``; then, unpinned as when it began, whether this is still the same machine."""
        super().run()
        self._machine_at_end = fingerprint()

    def _measure(self) -> None:
        for target in self._targets():
            self.pairs[target] = []
        self._accuracy()
        self.keep(self.check())
        begin, number = time.monotonic(), 0
        for look in self.criteria.looks:
            while number < look and self._open() and self._affordable(begin):
                start = time.monotonic()
                self._round_of_pairs(number)
                self._last, self.seconds = time.monotonic() - start, time.monotonic() - begin
                number += 1
                self.keep(self.check())
            self._look()
            if number < look:
                break

    def _affordable(self, begin: float) -> bool:
        return time.monotonic() - begin + self._last <= self.criteria.budget

    def _targets(self) -> list[Target]:
        wanted, found = self.criteria.figures, []
        for row in self._rows_of(self.base):
            name = self._bare(row)
            statuses = {self.results[side.name].status for side in self._sides(name)}
            if not row.required and statuses & {"unavailable", "unsupported"}:
                continue  # nobody named it, and one of the environments does not have it
            for figure in self.plan.figures:
                if figure.task not in row.tasks:
                    continue
                place = (figure.task, figure.batch_size, figure.boundary)
                if figure.name in wanted:
                    found.append(Target(name, gated()[figure.name].name, *place))
            if "memory" in wanted:
                tasks = dict.fromkeys(f.task for f in self.plan.figures if f.task in row.tasks)
                found += [Target(name, "peak_rss", task, None, None) for task in tasks]
            if "accuracy" in wanted and "fit" in row.tasks:
                found.append(Target(name, "accuracy", None, None, None))
        return found

    def _rows_of(self, side: Side) -> list[Row]:
        return [row for row in self.plan.rows if row.side == side and row.asked]

    def _bare(self, row: Row) -> str:
        """A row's name without its side."""
        return row.name.removesuffix(f" ({row.side.name})") if row.side else row.name

    def _sides(self, name: str) -> tuple[Row, Row]:
        rows = {row.name: row for row in self.plan.rows}
        return rows[f"{name} ({self.base.name})"], rows[f"{name} ({self.present.name})"]

    def _sound(self, name: str) -> bool:
        """Whether both sides are ok so far and comparable."""
        return not any(self._ill(row) for row in self._sides(name))

    def _ill(self, row: Row) -> str:
        """What keeps a side from a verdict; empty if nothing does."""
        result = self.results[row.name]
        state = (result.status, len(result.rounds))
        if self._ills.get(row.name, (None, ""))[0] != state:
            record, why = to_record(result, self.context), ""
            if record.status != "ok":
                why = f"{row.name} is {record.status}: {record.error}"
            elif elsewhere := self._elsewhere(row):
                why = elsewhere
            elif not record.comparable:
                why = f"{row.name} is not comparable: its parity certificate does not hold"
            self._ills[row.name] = ((result.status, len(result.rounds)), why)
        return self._ills[row.name][1]

    def _elsewhere(self, row: Row) -> str:
        """A side with folders of its own must run the adapter that is there, or both sides are the same."""
        folders = () if row.side is None else row.side.path
        files = (self.results[row.name].certified or {}).get("adapter", [])
        if not folders or any(
            Path(file).is_relative_to(Path(folder).resolve()) for folder in folders for file in files
        ):
            return ""
        return f"{row.name} runs an adapter that {self.base.told} has not: both sides are the same ({', '.join(files)})"

    def _settled(self, target: Target) -> bool:
        return target in self.verdicts and self.verdicts[target].kind in ("regression", "improvement", "no change")

    def _open(self) -> dict[str, list[Target]]:
        """By row, the targets that need more pairs."""
        found: dict[str, list[Target]] = {}
        for target in self.pairs:
            if target.name != "accuracy" and not self._settled(target):
                found.setdefault(target.row, []).append(target)
        return {name: targets for name, targets in found.items() if self._sound(name)}

    def _round_of_pairs(self, number: int) -> None:
        """One pair of every row that is still open, rows in an order drawn by the seed."""
        seed = self.plan.request.seed
        rows = self._open()
        for name in random.Random(f"{seed}/{number}").sample(sorted(rows), len(rows)):
            couple = random.Random(f"{seed}/{name}/{number // 2}").random() < 0.5
            base_first = couple != bool(number % 2)  # of every two pairs one each way round
            while self._pair(name, rows[name], number, base_first):
                self._second_tries[name] = self._second_tries.get(name, 0) + 1

    def _pair(self, name: str, targets: Sequence[Target], number: int, base_first: bool) -> bool:
        """Measure one; whether it has to be measured again."""
        sides = self._sides(name)
        what = f"pair {number + 1}"
        figures = [figure for figure in self.plan.figures if any(needs(t, figure) for t in targets)]
        ordered = sides if base_first else sides[::-1]
        self.schedule.append([row.name for row in ordered])
        outcomes = self._block(what).measure(ordered, figures, self._says(what))
        for row in ordered:
            self._keep(self.results[row.name], outcomes[row.name])
        both = [outcomes[row.name] for row in sides]
        if any(isinstance(outcome, WorkerError) for outcome in both) or not self._sound(name):
            return False
        if moved := self._changed(name):
            for row in sides:
                self.results[row.name].fail("failed", moved)
            return False
        pairs = {target: read(target, number, base_first, both) for target in targets}
        for target, pair in pairs.items():
            self.pairs[target].append(pair)
        again = any(not pair.counts for pair in pairs.values())
        return again and self._second_tries.get(name, 0) < SECOND_TRIES

    def _changed(self, name: str) -> str:
        """Versions of a side that are no longer those of its first worker."""
        for row in self._sides(name):
            replies = [reply["versions"] for _, _, reply in self.results[row.name].replies if reply.get("versions")]
            for package, version in (replies[-1] if replies else {}).items():
                if replies[0].get(package, version) != version:
                    return f"changed during the check: {package} {replies[0][package]} became {version}"
        return ""

    def _look(self) -> None:
        """Judge all that is not settled."""
        open_targets = [target for targets in self._open().values() for target in targets]
        evidence = {target: found for target in open_targets if (found := self._evidence(target)) is not None}
        margins = {target: self._margin(target) for target in evidence}
        self.verdicts |= sequential_test.judge(evidence, margins, sequential_test.share(self.criteria.looks))

    def _evidence(self, target: Target) -> Evidence | None:
        pairs = [pair for pair in self.pairs[target] if pair.counts]
        return sequential_test.crossover([pair.harm for pair in pairs], [pair.base_first for pair in pairs])

    def _margin(self, target: Target) -> float:
        margin = self.criteria.margins[target.criterion]
        return max(margin, IMAGES / len(self.dataset.test_y)) if target.name == "accuracy" else margin

    def _accuracy(self) -> None:
        """Trainings of further seeds, and the verdict on all of them."""
        targets = [target for target in self.pairs if target.name == "accuracy" and self._sound(target.row)]
        for target in targets:
            base, present = self._sides(target.row)
            for number in range(self.criteria.seeds):
                values = [self._accuracy_of(row, number) for row in (base, present)]
                if values[0] is not None and values[1] is not None:
                    lost = values[0] - values[1]
                    pair = Pair(number=number, base_first=True, base=values[0], present=values[1], harm=lost)
                    self.pairs[target].append(pair)
        found = {t: sequential_test.paired([pair.harm for pair in self.pairs[t]]) for t in targets}
        evidence = {target: e for target, e in found.items() if e is not None}
        self.verdicts |= sequential_test.judge(evidence, {target: self._margin(target) for target in evidence}, ALPHA)

    def _accuracy_of(self, row: Row, number: int) -> float | None:
        """Test accuracy of the training with the ``number``-th seed."""
        result = self.results[row.name]
        if number == len(result.fits) and result.status == "ok":
            self._guarded(row, f"seed {number + 1}", partial(self._fit, number=number))
        if result.status != "ok" or number >= len(result.fits):
            return None
        return float(result.fits[number]["outcome"]["accuracy"])

    @property
    def _total(self) -> int:
        fits = sum("fit" in row.tasks for row in self.plan.rows)
        return (
            len(self.plan.rows) + fits + max(len(self.schedule), self.criteria.looks[0] * len(self._rows_of(self.base)))
        )

    def _interrupted(self) -> None:
        """What was measured is judged as it is."""

    def sides(self) -> Sides:
        """All that was measured, row by row."""
        base, present = (
            [to_record(self.results[row.name], self.context) for row in self._rows_of(side)]
            for side in (self.base, self.present)
        )
        return Sides(base=base, present=present)

    def check(self) -> Check:
        """All that is known now."""
        return Check(
            name=self.name,
            command=self.command,
            started_at=self.context.started_at,
            base=Environment(told=self.base.told, versions=self._versions(self.base)),
            present=Environment(told=self.present.told, versions=self._versions(self.present)),
            figures=[self._verdict(target) for target in self.pairs],
            looks=list(self.criteria.looks),
            alpha=ALPHA,
            seconds=self.seconds,
            machine=self.context.machine,
            data=self.context.data,
            commit=self.context.commit,
        )

    def _versions(self, side: Side) -> dict[str, str]:
        """Of the packages that a side's workers told of."""
        found: dict[str, str] = {}
        for row in self._rows_of(side):
            for _, _, reply in self.results[row.name].replies:
                found |= reply.get("versions", {})
        return dict(sorted(found.items()))

    def _verdict(self, target: Target) -> FigureVerdict:
        pairs, verdict = self.pairs[target], self.verdicts.get(target)
        told = {**target._asdict(), "unit": target.metric.unit, "margin": self._margin(target), "pairs": pairs}
        reason = self._why_invalid(target)
        if reason:
            return FigureVerdict(**told, verdict="invalid", reason=reason)
        if verdict is None:
            few = "the budget ended before the first look (--budget)"
            if target.name == "accuracy":
                few = "--seeds 2 or more"
            return FigureVerdict(**told, verdict="inconclusive", reason=f"{len(pairs)} pairs are too few: {few}")
        low, harm, high = (as_change(target, value) for value in (verdict.low, verdict.harm, verdict.high))
        told |= {"low": min(low, high), "high": max(low, high), "change": harm, "smallest": verdict.smallest}
        return FigureVerdict(**told, verdict=verdict.kind, reason=verdict.reason)

    def _why_invalid(self, target: Target) -> str:
        for row in self._sides(target.row):
            if ill := self._ill(row):
                return ill
        pairs = self.pairs[target]
        disturbed = [pair for pair in pairs if not pair.counts]
        if pairs and 2 * len(disturbed) > len(pairs):
            return f"{len(disturbed)} of {len(pairs)} pairs were disturbed: {disturbed[-1].reason}"
        end = self._machine_at_end or self.context.machine
        moved = [name for name in ("id", "governor", "driver") if end.get(name) != self.context.machine.get(name)]
        return f"the machine changed during the check: {', '.join(moved)}" if moved else ""
