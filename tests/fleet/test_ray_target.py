"""How a driver connects to Ray; its work on a real cluster is in test_fleet.py."""

from __future__ import annotations

from typing import Any

import pytest

from bench.errors import BenchError
from bench.fleet import ray_target

TOO_LATE = """Initialization failure from server:
Traceback (most recent call last):
  File "proxier.py", line 780, in Datapath
RuntimeError: Proxy failed to Connect to backend!
"""


class Init:
    """``ray.init`` that raises these errors in turn, then connects."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls: list[dict[str, Any]] = []

    def __call__(self, **options: Any) -> None:
        self.calls.append(options)
        if self._errors:
            raise self._errors.pop(0)


def test_a_client_whose_server_came_too_late_is_connected_once_more() -> None:
    init = Init(ConnectionAbortedError(TOO_LATE))
    ray_target.connect(init, "ray://head:10001")
    assert [call["address"] for call in init.calls] == ["ray://head:10001"] * 2
    init = Init(*[ConnectionAbortedError(TOO_LATE)] * 2)
    with pytest.raises(BenchError) as raised:
        ray_target.connect(init, "ray://head:10001")
    what = "Initialization failure from server: RuntimeError: Proxy failed to Connect to backend!"
    assert str(raised.value) == f"cannot reach Ray at ray://head:10001: {what}"


def test_what_cannot_be_reached_is_not_tried_again() -> None:
    init = Init(ConnectionError("ray client connection timeout\nmore"))
    with pytest.raises(BenchError, match=r"cannot reach Ray at head:1: ray client connection timeout$"):
        ray_target.connect(init, "head:1")
    assert len(init.calls) == 1


def test_without_an_address_this_machine_is_the_cluster() -> None:
    init = Init()
    ray_target.connect(init, None)
    (options,) = init.calls
    assert options["address"] == "local"
    assert options["resources"] == {ray_target.RESOURCE: 1}
    init = Init()
    ray_target.connect(init, "auto")
    assert "resources" not in init.calls[0]
