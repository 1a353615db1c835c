"""A third-party backend with a precision of its own: it states its tolerances, or its row says that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
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


@pytest.mark.long
def test_a_runtime_that_chooses_a_lower_precision_is_seen(bench: Bench) -> None:
    """OpenVINO's defaults compute in bfloat16 where the processor has it: not comparable as float32, with the setting's
    name; comparable as bfloat16."""
    bench.register({"hint-left-out": "evenbench_runtime:HintLeftOut"})
    names = ("--backend", "pytorch,hint-left-out,openvino", "--precision", "fp32,bf16", "--task", "infer")
    records = bench.run(*names, "--set", "epochs=1", code=1, timeout=590)
    rows = {(r["job"]["backend"], r["job"]["precision"]): r for r in records if r["job"]["source"] == "pytorch"}
    checks = {key: {c["name"]: c for c in row["parity"]["checks"]} for key, row in rows.items() if row["parity"]}
    assert rows["openvino", "fp32"]["comparable"]
    assert rows["openvino", "fp32"]["settings"]["computes_in"] == "float32"
    has_bfloat16 = rows["openvino", "bf16"]["status"] == "ok"
    stated = checks["hint-left-out", "fp32"]["stated_precision"]
    assert stated["passed"] != has_bfloat16
    if has_bfloat16:
        assert stated["note"] == "the framework computes in bfloat16, by its setting INFERENCE_PRECISION_HINT"
        assert not checks["hint-left-out", "fp32"]["logits_of_source"]["passed"], "the logits tell it too"
        assert not rows["hint-left-out", "fp32"]["comparable"]
        assert rows["hint-left-out", "bf16"]["comparable"]
        assert rows["openvino", "bf16"]["comparable"]
