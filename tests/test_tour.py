"""The notebook docs/tour.ipynb runs from its first cell to its last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Jupyter's own packages
def test_the_tour_runs(process: None, tmp_path: Path) -> None:
    """On one thread and with two rounds: other tests are at work beside it."""
    notebook = nbformat.read(TOUR, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("rounds=3,", "rounds=2,\n    threads=1,").replace(
            'budget="40s",', 'budget="20s",\n    threads=1,'
        )
    assert sum(cell.source.count("threads=1") for cell in notebook.cells) == 2
    client = NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output for output in outputs if output.output_type in ("display_data", "execute_result")]
    assert sum("image/png" in output.data for output in shown) == 2, "both plots"
    tables = [output.data["text/html"] for output in shown if "text/html" in output.data]
    assert len(tables) == 3, "the run, the frame, the check"
    assert not [output for output in outputs if output.output_type == "stream" and output.name == "stderr"
                and "[1/" in output.text], "progress is one line that changes, not many"  # fmt: skip
    progress = [output.data.get("text/plain") for output in shown if set(output.data) == {"text/plain"}]
    assert "" in progress, "the line of progress, which is empty at the end"


def test_the_tour_is_committed_as_it_ran() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
