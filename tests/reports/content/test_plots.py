"""Plots: a title, axes with units, a text alternative, the numbers of the record. Both renderers are tested."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import figure, hostile_run, latency, recorded, row, run, speed, trained_run
from matplotlib.figure import Figure
from PIL import Image

from bench.errors import BenchError
from bench.records.record import Record, Run
from reports.content import plots
from reports.plot import HeatMap, Plot, Section
from reports.render import images, plotly

UNIT = re.compile(r"\[.+\]$|^row|^epoch$|class$|^worker$")


def everything() -> Run:
    swept = [speed([100.0, 110.0], batch_size=size) for size in (1, 8, 64)]
    more = row("swept", [*swept, latency([0.01, 0.02]), figure("peak_rss", [1e8, 1.1e8], task="infer")])
    return run(*recorded().records, more)


def all_plots(made: Run) -> list[Plot | HeatMap]:
    return [plot for section in plots.run_sections(made) for plot in section.plots]


def first_plots(made: Run) -> list[Section]:
    """Every section with its first plot: drawing all of them takes seconds."""
    return [replace(section, plots=section.plots[:1]) for section in plots.run_sections(made)]


def test_every_section_is_there_and_none_without_data() -> None:
    assert [s.key for s in plots.run_sections(recorded())] == [
        "throughput",
        "latency",
        "training",
        "memory",
        "confusion",
        "phases",
    ]
    assert "batch-sizes" in [section.key for section in plots.run_sections(everything())]
    assert plots.run_sections(run(row("failed", [], status="crashed", error="x", parity=None))) == []


def test_every_plot_has_title_units_and_words() -> None:
    for plot in [*all_plots(recorded()), *all_plots(everything())]:
        assert plot.title
        for axis in (plot.x, plot.y):
            assert UNIT.search(axis.title), (plot.key, axis.title)
        assert plot.alternative.startswith(plot.title), plot.key
        assert re.search(r"\d", plot.alternative), "the text has the numbers"
    keys = [plot.key for plot in all_plots(everything())]
    assert len(keys) == len(set(keys))


def test_bars_are_the_values_and_points_the_processes() -> None:
    made = run(row("a", [speed([100.0, 110.0, 105.0])]), row("b", [speed([50.0, 51.0, 52.0])]), row("c", []))
    (plot,) = all_plots(made)
    assert isinstance(plot, Plot)
    bars, points = plot.series
    assert plot.y.categories == ("b", "a")
    assert bars.x == tuple(made.records[i].figures[0].value for i in (1, 0))
    assert bars.low == tuple(made.records[i].figures[0].low for i in (1, 0))
    assert sorted(points.x) == [50, 51, 52, 100, 105, 110]
    assert "Not measured: c." in plot.alternative
    drawn = plotly.figure(plot)
    assert drawn["data"][0]["x"] == [float(f"{x:.6g}") for x in bars.x], "six digits, no more bytes"
    error = drawn["data"][0]["error_x"]
    assert bars.x[0] - error["arrayminus"][0] == pytest.approx(bars.low[0], rel=1e-5)
    assert bars.x[0] + error["array"][0] == pytest.approx(bars.high[0], rel=1e-5)


def test_the_distribution_is_of_all_calls() -> None:
    made = row("a", [latency([0.001, 0.002])])
    plot = next(plot for plot in all_plots(run(made)) if "distribution" in plot.key)
    assert isinstance(plot, Plot)
    (series,) = plot.series
    assert (series.x[0], series.x[-1], series.y[0], series.y[-1]) == (1.0, 2.0, 0.0, 100.0)
    assert plot.x.log
    assert "of 6 calls" in plot.alternative


def test_a_count_lies_where_its_row_and_column_cross() -> None:
    (plot,) = [each for each in all_plots(trained_run()) if isinstance(each, HeatMap)]
    assert plot.counts == ((4, 1), (0, 5))
    drawn = plotly.figure(plot)
    cells, _ = drawn["data"]
    places = zip(cells["y"], cells["base"], cells["x"], cells["text"], cells["customdata"], strict=True)
    assert list(places) == [(0, -0.5, 1, "4", "cat"), (0, 0.5, 1, "1", "dog"), (1, 0.5, 1, "5", "dog")]
    assert drawn["layout"]["xaxis"]["tickvals"] == drawn["layout"]["yaxis"]["tickvals"] == [0, 1]


def test_phases_of_a_worker_follow_one_another() -> None:
    phases = [{"kind": "fit", "round": None, "seconds": {"import": 2.0, "fit": 3.0, "spawn": 0.5}, "life": 6.0}]
    (plot,) = all_plots(run(row("a", [], phases=phases)))
    assert isinstance(plot, Plot)
    spans = {series.name: (series.base[0], series.x[0]) for series in plot.series}
    assert spans == {"spawn": (0.0, 0.5), "import": (0.5, 2.5), "fit": (2.5, 5.5)}


def test_images_without_a_browser(tmp_path: Path) -> None:
    sections = first_plots(everything())
    written = images.write(sections, tmp_path / "new" / "plots")
    expected = [plot for section in sections for plot in section.plots]
    assert len(written) == 2 * len(expected)
    for plot in expected:
        svg = ET.parse(tmp_path / "new" / "plots" / f"{plot.key}.svg").getroot()
        words = " ".join(svg.itertext())
        assert plot.title in words
        assert plot.alternative in words
        with Image.open(tmp_path / "new" / "plots" / f"{plot.key}.png") as picture:
            assert picture.info["Description"] == plot.alternative
            colours = picture.convert("RGB").getcolors(1 << 20)
            assert colours is None or len(colours) > 10, "the image is not empty"


def test_hostile_names_are_text_in_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Figure.savefig

    def only_svg(figure: Figure, path: Path, **options: Any) -> None:
        if path.suffix == ".svg":
            save(figure, path, **options)

    monkeypatch.setattr(Figure, "savefig", only_svg)
    sections = first_plots(hostile_run())
    images.write(sections, tmp_path)
    written = list(tmp_path.glob("*.svg"))
    assert len(written) == len(sections)
    for path in written:
        assert not [node for node in ET.parse(path).getroot().iter() if node.tag.endswith("script")]


def test_images_that_cannot_be_written_give_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"cannot write plots to .*; give another --figures"):
        images.write(plots.run_sections(recorded()), tmp_path / "file" / "plots")


def test_foreign_text_is_escaped_for_plotly() -> None:
    made = hostile_run()
    for plot in all_plots(made):
        drawn = json.dumps(plotly.figure(plot))
        assert "<script" not in drawn
        assert "<img" not in drawn
    record: Record = made.records[0]
    assert "&lt;script&gt;" in plotly.text(record.job.backend)
