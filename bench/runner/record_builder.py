"""Build a row's record from the replies of its workers: metrics with intervals, certificate, phases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from backends.model import ModelSpec
from bench.analysis import intervals
from bench.machine import energy
from bench.records.metrics import METRICS, SAMPLE_RATE
from bench.records.record import Check, Data, Figure, Outcome, Parity, Phase, Ratio, Record, Sample, Slice, Training
from bench.runner import disturbance, invariants, load_record, onnx_run
from bench.runner.interleaving import DeviceMemory, MetricReadings, SliceReading
from bench.runner.judges.result import worst_of
from bench.runner.judges.scoring import Scores
from bench.runner.over_processes import over_processes
from bench.runner.plan import batch_of_first_call
from bench.runner.row_result import RowResult
from bench.values import Missing
from bench.worker.protocol import Exported, NotExported, TimedMetric, WarmedUp, WorkerReport

PERCENTILES = (50, 90, 99)
FILE_AS_IT_IS = "a user's file is run as it is: no training, no export, no labels"


@dataclass(frozen=True)
class Context:
    """The fields that all records of a run share."""

    machine: dict[str, Any]
    data: Data
    commit: str | None
    started_at: str


def to_record(result: RowResult, context: Context) -> Record:
    """The record of a row. A reply that is invalid or violates a self-check makes the row ``failed``."""
    try:
        with result.rounds.unpacked():
            return _self_checked(result, context)
    except (ValidationError, ValueError, ArithmeticError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        result.fail("failed", f"the worker's answer is invalid: {reason}")
        return _record(result, context, {})


def _self_checked(result: RowResult, context: Context) -> Record:
    record = _record(result, context, _from_workers(result))
    violated = invariants.violations(record)
    if violated and result.status == "ok":
        result.fail("failed", f"self-check {violated[0]}")
        record = _record(result, context, _from_workers(result))
    return record


def _record(result: RowResult, context: Context, from_workers: dict[str, Any]) -> Record:
    return Record.model_validate(
        {
            "status": result.status,
            "error": result.error,
            "log": result.log,
            "job": result.row.job,
            "contender": result.row.contender,
            **from_workers,
            "machine": context.machine,
            "data": context.data if result.row.file is None else onnx_run.data(result.row.file),
            "commit": context.commit,
            "started_at": context.started_at,
        }
    )


def _from_workers(result: RowResult) -> dict[str, Any]:
    """The part of the record that comes from the workers."""
    last = result.reports[-1][2] if result.reports else None
    figures = _all_metrics(result)
    return {
        "figures": figures,
        "load": load_record.tests(result),
        "kernels": {} if result.certified is None else dict(result.certified.kernels),
        "disturbance": load_record.disturbance(result)
        if result.plan.request.load is not None
        else disturbance.summarize(figures, result.row.job.cpus),
        "arena": [_arena_ratio(metric, ratios) for metric, ratios in result.arena],
        "parity": _parity(result),
        "outcome": _class_outcome(result),
        "settings": {**(last.settings if last else {}), **_device_memory(result), **_arena_error(result)},
        "versions": dict(last.versions) if last else {},
        "phases": [_phase(result, *report) for report in result.reports],
    }


def _phase(result: RowResult, kind: str, number: int | None, report: WorkerReport) -> Phase:
    measured = None if number is None else result.rounds[number]
    return Phase(
        kind=kind,
        round=number,
        seconds=dict(report.phases),
        life=report.life,
        rss=None if measured is None else measured.finished.rss,
        alive_with=[] if measured is None else list(measured.alive_with),
        clock_pace=None if measured is None else measured.clock_pace,
    )


def _device_memory(result: RowResult) -> dict[str, Any]:
    """How the GPU memory was measured, and the framework's own statistics of it."""
    last = result.last_round
    if result.row.gpu_uuid is None or last is None:
        return {}
    memory = last.device_memory
    return {
        "device_memory_method": memory.reason if isinstance(memory, Missing) else memory.method,
        "framework_memory": dict(last.finished.framework_memory),
    }


def _parity(result: RowResult) -> Parity | None:
    """The certificate, and the check of what was timed. A runtime is comparable only if its source's certificate holds:
    what the source was when timed is its own affair."""
    certificate = _certificate(result)
    timed = [check.to_record() for check in worst_of(result.timed)]
    if certificate is None or not timed:
        return certificate
    checks = [*certificate.checks, *timed]
    return certificate.model_copy(update={"comparable": all(check.passed for check in checks), "checks": checks})


