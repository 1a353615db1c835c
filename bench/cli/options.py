"""Groups of options that several commands share, and how their texts are read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import typer

from bench import quantities
from bench.errors import BenchError, UsageError
from bench.file_names import readable
from bench.secrecy import MASK, hide

if TYPE_CHECKING:
    from bench.gate.package_index import PackageIndex
    from bench.machine.placement import Placement
    from bench.store.store import Store
    from bench.workloads.workload import Workload

Groups = TypeVar("Groups")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
INTERRUPTED = 130
"""Exit code on Ctrl-C."""
TASKS = ("train", "infer", "all")
INPUT = "input"
"""The task of ``bench run`` alone: input pipelines."""
BOUNDARIES = ("end-to-end", "device")

StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Database URL or SQLite file (default: BENCH_STORE, user data)."),
]


def _format(name: str) -> str:
    """As soon as it is read: nothing is measured for a table that cannot be shown."""
    from reports.render.text import check_format

    return check_format(name)


Format = Annotated[
    str,
    typer.Option(
        "--format", callback=_format, help="Of tables: simple, plain, grid, github, html, latex, tsv, csv, json."
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write there instead of standard output.")
]
Summary = Annotated[
    bool,
    typer.Option("--summary", help="As the Markdown of a pull-request comment: the verdict first, details folded."),
]
RunName = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's name or its beginning, tag, commit, or last~N (default: last)."),
]
Restart = Annotated[bool, typer.Option("--restart", help="Forget what an earlier search found.")]


@dataclass(frozen=True)
class WorkloadOptions:
    """Model, data set and recipe."""

    PANEL: ClassVar = "What to run"

    workload: Annotated[
        str | None, typer.Option(metavar="MODEL/DATASET/RECIPE", help="Instead of --model, --dataset and --recipe.")
    ] = None
    model: Annotated[str | None, typer.Option(help="Model, or a TOML file (default: article-keras).")] = None
    dataset: Annotated[
        str | None, typer.Option(help="Data set, or folder:DIR with a folder per class (default: digits).")
    ] = None
    recipe: Annotated[str | None, typer.Option(help="Training recipe, or a TOML file (default: article-keras).")] = None
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe, such as epochs=2 (repeatable)."),
    ] = None

    @property
    def names(self) -> dict[str, str | None]:
        """Model, data set and recipe that the user gave, one by one or together.

        Raises:
            UsageError: both, or not three names together.
        """
        from bench.workloads.workload import parts

        if self.workload is not None and (self.model or self.dataset or self.recipe):
            raise UsageError("--workload names model, data set and recipe together; leave out the other three")
        names = (self.model, self.dataset, self.recipe) if self.workload is None else parts(self.workload)
        return dict(zip(("model", "dataset", "recipe"), names, strict=True))

    def named(self, more_changes: list[str] | None = None) -> Workload:
        """The workload that the options name together, with changes of its recipe.

        Raises:
            UsageError: an unknown name, or ``--workload`` beside one of the three.
        """
        from bench.workloads.recipe import parse_changes
        from bench.workloads.workload import DEFAULT_DATASET, DEFAULT_MODEL, DEFAULT_RECIPE, make_workload

        names = self.names
        return make_workload(
            names["model"] or DEFAULT_MODEL,
            names["dataset"] or DEFAULT_DATASET,
            names["recipe"] or DEFAULT_RECIPE,
            parse_changes([*(self.changes or []), *(more_changes or [])]),
        )


@dataclass(frozen=True)
class RowOptions:
    """Which rows, and what is timed of them. None: the default, or what a saved baseline says."""

    PANEL: ClassVar = "What to run"

    backend: Annotated[str | None, typer.Option(help="all, or a list such as pytorch,keras (default: all).")] = None
    mode: Annotated[
        str | None, typer.Option(help="Ways to run, a list: default, all, best, or names of bench list.")
    ] = None
    precision: Annotated[
        str | None, typer.Option(help="A list: default, all, or names of bench list such as fp32,bf16,int8.")
    ] = None
    task: Annotated[
        str | None, typer.Option(help="What to time: train, infer, all, or (bench run) input (default: all).")
    ] = None
    batch_size: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Of throughput, such as 128 or (bench run) 1,8,32,128 (default: 128)."),
    ] = None


@dataclass(frozen=True)
class DeviceOptions:
    """The device, and where the data is. None of ``device``: auto."""

    PANEL: ClassVar = "Where"

    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N, or a list: one row each (default: auto).")
    ] = None
    data_dir: Annotated[Path | None, typer.Option(help="Folder of a data set that is read from disk.")] = None


@dataclass(frozen=True)
class PlaceOptions:
    """Where and how every worker runs."""

    PANEL: ClassVar = "Where"

    threads: Annotated[int | None, typer.Option(min=1, help="Threads (default: the profile's physical cores).")] = None
    cpus: Annotated[str | None, typer.Option(metavar="LIST", help="Pin workers to CPUs such as 0,2-3.")] = None
    allocator: Annotated[
        str | None, typer.Option(metavar="NAME", help="system, arena (glibc keeps memory) or a library's path.")
    ] = None
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="The most memory of one worker, such as 4GB (default: no limit).")
    ] = None
    disk: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The largest file that a worker may write (default: what the run needs)."),
    ] = None
    cpu_quota: Annotated[
        float | None,
        typer.Option(metavar="CPUS", min=0.01, help="CPU time of one worker, as a container's, such as 1.5 CPUs."),
    ] = None
    no_lock: Annotated[bool, typer.Option("--no-lock", help="Do not wait for other timed commands.")] = False

    def placement(self, profile: str) -> Placement:
        """Of every worker.

        Raises:
            UsageError: an unknown profile, CPUs that are not available, no such allocator, no size, a
                quota that cannot be held here.
        """
        from bench.machine import limits
        from bench.machine.placement import place

        memory = None if self.memory is None else quantities.size("--memory", self.memory)
        disk = None if self.disk is None else quantities.size("--disk", self.disk)
        if self.cpu_quota is not None:
            limits.check_quota(self.cpu_quota)
        return place(profile, self.cpus, self.threads, self.allocator, memory, disk, not self.no_lock, self.cpu_quota)


@dataclass(frozen=True)
class InterpreterOptions:
    """Interpreters of backends."""

    PANEL: ClassVar = "Where"

    python: Annotated[
        list[str] | None,
        typer.Option("--python", metavar="BACKEND=PATH", help="Interpreter for a backend (repeatable)."),
    ] = None

    @property
    def pythons(self) -> dict[str, str]:
        """``BACKEND=PATH`` entries by backend.

        Raises:
            UsageError: another form.
        """
        paths = {}
        for entry in self.python or []:
            name, separator, path = entry.partition("=")
            if not (name and separator and path):
                raise UsageError(f"--python {entry}: not BACKEND=PATH, such as keras=.venv-keras/bin/python")
            paths[name] = path
        return paths


@dataclass(frozen=True)
class RepeatOptions:
    """The seed, and the patience with workers."""

    PANEL: ClassVar = "How carefully"

    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and the order of rounds.")] = 0
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a silent worker is killed.")] = 600.0


@dataclass(frozen=True)
class OutputOptions:
    """Where results go, and how they are shown."""

    PANEL: ClassVar = "Output"

    store: StoreUrl = None
    format: Format = "simple"


@dataclass(frozen=True)
class ResumeOptions:
    """Whether an earlier command goes on, instead of a new one."""

    PANEL: ClassVar = "Go on"

    resume: Annotated[
        str | None,
        typer.Option(
            metavar="[NAME]",
            help="Go on with one that stopped (default: the newest): do what is missing, nothing twice.",
        ),
    ] = None
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="With --resume: though machine, versions or data changed; the record says so."),
    ] = False

    def check(self, options: Any, name: str) -> None:
        """Raise UsageError for options that go with no ``--resume``, or with nothing else.

        ``options``: the command's own, an instance of a dataclass of groups; ``name``: the command's.
        """
        from dataclasses import fields

        if self.resume is None:
            if self.anyway:
                raise UsageError(f"--anyway goes with --resume: bench {name} --resume --anyway")
            return
        for group in fields(options):
            given = getattr(options, group.name)
            for field in fields(given):
                if getattr(given, field.name) != field.default:
                    option = field.name.replace("_", "-")
                    raise UsageError(f"--resume goes on with the options of the first time; leave out --{option}")


@dataclass(frozen=True)
class NameOptions:
    """The name of a new run or check, which the driver of a fleet gives."""

    PANEL: ClassVar = "Output"

    name: Annotated[str | None, typer.Option("--name", hidden=True)] = None

    def check(self) -> None:
        """Raise UsageError for a text that is no name."""
        if self.name is not None and re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]{0,59}", self.name) is None:
            raise UsageError(f"--name {self.name}: letters, digits, '.', '_' and '-', at most 60")


@dataclass(frozen=True)
class GateOptions:
    """What a gate calls no change, and where it keeps environments."""

    PANEL: ClassVar = "How carefully"

    margin: Annotated[
        list[str] | None,
        typer.Option("--margin", metavar="METRIC=PERCENT", help="What is no change (repeatable)."),
    ] = None
    margins: Annotated[
        Path | None, typer.Option("--margins", metavar="FILE", help="TOML file with a table named margins.")
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where environments and work trees are kept (default: user cache).",
            rich_help_panel="Where",
        ),
    ] = None


@dataclass(frozen=True)
class IndexOptions:
    """Where the packages of built environments come from."""

    PANEL: ClassVar = "Where"

    index_url: Annotated[
        str | None,
        typer.Option(
            "--index-url", metavar="URL", help="Packages of built environments: in place of PyPI (else PIP_*, UV_*)."
        ),
    ] = None
    extra_index_url: Annotated[
        list[str] | None,
        typer.Option("--extra-index-url", metavar="URL", help="Besides it, e.g. for +cpu builds (repeatable)."),
    ] = None

    def chosen(self) -> PackageIndex:
        """The index of the options and of the variables of pip and uv.

        Raises:
            UsageError: not a URL or a folder.
        """
        from bench.gate import package_index

        url = None if self.index_url is None else _index_url("--index-url", self.index_url)
        extra = [_index_url("--extra-index-url", text) for text in self.extra_index_url or []]
        return package_index.chosen(url, extra)


def _index_url(option: str, text: str) -> str:
    """The URL of an index; a folder's is made of its path."""
    if "://" in text:
        return text
    if not Path(text).is_dir():
        raise UsageError(f"{option} {text}: not a URL such as https://pypi.org/simple, and no such folder")
    return Path(text).resolve().as_uri()


