"""The measured values behind ``bench.runner.judges.tolerances.TOLERANCES``.

Finds the worst value of every check over all installed backends in all their precisions, all models (each with a
recipe), both data sets, up to 5 seeds, and 1 and 2 threads.

    python benchmarks/parity_margins.py --data-dir DIR [--device cpu] [--precision bf16] [--model vgg-cifar]
        [--seeds 1] [--threads 2] > benchmarks/results/parity_margins_bf16.txt

Prints one line per certificate and the worst of each check at the end. On a machine with a GPU, ``--device cuda`` gives
the column that is not measured yet. One process per backend, precision and number of threads.
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
from backends.base import SUFFIXES, Backend, Unsupported
from bench.runner.judges import certificate
from bench.runner.judges.tolerances import NORMALIZED, TOLERANCES
from bench.worker import reference_outputs
from bench.worker.certificate_outputs import Candidate
from bench.worker.protocol import Job
from bench.worker.training import SAMPLE
from bench.workloads.datasets import registry
from bench.workloads.models import MODELS
from bench.workloads.preprocessing import normalize
from bench.workloads.workload import RECIPES

RECIPE_OF = {
    "article-keras": "article-keras",
    "article-pytorch": "article-pytorch",
    "vgg-cifar": "vgg-cifar",
    "resnet20": "one-cycle",
    "mobilenet-cifar": "one-cycle",
}
"""The deep models use a recipe with a schedule, Nesterov momentum, weight decay and label smoothing."""
SEEDS = {"vgg-cifar": 2, "resnet20": 2, "mobilenet-cifar": 2}
"""Number of seeds for models whose reference takes a minute; five for the others."""


def cases(arguments: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Model, data set and seed of every certificate."""
    seeds = {model: range(min(arguments.seeds, SEEDS.get(model, 5))) for model in arguments.model.split(",")}
    return [(model, dataset, seed) for model in seeds for dataset in ("digits", "cifar10") for seed in seeds[model]]


def certify(backend: Backend, arguments: argparse.Namespace) -> None:
    """Certify every case of a backend that trains. In float32, also write its ONNX files and logits for the
    runtimes."""
    data = {"digits": registry.load("digits"), "cifar10": registry.load("cifar10", arguments.data_dir)}
    for model_name, dataset, seed in cases(arguments):
        model, recipe, images = MODELS[model_name], RECIPES[RECIPE_OF[model_name]], data[dataset]
        chosen = np.random.default_rng(seed).permutation(len(images.train_y))[:SAMPLE]
        x, y = normalize(images.train_x[chosen], recipe.mean, recipe.std), images.train_y[chosen]
        weights = reference_outputs.raise_betas(model, model.initial_weights(seed))
        trial = reference_outputs.Trial(recipe)
        case = arguments.folder / f"{model_name}-{dataset}-{seed}"
        file = case.with_suffix(".npz")
        if not file.exists():
            reference_outputs.Expected.of(model, weights, x, y, trial).write(file)
        expected = reference_outputs.Expected.read(file)
        got = Candidate(backend, arguments.precision, model, weights, expected.batch, trial).compute()
        judge = certificate.Judge(
            backends.describe(arguments.worker), arguments.precision, arguments.device, model, weights, expected, trial
        )
        show(case.name, arguments, judge.judge(got))
        logits = Path(f"{case}-{arguments.worker}.npy")
        if backend.WRITES and arguments.precision == "fp32" and not logits.exists():
            backend.build(model, weights, None)
            for name in backend.WRITES:
                backend.export(Path(f"{case}-{arguments.worker}{SUFFIXES[name]}"), name)
            np.save(logits, backend.infer(x[:256]))
            np.save(f"{case}-x.npy", x[:256])


def compare(backend: Backend, arguments: argparse.Namespace) -> None:
    """Compare every exported file in a runtime that reads it."""
    for path in sorted(arguments.folder.glob(f"*{SUFFIXES[backend.READS[0]]}")):
        case, _, source = path.stem.rpartition("-")
        x, want = np.load(arguments.folder / f"{case}-x.npy"), np.load(path.with_suffix(".npy"))
        converted = path
        if arguments.precision != "fp32" or backend.COMPILES:
            own = arguments.folder / f"{arguments.worker}-{arguments.precision}"
            own.mkdir(exist_ok=True)
            converted = own / path.name
            backend.convert(path, converted, x, len(x))
        backend.load(converted)
        job = Job(
            backend=arguments.worker, mode=backend.MODES[0], precision=arguments.precision, device=arguments.device,
            model=case, dataset="", recipe="", threads=int(arguments.threads),
        )  # fmt: skip
        results = certificate.certify_runtime(
            backends.describe(job.backend), job, backend.infer(x), want, want.argmax(axis=1)
        )
        show(f"{case} <- {source}", arguments, results[:1])  # the accuracy of untrained weights means nothing


def show(case: str, arguments: argparse.Namespace, results: list[certificate.Result]) -> None:
    """Print one line of ``case | backend precision | threads | check=value ...``."""
    values = " ".join(f"{result.name}={result.value:.3e}" for result in results)
    print(f"{case} | {arguments.worker} {arguments.precision} | threads {arguments.threads} | {values}", flush=True)


def worker(arguments: argparse.Namespace) -> None:
    """Run all cases of one backend in one precision with one number of threads."""
    adapter = backends.load(arguments.worker)
    try:
        backend = adapter(arguments.device, arguments.precision, adapter.MODES[0], int(arguments.threads), 0)
    except Unsupported as refusal:
        print(f"{arguments.worker} {arguments.precision}: unsupported: {refusal}", flush=True)
        return
    (compare if adapter.READS else certify)(backend, arguments)


def main() -> None:
    """Start the workers, collect their lines, print the worst."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default=",".join(TOLERANCES), help="a list; a backend runs those that it has")
    parser.add_argument("--model", default=",".join(RECIPE_OF), help="a list")
    parser.add_argument("--seeds", type=int, default=5, help="at most")
    parser.add_argument("--threads", default="1,2", help="a list")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    adapters = {name: backends.load(name) for name in backends.names()}
    names = sorted(
        (n for n in adapters if arguments.device in adapters[n].DEVICES), key=lambda n: bool(adapters[n].READS)
    )
    rows = [(n, p) for n in names for p in adapters[n].PRECISIONS if p in arguments.precision.split(",")]
    worst: dict[tuple[str, str, str], tuple[float, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for (name, precision), threads in itertools.product(rows, arguments.threads.split(",")):
            own = {"--worker": name, "--precision": precision, "--threads": threads, "--folder": folder}
            same = {"--data-dir": arguments.data_dir, "--device": arguments.device}
            same |= {"--model": arguments.model, "--seeds": arguments.seeds}
            options = [str(part) for pair in (own | same).items() for part in pair]
            command = [sys.executable, __file__, *options]
            lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
            for line in lines:
                print(line, flush=True)
                if " | threads " not in line:
                    continue
                case = line.partition(" | ")[0]
                normalizes = MODELS[next(model for model in RECIPE_OF if case.startswith(f"{model}-"))].normalizes
                for check, _, value in (part.partition("=") for part in line.rpartition(" | ")[2].split()):
                    key = (precision, check + NORMALIZED * normalizes, name)
                    worst[key] = max(worst.get(key, (-1.0, "")), (float(value), case))
    print()
    for (precision, check, name), (value, case) in sorted(worst.items()):
        print(f"{precision:5} {check:32} {name:12} {value:.2e}  {case}")


if __name__ == "__main__":
    main()
