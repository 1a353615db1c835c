"""How far a backend may be from the reference, by precision: the one table. ``benchmarks/parity_margins.py`` measures
the margins in it. Every value is relative: ||got - want|| / ||want||, for losses ``parity.losses_apart``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backends.base import Backend, Unsupported


@dataclass(frozen=True)
class Tolerance:
    """``worst``: largest value measured on the CPU, None where none was. ``cpu``: about 10 times that in float32 and
    float64, about 3 times in a lower precision (its rounding is nearly all of the difference, whatever the kernel), or
    an estimate. ``cuda``: provisional, up to 10 times ``cpu``; no GPU was at hand. TF32 is off there, so that the same
    arithmetic is expected in another order."""

    worst: float | None
    cpu: float
    cuda: float


NORMALIZED = "_normalized"
"""Ends the name of a check's entry for models with batch normalization, where they have one of their own."""
TOLERANCES: dict[str, dict[str, Tolerance]] = {
    # Over all built-in models, both data sets, all backends: those of the article with 5 seeds, 1 and 2 threads, the
    # others with 1 or 2 seeds.
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
    },
    # Training not measured (it needs CUDA); estimated: an eighth of bfloat16's, as the three more bits have it.
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
    # The same models at their initial weights, ranges from 256 images.
    "int8": {"logits_of_source": Tolerance(2.5e-2, 1e-1, 1e-1)},
    # The reference against itself; with batch normalization it was the same to the last bit, those are estimates.
    "fp64": {
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
in a lower precision what its users would still call the same model. The difference itself is in the note."""


def stated_by(backend: Backend, precision: str) -> Mapping[str, float]:
    """Tolerances by check that an adapter states itself (``Backend.TOLERANCES``) for a precision that the table does
    not have."""
    if precision in TOLERANCES:
        return {}
    stated: Mapping[str, Mapping[str, float]] = getattr(backend, "TOLERANCES", {})
    return stated.get(precision, {})


def with_origin(note: str, stated: Mapping[str, float], check: str) -> str:
    """A check's note; it says so where the tolerance is the adapter's own."""
    return f"{note}; tolerance stated by the adapter".removeprefix("; ") if check in stated else note


def tolerance(
    precision: str,
    device: str,
    check: str,
    normalizes: bool = False,
    stated: Mapping[str, float] | None = None,
) -> float:
    """The tolerance of a check: the table's (that of models with batch normalization where there is one), or the one
    that the adapter states.

    Raises:
        Unsupported: neither has one for this precision.
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
