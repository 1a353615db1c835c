"""Downloads from a real server on loopback: resumed, whole or not there, refused if they are not what was published."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bench.errors import UsageError
from bench.workloads.datasets import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
HASH = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves ``content``; cuts the answer off after ``breaks`` bytes where that is set; notes what was asked for."""

    content = CONTENT
    breaks: int | None = None
    ranges = True
    asked: list[str | None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if self.path != "/data.bin":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        rest = server.content[start:]
        self.send_response(206 if wanted and server.ranges else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: server.breaks])
        if server.breaks is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def server(process: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    served = Server(("127.0.0.1", 0), Handler)
    served.asked = []
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    monkeypatch.setattr(download, "cache", lambda: tmp_path / "cache")
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def fetch(server: Server, path: str = "data.bin") -> Path:
    return download.fetch(f"http://127.0.0.1:{server.server_port}/{path}", HASH, "--data-dir reads a folder")


def test_once_and_never_again(server: Server) -> None:
    assert fetch(server).read_bytes() == CONTENT
    assert fetch(server).read_bytes() == CONTENT
    assert server.asked == [None]
    assert [path.name for path in download.cache().iterdir()] == ["data.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_and_resumed(server: Server, ranges: bool) -> None:
    server.breaks, server.ranges = 1_200_000, ranges
    with pytest.raises(
        UsageError, match=r"cannot download http.*: .*; run again to resume it, or --data-dir"
    ) as caught:
        fetch(server)
    assert "\n" not in str(caught.value)
    assert not (download.cache() / "data.bin").exists(), "whole or not there"
    server.breaks = None
    assert fetch(server).read_bytes() == CONTENT
    begun = server.asked[1]
    assert begun is not None
    assert 0 < int(begun.removeprefix("bytes=").rstrip("-")) <= 1_200_000
    assert not (download.cache() / "data.bin.partial").exists()


def test_not_what_was_published(server: Server) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(UsageError, match="is not the file that was published"):
        fetch(server)
    assert list(download.cache().iterdir()) == []
    server.content = CONTENT
    assert fetch(server).read_bytes() == CONTENT, "the refused bytes are not resumed"


def test_a_whole_partial_file_is_taken(server: Server) -> None:
    download.cache().mkdir()
    (download.cache() / "data.bin.partial").write_bytes(CONTENT)
    assert fetch(server).read_bytes() == CONTENT


def test_no_server_and_no_such_file(server: Server) -> None:
    with pytest.raises(UsageError, match=r"cannot download .*404 Client Error"):
        fetch(server, "missing.bin")
    with pytest.raises(UsageError, match="ConnectionError; run again"):
        download.fetch("http://127.0.0.1:9/data.bin", HASH, "do without")


def test_no_room(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "cache", lambda: tmp_path / "file" / "cache")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UsageError, match=r"cannot write data\.bin to"):
        fetch(server)
