"""The exports in TensorBoard's and MLflow's own servers, opened in a browser."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import trained_run
from playwright.sync_api import Browser, Page

from reports.exports import mlflow, tensorboard
from reports.pages.html import run_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PATIENCE = 180_000
"""Milliseconds for a page on a slow machine."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, folder: Path) -> Iterator[str]:
    """A server on loopback, until it answers; its URL."""
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + PATIENCE / 1e3
            while not answers(url):
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
            yield url
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


def test_tensorboard_shows_scalars_images_histograms_and_hyperparameters(page: Page, tmp_path: Path) -> None:
    made = trained_run()
    tensorboard.write([made], tmp_path / "board")
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "board"), "--host", "127.0.0.1"]
    with serving([*command, "--port", str(port)], port, tmp_path) as url:
        page.goto(f"{url}/#scalars")
        page.get_by_text("validation", exact=True).first.wait_for()
        page.get_by_text(f"{made.name}/a_cpu_fp32_usual/seed-1").first.wait_for()
        page.get_by_text("infer throughput end-to-end, batch 128 [images/s]").first.wait_for()
        page.goto(f"{url}/#images")
        page.get_by_text("confusion", exact=True).first.wait_for()
        image = page.locator("img[src*='individualImage']")
        image.first.wait_for()
        assert image.count() == 1, "of the certified row"
        page.goto(f"{url}/#histograms")
        page.get_by_text(re.compile("single calls")).first.wait_for()
        page.goto(f"{url}/#hparams")
        page.get_by_text("fp32", exact=True).first.wait_for()


def test_mlflow_shows_a_row_with_its_metrics_and_the_page(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = trained_run()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.log([made], uri, run_page)
    from mlflow import MlflowClient

    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    with serving([*command, "--port", str(port), "--workers", "1"], port, tmp_path) as url:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("evenbench m/d/r").experiment_id
        (run,) = client.search_runs([experiment])
        page.goto(f"{url}/#/experiments")
        page.get_by_text("evenbench m/d/r").first.wait_for()
        page.goto(f"{url}/#/experiments/{experiment}/runs")
        page.get_by_text(f"{made.name} a").first.wait_for()
        page.goto(f"{url}/#/experiments/{experiment}/runs/{run.info.run_id}")
        page.get_by_text(re.compile("infer throughput end-to-end batch 128")).first.wait_for()
        page.goto(f"{url}/#/experiments/{experiment}/runs/{run.info.run_id}/artifacts")
        page.get_by_text("report.html").first.wait_for()
        assert run.data.tags["evenbench.row"] == "a/cpu/fp32/usual"
