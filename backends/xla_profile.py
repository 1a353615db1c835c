"""Operators of a step by JAX's profiler, and the layers that they belong to: the compiled module says which layer's
scope a fused operator has."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends import xplane
from backends.base import Operator
from backends.model import ModelSpec


def profiled(
    jax: Any,
    holder: Any,
    names: Sequence[str],
    make_step: Callable[[], Callable[[], object]],
    steps: int,
    synchronize: Callable[[], None],
    model: ModelSpec,
) -> list[Operator]:
    """Operators of a step, run so often. ``names``: attributes of ``holder`` with the jitted functions that steps
    call."""
    originals, seen = {name: getattr(holder, name) for name in names}, dict[str, Any]()

    def watched(name: str) -> Any:
        def run(*given: Any) -> Any:
            seen[name] = jax.tree.map(lambda each: jax.ShapeDtypeStruct(np.shape(each), each.dtype), given)
            return originals[name](*given)

        return run

    try:
        for name in names:
            setattr(holder, name, watched(name))
        step = make_step()
        step()
    finally:
        for name, original in originals.items():
            setattr(holder, name, original)
    synchronize()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            for _ in range(steps):
                step()
            synchronize()
        profile = jax.profiler.ProfileData.from_file(str(xplane.profile_file(Path(folder))))
        events = [
            xplane.Event(event.name, event.duration_ns / 1e9)
            for plane in profile.planes
            for line in plane.lines
            for event in line.events
            if "hlo_op" in dict(event.stats)
        ]
    scopes: dict[str, list[str]] = {}
    for name, shapes in seen.items():
        scopes |= xplane.scopes(originals[name].lower(*shapes).compile().as_text())
    return xplane.by_name(events, steps, lambda name: xplane.place_of(scopes.get(name, []), model))