def _certificate(result: RowResult) -> Parity | None:
    if not result.checks:
        return None
    checks = [check.to_record() for check in result.checks]
    if result.source is not None:
        source = _certificate(result.source)
        holds = source is not None and source.comparable
        note = f"{result.source.name} is {'comparable' if holds else 'not comparable'}"
        checks.append(Check(name="source", value=0 if holds else 1, tolerance=0, passed=holds, note=note))
    uncertified = result.uncertified or None
    return Parity(comparable=all(check.passed for check in checks), checks=checks, uncertified=uncertified)


def _all_metrics(result: RowResult) -> list[Figure]:
    timed = [figure for metric in result.plan.metrics for figure in _timed_metrics(result, metric)]
    load = [] if result.plan.request.load is None else load_record.figures(result, result.plan.request.load)
    return (
        load
        + timed
        + _start_metrics(result)
        + _training_metrics(result)
        + _memory_metrics(result)
        + _size_metrics(result)
    )


def _timed_metrics(result: RowResult, metric: TimedMetric) -> list[Figure]:
    """The metrics of one kind of slice: a throughput, or three percentiles of latency."""
    measured_in_round = [
        (number, readings)
        for number, measured in result.rounds.items()
        for readings in measured.metrics
        if readings.metric == metric
    ]
    why_not = next((r.warm_up for _, r in measured_in_round if isinstance(r.warm_up, Missing)), None)
    missing = why_not or result.why_missing(metric.task)
    readings = [(number, r) for number, r in measured_in_round if isinstance(r.warm_up, WarmedUp)]
    if metric.name == "throughput":
        rate = _speed_metric("throughput", metric, readings, throughput, missing)
        rate = rate if result.row.file is None else rate.model_copy(update={"unit": SAMPLE_RATE.unit})
        return [rate, _energy(result, metric, readings, missing)]
    if metric.name == "fed_throughput":
        fed = _speed_metric(metric.name, metric, readings, throughput, missing)
        return [fed, _speed_metric("stall", metric, readings, stall, missing)]
    if metric.task == "input":
        return [_speed_metric(metric.name, metric, readings, throughput, missing)]
    return [_speed_metric(f"latency_p{p}", metric, readings, percentile(p), missing) for p in PERCENTILES]


def throughput(slices: Sequence[Slice]) -> float:
    """Images per second: all images over the sum of the slices' seconds (not over a mean latency)."""
    return sum(piece.images for piece in slices) / math.fsum(piece.seconds for piece in slices)


def stall(slices: Sequence[Slice]) -> float:
    """Share of the slices' seconds in which a training step waited for its batch."""
    waited = math.fsum(piece.reading("stalled") or 0.0 for piece in slices)
    return waited / math.fsum(piece.seconds for piece in slices)


def percentile(percent: int) -> Callable[[Sequence[Slice]], float]:
    """A function that returns this percentile of the latencies of all calls, in seconds."""
    return lambda slices: intervals.percentile(
        sorted(call for piece in slices for call in piece.latencies or []), percent
    )


def _energy(
    result: RowResult, metric: TimedMetric, readings: Sequence[tuple[int, MetricReadings]], missing: Missing
) -> Figure:
    """Joules of an image: the counters are read somewhat before and after a slice, so each counts by its share."""
    samples = []
    for number, one in readings:
        slices = [piece for piece in one.slices if piece.noise.joules and piece.noise.joules_wall and not piece.reasons]
        images = sum(piece.timed.images for piece in slices)
        used = math.fsum(
            (piece.noise.joules or 0.0) * piece.timed.seconds / (piece.noise.joules_wall or 1.0) for piece in slices
        )
        if images and used > 0:
            samples.append(Sample(round=number, value=used / images))
    if readings and not samples:
        on_gpu = result.row.gpu_uuid is not None
        missing = Missing("not visible here: this GPU has no energy counter" if on_gpu else energy.why_invisible())
    place = {"task": metric.task, "batch_size": metric.batch_size, "boundary": metric.boundary}
    return over_processes("energy", samples, missing, **place)


def _speed_metric(
    name: str,
    metric: TimedMetric,
    readings: Sequence[tuple[int, MetricReadings]],
    value: Callable[[Sequence[Slice]], float],
    missing: Missing,
) -> Figure:
    samples = [sample(number, one, value, METRICS[name].decisive) for number, one in readings]
    place = {"task": metric.task, "batch_size": metric.batch_size, "boundary": metric.boundary}
    return over_processes(name, samples, missing, **place)


