"""How a run's wall time was spent."""

from __future__ import annotations

from bench.records.record import Run
from reports.table import Table

PHASES = {
    "import": "imports of the framework and of our packages",
    "build": "model, weights, optimizer; loading a file",
    "load": "loading the model file",
    "first_call": "first call: tracing, compiling",
    "reference": "certifying: the float64 reference",
    "certify": "certifying: the framework",
    "certify_dropout": "certifying: dropout's own masks",
    "certify_long": "certifying: the long trial",
    "fit": "training to the recipe's end",
    "evaluate": "the test split",
    "export": "export to ONNX",
    "warm_up": "warm-up until steady",
    "timed": "timed slices",
}
"""Phases of workers that are useful work; everything else is overhead."""
NEEDED = ("wall", "phases", "timed", "asleep_wait", "parent_cpu_while_timed")
"""What the table is made of."""


def timing_table(run: Run) -> Table:
    """Seconds and shares of the wall time; what is not useful work is the cost of the harness."""
    timing = run.timing
    if any(name not in timing for name in NEEDED):
        return Table("Timing", ["where the time went", "seconds", "share"], [["n/m: not recorded by this run", "", ""]])
    wall, phases = timing["wall"], timing["phases"]
    useful = {text: phases.get(name, 0.0) for name, text in PHASES.items()}
    spent = sum(useful.values())
    overhead = {
        "spawn of interpreters": phases.get("spawn", 0.0),
        "waiting until the previous worker sleeps": timing["asleep_wait"],
        "new inputs of every slice, outputs, closing steps": phases.get("inputs", 0.0),
        **{f"judging: {check}": seconds for check, seconds in timing.get("judging", {}).items()},
    }
    rest = wall - spent - sum(overhead.values())
    lines = [*useful.items(), ("useful, sum of the above", spent), *overhead.items(), ("everything else", rest)]
    rows = [[text, f"{seconds:.2f}", _share(seconds, wall)] for text, seconds in [*lines, ("wall time", wall)]]
    cpu, timed = timing["parent_cpu_while_timed"], timing["timed"]
    rows.append(["CPU time of the parent while a worker was timed", f"{cpu:.3f}", _share(cpu, timed)])
    return Table(f"Timing of {run.name}", ["where the time went", "seconds", "share"], rows, numbers_from=1)


def _share(seconds: float, whole: float) -> str:
    return f"{100 * seconds / whole:.1f}%" if whole else "-"
