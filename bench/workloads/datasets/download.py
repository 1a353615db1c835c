"""Downloads into the user's cache: checked against a published hash, resumed where they stopped, whole or not there."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from bench.errors import UsageError

PIECE = 2**20
"""Bytes that are written at a time."""
TIMEOUT = 30.0
"""Seconds without an answer, or without a further byte."""


def cache() -> Path:
    """Where downloads are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("evenbench")) / "datasets"


def fetched(url: str, known_hash: str, otherwise: str) -> Path:
    """The file of a URL, downloaded if it is not in the cache. ``otherwise`` says how to do without the network.

    Raises:
        UsageError: no network, no such file, no room, or not the file that is expected.
    """
    import pooch
    import requests

    name = url.rpartition("/")[2]
    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(pooch.retrieve(url, known_hash, name, cache(), downloader=_resuming(cache() / f"{name}.partial")))
    except requests.RequestException as error:
        reason = type(error).__name__ if not getattr(error, "response", None) else str(error)
        raise UsageError(f"cannot download {url}: {reason}; run again to resume it, or {otherwise}") from error
    except ValueError as error:
        raise UsageError(
            f"{url} is not the file that was published (its hash differs): refused; {otherwise}"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write {name} to {cache()}: {error.strerror or error}; {otherwise}") from error


def _resuming(partial: Path) -> Any:
    """A downloader of pooch's: what came before an interruption is kept in ``partial`` and asked for no more."""
    import requests

    def download(url: str, output_file: str, _: Any) -> None:
        have = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
            if answer.status_code != 416:  # nothing is missing any more
                answer.raise_for_status()
                print(f"bench: downloading {url} to {partial.parent}", file=sys.stderr)
                with partial.open("ab" if answer.status_code == 206 else "wb") as file:
                    for piece in answer.iter_content(PIECE):
                        file.write(piece)
                expected = answer.headers.get("Content-Length")
                begun = have if answer.status_code == 206 else 0
                if expected is not None and partial.stat().st_size < begun + int(expected):
                    raise requests.ConnectionError("the connection ended early")
        os.replace(partial, output_file)

    return download
