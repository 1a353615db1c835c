"""From what a row's workers answered to its record: figures with intervals, certificate, phases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from bench.analysis import intervals
from bench.records.metrics import METRICS
from bench.records.record import Check, Data, Figure, Parity, Ratio, Record, Sample, Slice
from bench.runner import disturbance, invariants
from bench.runner.plan import FigurePlan, Plan, Row

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True)
class Context:
    """What all records of a run share."""

    machine: dict[str, Any]
    data: Data
    commit: str | None
    started_at: str


@dataclass
class RowResult:
    """What is known of a row so far."""

    row: Row
    plan: Plan
    source: RowResult | None = None
    """Whose ONNX file it reads."""
    status: str = "ok"
    error: str | None = None
    log: str = ""
    certified: dict[str, Any] | None = None
    fits: list[dict[str, Any]] = field(default_factory=list)
    """Of every seed, the first one's first."""
    scores: dict[str, Any] = field(default_factory=dict)
    """Class by class, of the first seed (``bench.runner.classification``)."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    arena: list[tuple[FigurePlan, list[float]]] = field(default_factory=list)
    """Ratios of throughput with glibc's arena settings over that without, of workers alive together."""
    arena_error: str | None = None
    """Why that trial came to nothing."""
    untrained: str = ""
    """Why it was not trained to the recipe's end, where it was not meant to."""

    @property
    def fitted(self) -> dict[str, Any] | None:
        """The training whose weights are exported and timed."""
        return self.fits[0] if self.fits else None

    @property
    def label(self) -> str:
        """The row's name in tables."""
        return self.row.name

    def fail(self, status: str, reason: str, log: str = "") -> None:
        """End the row; what was measured before stays."""
        self.status, self.error, self.log = status, reason, log

    @property
    def replies(self) -> list[tuple[str, int | None, dict[str, Any]]]:
        """``(kind, round, reply)`` of every worker that has versions, settings and phases to tell."""
        found = [("certify", self.certified), *(("fit", reply) for reply in self.fits)]
        told: list[tuple[str, int | None, dict[str, Any]]] = [(kind, None, reply) for kind, reply in found if reply]
        return told + [("measure", i, measured["finished"]) for i, measured in enumerate(self.rounds)]


