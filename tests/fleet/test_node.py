"""What a node does with an errand, with a command that only tells what it got."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest
from stored import run

from bench.fleet import node
from bench.fleet.errand import PLACE, Environment, Errand, Message, SentFile
from bench.fleet.node import Interruption, carry_out
from bench.machine import host
from bench.store.journal import Change

COMMAND = """#!{python}
import json, os, signal, sys, time
told = {{"arguments": sys.argv[4:], "folder": os.getcwd(), "store": os.environ["BENCH_STORE"]}}
journal = os.environ.get("BENCH_JOURNAL")
if journal:
    with open(journal, "a") as file:
        file.write(json.dumps(told) + "\\n")
print("on standard output")
print(json.dumps(told), file=sys.stderr, flush=True)
if "--wait" in sys.argv:
    def interrupted(*_):
        with open(journal, "a") as file:
            file.write("late\\n")
        sys.exit(130)
    signal.signal(signal.SIGINT, interrupted)
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)
sys.exit(3)
"""


@pytest.fixture
def errand(process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Errand:
    """With an interpreter that is a script."""
    script = tmp_path / "python"
    script.write_text(COMMAND.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(node, "_home", lambda: tmp_path / "home")
    monkeypatch.setattr(node, "fingerprint", lambda: {**host.fingerprint(), "id": "feedc0de"})
    return Errand(
        name="fleet-a.0.0", command="run", arguments=["--rounds=1"], result="new", folder=str(tmp_path), store=None,
        environment=Environment(python=str(script)),
    )  # fmt: skip


def told(messages: list[Message]) -> dict[str, object]:
    content: dict[str, object] = json.loads(next(each.text for each in messages if each.kind == "stored"))
    return content


def test_messages_in_order_and_where_it_ran(errand: Errand, tmp_path: Path) -> None:
    messages = list(carry_out(errand, "north", Interruption()))
    assert [messages[0].kind, messages[0].node, messages[0].text] == ["began", "north", "new"]
    assert messages[0].machine["id"] == "feedc0de"
    assert (messages[-1].kind, messages[-1].code) == ("ended", 3)
    assert told(messages)["arguments"] == ["run", "--name=new", "--rounds=1"]
    assert told(messages)["folder"] == str(tmp_path)
    assert not any("standard output" in each.text for each in messages)
    assert not Path(str(told(messages)["store"])).exists(), "the node's own store goes with the errand"


def test_it_goes_on_on_a_machine_of_the_same_kind(errand: Errand) -> None:
    begun = Change(call="add_run", name="old", run=run("old")).line()
    again = errand.model_copy(update={"goes_on": "old", "begun_on": "feedc0de", "before": [begun]})
    messages = list(carry_out(again, "north", Interruption()))
    assert messages[0].text == "old"
    assert told(messages)["arguments"] == ["run", "--resume=old"]
    elsewhere = again.model_copy(update={"begun_on": "another"})
    assert told(list(carry_out(elsewhere, "north", Interruption())))["arguments"] == ["run", "--name=new", "--rounds=1"]


def test_files_lie_at_the_same_path_everywhere(errand: Errand, tmp_path: Path) -> None:
    files = [SentFile(name="my.toml", content=b"epochs = 1\n")]
    sent = errand.model_copy(update={"arguments": [f"--recipe={PLACE % 0}"], "files": files})
    (_, _, argument) = told(list(carry_out(sent, "north", Interruption())))["arguments"]  # type: ignore[misc]
    path = tmp_path / "home" / "files" / "new" / "0" / "my.toml"
    assert argument == f"--recipe={path}"
    assert path.read_bytes() == b"epochs = 1\n"


def test_an_interruption_ends_the_command_and_what_it_stores_is_told(errand: Errand) -> None:
    waits = errand.model_copy(update={"arguments": ["--wait"]})
    interruption, messages = Interruption(), list[Message]()
    for message in carry_out(waits, "north", interruption):
        messages.append(message)
        if message.text == "waiting":
            threading.Thread(target=interruption.ask).start()
            time.sleep(0.1)
            interruption.ask()  # a second time does nothing
    assert messages[-1].code == 130
    assert "late" in [message.text for message in messages if message.kind == "stored"]


def test_with_a_server_nothing_is_noted(errand: Errand) -> None:
    served = errand.model_copy(update={"store": "postgresql://host/db"})
    messages = list(carry_out(served, "north", Interruption()))
    assert not [message for message in messages if message.kind == "stored"]
    assert "postgresql://host/db" in next(message.text for message in messages if message.kind == "said")


def test_an_interpreter_that_is_not_there(errand: Errand) -> None:
    wrong = errand.model_copy(update={"environment": Environment(python="/none/python")})
    *_, said, ended = carry_out(wrong, "north", Interruption())
    assert "cannot start /none/python" in said.text
    assert ended.code == 2


def test_a_folder_that_the_node_lacks(errand: Errand, tmp_path: Path) -> None:
    elsewhere = errand.model_copy(update={"folder": "/no/such/folder"})
    assert told(list(carry_out(elsewhere, "north", Interruption())))["folder"] == str(tmp_path / "home" / "work")
    assert os.path.isdir(tmp_path / "home" / "work")