@dataclass(frozen=True)
class MetricOptions:
    """The metrics that are judged, and the old name of that option."""

    PANEL: ClassVar = "What to run"

    metric: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="What is judged: of throughput, latency, memory, accuracy (default: the first three)."
        ),
    ] = None
    figure: Annotated[str | None, typer.Option("--figure", hidden=True)] = None
    boundary: Annotated[str | None, typer.Option(help="Of speeds: end-to-end or device (default: end-to-end).")] = None

    @property
    def chosen(self) -> str | None:
        """The metrics that the user gave, by either spelling."""
        return renamed("--figure", self.figure, "--metric", self.metric)


def renamed(old: str, old_value: str | None, new: str, new_value: str | None) -> str | None:
    """The value of an option that has a new name; the old one goes on working, and a line says so.

    Raises:
        UsageError: both were given.
    """
    if old_value is None:
        return new_value
    if new_value is not None:
        raise UsageError(f"{old} is the old name of {new}; give one of them")
    print(f"bench: {old} is now {new} (the old name goes on working)", file=sys.stderr)
    return old_value


def batch_sizes(text: str | None) -> tuple[int, ...]:
    """``1,8,32`` in ascending order; 128 where nothing is said.

    Raises:
        UsageError: not numbers from 1 to a million.
    """
    parts = ("128",) if text is None else quantities.split_commas(text)
    if not parts or not all(part.isdigit() and 1 <= int(part) <= 1_000_000 for part in parts):
        raise UsageError(f"--batch-size {text}: not a number from 1 on, or a list such as 1,8,32,128")
    return tuple(sorted({int(part) for part in parts}))


