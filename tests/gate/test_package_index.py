"""Where pip looks: options before pip's variables before uv's; no password on a command line or in a file."""

from __future__ import annotations

import pytest

from bench.cli.options import IndexOptions
from bench.errors import UsageError
from bench.gate.package_index import PackageIndex, chosen

MIRROR, CPU, OTHER = "https://mirror.example/simple", "https://cpu.example/whl", "https://other.example/simple"


@pytest.mark.parametrize(
    ("environment", "url", "extra"),
    [
        ({}, "", ()),
        ({"UV_DEFAULT_INDEX": MIRROR, "UV_INDEX": f"cpu={CPU} {OTHER}"}, MIRROR, (CPU, OTHER)),
        ({"UV_INDEX_URL": MIRROR, "UV_EXTRA_INDEX_URL": f"{CPU} {OTHER}"}, MIRROR, (CPU, OTHER)),
        ({"UV_DEFAULT_INDEX": f"main={MIRROR}", "UV_INDEX_URL": OTHER}, MIRROR, ()),
        ({"UV_DEFAULT_INDEX": MIRROR, "PIP_INDEX_URL": OTHER}, "", ()),
        ({"UV_INDEX": CPU, "PIP_EXTRA_INDEX_URL": OTHER}, "", ()),
        ({"UV_INDEX": "https://x.example/simple?a=b"}, "", ("https://x.example/simple?a=b",)),
    ],
)
def test_the_variables_of_uv_hold_where_pip_has_none(
    environment: dict[str, str], url: str, extra: tuple[str, ...]
) -> None:
    index = chosen(environment=environment)
    assert (index.url, index.extra) == (url, extra)


def test_options_come_first() -> None:
    everything = {"UV_DEFAULT_INDEX": MIRROR, "PIP_INDEX_URL": MIRROR, "UV_INDEX": MIRROR}
    index = chosen(OTHER, [CPU], everything)
    variables = index.variables(everything)
    assert (variables["PIP_INDEX_URL"], variables["PIP_EXTRA_INDEX_URL"]) == (OTHER, CPU)


def test_the_other_variables_of_uv() -> None:
    index = chosen(environment={"UV_FIND_LINKS": "/a, https://b.example", "UV_INSECURE_HOST": "c.example d.example:8"})
    variables = index.variables({})
    assert variables["PIP_FIND_LINKS"] == "/a https://b.example"
    assert variables["PIP_TRUSTED_HOST"] == "c.example d.example:8"


def test_credentials_of_a_named_index_reach_pip_and_nothing_that_is_kept() -> None:
    environment = {
        "UV_INDEX": f"team-a={CPU}", "UV_INDEX_TEAM_A_USERNAME": "me", "UV_INDEX_TEAM_A_PASSWORD": "p@ss",
    }  # fmt: skip
    index = chosen(environment=environment)
    assert index.variables({})["PIP_EXTRA_INDEX_URL"] == "https://me:p%40ss@cpu.example/whl"
    assert index.sources({}) == [f"PIP_EXTRA_INDEX_URL={CPU}"]


@pytest.mark.parametrize("name", ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN"])
def test_what_sends_an_installation_elsewhere_does_not_reach_pip(name: str) -> None:
    assert PackageIndex().variables({name: "1", "PATH": "/bin", "PIP_CERT": "x"}) == {"PATH": "/bin", "PIP_CERT": "x"}


def test_a_folder_is_an_index_and_a_word_is_not(tmp_path: object) -> None:
    assert IndexOptions(extra_index_url=[str(tmp_path)]).chosen().extra == (f"file://{tmp_path}",)
    for options in (IndexOptions(index_url="pypi"), IndexOptions(extra_index_url=["cpu"])):
        with pytest.raises(UsageError, match="not a URL such as"):
            options.chosen()
