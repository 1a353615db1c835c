"""A third-party backend with a precision of its own: it states its tolerances, or its row says that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench_command import Bench


def test_a_precision_that_the_table_does_not_have(
    bench: Bench, by_backend: Callable[[list[dict[str, Any]]], dict[str, dict[str, Any]]]
) -> None:
    bench.register({"silent": "evenbench_precision:Silent", "stating": "evenbench_precision:Stating"})
    records = by_backend(bench.run("--backend", "silent,stating", "--precision", "fp8", "--task", "infer", code=1))
    silent, stating = records["silent"], records["stating"]
    assert silent["status"] == "unsupported"
    assert silent["error"].startswith("no tolerance for logits in precision fp8: the adapter must state it")
    assert (stating["status"], stating["comparable"]) == ("ok", True)
    checks = {check["name"]: check for check in stating["parity"]["checks"]}
    assert checks["logits"]["tolerance"] == 0.2
    assert "tolerance stated by the adapter" in checks["logits"]["note"]
