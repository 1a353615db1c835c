"""The largest allowed differences between a backend and the reference, by precision. ``benchmarks/parity_margins.py``
measures them. Every value is relative: ||got - want|| / ||want||; for losses ``certificate.losses_error``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backends.base import Unsupported
from backends.description import Description


@dataclass(frozen=True)
class Tolerance:
    """``worst``: largest value measured on the CPU; None: not measured. ``cpu``: about 10 times that in float32 and
    float64, about 3 times in a lower precision (where rounding is nearly all of the difference, in any kernel), or an
    estimate. ``cuda``: provisional, up to 10 times ``cpu``, not measured on a GPU. TF32 is off there, so only the order
    of the same operations should differ."""

    worst: float | None
    cpu: float
    cuda: float


NORMALIZED = "_normalized"
"""Suffix of a check's entry for models with batch normalization, if it has its own entry."""
TOLERANCES: dict[str, dict[str, Tolerance]] = {
    # Measured over all built-in models, both data sets and all backends; the article's models with 5 seeds and 1 and 2
    # threads, the others with 1 or 2 seeds.
    "fp32": {
        "logits": Tolerance(1.1e-6, 1e-5, 1e-4),
        "gradients": Tolerance(3.8e-6, 4e-5, 4e-4),
        "gradients_normalized": Tolerance(5.4e-4, 3e-3, 3e-2),
        "sgd_losses": Tolerance(1.5e-4, 1.5e-3, 1e-2),
        "adam_losses": Tolerance(4.2e-5, 4e-4, 4e-3),
        "running_statistics": Tolerance(2.2e-6, 3e-5, 3e-4),
        "logits_of_source": Tolerance(1.2e-6, 1e-5, 1e-4),
    },
    # The same cases.
    "bf16": {
        "logits": Tolerance(9.9e-3, 3e-2, 3e-2),
        "gradients": Tolerance(1.8e-1, 5e-1, 5e-1),
        "gradients_normalized": Tolerance(2.9e-1, 7e-1, 7e-1),
        "sgd_losses": Tolerance(7.2e-2, 2e-1, 2e-1),
        "adam_losses": Tolerance(1.0e-2, 3e-2, 3e-2),
        "adam_losses_normalized": Tolerance(1.0e-1, 3e-1, 3e-1),
        "running_statistics": Tolerance(5.4e-3, 2e-2, 2e-2),
        "logits_of_source": Tolerance(8.7e-3, 3e-2, 3e-2),
    },
    # Training is not measured (it needs CUDA). Estimate: an eighth of bfloat16's, for three more bits.
    "fp16": {
        "logits": Tolerance(None, 4e-3, 4e-3),
        "gradients": Tolerance(None, 6e-2, 6e-2),
        "gradients_normalized": Tolerance(None, 9e-2, 9e-2),
        "sgd_losses": Tolerance(None, 3e-2, 3e-2),
        "adam_losses": Tolerance(None, 4e-3, 4e-3),
        "adam_losses_normalized": Tolerance(None, 4e-2, 4e-2),
        "running_statistics": Tolerance(None, 3e-3, 3e-3),
        "logits_of_source": Tolerance(9.6e-4, 3e-3, 3e-3),
    },
    # The same models with their initial weights; the ranges of activations are from 256 images.
    "int8": {"logits_of_source": Tolerance(2.5e-2, 1e-1, 1e-1)},
    # Weights of 4 bits in a user's file; both judges unpack the same weights, so activations decide. An estimate.
    "int4": {"outputs_of_file": Tolerance(None, 1e-1, 1e-1)},
    # The reference compared with itself. With batch normalization both agreed in every bit; those are estimates.
    "fp64": {
        "outputs_of_file": Tolerance(None, 1e-12, 1e-11),
        "logits": Tolerance(4.6e-16, 5e-15, 5e-14),
        "gradients": Tolerance(7.9e-16, 8e-15, 8e-14),
        "gradients_normalized": Tolerance(None, 2e-11, 2e-10),
        "sgd_losses": Tolerance(1.5e-13, 1.5e-12, 1e-11),
        "adam_losses": Tolerance(1.7e-14, 2e-13, 2e-12),
        "running_statistics": Tolerance(None, 3e-13, 3e-12),
        "finite_differences": Tolerance(3.5e-9, 4e-8, 4e-8),
        "finite_differences_normalized": Tolerance(1.0e-7, 1e-6, 1e-6),
    },
}
ACCURACY_OF_SOURCE = {"fp32": 0.001, "fp64": 0.001, "fp16": 0.005, "bf16": 0.01, "int8": 0.02}
"""Share of the test images by which a runtime's accuracy may differ from its source's: in float32 one image in 1,000;
in a lower precision an amount that users accept for the same model. The note of the check has the difference."""


def check_of_file(precision: str, stated: Mapping[str, float]) -> str:
    """The check whose tolerance holds for the outputs of a user's file: its own, else that of a runtime's logits."""
    known = {*TOLERANCES.get(precision, {}), *stated}
    return next(
        (name for name in ("outputs_of_file", "logits_of_source", "logits") if name in known), "outputs_of_file"
    )


def adapter_tolerances(adapter: Description, precision: str) -> Mapping[str, float]:
    """The adapter's own tolerances by check (``Backend.TOLERANCES``), if the table does not have this precision."""
    if precision in TOLERANCES:
        return {}
    return adapter.TOLERANCES.get(precision, {})


def add_origin(note: str, stated: Mapping[str, float], check: str) -> str:
    """A check's note, with a remark if the tolerance is the adapter's own."""
    return f"{note}; tolerance stated by the adapter".removeprefix("; ") if check in stated else note


def tolerance(
    precision: str,
    device: str,
    check: str,
    normalizes: bool = False,
    stated: Mapping[str, float] | None = None,
) -> float:
    """The tolerance of a check: the adapter's own, or the table's (a model with batch normalization may have its own
    entry).

    Raises:
        Unsupported: neither has a tolerance for this precision.
    """
    if stated and check in stated:
        return stated[check]
    if check == "accuracy_of_source" and precision in ACCURACY_OF_SOURCE:
        return ACCURACY_OF_SOURCE[precision]
    entries = TOLERANCES.get(precision, {})
    entry = entries.get(check + NORMALIZED, entries.get(check)) if normalizes else entries.get(check)
    if entry is None:
        raise Unsupported(
            f"no tolerance for {check} in precision {precision}: the adapter must state it in its attribute TOLERANCES"
        )
    return entry.cpu if device == "cpu" else entry.cuda