def sample(number: int, readings: MetricReadings, value: Callable[[Sequence[Slice]], float], keep: bool) -> Sample:
    """The value of one process, computed from its undisturbed slices."""
    assert isinstance(readings.warm_up, WarmedUp)
    slices = [_slice(reading) for reading in readings.slices]
    steps, steady = readings.warm_up.steps, readings.warm_up.steady
    whole = Sample(round=number, value=0, slices=slices, warm_up_steps=steps, steady=steady)
    return whole.model_copy(update={"value": value(whole.used), "slices": slices if keep else []})


def _slice(reading: SliceReading) -> Slice:
    timed = reading.timed
    return Slice(
        seconds=timed.seconds,
        images=timed.images,
        turn=reading.turn,
        disturbed=None if reading.reasons is None else bool(reading.reasons),
        reasons=reading.reasons or [],
        noise={name: _rounded(value) for name, value in reading.noise.to_dict().items()},
        latencies=None if timed.latencies is None else [round(call, 8) for call in timed.latencies],
    )


def _rounded(value: Any) -> Any:
    """Round a float to 6 decimals; return counts, flags and texts unchanged."""
    return round(value, 6) if isinstance(value, float) else value


def _arena_error(result: RowResult) -> dict[str, Any]:
    return {} if result.arena_error is None else {"arena_trial": result.arena_error}


def _arena_ratio(metric: TimedMetric, ratios: Sequence[float]) -> Ratio:
    estimate = intervals.geometric_mean(ratios)
    return Ratio.model_validate({**asdict(metric), **asdict(estimate), "against": "--allocator system"})


def _over_seeds(name: str, values: Sequence[float] | Missing, first_seed: int, **place: Any) -> Figure:
    """Mean over seeds with a Student t interval, or the reason for a missing value."""
    if isinstance(values, Missing):
        return Figure(name=name, unit=METRICS[name].unit, value=None, reason=values.reason, **place)
    samples = [Sample(round=number, seed=first_seed + number, value=value) for number, value in enumerate(values)]
    estimate = intervals.arithmetic_mean(values)
    return Figure(name=name, unit=METRICS[name].unit, **asdict(estimate), samples=samples, **place)


def _single_value(name: str, value: float | Missing, **place: Any) -> Figure:
    """A single measured or counted value, without an interval."""
    if isinstance(value, Missing):
        return Figure(name=name, unit=METRICS[name].unit, value=None, reason=value.reason, **place)
    return Figure(name=name, unit=METRICS[name].unit, value=value, n=1, samples=[Sample(round=0, value=value)], **place)


def _start_metrics(result: RowResult) -> list[Figure]:
    batch = result.certified.batch if result.certified is not None else None
    first = batch_of_first_call(result.row.first_batch, batch)
    place = {"task": "infer", "batch_size": first, "boundary": "end-to-end"}
    return [
        over_processes(
            name,
            [Sample(round=i, value=getattr(measured.prepared, name)) for i, measured in result.rounds.items()],
            result.why_missing(),
            **place,
        )
        for name in ("cold_start", "first_call")
    ]


def _training_metrics(result: RowResult) -> list[Figure]:
    """Training time, export time, and the accuracies and loss on the test split: one value per seed."""
    request, seed = result.plan.request, result.row.job.seed
    place = {"task": "train", "batch_size": request.workload.recipe.batch_size, "boundary": "end-to-end"}
    scores = _scores(result)
    accuracies = scores if isinstance(scores, Missing) else [each.accuracy for each in scores]
    losses = scores if isinstance(scores, Missing) else [each.loss for each in scores]
    figures = [
        _over_seeds("fit", _fit_seconds(result), seed, **place),
        _single_value("export", _export_seconds(result)),
        _over_seeds("accuracy", accuracies, seed),
        _single_value("top5_accuracy", _top5(result, scores)),
        _over_seeds("loss", losses, seed),
    ]
    if request.target_accuracy is not None:
        figures.append(_over_seeds("time_to_accuracy", _times_to_accuracy(result), seed, **place))
    return figures


def _why_no_fit(result: RowResult) -> Missing | None:
    """The reason why there is no training; None if there is at least one."""
    if result.untrained:
        return Missing(result.untrained)
    if result.row.job.inputs:
        return Missing(FILE_AS_IT_IS)
    if result.fits:
        return None
    if "fit" not in result.row.tasks:
        return Missing("the backend does not train to a recipe's end")
    return result.why_missing()


def _fit_seconds(result: RowResult) -> list[float] | Missing:
    return _why_no_fit(result) or [fitted.fit_seconds for fitted in result.fits]


