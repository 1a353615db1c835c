"""The margins behind ``bench.parity.TOLERANCES``: the worst value of every check over all adapters that train, both
models (each with its own recipe), the data sets given, 5 seeds, 1 and 2 threads.

    python benchmarks/parity_margins.py [--data-dir DIR] [--device cpu]

Prints one line per certificate and the worst of each check at the end. With ``--data-dir`` CIFAR-10 takes part. About
6 s per certificate; on a machine with a GPU, ``--device cuda`` gives the column that is not measured yet.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from bench.datasets import DATASETS
from bench.job import Data
from bench.plan import Request, make
from bench.runner import Runner
from bench.summary import Context
from bench.workloads import MODELS, RECIPES, Workload

SEEDS = range(5)
THREADS = (1, 2)


class Quiet:
    """An observer that keeps nothing."""

    def begins(self, *_: object) -> None:
        """Nothing is shown."""

    def changed(self, record: object) -> None:
        """Nothing is stored."""


def certificates(
    workload: Workload, seed: int, threads: int, arguments: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Row to check to value, of one plan without measuring rounds; models are exported as they were drawn."""
    request = Request(
        ("all",), workload, devices=arguments.device, threads=threads, seed=seed, rounds=0, data_dir=arguments.data_dir
    )
    dataset = DATASETS[workload.dataset](arguments.data_dir)
    data = Data(name=dataset.name, sha256=dataset.sha256, train=len(dataset.train_y), test=len(dataset.test_y))
    runner = Runner(make(request), dataset, Context({}, data, None, ""), Quiet())
    runner.run()
    return {
        result.label: {check["name"]: check["value"] for check in result.certified["checks"]}
        for result in runner.results.values()
        if result.certified
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    datasets = ["digits"] + (["cifar10"] if arguments.data_dir else [])
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    for name, dataset, seed, threads in itertools.product(MODELS, datasets, SEEDS, THREADS):
        recipe = RECIPES[name]
        workload = Workload(MODELS[name], dataset, type(recipe)(**{**vars(recipe), "epochs": 0}))
        where = f"{name}/{dataset} seed {seed} threads {threads}"
        for row, checks in certificates(workload, seed, threads, arguments).items():
            print(where, row, " ".join(f"{check}={value:.2e}" for check, value in checks.items()), flush=True)
            for check, value in checks.items():
                worst[row, check] = max(worst.get((row, check), (-1.0, "")), (value, where))
    print()
    for (row, check), (value, where) in sorted(worst.items()):
        print(f"{row:24} {check:20} {value:.2e}  {where}")


if __name__ == "__main__":
    main()
