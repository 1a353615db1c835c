"""The notes below the tables."""

from __future__ import annotations

from builders import row, run, speed

from reports.content import footnotes


def test_a_batch_of_more_images_than_there_are_is_said() -> None:
    data = {"name": "d", "sha256": "0" * 64, "train": 100, "test": 10}
    told = footnotes.lines(run(row("a", [speed([100.0])], data=data)))
    assert "batch 128 is more than the 100 training images: timed batches repeat images" in told
    enough = footnotes.lines(run(row("a", [speed([100.0])], data={**data, "train": 128})))
    file = footnotes.lines(run(row("a", [speed([100.0])], data={**data, "train": 0, "test": 0})))
    assert not any("more than the" in line for line in enough + file)


def test_what_an_input_pipeline_is_made_of_is_said() -> None:
    settings = {"input_pipeline": "a loader, 2 threads; 9 PNG files of 8x8x1, flipped"}
    told = footnotes.lines(run(row("a", [speed([100.0])], settings=settings), row("b", [speed([90.0])])))
    assert "input of a: a loader, 2 threads; 9 PNG files of 8x8x1, flipped" in told
    assert sum(line.startswith("input of") for line in told) == 1
