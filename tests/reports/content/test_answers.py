"""One question, one sentence. A tie and a result of single processes are named as such."""

from __future__ import annotations

from builders import figure, latency, row, run, speed

from reports.content import answers, tables


def answers_by_question(*records: object, **more: object) -> dict[str, answers.Answer]:
    return {answer.question: answer for answer in answers.answer_all(run(*records, **more))}  # type: ignore[arg-type]


def test_the_fastest_is_named_with_its_lead() -> None:
    by_question = answers_by_question(row("a", [speed([200.0, 202.0, 198.0])]), row("b", [speed([100.0, 101.0, 99.0])]))
    answer = by_question["Fastest in bulk inference at batch 128"]
    assert answer.settled
    assert answer.sentence.startswith("a, 200 images/s ±")
    assert "2 times [2, 2] ahead of b" in answer.sentence


def test_lower_is_better_for_latency_and_memory() -> None:
    memory = [figure("peak_rss", values, task="infer") for values in ([2e8, 2.02e8, 2.01e8], [4e8, 4.1e8, 4.2e8])]
    by_question = answers_by_question(
        row("a", [latency([0.002, 0.0021, 0.00205]), memory[1]]),
        row("b", [latency([0.004, 0.0041, 0.0039]), memory[0]]),
    )
    assert by_question["Fastest to serve (p50) at batch 1"].sentence.startswith("a, 2.05 ms ±")
    least = by_question["Least memory to serve"].sentence
    assert least.startswith("b, 201 MB")
    assert "times [" in least
    assert "less than a" in least


def test_a_tie_is_called_a_tie() -> None:
    by_question = answers_by_question(row("a", [speed([100.0, 120.0, 90.0])]), row("b", [speed([101.0, 95.0, 100.0])]))
    answer = by_question["Fastest in bulk inference at batch 128"]
    assert not answer.settled
    assert answer.sentence.startswith("a tie of a and b: the intervals of their ratios contain 1")


def test_one_process_is_a_hint() -> None:
    answer = answers_by_question(row("a", [speed([200.0])]), row("b", [speed([100.0])]))[
        "Fastest in bulk inference at batch 128"
    ]
    assert not answer.settled
    assert answer.sentence == "a, 200 images/s, 2 times ahead of b; one process, no interval: a hint only."


def test_rows_that_are_not_comparable_do_not_compete() -> None:
    wrong = row("wrong", [speed([900.0, 901.0, 899.0])], parity={"comparable": False, "checks": []})
    by_question = answers_by_question(wrong, row("a", [speed([200.0, 202.0, 198.0])]))
    assert by_question == {}, "one comparable row answers nothing"


def test_over_batch_sizes_each_row_competes_with_its_best() -> None:
    a = row("a", [speed([100.0, 101.0, 102.0], batch_size=8), speed([300.0, 301.0, 302.0], batch_size=64)])
    b = row("b", [speed([200.0, 201.0, 202.0], batch_size=8), speed([150.0, 151.0, 152.0], batch_size=64)])
    answer = answers_by_question(a, b)["Fastest in bulk inference"]
    assert answer.sentence.startswith("a (batch 64), 301 images/s")
    assert "ahead of b (batch 8)" in answer.sentence


def test_accuracy_by_the_test_of_equivalence() -> None:
    def trained(name: str, values: list[float]) -> object:
        return row(name, [figure("accuracy", values)])

    same = answers_by_question(trained("a", [0.700, 0.701, 0.702]), trained("b", [0.701, 0.701, 0.703]))
    (question,) = same
    assert question == "Same accuracy within 2 points over n = 3 seeds"
    assert same[question].sentence.startswith("yes: a and b (-0.07 points)")
    undecided = answers_by_question(trained("a", [0.70, 0.60, 0.80]), trained("b", [0.71, 0.75, 0.60]))
    (answer,) = undecided.values()
    assert answer.sentence.startswith("not settled: a and b")
    assert not answer.settled


def test_the_judge_of_parity_wins_nothing() -> None:
    """The reference needs the least memory to train, but nobody would train with it."""
    need = [figure("peak_rss", values, task="train") for values in ([1e8, 1.01e8], [2e8, 2.02e8], [4e8, 4.1e8])]
    judge, a, b = row("judge", [need[0]], contender=False), row("a", [need[1]]), row("b", [need[2]])
    assert answers_by_question(judge, a, b)["Least memory to train"].sentence.startswith("a, 201 MB")
    assert answers_by_question(judge, a) == {}, "one contender answers nothing"
    cells = [line for table in tables.build(run(judge, a), tables.Notes()) for line in table.rows]
    assert any(line[0] == "judge" and line[1].startswith("100 ±") for line in cells), "it stays in the tables"
