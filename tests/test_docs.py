"""What the documentation says: every command in it is parsed, the quick ones are run, none is missing from it."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from bench_command import Bench
from builders import recorded
from typer.testing import CliRunner

from bench.cli.main import app
from bench.records.export import export

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs" / "bench-check.yml",
]
WRITTEN = {"commands.md", "metrics.md"}
"""By docs/generate.py."""
BLOCK = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`((?:\.venv/bin/)?bench [^`\n]+)`")
QUICK = {"list", "doctor", "report", "export", "compare", "history"}
"""Commands that take less than a minute on a store with two runs."""
PLACEHOLDER = re.compile(r"\b(RUN|FILE|BASE|NAME|DIR|LIST|A|B|P|FIELD|BACKEND)\b")


def documented() -> list[tuple[str, str]]:
    """Page and command, of shell blocks and of code in running text; with a placeholder it is a form, no command."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        if page.suffix == ".yml":
            lines = re.findall(r"(bench \w+ (?:.*\\\n)*.*)", text)
        lines += INLINE.findall(text)
        for line in lines:
            for part in re.split(r"&&|\|\|", line.replace("\\\n", " ")):
                command = part.split(" #")[0].strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if command.startswith("bench ") and page.name not in WRITTEN and not PLACEHOLDER.search(command):
                    found.append((page.name, command))
    return list(dict.fromkeys(found))


def parsed(command: str) -> Any:
    """As the command line would, up to where it would run: help comes after all options are known."""
    words = shlex.split(re.sub(r"\$\{\{.*?\}\}|\$\w+", "x", command.split(" > ")[0]))[1:]
    return CliRunner().invoke(app, [*words, "--help"])


def test_there_are_commands_to_check() -> None:
    assert len(documented()) > 20
    assert {"README.md", "method.md", "gpu.md"} <= {page for page, _ in documented()}


@pytest.mark.parametrize(("page", "command"), documented())
def test_every_documented_command_is_parsed(page: str, command: str) -> None:
    assert parsed(command).exit_code == 0, (page, parsed(command).output)


def test_a_command_that_is_wrong_would_be_found() -> None:
    assert parsed("bench report --no-such-option").exit_code == 2
    assert parsed("bench reprot").exit_code == 2


def test_quick_commands_run(bench: Bench) -> None:
    document = json.loads(export(recorded()))
    for name in ("20260101T000000-aaaa", "20260102T000000-bbbb"):
        (bench.folder / "run.json").write_text(json.dumps({**document, "run": name}))
        assert bench("import", "run.json").returncode == 0
    bench("history", "tag", "good", "last~1")
    run = [command for _, command in documented() if command.split()[1] in QUICK and command != "bench compare"]
    assert len(run) > 5
    for command in dict.fromkeys(run):
        done = bench(*shlex.split(command)[1:])
        assert done.returncode == 0, (command, done.stderr)


def generate() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("name", sorted(generate().WRITTEN))
def test_what_is_generated_is_up_to_date(name: str) -> None:
    made = generate().WRITTEN[name]()
    assert (ROOT / "docs" / name).read_text() == made, "python docs/generate.py writes it anew"


def test_every_link_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
