"""Measured rounds of a row: packed, and unpacked when they are asked for."""

from __future__ import annotations

import json

from worker_replies import result

from bench.runner.kept_rounds import KeptRounds
from bench.worker import coding
from bench.worker.protocol import WorkerReport


def test_what_is_kept_comes_back() -> None:
    rounds = dict(result().rounds)
    kept = KeptRounds(rounds)
    assert dict(kept) == rounds
    kept.keep(7, rounds[0])
    assert list(kept) == [0, 1, 2, 7]
    assert kept[7] == rounds[0]


def test_a_round_is_unpacked_once_within_a_look() -> None:
    kept = result().rounds
    assert kept[0] is not kept[0]
    with kept.unpacked():
        before = kept[0]
        assert before is kept[0]
        kept.keep(0, kept[1])
        assert kept[0] == kept[1] != before, "not an older one"


def test_texts_of_replies_are_shared() -> None:
    """A thousand workers say the same."""
    plain = {"versions": {"a b": "1 x"}, "settings": {"p": ["long text"]}, "phases": {}, "peak_rss": 1, "life": 1.0}
    text = json.dumps(plain)
    one, other = (coding.decode(WorkerReport, json.loads(text)) for _ in range(2))
    assert one == other
    assert one.versions["a b"] is other.versions["a b"]
    assert one.settings["p"][0] is other.settings["p"][0]
