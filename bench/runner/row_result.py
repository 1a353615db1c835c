"""What is known of a row while its run goes on: the replies of its workers, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from bench.file_names import readable
from bench.runner.classification import ClassReport
from bench.runner.interleaving import MeasuredRound
from bench.runner.judges.result import Result
from bench.runner.judges.scoring import Fitted, Scores
from bench.runner.kept_rounds import KeptRounds
from bench.runner.plan import Plan, Row
from bench.secrecy import hide
from bench.values import Missing
from bench.worker.protocol import Certified, Exports, TimedMetric, WorkerReport


@dataclass
class RowResult:
    """What is known of a row so far."""

    row: Row
    plan: Plan
    source: RowResult | None = None
    """The row whose model file this row reads."""
    status: str = "ok"
    error: str | None = None
    log: str = ""
    certified: Certified | None = None
    """What its worker says of its certificate's outputs."""
    checks: list[Result] = field(default_factory=list)
    """Of the certificate."""
    repeats: bool = False
    """Whether a user's file gives the same finite outputs for the same inputs, so that timed ones can be judged."""
    uncertified: str = ""
    """Why no judge could certify a user's file; empty: one could."""
    fits: list[Fitted] = field(default_factory=list)
    """One per seed, the first seed's first."""
    scores: Scores | None = None
    """A runtime's."""
    classes: ClassReport | None = None
    """The class scores of the first seed."""
    timed: list[Result] = field(default_factory=list)
    """Of every round: the check of outputs of timed steps."""
    rounds: KeptRounds = field(default_factory=KeptRounds)
    arena: list[tuple[TimedMetric, list[float]]] = field(default_factory=list)
    """Ratios of throughput with glibc's arena settings over throughput without them, from pairs of live workers."""
    arena_error: str | None = None
    """Why that trial failed."""
    restored: bool = False
    """Whether it goes on from what an earlier command stored; its files are to be written again."""
    untrained: str = ""
    """Why the row is not trained at all; empty if it is."""

    @property
    def exports(self) -> Exports:
        """The model files of the first training, by format; empty if there is no training yet."""
        return self.fits[0].exports if self.fits else {}

    @property
    def name(self) -> str:
        """The row's name in tables."""
        return self.row.name

    def begin_anew(self) -> None:
        """Forget what was known."""
        blank = RowResult(self.row, self.plan, self.source)
        for each in fields(self):
            setattr(self, each.name, getattr(blank, each.name))

    def fail(self, status: str, reason: str, log: str = "") -> None:
        """End the row; earlier measurements stay."""
        self.status, self.error, self.log = status, hide(readable(reason)), hide(log)

    @property
    def reports(self) -> list[tuple[str, int | None, WorkerReport]]:
        """``(kind, round, report)`` of every worker that finished."""
        reports: list[tuple[str, int | None, WorkerReport]] = []
        if self.certified is not None:
            reports.append(("certify", None, self.certified.report))
        reports += [("fit", None, fitted.report) for fitted in self.fits]
        return reports + [("measure", i, measured.finished.report) for i, measured in self.rounds.items()]

    @property
    def round_numbers(self) -> list[int]:
        """Of the rounds that it has measured."""
        return list(self.rounds)

    @property
    def last_round(self) -> MeasuredRound | None:
        """None: no round has ended yet."""
        last = next(reversed(self.round_numbers), None)
        return None if last is None else self.rounds[last]

    def changed_versions(self, now: WorkerReport | None = None) -> str:
        """The first package whose version is not that of the row's first worker; empty if none differs. ``now``: the
        report of the worker that just ended; None: the last one."""
        with self.rounds.unpacked():
            reports = [report.versions for _, _, report in self.reports if report.versions]
        last = (reports[-1] if reports else {}) if now is None else now.versions
        for package, version in last.items():
            if reports and reports[0].get(package, version) != version:
                return f"{package} {reports[0][package]} became {version}"
        return ""

    def why_missing(self, task: str | None = None) -> Missing:
        """The reason for a missing value: an unsupported task, a failed row, or no finished round."""
        if task is not None and task not in self.row.tasks:
            return Missing(f"the backend does not {task}")
        return Missing(f"{self.status}: {self.error}" if self.status != "ok" else "no round has ended yet")
