"""Downloads into the user's cache: checked against a published hash and resumed after an interruption. An incomplete
file never has the final name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from bench.errors import UsageError

PIECE = 2**20
"""Bytes per write."""
TIMEOUT = 30.0
"""Seconds to wait for a response, or for the next byte."""


def cache() -> Path:
    """The folder of the downloads."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("evenbench")) / "datasets"


def fetch(url: str, known_hash: str, otherwise: str) -> Path:
    """The local file of a URL; it is downloaded if it is not in the cache. ``otherwise``: the user's alternative to the
    download, for messages.

    Raises:
        UsageError: no network, no such file, no disk space, or a file with another hash.
    """
    import pooch
    import requests

    name = url.rpartition("/")[2]
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, known_hash, name, cache(), downloader=_resuming(cache() / f"{name}.partial")))
    except requests.RequestException as error:
        reason = type(error).__name__ if getattr(error, "response", None) is None else str(error)
        raise UsageError(f"cannot download {url}: {reason}; run again to resume it, or {otherwise}") from error
    except ValueError as error:
        raise UsageError(
            f"{url} is not the file that was published (its hash differs): refused; {otherwise}"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write {name} to {cache()}: {error.strerror or error}; {otherwise}") from error


def _resuming(partial: Path) -> Any:
    """A downloader for pooch. ``partial`` keeps the bytes of an interrupted download; only the rest is requested."""
    import requests

    def download(url: str, output_file: str, _: Any) -> None:
        size = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={size}-"} if size else {}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            if response.status_code != 416:  # else the partial file is complete
                response.raise_for_status()
                print(f"bench: downloading {url} to {partial.parent}", file=sys.stderr)
                with partial.open("ab" if response.status_code == 206 else "wb") as file:
                    for piece in response.iter_content(PIECE):
                        file.write(piece)
                expected = response.headers.get("Content-Length")
                offset = size if response.status_code == 206 else 0
                if expected is not None and partial.stat().st_size < offset + int(expected):
                    raise requests.ConnectionError("the connection ended early")
        os.replace(partial, output_file)

    return download
