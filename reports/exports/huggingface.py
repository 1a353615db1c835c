"""Runs as a dataset folder of the Hugging Face hub: Parquet, and a card. Nothing is uploaded.

The card's format: https://huggingface.co/docs/hub/datasets-cards and .../datasets-manual-configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.records.metrics import METRICS
from bench.records.record import Run
from reports.exports import long_tables, parquet
from reports.render.text import in_markdown

HEAD = """---
pretty_name: evenbench measurements
tags:
- benchmark
- performance
configs:
- config_name: figures
  data_files: data/figures.parquet
  default: true
- config_name: samples
  data_files: data/samples.parquet
---

# evenbench measurements

{runs} of the same models in several frameworks and runtimes, each row proven comparable before its figures count.
Figures of rows that are not certified are left out; their `reason` says why.

```python
from datasets import load_dataset

figures = load_dataset("PATH OF THIS FOLDER", "figures", split="train")
```

## Columns

`figures` has a row for every figure: {figures}. `low` and `high` are the ends of the interval that `interval` names;
a figure that was not measured has no `value` and says why in `reason`.

`samples` has a row for every process or training behind a figure: {samples}.

## Metrics

"""


def write(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write the card and ``data/*.parquet``; they replace earlier ones.

    Raises:
        UsageError: pyarrow is not installed.
    """
    written = parquet.write(runs, folder / "data")
    path = folder / "README.md"
    path.write_text(card(runs), encoding="utf-8")
    return [path, *written]


def card(runs: Sequence[Run]) -> str:
    """The dataset card: what the columns and metrics are, the runs, machines and data."""
    names, machines, data = set[str](), dict[str, str](), dict[str, str]()
    for run in runs:
        for record in run.records:
            names |= {figure.name for figure in record.figures}
            machines[str(record.machine.get("id"))] = str(record.machine.get("cpu"))
            data[record.data.name] = record.data.note
    shown = [metric for metric in METRICS.values() if metric.name in names]
    head = HEAD.format(
        runs=f"{len(runs)} run{'s' * (len(runs) != 1)}",
        figures=", ".join(f"`{name}`" for name in long_tables.FIGURES),
        samples=", ".join(f"`{name}`" for name in long_tables.SAMPLES),
    )
    metrics = [f"- `{metric.name}` [{metric.unit}]: {metric.definition}" for metric in shown]
    lines = ["", "## Machines", "", *(f"- `{name}`: {in_markdown(cpu)}" for name, cpu in sorted(machines.items()))]
    lines += [
        "",
        "## Data",
        "",
        *(f"- {in_markdown(name)}: {in_markdown(note)}" for name, note in sorted(data.items())),
    ]
    return head + "\n".join([*metrics, *lines]) + "\n"
