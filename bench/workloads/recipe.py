"""A recipe: optimizer, schedule, loss and data of a training, and the learning rate of each step. Standard library
only."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from backends.base import Optimizer, Training
from bench.errors import UsageError

STRICT = {"extra": "forbid", "strict": True}
"""pydantic's settings to check a user's file against these classes (``bench.workloads.toml_files``)."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps of the whole training, as a share of its peak.

    ``constant``: always 1. ``step``: multiplied by ``gamma`` at each of ``milestones`` (shares of the training).
    ``cosine``: half a cosine down to ``final`` (Loshchilov & Hutter 2017, eq. 5, without restarts). ``one-cycle``: half
    a cosine from 1/25 up to 1 in the first ``rise`` of the training, then half a cosine down to 1/250,000 (Smith &
    Topin 2018, with PyTorch's defaults). ``warm_up``: share of the training in which the rate first rises linearly to
    the peak; ``one-cycle`` ignores it.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["constant", "step", "cosine", "one-cycle"] = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    final: float = 0.0
    rise: float = 0.3
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        _check_range("rise", self.rise, 0, 1)
        _check_range("warm_up", self.warm_up, 0, 0.9)
        _check_range("final", self.final, 0, 1)
        for milestone in self.milestones:
            _check_range("milestones", milestone, 0, 1)
        if self.kind == "step" and not self.milestones:
            raise ValueError("a 'step' schedule needs 'milestones', such as [0.5, 0.75]")

    def factor(self, step: int, steps: int) -> float:
        """The share of the peak rate at ``step`` (from 0) of ``steps``."""
        progress = step / max(steps, 1)
        if self.kind == "one-cycle":
            low, lowest = 1 / 25, 1 / 250_000
            if progress < self.rise:
                return _cosine(low, 1, progress / self.rise)
            return _cosine(1, lowest, (progress - self.rise) / max(1 - self.rise, 1e-9))
        if progress < self.warm_up:
            return (step + 1) / max(self.warm_up * steps, 1)
        if self.kind == "step":
            return float(self.gamma ** sum(progress >= milestone for milestone in self.milestones))
        if self.kind == "cosine":
            return _cosine(1, self.final, (progress - self.warm_up) / (1 - self.warm_up))
        return 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1))) / 2


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images, in this order. NumPy draws them, so all backends see the same pixels."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    crop_padding: int = 0
    """Width of the border of zeros around the image; a random window of the original size is cut out (He et al. 2016,
    section 4.2)."""
    flip: bool = False
    """Swap left and right with probability 1/2."""
    cutout: int = 0
    """Side of a square that is set to zero, at a random centre (DeVries & Taylor 2017)."""

    def __post_init__(self) -> None:
        _check_range("crop_padding", self.crop_padding, 0, 1000)
        _check_range("cutout", self.cutout, 0, 1000)


@dataclass(frozen=True)
class Recipe:
    """The settings of a training. The input is (pixel / 255 - mean) / std; every epoch has a new random order."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: float
    """The peak, which the schedule scales."""
    batch_size: int
    epochs: int
    momentum: float = 0.0
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    validation: float = 0.0
    """Share of the training split that is held out (its last images) and evaluated after every epoch."""
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check_range("learning_rate", self.learning_rate, 1e-12, 1e6)
        _check_range("batch_size", self.batch_size, 1, 1_000_000)
        _check_range("epochs", self.epochs, 0, 100_000)
        for name in ("momentum", "beta1", "beta2", "label_smoothing", "validation"):
            _check_range(name, getattr(self, name), 0, 0.999999)
        _check_range("epsilon", self.epsilon, 0, 1)
        _check_range("weight_decay", self.weight_decay, 0, 1e6)
        _check_range("std", self.std, 1e-6, 1e6)
        if self.nesterov and not self.momentum:
            raise ValueError("'nesterov' needs a 'momentum' above 0")

    @property
    def training(self) -> Training:
        """The part of the recipe that a backend needs to build the model."""
        adam = {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        optimizer = Optimizer(self.optimizer, self.momentum, self.nesterov, weight_decay=self.weight_decay, **adam)
        return Training(optimizer, self.label_smoothing)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at ``step`` (from 0) of ``steps``."""
        return self.learning_rate * self.schedule.factor(step, steps)

    def steps(self, images: int) -> int:
        """Number of steps of the whole training on this many images. The last batch of an epoch may be smaller."""
        return self.epochs * math.ceil(images / self.batch_size)

    def held_out(self, images: int) -> int:
        """Number of images that are held out of this many training images."""
        return round(self.validation * images)

    def changed(self, changes: dict[str, Any]) -> Recipe:
        """A copy with some fields changed and the changes in its name. ``schedule.kind`` names a field of the schedule.

        Raises:
            ValueError: a value out of range.
            KeyError: no such field.
        """
        if not changes:
            return self
        own: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {}
        for name, value in changes.items():
            part, _, inner = name.partition(".")
            if part not in self.__dataclass_fields__ or part == "name":
                raise KeyError(name)
            if inner and inner not in getattr(getattr(self, part), "__dataclass_fields__", ()):
                raise KeyError(name)
            (nested.setdefault(part, {}) if inner else own)[inner or part] = value
        own |= {part: replace(getattr(self, part), **fields) for part, fields in nested.items()}
        suffix = ",".join(f"{name}={_as_option(value)}" for name, value in sorted(changes.items()))
        return replace(self, name=f"{self.name}[{suffix}]", **own)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """The inverse of ``asdict``; lists may stand for tuples, as in JSON."""
        schedule, augmentation = plain["schedule"], plain["augmentation"]
        nested = {
            "schedule": Schedule(**{**schedule, "milestones": tuple(schedule["milestones"])}),
            "augmentation": Augmentation(**augmentation),
        }
        return cls(**{**plain, **nested})


def parse_changes(entries: Sequence[str]) -> dict[str, Any]:
    """The values of ``FIELD=VALUE`` entries by field, read as TOML (a word without quotes is a string).

    Raises:
        UsageError: an entry of another form.
    """
    changes: dict[str, Any] = {}
    for entry in entries:
        name, separator, text = entry.partition("=")
        if not (name and separator and text):
            raise UsageError(f"--set {entry}: not FIELD=VALUE, such as epochs=2 or schedule.kind=cosine")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        changes[name] = tuple(value) if isinstance(value, list) else value
    return changes


def split_name(name: str) -> tuple[str, list[str]]:
    """Split the name of a changed recipe into the original recipe's name and the changes, each ``FIELD=VALUE``."""
    base, _, changes = name.removesuffix("]").partition("[")
    return base, re.split(r",(?=[a-z_.]+=)", changes) if changes else []


def _as_option(value: Any) -> str:
    """A field's value as it is written in ``--set``."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"'{name}' must lie between {low:g} and {high:g}, not be {value:g}")