def to_record(result: RowResult, context: Context) -> Record:
    """The record of a row; an answer that does not fit, or breaks a self-check, makes the row ``failed``."""
    try:
        record = _record(result, context, _told(result))
        violated = invariants.violations(record)
        if violated and result.status == "ok":
            result.fail("failed", f"self-check {violated[0]}")
            record = _record(result, context, _told(result))
        return record
    except (ValidationError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        result.fail("failed", f"the worker's answer does not hold: {reason}")
        return _record(result, context, {})


def _record(result: RowResult, context: Context, told: dict[str, Any]) -> Record:
    return Record.model_validate(
        {
            "status": result.status,
            "error": result.error,
            "log": result.log,
            "job": result.row.job,
            "contender": result.row.contender,
            **told,
            "machine": context.machine,
            "data": context.data,
            "commit": context.commit,
            "started_at": context.started_at,
        }
    )


def _told(result: RowResult) -> dict[str, Any]:
    """The part of the record that comes from the workers."""
    last = result.replies[-1][2] if result.replies else {}
    figures = _figures(result)
    return {
        "figures": figures,
        "disturbance": disturbance.of(figures, result.row.job.cpus),
        "arena": [_arena_ratio(planned, ratios) for planned, ratios in result.arena],
        "parity": _parity(result),
        "outcome": _class_by_class(result),
        "settings": {**last.get("settings", {}), **_device_memory(result), **_arena_error(result)},
        "versions": last.get("versions", {}),
        "phases": [
            {
                "kind": kind,
                "round": number,
                "seconds": reply["phases"],
                "life": reply["life"],
                "rss": reply.get("rss"),
                "alive_with": [] if number is None else result.rounds[number]["prepared"]["alive_with"],
            }
            for kind, number, reply in result.replies
        ],
    }


def _device_memory(result: RowResult) -> dict[str, Any]:
    """How the memory on the GPU was found, and the framework's own statistics beside it."""
    if result.row.gpu_uuid is None or not result.rounds:
        return {}
    last = result.rounds[-1]
    return {
        "device_memory_method": last["device_memory_method"],
        "framework_memory": last["finished"]["framework_memory"],
    }


def _parity(result: RowResult) -> Parity | None:
    """The certificate; that of a runtime holds only if its source's does."""
    if result.certified is None:
        return None
    checks = [Check.model_validate(check) for check in result.certified["checks"]]
    if result.source is not None:
        source = _parity(result.source)
        holds = source is not None and source.comparable
        note = f"{result.source.label} is {'comparable' if holds else 'not comparable'}"
        checks.append(Check(name="source", value=0 if holds else 1, tolerance=0, passed=holds, note=note))
    return Parity(comparable=all(check.passed for check in checks), checks=checks)


def _figures(result: RowResult) -> list[Figure]:
    timed = [figure for planned in result.plan.figures for figure in _timed(result, planned)]
    return timed + _starts(result) + _outcome(result) + _memory(result) + _sizes(result)


def _timed(result: RowResult, planned: FigurePlan) -> list[Figure]:
    """The figures of one kind of slice: a throughput, or three percentiles of latency."""
    told = [
        (number, measured)
        for number, whole in enumerate(result.rounds)
        for figure, measured in whole["figures"]
        if figure == planned
    ]
    measured = [(number, slices) for number, slices in told if "out_of_memory" not in slices]
    too_large = next((slices["out_of_memory"] for _, slices in told if "out_of_memory" in slices), None)
    if planned.name == "throughput":
        return [_speed("throughput", planned, result, measured, throughput, too_large)]
    return [_speed(f"latency_p{percent}", planned, result, measured, percentile(percent)) for percent in PERCENTILES]


def throughput(slices: Sequence[Slice]) -> float:
    """Images over the time they took, nothing else: never images over a mean latency."""
    return sum(piece.images for piece in slices) / math.fsum(piece.seconds for piece in slices)


def percentile(percent: int) -> Callable[[Sequence[Slice]], float]:
    """Of the latencies of all calls, seconds."""
    return lambda slices: intervals.percentile(
        sorted(call for piece in slices for call in piece.latencies or []), percent
    )


def _speed(
    name: str,
    planned: FigurePlan,
    result: RowResult,
    measured: Sequence[tuple[int, dict[str, Any]]],
    value: Callable[[Sequence[Slice]], float],
    too_large: str | None = None,
) -> Figure:
    keep = METRICS[name].decisive  # percentiles are of the same slices: the first keeps them
    samples = [sample(number, told, value, keep) for number, told in measured]
    reason = None
    if not samples:
        can = planned.task in result.row.tasks
        reason = _why_not(result) if can else f"{result.row.job.backend} does not {planned.task}"
        reason = f"out of memory: {too_large}" if too_large else reason
    place = {"task": planned.task, "batch_size": planned.batch_size, "boundary": planned.boundary}
    return _over_processes(name, samples, reason, **place)


def sample(number: int, told: dict[str, Any], value: Callable[[Sequence[Slice]], float], keep: bool) -> Sample:
    """What one process contributes: its value is of the slices that nothing disturbed."""
    slices = [_slice(raw) for raw in told["slices"]]
    warm_up = {"warm_up_steps": told["warm_up"]["steps"], "steady": told["warm_up"]["steady"]}
    whole = Sample(round=number, value=0, slices=slices, **warm_up)
    return whole.model_copy(update={"value": value(whole.used), "slices": slices if keep else []})


def _slice(raw: dict[str, Any]) -> Slice:
    latencies = raw["latencies"] and [round(call, 8) for call in raw["latencies"]]
    return Slice(
        seconds=raw["seconds"],
        images=raw["images"],
        turn=raw["turn"],
        disturbed=None if raw["reasons"] is None else bool(raw["reasons"]),
        reasons=raw["reasons"] or [],
        noise={name: _rounded(reading) for name, reading in raw["noise"].items()},
        latencies=latencies,
    )


def _rounded(reading: Any) -> Any:
    """A float with 6 decimals; flags, counters and lists as they are (``round(True, 6)`` is 1)."""
    return round(reading, 6) if isinstance(reading, float) else reading


def _arena_error(result: RowResult) -> dict[str, Any]:
    return {} if result.arena_error is None else {"arena_trial": result.arena_error}


def _arena_ratio(planned: FigurePlan, ratios: Sequence[float]) -> Ratio:
    estimate = intervals.geometric_mean(ratios)
    return Ratio.model_validate(
        {
            "name": planned.name,
            "task": planned.task,
            "batch_size": planned.batch_size,
            "boundary": planned.boundary,
            **asdict(estimate),
            "against": "--allocator system",
        }
    )


def _over_processes(name: str, samples: list[Sample], reason: str | None = None, **place: Any) -> Figure:
    if not samples:
        return Figure(name=name, unit=METRICS[name].unit, value=None, reason=reason, **place)
    estimate = intervals.geometric_mean([sample.value for sample in samples])
    return Figure(
        name=name,
        unit=METRICS[name].unit,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        samples=samples,
        **place,
    )


def _why_not(result: RowResult) -> str:
    return f"{result.status}: {result.error}" if result.status != "ok" else "no round has ended yet"


def _starts(result: RowResult) -> list[Figure]:
    first = result.plan.request.first_batch
    place = {"task": "infer", "batch_size": first, "boundary": "end-to-end"}
    return [
        _over_processes(
            name,
            [Sample(round=i, value=measured["prepared"][name]) for i, measured in enumerate(result.rounds)],
            _why_not(result),
            **place,
        )
        for name in ("cold_start", "first_call")
    ]


def _outcome(result: RowResult) -> list[Figure]:
    """Training time, export time, and the test split's accuracies and loss: one value per seed."""
    certified = (result.certified or {}).get("outcome")
    outcomes = [fit["outcome"] for fit in result.fits] or ([certified] if certified else [])
    seconds: list[float | None] = [fit["fit_seconds"] for fit in result.fits]
    reached: list[float | None] = [fit["time_to_accuracy"] for fit in result.fits]
    export = (result.fitted or {}).get("export", {})
    recipe, target = result.plan.request.workload.recipe, result.plan.request.target_accuracy
    name = result.row.job.backend
    no_fit = _why_not(result) if "fit" in result.row.tasks else f"{name} does not train to a recipe's end"
    if result.untrained:
        seconds, reached, outcomes, no_fit = [], [], [], result.untrained
    no_export = export.get("reason") or (no_fit if "export" in result.row.tasks else f"{name} has no exporter")
    no_outcome = no_fit if result.row.source is None or result.untrained else _why_not(result)
    place = {"task": "train", "batch_size": recipe.batch_size, "boundary": "end-to-end"}
    top5 = result.scores.get("top5_accuracy")
    no_top5 = no_outcome if not outcomes else "five classes or fewer: always 1"
    figures = [
        _over_seeds("fit", seconds, no_fit, **place),
        _once("export", export.get("seconds"), no_export),
        _over_seeds("accuracy", [found["accuracy"] for found in outcomes], no_outcome),
        _once("top5_accuracy", top5, no_top5),
        _over_seeds("loss", [found["loss"] for found in outcomes], no_outcome),
    ]
    if target is not None:
        missed = f"not reached within {recipe.epochs} epochs: {sum(s is None for s in reached)} of {len(reached)} seeds"
        whole = [] if any(second is None for second in reached) else reached
        figures.append(_over_seeds("time_to_accuracy", whole, missed if reached else no_fit, **place))
    return figures


def _class_by_class(result: RowResult) -> dict[str, Any] | None:
    """The record's ``outcome``."""
    if not result.scores:
        return None
    seed = result.row.job.seed
    return {
        "classes": result.scores["classes"],
        "confusion": result.scores["confusion"],
        "target_accuracy": result.plan.request.target_accuracy,
        "trainings": [
            {"seed": seed + number, "curve": fit["curve"], "time_to_accuracy": fit["time_to_accuracy"]}
            for number, fit in enumerate(result.fits)
        ],
    }


def _over_seeds(name: str, values: Sequence[float | None], reason: str, **place: Any) -> Figure:
    """Mean with a Student t interval over seeds; ``round`` of a sample is the number of its seed."""
    samples = [Sample(round=number, value=value) for number, value in enumerate(values) if value is not None]
    if not samples:
        return Figure(name=name, unit=METRICS[name].unit, value=None, reason=reason, **place)
    estimate = intervals.arithmetic_mean([sample.value for sample in samples])
    return Figure(name=name, unit=METRICS[name].unit, **asdict(estimate), samples=samples, **place)


def _once(name: str, value: float | None, reason: str, **place: Any) -> Figure:
    return _over_seeds(name, [] if value is None else [value], reason, **place)


def _memory(result: RowResult) -> list[Figure]:
    figures = []
    for task in result.plan.request.tasks:
        samples = [
            Sample(round=i, value=measured["finished"]["peak_rss"][task])
            for i, measured in enumerate(result.rounds)
            if task in measured["finished"]["peak_rss"]
        ]
        can = task in result.row.tasks
        reason = _why_not(result) if can else f"{result.row.job.backend} does not {task}"
        figures.append(_over_processes("peak_rss", samples, reason, task=task))
    on_device = [
        Sample(round=i, value=measured["device_memory"])
        for i, measured in enumerate(result.rounds)
        if measured["device_memory"] is not None
    ]
    why = result.rounds[-1]["device_memory_method"] if result.rounds else _why_not(result)
    return [*figures, _over_processes("peak_device_memory", on_device, why)]


def _sizes(result: RowResult) -> list[Figure]:
    model = result.plan.request.workload.model
    export = ((result.source or result).fitted or {}).get("export", {})
    exports = result.source is not None or "export" in result.row.tasks
    reason = export.get("reason") or (_why_not(result) if exports else f"{result.row.job.backend} has no exporter")
    size = (result.certified or {}).get("bytes", export.get("bytes"))  # a runtime's own file, where it converts
    return [
        _once("model_size", size, reason),
        _once("parameters", model.parameters, ""),
        _once("flops", model.flops, "not counted for a file of the user's"),
    ]
