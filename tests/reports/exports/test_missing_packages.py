"""An export whose package is missing says which extra has it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import row, run, speed

from bench.errors import UsageError
from reports.exports import huggingface, mlflow, openmetrics, parquet, tensorboard

RUN = run(row("a", [speed([1.0])]))
EXPORTS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "parquet": ("pyarrow", "parquet", lambda folder: parquet.write([RUN], folder)),
    "huggingface": ("pyarrow", "parquet", lambda folder: huggingface.write([RUN], folder)),
    "tensorboard": ("tensorboard", "tensorboard", lambda folder: tensorboard.write([RUN], folder)),
    "mlflow": ("mlflow", "mlflow", lambda folder: mlflow.log([RUN], str(folder), lambda _: "")),
    "openmetrics": ("prometheus_client", "openmetrics", lambda folder: openmetrics.document(RUN)),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_the_extra_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, extra, export = EXPORTS[name]
    for module in [each for each in sys.modules if each == package or each.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"is not installed; pip install 'evenbench\[{extra}\]'"):
        export(tmp_path)
