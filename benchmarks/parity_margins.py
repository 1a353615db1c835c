"""The margins behind ``bench.tolerances.TOLERANCES``: the worst value of every check over all installed backends, both
models (each with its own recipe), both data sets, 5 seeds, 1 and 2 threads.

    python benchmarks/parity_margins.py --data-dir DIR [--device cpu] > benchmarks/results/parity_margins.txt

Prints one line per certificate and the worst of each check at the end; about 8 minutes on 2 cores. On a machine with a
GPU, ``--device cuda`` gives the column that is not measured yet. One process per backend and number of threads.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import backends
from backends.base import Backend
from bench import datasets, expected, parity
from bench.models import MODELS
from bench.pixels import normalize
from bench.training import SAMPLE
from bench.workloads import RECIPES

THREADS = (1, 2)
RECIPE_OF = {
    "article-keras": "article-keras",
    "article-pytorch": "article-pytorch",
    "vgg-cifar": "vgg-cifar",
    "resnet20": "one-cycle",
    "mobilenet-cifar": "one-cycle",
}
"""The deep ones with the recipe that has everything: schedule, Nesterov momentum, decay, smoothing."""
SEEDS = {"vgg-cifar": 2, "resnet20": 2, "mobilenet-cifar": 1}
"""Fewer than five where the reference takes a minute."""
CASES = [(m, d, s) for m in MODELS for d in ("digits", "cifar10") for s in range(SEEDS.get(m, 5))]


def certify(backend: Backend, precision: str, arguments: argparse.Namespace) -> None:
    """Every case of a backend that trains; leaves its ONNX files and logits for the runtimes."""
    data = {"digits": datasets.load("digits"), "cifar10": datasets.load("cifar10", arguments.data_dir)}
    for model_name, dataset, seed in CASES:
        model, recipe, images = MODELS[model_name], RECIPES[RECIPE_OF[model_name]], data[dataset]
        chosen = np.random.default_rng(seed).permutation(len(images.train_y))[:SAMPLE]
        x, y = normalize(images.train_x[chosen], recipe.mean, recipe.std), images.train_y[chosen]
        weights = expected.off_the_kinks(model, model.initial_weights(seed))
        trial = expected.Trial(recipe)
        case = arguments.folder / f"{model_name}-{dataset}-{seed}"
        wanted = expected.Expected.of(case.with_suffix(".npz"), model, weights, x, y, trial)
        certifier = parity.Certifier(backend, precision, arguments.device, model, weights, wanted, trial)
        show(case.name, arguments, certifier.certify())
        if "export" in backend.TASKS and arguments.threads == THREADS[0]:
            backend.build(model, weights, None)
            backend.export_onnx(Path(f"{case}-{arguments.worker}.onnx"))
            np.save(f"{case}-{arguments.worker}.npy", backend.infer(x[:256]))
            np.save(f"{case}-x.npy", x[:256])


def compare(backend: Backend, precision: str, arguments: argparse.Namespace) -> None:
    """Every file that was exported, in a runtime."""
    for path in sorted(arguments.folder.glob("*.onnx")):
        case, _, source = path.stem.rpartition("-")
        backend.load(path)
        want = np.load(path.with_suffix(".npy"))
        got = backend.infer(np.load(arguments.folder / f"{case}-x.npy"))
        results = parity.certify_runtime(got, want, want.argmax(axis=1), precision, arguments.device)
        show(f"{case} <- {source}", arguments, results)


def show(case: str, arguments: argparse.Namespace, results: list[parity.Result]) -> None:
    """One line of ``case backend threads check=value ...``."""
    values = " ".join(f"{result.name}={result.value:.3e}" for result in results)
    print(f"{case} | {arguments.worker} | threads {arguments.threads} | {values}", flush=True)


def worker(arguments: argparse.Namespace) -> None:
    """All cases of one backend with one number of threads."""
    adapter = backends.load(arguments.worker)
    precision = adapter.PRECISIONS[0]
    backend = adapter(arguments.device, precision, adapter.MODES[0], arguments.threads, 0)
    (compare if adapter.NEEDS_SOURCE else certify)(backend, precision, arguments)


def main() -> None:
    """Start the workers, collect their lines, print the worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    worst: dict[tuple[str, str], tuple[float, str]] = {}
    names = sorted(backends.names(), key=lambda name: backends.load(name).NEEDS_SOURCE)
    names = [name for name in names if arguments.device in backends.load(name).DEVICES]
    with tempfile.TemporaryDirectory() as folder:
        for name, threads in itertools.product(names, THREADS):
            options = ["--worker", name, "--threads", str(threads), "--folder", folder, "--device", arguments.device]
            command = [sys.executable, __file__, "--data-dir", str(arguments.data_dir), *options]
            lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
            for line in (line for line in lines if " | threads " in line):
                print(line, flush=True)
                for check, _, value in (part.partition("=") for part in line.rpartition(" | ")[2].split()):
                    worst[name, check] = max(worst.get((name, check), (-1.0, "")), (float(value), line.split(" | ")[0]))
    print()
    for (name, check), (value, case) in sorted(worst.items()):
        print(f"{name:14} {check:20} {value:.2e}  {case}")


if __name__ == "__main__":
    main()
