"""The measured rounds of a row, packed: a run of a thousand rows does not fill memory with their slices."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bench.runner.interleaving import MeasuredRound
from bench.runner.part import Part


class SavedRound(Part):
    """One worker of one round, without the outputs of its slices: they have been judged."""

    measured: MeasuredRound


class KeptRounds(Mapping[int, MeasuredRound]):
    """By number of the round, in the order of measurement. Each look unpacks a round anew, but within ``unpacked``."""

    def __init__(self, rounds: Mapping[int, MeasuredRound] | None = None) -> None:
        self._packed: dict[int, bytes] = {}
        self._unpacked: dict[int, MeasuredRound] | None = None
        for number, measured in (rounds or {}).items():
            self.keep(number, measured)

    def keep(self, number: int, measured: MeasuredRound) -> None:
        """Add a round, or replace it."""
        saved = SavedRound(measured=_without_outputs(measured))
        self._packed[number] = zlib.compress(saved.encoded())
        if self._unpacked is not None:
            self._unpacked.pop(number, None)

    def encoded(self, number: int) -> bytes:
        """A round as the store keeps it."""
        return zlib.decompress(self._packed[number])

    @contextmanager
    def unpacked(self) -> Iterator[None]:
        """Within it every round is unpacked once."""
        outer, self._unpacked = self._unpacked, self._unpacked or {}
        try:
            yield
        finally:
            self._unpacked = outer

    def __getitem__(self, number: int) -> MeasuredRound:
        if self._unpacked is not None and number in self._unpacked:
            return self._unpacked[number]
        measured = SavedRound.model_validate_json(self.encoded(number)).measured
        if self._unpacked is not None:
            self._unpacked[number] = measured
        return measured

    def __iter__(self) -> Iterator[int]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def _without_outputs(measured: MeasuredRound) -> MeasuredRound:
    metrics = [
        replace(readings, slices=[replace(each, kept=None) for each in readings.slices], closing=None)
        for readings in measured.metrics
    ]
    return replace(measured, metrics=metrics, load=[replace(test, served=None) for test in measured.load])
