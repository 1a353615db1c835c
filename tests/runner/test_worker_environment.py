"""What a worker's environment says, and where its frameworks leave temporary files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from worker_replies import row

from bench.runner.worker_environment import worker_environment


def test_temporary_files_of_a_worker_are_in_the_scratch_folder(process: None, tmp_path: Path) -> None:
    """A worker ends without handlers at exit: what a framework leaves there must go with the scratch folder."""
    environment = {name: value for name, value in worker_environment(row("b"), tmp_path).items() if value is not None}
    script = "import tempfile; print(tempfile.gettempdir())"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == tmp_path
    assert done.stdout.strip() != tempfile.gettempdir()
