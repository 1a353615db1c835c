"""Operators of a step by torch.profiler, and the layers that they belong to, by marks that forward passes set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.base import OUTSIDE, Operator

LAYER = "layer:"
"""How the marks of layers begin in a profile."""


def by_layer(events: Any, steps: int, on_gpu: bool) -> list[Operator]:
    """Seconds of a step by operator, layer and direction."""
    layer_of_sequence: dict[int, str] = {}
    for event in events:
        layer = _marked(event)
        if layer and event.sequence_nr >= 0:
            layer_of_sequence.setdefault(event.sequence_nr, layer)
    seconds: dict[tuple[str, str, bool], float] = {}
    for event in events:
        if event.device_type.name != "CPU":
            continue  # a kernel: it counts for the operator that launched it
        layer, backward = _marked(event), False
        if not layer:
            outer = _outermost(event)
            backward = outer.name.startswith("autograd::engine") or "Backward" in outer.name
            if backward:
                layer = layer_of_sequence.get(outer.sequence_nr, "")
            elif outer.name.startswith("Optimizer."):
                layer = OUTSIDE["optimizer"]
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        name = "of the layer itself" if event.name.startswith(LAYER) else event.name
        key = (name, layer, backward)
        seconds[key] = seconds.get(key, 0.0) + spent / 1e6 / steps
    return [Operator(name, "", layer, backward, spent) for (name, layer, backward), spent in seconds.items() if spent]


def _marked(event: Any) -> str:
    """The layer in whose module it runs; empty: in none."""
    while event is not None:
        if event.name.startswith(LAYER):
            return str(event.name.removeprefix(LAYER))
        event = event.cpu_parent
    return ""


def _outermost(event: Any) -> Any:
    while event.cpu_parent is not None:
        event = event.cpu_parent
    return event


def mark(torch: Any, name: str) -> Any:
    """A context in which operators belong to this layer."""
    return torch.profiler.record_function(LAYER + name)


def tagged(torch: Any, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, what it runs marked with the layer's name."""

    def run(*given: Any, **named: Any) -> Any:
        with mark(torch, name):
            return function(*given, **named)

    return run


def profiled(torch: Any, step: Callable[[], object], steps: int, on_gpu: bool) -> list[Operator]:
    """Operators of a step, which is run so often and was run before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            step()
        if on_gpu:
            torch.cuda.synchronize()
    return by_layer(profile.events(), steps, on_gpu)
