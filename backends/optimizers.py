"""The updates of the optimizers in NumPy, in each published form that frameworks use.

All functions change ``weights`` in place. ``state`` starts as an empty dict, which the caller keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.base import Optimizer
from backends.model import Weights

MOMENTUM_FORMS = ("rate-outside", "rate-inside")
ADAM_FORMS = ("corrected", "epsilon-hat")


def forms(options: Optimizer) -> tuple[str, ...]:
    """The published forms of an optimizer's update; a framework follows one of them."""
    return MOMENTUM_FORMS if options.name == "sgd" else ADAM_FORMS


def update(
    weights: Weights, gradients: Weights, state: dict[str, Any], rate: float, options: Optimizer, form: str
) -> None:
    """One step of any optimizer."""
    if options.name == "sgd":
        sgd(weights, gradients, state, rate, options, form)
    else:
        adam(weights, gradients, state, rate, options, form)


def sgd(
    weights: Weights,
    gradients: Weights,
    state: dict[str, Any],
    rate: float,
    options: Optimizer,
    form: str = "rate-outside",
) -> None:
    """Heavy-ball or Nesterov momentum; weight decay is added to the gradient (L2 regularization).

    ``rate-outside`` (PyTorch): v = m v + g; w -= rate v. ``rate-inside`` (Sutskever et al. 2013, eq. 1-2; Keras):
    v = m v - rate g; w += v. Both are equal until the rate changes: only the first then rescales the old steps.
    """
    for name, gradient in gradients.items():
        slope = gradient + options.weight_decay * weights[name]
        if form == "rate-inside":
            slope = -rate * slope
        velocity = state[name] = options.momentum * state.get(name, 0.0) + slope
        step = slope + options.momentum * velocity if options.nesterov else velocity
        weights[name] += step if form == "rate-inside" else -rate * step


def adam(
    weights: Weights, gradients: Weights, state: dict[str, Any], rate: float, options: Optimizer, form: str
) -> None:
    """Adam (Kingma & Ba 2015) in either form of epsilon. Weight decay is added to the gradient; ``adamw`` instead
    shrinks the weights by rate times decay before the step (Loshchilov & Hutter 2019, algorithm 2).

    ``corrected`` (Algorithm 1): w -= rate * m_hat / (sqrt(v_hat) + epsilon), epsilon is added to the bias-corrected
    root. ``epsilon-hat`` (end of section 2): w -= rate * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon), added
    to the uncorrected root. Both are equal only if epsilon is scaled by sqrt(1 - b2^t).
    """
    step = state["step"] = state.get("step", 0) + 1
    c1, c2 = 1 - options.beta1**step, 1 - options.beta2**step
    for name, raw in gradients.items():
        decoupled = options.name == "adamw"
        gradient = raw if decoupled else raw + options.weight_decay * weights[name]
        if decoupled:
            weights[name] *= 1 - rate * options.weight_decay
        m, v = state.get(name, (0.0, 0.0))
        m = options.beta1 * m + (1 - options.beta1) * gradient
        v = options.beta2 * v + (1 - options.beta2) * gradient**2
        state[name] = (m, v)
        if form == "corrected":
            weights[name] -= rate * (m / c1) / (np.sqrt(v / c2) + options.epsilon)
        else:
            weights[name] -= rate * np.sqrt(c2) / c1 * m / (np.sqrt(v) + options.epsilon)
