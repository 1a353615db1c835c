"""How far a backend may be from the reference, by precision: the one table. ``benchmarks/parity_margins.py`` measures
the margins in it. Every value is relative: ||got - want|| / ||want||, |got - want| / |want| for a loss.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """``worst``: largest value measured on the CPU, None where none was. ``cpu``: about 10 times that, or an estimate.
    ``cuda``: provisional, up to 10 times ``cpu``; no GPU was at hand. TF32 is off there, so that the same arithmetic is
    expected in another order."""

    worst: float | None
    cpu: float
    cuda: float


NORMALIZED = "_normalized"
"""Ends the name of a check's entry for models with batch normalization, where they have one of their own."""
TOLERANCES: dict[str, dict[str, Tolerance]] = {
    # Over both models of the article (each with its recipe), both data sets, 5 seeds, 1 and 2 threads, all backends;
    # with batch normalization over resnet20 and mobilenet-cifar (one-cycle), both data sets, 1 or 2 seeds.
    "fp32": {
        "logits": Tolerance(6.7e-7, 7e-6, 7e-5),
        "gradients": Tolerance(3.6e-6, 4e-5, 4e-4),
        "gradients_normalized": Tolerance(1.8e-4, 2e-3, 2e-2),
        "sgd_losses": Tolerance(2.1e-7, 2e-6, 2e-5),
        "sgd_losses_normalized": Tolerance(1.5e-6, 2e-5, 2e-4),
        "adam_losses": Tolerance(7.3e-7, 7e-6, 7e-5),
        "adam_losses_normalized": Tolerance(1.7e-6, 2e-5, 2e-4),
        "adam_worst_loss": Tolerance(2.8e-4, 3e-3, 3e-3),
        "running_statistics": Tolerance(3.0e-5, 3e-4, 3e-3),
        "logits_of_source": Tolerance(7.9e-7, 8e-6, 8e-5),
    },
    # article-pytorch on digits, one seed; with batch normalization not measured yet, 10 times what is without.
    "bf16": {
        "logits": Tolerance(3.9e-3, 4e-2, 4e-2),
        "gradients": Tolerance(2.8e-2, 2e-1, 2e-1),
        "sgd_losses": Tolerance(2.5e-4, 3e-3, 3e-3),
        "sgd_losses_normalized": Tolerance(None, 3e-2, 3e-2),
        "adam_losses": Tolerance(6.3e-5, 6e-4, 6e-4),
        "adam_losses_normalized": Tolerance(None, 6e-3, 6e-3),
        "adam_worst_loss": Tolerance(9.4e-5, 1e-3, 1e-3),
        "adam_worst_loss_normalized": Tolerance(None, 1e-2, 1e-2),
        "running_statistics": Tolerance(None, 1e-2, 1e-2),
    },
    # Training not measured (it needs CUDA); estimated: an eighth of bfloat16's, as the three more bits have it.
    "fp16": {
        "logits": Tolerance(None, 5e-3, 5e-3),
        "gradients": Tolerance(None, 3e-2, 3e-2),
        "sgd_losses": Tolerance(None, 4e-4, 4e-4),
        "sgd_losses_normalized": Tolerance(None, 4e-3, 4e-3),
        "adam_losses": Tolerance(None, 8e-5, 8e-5),
        "adam_losses_normalized": Tolerance(None, 8e-4, 8e-4),
        "adam_worst_loss": Tolerance(None, 1e-3, 1e-3),
        "running_statistics": Tolerance(None, 1e-3, 1e-3),
        "logits_of_source": Tolerance(4.0e-4, 4e-3, 4e-3),
    },
    # article-pytorch on digits and resnet20 on CIFAR-10, each as exported by both frameworks.
    "int8": {"logits_of_source": Tolerance(1.9e-2, 1e-1, 1e-1)},
    # The reference against itself; estimated with batch normalization.
    "fp64": {
        "logits": Tolerance(4.6e-16, 5e-15, 5e-14),
        "gradients": Tolerance(2.0e-15, 2e-14, 2e-13),
        "gradients_normalized": Tolerance(None, 2e-11, 2e-10),
        "sgd_losses": Tolerance(1.9e-16, 2e-15, 2e-14),
        "sgd_losses_normalized": Tolerance(None, 2e-13, 2e-12),
        "adam_losses": Tolerance(4.1e-16, 4e-15, 4e-14),
        "adam_losses_normalized": Tolerance(None, 4e-13, 4e-12),
        "adam_worst_loss": Tolerance(6.4e-16, 6e-15, 6e-14),
        "adam_worst_loss_normalized": Tolerance(None, 6e-13, 6e-12),
        "running_statistics": Tolerance(None, 3e-13, 3e-12),
        "finite_differences": Tolerance(3.5e-9, 4e-8, 4e-8),
        "finite_differences_normalized": Tolerance(None, 1e-5, 1e-5),
    },
}
ACCURACY_OF_SOURCE = {"fp32": 0.001, "fp64": 0.001, "fp16": 0.005, "bf16": 0.01, "int8": 0.02}
"""Share of the test images by which a runtime's accuracy may differ from its source's: in float32 one image in 1,000;
in a lower precision what its users would still call the same model. The difference itself is in the note."""


def tolerance(precision: str, device: str, check: str, normalizes: bool = False) -> float:
    """The table's entry for a row, that of models with batch normalization where there is one."""
    entries = TOLERANCES[precision]
    entry = entries.get(check + NORMALIZED, entries[check]) if normalizes else entries[check]
    return entry.cpu if device == "cpu" else entry.cuda
