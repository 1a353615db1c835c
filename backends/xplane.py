"""Read the profiles of TensorFlow and XLA (XSpace, ``xplane.proto``): which events took how long."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from backends.base import OUTSIDE, Operator
from backends.model import Conv2D, Dense, DepthwiseConv2D, ModelSpec


class Event(NamedTuple):
    """One event of a profile."""

    name: str
    seconds: float


def profile_file(folder: Path) -> Path:
    """The profile that was written into this folder."""
    return next(folder.rglob("*.xplane.pb"))


class Place(NamedTuple):
    """The layer of an event, whether it is of the backward pass, and what is remarkable."""

    layer: str
    backward: bool
    note: str = ""


def by_name(events: Iterable[Event], steps: int, place: Callable[[str], Place | None]) -> list[Operator]:
    """Seconds of a step by event name. ``place`` None: it is no operator."""
    spent: dict[str, float] = {}
    for event in events:
        spent[event.name] = spent.get(event.name, 0.0) + event.seconds / steps
    found = []
    for name, seconds in spent.items():
        where = place(name)
        if where is not None:
            found.append(Operator(name, "", where.layer, where.backward, seconds, where.note))
    return found


def scopes(module: str) -> dict[str, list[str]]:
    """Of a compiled module's text (HLO): by instruction, the scopes of what it computes, its own last; of a fusion
    those of all instructions that it fuses."""
    own: dict[str, str] = {}
    calls: dict[str, str] = {}
    inside: dict[str, list[str]] = {}
    computation = ""
    for line in module.splitlines():
        if line.endswith("{") and (head := re.match(r"(?:ENTRY )?%?([\w.-]+) ", line)):
            computation = head[1]
        instruction = re.match(r"\s+(?:ROOT )?%?([\w.-]+) = ", line)
        if instruction is None:
            continue
        inside.setdefault(computation, []).append(instruction[1])
        if scope := re.search(r'op_name="([^"]*)"', line):
            own[instruction[1]] = scope[1]
        if called := re.search(r"(?:calls|to_apply)=%?([\w.-]+)", line):
            calls[instruction[1]] = called[1]

    def of(name: str) -> list[str]:
        fused = [scope for each in inside.get(calls.get(name, ""), []) for scope in of(each)]
        return [*fused, *([own[name]] if name in own else [])]

    return {name: of(name) for names in inside.values() for name in names}


def place_of(found: list[str], model: ModelSpec) -> Place:
    """The layer of an instruction with these scopes. One that fuses several layers' kernels is of none of them."""
    if not found:
        return Place("", False)
    kernels = [placed.name for placed in model.walk() if isinstance(placed.layer, Conv2D | DepthwiseConv2D | Dense)]
    fused = [name for name in kernels if any(layer_in(scope, model) == name for scope in found)]
    backward = "transpose(" in found[-1]
    if len(fused) > 1:
        return Place("", backward, f"fuses {', '.join(fused)}")
    return Place(fused[0] if fused else layer_in(found[-1], model), backward)


def layer_in(path: str, model: ModelSpec) -> str:
    """The layer whose scope a path of scopes has; Keras adds a number to it (``functional_1/conv2d_1_1/Relu``)."""
    names = {placed.name for placed in model.walk()}
    for part in reversed(re.split(r"[/()]", path)):
        for name in (part, re.sub(r"_\d+$", "", part)):
            if name in names:
                return name
    return ""


def with_kernel(layer: str, kind: str, model: ModelSpec) -> str:
    """Of a fused operator that is named after an activation: the layer before it whose kernel it computes."""
    if not any(word in kind for word in ("Conv", "MatMul")):
        return layer
    before = ""
    for placed in model.walk():
        if isinstance(placed.layer, Conv2D | DepthwiseConv2D | Dense):
            before = placed.name
        if placed.name == layer:
            return before or layer
    return layer


def outside(path: str) -> str:
    """What is no layer: the loss, the optimizer; empty: something else."""
    first = path.removeprefix("gradient_tape/").partition("/")[0]
    if "crossentropy" in first:
        return OUTSIDE["loss"]
    return OUTSIDE["optimizer"] if re.fullmatch(r"(adam|adamw|sgd)(_\d+)?", first) else ""
