"""How a model is trained: optimizer, schedule, loss, data; and the learning rate of every step. Needs no package."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from backends.base import Optimizer, Training
from bench.errors import UsageError

STRICT = {"extra": "forbid", "strict": True}
"""How a user's file is checked against the fields of these classes (``bench.workloads.toml_files``)."""


@dataclass(frozen=True)
class Schedule:
    """The learning rate's course, as a share of its peak, over the steps of the whole training.

    ``constant``; ``step``: times ``gamma`` at each of ``milestones`` (shares of the training); ``cosine``: half a
    cosine down to ``final`` (Loshchilov & Hutter 2017, eq. 5, without restarts); ``one-cycle``: by half cosines from
    1/25 up to 1 within ``rise``, then down to 1/250,000 (Smith & Topin 2018, with PyTorch's defaults).
    ``warm_up``: the first share of the training climbs linearly to the peak (not of ``one-cycle``, which does so).
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    kind: Literal["constant", "step", "cosine", "one-cycle"] = "constant"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    final: float = 0.0
    rise: float = 0.3
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        _between("rise", self.rise, 0, 1)
        _between("warm_up", self.warm_up, 0, 0.9)
        _between("final", self.final, 0, 1)
        for milestone in self.milestones:
            _between("milestones", milestone, 0, 1)
        if self.kind == "step" and not self.milestones:
            raise ValueError("a 'step' schedule needs 'milestones', such as [0.5, 0.75]")

    def factor(self, step: int, steps: int) -> float:
        """Of the peak rate at ``step`` (from 0) of ``steps``."""
        done = step / max(steps, 1)
        if self.kind == "one-cycle":
            low, lowest = 1 / 25, 1 / 250_000
            if done < self.rise:
                return _cosine(low, 1, done / self.rise)
            return _cosine(1, lowest, (done - self.rise) / max(1 - self.rise, 1e-9))
        if done < self.warm_up:
            return (step + 1) / max(self.warm_up * steps, 1)
        if self.kind == "step":
            return float(self.gamma ** sum(done >= milestone for milestone in self.milestones))
        if self.kind == "cosine":
            return _cosine(1, self.final, (done - self.warm_up) / (1 - self.warm_up))
        return 1.0


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1))) / 2


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images, in this order; drawn by NumPy, so that all backends see the same pixels."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    crop_padding: int = 0
    """Zeros around the image, of which a window of the old size is cut at random (He et al. 2016, section 4.2)."""
    flip: bool = False
    """Left and right exchanged with probability 1/2."""
    cutout: int = 0
    """Side of a square of zeros at a random centre (DeVries & Taylor 2017)."""

    def __post_init__(self) -> None:
        _between("crop_padding", self.crop_padding, 0, 1000)
        _between("cutout", self.cutout, 0, 1000)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Pixels enter as (value / 255 - mean) / std; every epoch sees a new permutation."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    name: str
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: float
    """The peak of the schedule."""
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
    """Share of the training split, its end, that is held out and evaluated after every epoch."""
    schedule: Schedule = field(default_factory=Schedule)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _between("learning_rate", self.learning_rate, 1e-12, 1e6)
        _between("batch_size", self.batch_size, 1, 1_000_000)
        _between("epochs", self.epochs, 0, 100_000)
        for name in ("momentum", "beta1", "beta2", "label_smoothing", "validation"):
            _between(name, getattr(self, name), 0, 0.999999)
        _between("epsilon", self.epsilon, 0, 1)
        _between("weight_decay", self.weight_decay, 0, 1e6)
        _between("std", self.std, 1e-6, 1e6)
        if self.nesterov and not self.momentum:
            raise ValueError("'nesterov' needs a 'momentum' above 0")

    @property
    def training(self) -> Training:
        """What a backend has to know of it when it builds the model."""
        of_adam = {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        optimizer = Optimizer(self.optimizer, self.momentum, self.nesterov, weight_decay=self.weight_decay, **of_adam)
        return Training(optimizer, self.label_smoothing)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate at ``step`` (from 0) of ``steps``."""
        return self.learning_rate * self.schedule.factor(step, steps)

    def steps(self, images: int) -> int:
        """Of the whole training on so many images; the last batch of an epoch may be smaller."""
        return self.epochs * math.ceil(images / self.batch_size)

    def held_out(self, images: int) -> int:
        """How many of so many training images are for validation."""
        return round(self.validation * images)

    def changed(self, changes: dict[str, Any]) -> Recipe:
        """With some fields changed and a name that says so; ``schedule.kind`` names a field of the schedule.

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
        own |= {part: replace(getattr(self, part), **together) for part, together in nested.items()}
        told = ",".join(f"{name}={_told(value)}" for name, value in sorted(changes.items()))
        return replace(self, name=f"{self.name}[{told}]", **own)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """What ``to_dict`` wrote."""
        schedule, augmentation = plain["schedule"], plain["augmentation"]
        nested = {
            "schedule": Schedule(**{**schedule, "milestones": tuple(schedule["milestones"])}),
            "augmentation": Augmentation(**augmentation),
        }
        return cls(**{**plain, **nested})


def parse_changes(entries: Sequence[str]) -> dict[str, Any]:
    """``FIELD=VALUE`` entries by field, values as TOML would read them (a bare word is a text).

    Raises:
        UsageError: another form.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        name, separator, text = entry.partition("=")
        if not (name and separator and text):
            raise UsageError(f"--set {entry}: not FIELD=VALUE, such as epochs=2 or schedule.kind=cosine")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


def changes_of(name: str) -> tuple[str, list[str]]:
    """The recipe that a changed one's name begins with, and the changes, each as ``FIELD=VALUE``."""
    base, _, told = name.removesuffix("]").partition("[")
    return base, re.split(r",(?=[a-z_.]+=)", told) if told else []


def _told(value: Any) -> str:
    """A field's value as a command line gives it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"'{name}' must lie between {low:g} and {high:g}, not be {value:g}")