def _scores(result: RowResult) -> list[Scores] | Missing:
    """The scores of every seed's model (for a runtime: of the exported model), or why there are none."""
    if result.untrained:
        return Missing(result.untrained)
    if result.fits:
        return [fitted.scores for fitted in result.fits]
    if result.scores is not None:
        return [result.scores]
    return (_why_no_fit(result) if result.row.source is None else None) or result.why_missing()


def _top5(result: RowResult, scores: list[Scores] | Missing) -> float | Missing:
    if isinstance(scores, Missing):
        return scores
    accuracy = None if result.classes is None else result.classes.top5_accuracy
    return Missing("five classes or fewer: always 1") if accuracy is None else accuracy


def _export_seconds(result: RowResult) -> float | Missing:
    exported = result.exports.get(result.row.writes[0]) if result.row.writes else None
    return exported.seconds if isinstance(exported, Exported) else _why_no_export(result)


def _why_no_export(result: RowResult) -> Missing:
    if result.row.job.inputs:
        return Missing(FILE_AS_IT_IS)
    if result.row.writes:
        exported = result.exports.get(result.row.writes[0])
        if isinstance(exported, NotExported):
            return Missing(exported.reason)
    else:
        return Missing("the backend has no exporter")
    return _why_no_fit(result) or result.why_missing()


def _times_to_accuracy(result: RowResult) -> list[float] | Missing:
    missing = _why_no_fit(result)
    if missing is not None:
        return missing
    times = [fitted.time_to_accuracy for fitted in result.fits]
    reached = [seconds for seconds in times if seconds is not None]
    if len(reached) < len(times):
        epochs = result.plan.request.workload.recipe.epochs
        missed = len(times) - len(reached)
        return Missing(f"not reached within {epochs} epochs: {missed} of {len(times)} seeds")
    return reached


def _class_outcome(result: RowResult) -> Outcome | None:
    """The record's ``outcome``: scores by class and one entry per training."""
    if result.classes is None:
        return None
    trainings = [
        Training.model_validate(
            {
                "seed": result.row.job.seed + number,
                "curve": list(fitted.curve),
                "time_to_accuracy": fitted.time_to_accuracy,
            }
        )
        for number, fitted in enumerate(result.fits)
    ]
    return Outcome(
        classes=result.classes.classes,
        confusion=result.classes.confusion,
        target_accuracy=result.plan.request.target_accuracy,
        trainings=trainings,
    )


def _memory_metrics(result: RowResult) -> list[Figure]:
    figures = []
    for task in result.plan.request.tasks:
        samples = [
            Sample(round=i, value=measured.finished.peak_rss[task])
            for i, measured in result.rounds.items()
            if task in measured.finished.peak_rss
        ]
        figures.append(over_processes("peak_rss", samples, result.why_missing(task), task=task))
    on_device = [
        Sample(round=i, value=measured.device_memory.bytes)
        for i, measured in result.rounds.items()
        if isinstance(measured.device_memory, DeviceMemory)
    ]
    last = result.last_round
    on_last = None if last is None else last.device_memory
    missing = on_last if isinstance(on_last, Missing) else result.why_missing()
    return [*figures, over_processes("peak_device_memory", on_device, missing)]


def _size_metrics(result: RowResult) -> list[Figure]:
    model = result.row.file or result.plan.request.workload.model
    flops = Missing("not counted for a user's file") if model.flops is None else float(model.flops)
    return [
        _single_value("model_size", _model_size(result)),
        _single_value("parameters", float(model.parameters)),
        _single_value("flops", flops),
        _single_value("io_bytes", _io_bytes(result)),
    ]


def _io_bytes(result: RowResult) -> float | Missing:
    """Bytes of an image and its logits in float32."""
    model = result.plan.request.workload.model
    if result.row.file is not None or not isinstance(model, ModelSpec):
        return Missing("not counted for a user's file")
    return 4.0 * (math.prod(model.input_shape) + model.classes)


def _model_size(result: RowResult) -> float | Missing:
    """Bytes of the file that the row reads or converts, else of the file that it exports."""
    if result.row.file is not None:
        return float(result.row.file.bytes)
    if result.certified is not None and result.certified.bytes is not None:
        return result.certified.bytes
    exporter, name = result.source or result, result.row.reads or next(iter(result.row.writes), None)
    exported = None if name is None else exporter.exports.get(name)
    if isinstance(exported, Exported):
        return exported.bytes
    if isinstance(exported, NotExported):
        return Missing(exported.reason)
    if name is None:
        return Missing("the backend has no exporter")
    return Missing(result.untrained) if result.untrained else result.why_missing()
