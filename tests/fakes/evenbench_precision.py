"""Adapters with a precision that the table of tolerances does not have."""

from __future__ import annotations

from typing import ClassVar

from evenbench_wrong import Right


class Silent(Right):
    """Says nothing of how far it may be off."""

    PRECISIONS: ClassVar[tuple[str, ...]] = ("fp8",)


class Stating(Silent):
    """States its tolerances."""

    TOLERANCES: ClassVar = {"fp8": dict.fromkeys(("logits", "gradients", "sgd_losses", "adam_losses"), 0.2)}
