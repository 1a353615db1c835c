"""Every rule gives its advice with its evidence where it applies, and none within the noise."""

from __future__ import annotations

import inspect

import pytest
from builders import figure, latency, row, run, speed

from bench.records.record import Record, Run
from reports.content import advice

FAST, SLOW, NEARLY = [200.0, 202.0, 201.0], [100.0, 101.0, 99.0], [103.0, 104.0, 103.5]
NOISY = [300.0, 100.0, 90.0]


def apply(rule: object, *records: Record, **more: object) -> list[advice.Advice]:
    made = run(*records, **more)
    return list(rule(made))  # type: ignore[operator]


def modes(other: list[float]) -> list[Record]:
    return [row("pytorch", [speed(SLOW)], job={"mode": "eager"}), row("pytorch", [speed(other)], job={"mode": "fast"})]


def test_a_faster_mode() -> None:
    (suggestion,) = apply(advice.faster_mode, *modes(FAST))
    assert suggestion.text == "fast serves 2 times as fast as eager in pytorch."
    assert suggestion.evidence == "throughput of infer, end-to-end: 2 times [2, 2], n = 3"
    assert suggestion.command == "bench run --backend pytorch --mode fast"


@pytest.mark.parametrize("other", [SLOW, NEARLY, NOISY, [500.0]])
def test_no_advice_within_the_noise(other: list[float]) -> None:
    base = modes(other)
    if len(other) == 1:  # one process each has no interval
        base[0] = row("pytorch", [speed([100.0])], job={"mode": "eager"})
    assert apply(advice.faster_mode, *base) == []


def test_rows_that_are_not_comparable_advise_nothing() -> None:
    wrong = row("pytorch", [speed(FAST)], job={"mode": "fast"}, parity={"comparable": False, "checks": []})
    assert apply(advice.faster_mode, modes(FAST)[0], wrong) == []


def test_a_lower_precision_with_its_cost_in_accuracy() -> None:
    accuracies = [figure("accuracy", [value]) for value in (0.70, 0.68)]
    usual = row("onnxruntime", [speed(SLOW), accuracies[0]], job={"source": "keras", "precision": "fp32"})
    lower = row("onnxruntime", [speed(FAST), accuracies[1]], job={"source": "keras", "precision": "int8"})
    (suggestion,) = apply(advice.faster_precision, usual, lower)
    assert "int8 serves 2 times as fast as fp32 in onnxruntime <- keras; accuracy -2.00 points" in suggestion.text
    assert suggestion.command == "bench run --backend onnxruntime --precision int8"


def test_the_exported_model() -> None:
    own = row("keras", [speed(SLOW), latency([0.004, 0.0041, 0.0042])])
    runtime = row("onnxruntime", [speed(NEARLY), latency([0.001, 0.0011, 0.001])], job={"source": "keras"})
    (suggestion,) = apply(advice.exported_model, own, runtime)
    assert suggestion.text.startswith("onnxruntime serves keras's exported model 4 times as fast as keras at batch 1")


def test_a_larger_batch() -> None:
    swept = row("keras", [speed(SLOW, batch_size=8), speed(FAST, batch_size=64), speed(NEARLY, batch_size=512)])
    (suggestion,) = apply(advice.larger_batch, swept)
    assert "fastest at batch 64 of those tried" in suggestion.text
    assert suggestion.command.endswith("--batch-size 64")
    assert apply(advice.larger_batch, row("keras", [speed(SLOW, batch_size=8), speed(NEARLY, batch_size=64)])) == []


@pytest.mark.parametrize(("low", "applies"), [(1.2, True), (1.01, False), (None, False)])
def test_a_faster_allocator(low: float | None, applies: bool) -> None:
    ratio = {"name": "throughput", "task": "train", "batch_size": 128, "boundary": "device", "value": 1.35, "n": 3}
    arena = ratio | {"low": low, "high": None if low is None else 1.5, "against": "--allocator system"}
    suggestions = apply(advice.arena, row("pytorch", [speed(SLOW, "train")], arena=[arena]))
    assert bool(suggestions) is applies
    if applies:
        assert suggestions[0].text == "page faults cost pytorch 26% of its speed in train."
        assert suggestions[0].command == "bench run --backend pytorch --allocator arena"


def test_the_two_adams() -> None:
    def certified(name: str, form: str, **more: str) -> Record:
        details = {"adam_form": form, "off_other_form": 1.6e-3, **more}
        check = {"name": "adam_losses", "value": 1e-7, "tolerance": 7e-6, "passed": True, "details": details}
        return row(name, [speed(SLOW)], parity={"comparable": True, "checks": [check]})

    (suggestion,) = apply(advice.published_forms, certified("keras", "epsilon-hat"), certified("pytorch", "corrected"))
    assert suggestion.text.startswith("Adam's epsilon enters differently (corrected: pytorch; epsilon-hat: keras)")
    assert "1.6e-03 (relative) within 5 steps" in suggestion.text, "an older record does not state the unit"
    assert apply(advice.published_forms, certified("a", "corrected"), certified("b", "corrected")) == []
    rows = [certified(name, form, of="of their change") for name, form in (("a", "epsilon-hat"), ("b", "corrected"))]
    (suggestion,) = apply(advice.published_forms, *rows)
    assert "1.6e-03 of their change; each agrees" in suggestion.text


def test_more_seeds() -> None:
    rows = [row("a", [figure("accuracy", [0.70, 0.68, 0.72])]), row("b", [figure("accuracy", [0.70, 0.71, 0.70])])]
    (suggestion,) = apply(advice.accuracy_not_settled, *rows)
    assert "3 seeds do not settle" in suggestion.text
    assert suggestion.command.startswith("bench run --backend a,b --seeds ")
    same = [row(name, [figure("accuracy", [0.70, 0.701, 0.70])]) for name in "ab"]
    assert apply(advice.accuracy_not_settled, *same) == []


def test_a_machine_that_was_not_quiet() -> None:
    noise = {"disturbed": True, "reason": "other processes used 48% of its cores", "slices": 12, "marked": 9}
    (suggestion,) = apply(advice.disturbed, row("a", [speed(SLOW)], disturbance=noise), row("b", [speed(SLOW)]))
    assert suggestion.text.startswith("a: the machine was not quiet")
    assert (suggestion.evidence, suggestion.command) == ("other processes used 48% of its cores", "bench doctor")


def test_one_process_per_row() -> None:
    (suggestion,) = apply(advice.no_interval, row("a", [speed([100.0])]))
    assert suggestion.command == "bench run --rounds 3"
    assert apply(advice.no_interval, row("a", [speed(SLOW)])) == []


def test_all_rules_are_applied() -> None:
    made: Run = run(*modes(FAST), row("a", [speed([100.0])]))
    public = {n for n, member in vars(advice).items() if inspect.isgeneratorfunction(member) and not n.startswith("_")}
    assert {rule.__name__ for rule in advice.RULES} == public - {"between"}
    assert advice.apply_rules(made)[0].command == "bench run --backend pytorch --mode fast"