def one_of(kind: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is known.

    Raises:
        UsageError: it is not.
    """
    if value not in known:
        raise UsageError(f"unknown {kind} '{value}'; one of {', '.join(known)}")
    return value


def search_key(decides: Sequence[object]) -> str:
    """The key under which a search that can be resumed is stored: a hash of what decides its result."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def command_line() -> str:
    """What the user typed, secrets hidden: what repeats it."""
    return hide(readable(shlex.join(["bench", *sys.argv[1:]])))


def plain(chosen: Any) -> dict[str, Any]:
    """A dataclass of groups of options as plain values, secrets hidden."""
    from bench.worker.coding import encode

    values: dict[str, Any] = json.loads(hide(json.dumps(encode(chosen))))
    return values


@contextmanager
def going_on(store: Store, text: str, kind: str, groups: type[Groups]) -> Iterator[tuple[str, Groups]]:
    """The name of a run or check (``kind``) that stopped, and its options; within this context, the working folder is
    that of the first time, so that relative paths are the same.

    Raises:
        UsageError: there is none, or its folder is gone.
        BenchError: what is stored of it is damaged.
    """
    from bench.runner import resumption
    from bench.worker.coding import ProtocolError, decode

    name, begun = resumption.find(store, text, kind)
    if MASK in json.dumps(begun.options):
        raise UsageError(f"an option of {name} had a secret, which is not stored: it cannot go on")
    try:
        chosen: Groups = decode(groups, begun.options)
    except ProtocolError as error:
        raise BenchError(f"{name} was begun by another version of evenbench; begin anew without --resume") from error
    if not Path(begun.folder).is_dir():
        raise UsageError(f"the folder of {name} is gone: {begun.folder}; begin anew without --resume")
    with chdir(begun.folder):
        yield name, chosen


def given_fields(values: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave: those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def end_as_ctrl_c() -> None:
    """Signals that end a process end it as Ctrl-C does: workers ended, scratch removed, what was measured stored. A
    second one ends it at once: only what is stored stays.

    One that the shell ignores (``nohup``) stays ignored.
    """
    numbers = [number for name in SIGNALS if (number := getattr(signal, name, None)) is not None]
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

    def first(*_: object) -> None:
        for number in numbers:
            signal.signal(number, second)
        raise KeyboardInterrupt

    def second(*_: object) -> None:
        from bench.machine import process_tree

        for pid in process_tree.descendants(os.getpid())[1:]:
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        os.write(2, b"bench: ended at once; what is stored stays (bench history)\n")
        os._exit(INTERRUPTED)

    for number in numbers:
        signal.signal(number, first)
