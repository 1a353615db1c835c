"""A real Ray cluster of several nodes on loopback."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from bench.fleet.ray_target import RESOURCE

STARTED = "Ray runtime started"
TRIES = 3
RAY = Path(sys.executable).parent / "ray"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class RayCluster:
    """The head takes no errands, and drivers sit there: a node, which has an address of its own, can be killed, and the
    cluster stays."""

    def __init__(self, environment: Mapping[str, str], labels: Sequence[str], cpus: int = 2) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        self.address, self.client_port = f"127.0.0.1:{free_port()}", free_port()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
        self.environment = {**environment, **token, "RAY_ADDRESS": self.address, "RAY_DISABLE_IMPORT_WARNING": "1"}
        self.environment["RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"] = "240"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        head = [
            "--head",
            "--node-ip-address=127.0.0.1",
            f"--port={self.address.partition(':')[2]}",
            "--num-cpus=0",
            "--include-dashboard=false",
        ]
        self._start("head", *head, f"--ray-client-server-port={self.client_port}", f"--temp-dir={self._folder}")
        for number, label in enumerate(labels, 2):
            own = [
                f"--node-ip-address=127.0.0.{number}",
                f"--address={self.address}",
                f"--num-cpus={cpus}",
                f'--resources={{"{RESOURCE}": 1}}',
            ]
            self._start(label, *own, f"--labels=site={label}")

    def _start(self, name: str, *arguments: str) -> None:
        """On a busy machine a node gives up its start after half a minute: it is tried again."""
        for _ in range(TRIES):
            self._spawn(name, *arguments)
            if self._has_started(name):
                return
        text = (self._folder / f"{name}.log").read_text()[-1000:]
        self.close()
        raise RuntimeError(f"{name} did not start: {text}")

    def _spawn(self, name: str, *arguments: str) -> None:
        environment = {each: value for each, value in self.environment.items() if each != "RAY_ADDRESS"}
        common = ["--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [str(RAY), "start", *common, *arguments], env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def _has_started(self, name: str) -> bool:
        """Wait until a node has started, or given up; two at a time would take each other's ports."""
        log, deadline = self._folder / f"{name}.log", time.monotonic() + 300
        while STARTED not in log.read_text():
            if time.monotonic() > deadline or self._processes[name].poll() is not None:
                self.kill(name)
                return False
            time.sleep(0.1)
        return True

    def kill(self, name: str) -> None:
        """Kill a node with all that it has started."""
        process = self._processes.pop(name)
        started = list[psutil.Process]()
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            started = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for each in started:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()

    def close(self) -> None:
        for name in list(self._processes):
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)
