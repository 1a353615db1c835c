"""``bench serve``: how much load each row bears."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from bench import quantities
from bench.cli import measuring, options
from bench.cli.grouped import command
from bench.cli.options import (
    DeviceOptions,
    InterpreterOptions,
    OutputOptions,
    PlaceOptions,
    RepeatOptions,
    ResumeOptions,
    WorkloadOptions,
)
from bench.errors import UsageError

if TYPE_CHECKING:
    from bench.runner.load import Load
    from bench.runner.plan import Request
    from bench.runner.run import Sitting
    from bench.store.store import Store


@dataclass(frozen=True)
class ServedRows:
    """Which rows are served."""

    PANEL: ClassVar = "What to run"

    backend: Annotated[str | None, typer.Option(help="all, or a list such as pytorch,keras (default: all).")] = None
    mode: Annotated[str | None, typer.Option(help="Ways to run, a list: default, all, or names of bench list.")] = None
    precision: Annotated[str | None, typer.Option(help="A list: default, all, or names of bench list.")] = None


@dataclass(frozen=True)
class LoadOptions:
    """The load, and how it is served."""

    PANEL: ClassVar = "Under what load"

    scenario: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Of single-stream, multi-stream, offline, server (default: all)."),
    ] = None
    latency_bound: Annotated[
        str | None,
        typer.Option(metavar="pN=TIME", help="Search the highest rate at which it holds, such as p99=15ms."),
    ] = None
    rate: Annotated[
        str | None, typer.Option(metavar="LIST", help="Requests per second to try as well, such as 100,200,400.")
    ] = None
    max_batch: Annotated[int, typer.Option(min=1, help="Requests that are answered together, at most.")] = 8
    max_delay: Annotated[
        str | None, typer.Option(metavar="TIME", help="The first waits so long for others, such as 2ms (default: 0).")
    ] = None
    instances: Annotated[int, typer.Option(min=1, help="Copies of the model, each with --threads threads.")] = 1
    test_time: Annotated[
        str, typer.Option(metavar="TIME", help="Of a test at least; more where the percentile needs it.")
    ] = "2s"
    rounds: Annotated[int, typer.Option(min=1, help="Fresh processes per row.")] = 3

    @property
    def load(self) -> Load:
        """What they ask for.

        Raises:
            UsageError: one that cannot be read, or does not go with another.
        """
        from bench.runner.load import SCENARIOS, Load

        named = quantities.split_commas(self.scenario or "")
        for name in named:
            options.one_of("scenario", name, SCENARIOS)
        percent, bound = _bound(self.latency_bound)
        rates = tuple(_rate(text) for text in quantities.split_commas(self.rate or ""))
        serves = bound is not None or bool(rates)
        if "server" in named and not serves:
            raise UsageError("--scenario server needs --latency-bound p99=15ms, or --rate 100,200")
        if named and "server" not in named and serves:
            raise UsageError("--latency-bound and --rate are of the scenario server, which --scenario leaves out")
        chosen = tuple(name for name in SCENARIOS if (name in named if named else serves or name != "server"))
        return Load(
            scenarios=chosen,
            percent=percent,
            bound=bound,
            rates=rates,
            max_batch=self.max_batch,
            max_delay=0.0 if self.max_delay is None else quantities.seconds("--max-delay", self.max_delay),
            instances=self.instances,
            seconds=quantities.seconds("--test-time", self.test_time),
        )


def _bound(text: str | None) -> tuple[float, float | None]:
    """Percentile and seconds of ``p99=15ms``."""
    if text is None:
        return 99.0, None
    found = re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)=(.+)", text.strip())
    if found is None or not 50 <= float(found[1]) < 100:
        raise UsageError(f"--latency-bound {text}: not of the form p99=15ms, with a percentile from 50 to 99.9")
    return float(found[1]), quantities.seconds("--latency-bound", found[2])


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e7:
        raise UsageError(f"--rate {text}: not a number of requests per second")
    return rate


@dataclass(frozen=True)
class Chosen:
    """All options that decide what is served: it can go on with them later."""

    workload: WorkloadOptions
    rows: ServedRows
    load: LoadOptions
    device: DeviceOptions
    place: PlaceOptions
    interpreters: InterpreterOptions
    repeat: RepeatOptions

    def request(self) -> Request:
        """What they ask for.

        Raises:
            UsageError: an option that cannot be read, or does not go with another.
        """
        from bench.runner.plan import ALL

        load, rows = self.load.load, self.rows
        common = measuring.request(
            rows.backend or ALL, self.workload.named(), (rows.mode, rows.precision),
            self.device, self.place, self.interpreters, self.repeat,
        )  # fmt: skip
        return replace(common, task="infer", batch_sizes=(load.max_batch,), rounds=self.load.rounds, load=load)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    command(app, "serve")(serve)


def serve(
    workload: WorkloadOptions,
    rows: ServedRows,
    load: LoadOptions,
    device: DeviceOptions,
    place: PlaceOptions,
    interpreters: InterpreterOptions,
    repeat: RepeatOptions,
    resume: ResumeOptions,
    output: OutputOptions,
) -> None:
    """Certify backends, then test them under load by MLPerf's LoadGen: how many requests each bears.

    Exit code: 0; 1 if a row that was asked for is not ok and comparable; 2 usage, or the store failed; 130 on Ctrl-C.
    """
    from bench.runner.resumption import SERVE
    from bench.runner.run import Sitting, new_name
    from bench.store.store import Store

    chosen = Chosen(workload, rows, load, device, place, interpreters, repeat)
    resume.check(chosen, "serve")
    if resume.resume is None:
        request = chosen.request()
        sys.exit(_serve(request, chosen, Store(output.store), output.format, Sitting(name=SERVE + new_name())))
    store = Store(output.store)
    with options.going_on(store, resume.resume, "serve", Chosen) as (name, first):
        sitting = Sitting(goes_on=name, anyway=resume.anyway)
        sys.exit(_serve(first.request(), first, store, output.format, sitting))


def _serve(request: Request, chosen: Chosen, store: Store, format_name: str, sitting: Sitting) -> int:
    """Serve the rows that were asked for, and print their tables; the exit code.

    Raises:
        UsageError: an unknown name, or no LoadGen in this interpreter (another one's workers say so themselves).
    """
    if find_spec("mlperf_loadgen") is None and not request.pythons:
        raise UsageError("LoadGen is missing: pip install 'evenbench[serving]'")
    from bench.runner import run as running

    plan, dataset = measuring.plan_on_data(request)
    options.end_as_ctrl_c()
    sitting = replace(sitting, options=options.plain(chosen))
    finished = running.run(plan, dataset, store, options.command_line(), sitting=sitting)
    return measuring.shown(finished, format_name)
