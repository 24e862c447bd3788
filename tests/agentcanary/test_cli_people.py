"""People's data from the command line: all of it, and none of it any more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentcanary import Canary
from agentcanary.cli import app
from agentcanary.config import parse_config

PERSON = "customer-4711"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "canary.yaml"


@pytest.fixture(params=["plain", "hash"])
def canary(request: pytest.FixtureRequest, file: Path) -> Iterator[Canary]:
    """An application whose two agents know a person, in a store of their own."""
    text = f"stable: v1\nprivacy: {request.param}\ncontroller: false\nstore: sqlite:///store.sqlite3\n"
    file.write_text(f"agent: support\n{text}")
    sales = Canary(parse_config(f"agent: sales\n{text}", filename=str(file)), notifiers=[])
    support = Canary.from_file(file, notifiers=[])
    for one in (support, sales):
        with one.conversation(PERSON):
            pass
        one.record(PERSON, "satisfaction", 4, id=f"rating-of-{one.agent}", explanation="thank you")
        assert one.recorder.flush_and_wait(5.0)
    yield support
    sales.stop_blocking()
    support.stop_blocking()


def run(*arguments: str, file: Path, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*arguments, "--config", str(file)])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def test_an_export_has_everything_of_every_agent(canary: Canary, file: Path, tmp_path: Path) -> None:
    kept = json.loads(run("export", PERSON, file=file))["kept"]
    assert [part["agent"] for part in kept] == ["sales", "support"]
    assert [outcome["explanation"] for part in kept for outcome in part["outcomes"]] == ["thank you"] * 2
    assert [part["parts"][0]["turns"] for part in kept] == [1, 1]
    target = tmp_path / "export.json"
    run("export", PERSON, "--agent", "sales", "--output", str(target), file=file)
    assert [part["agent"] for part in json.loads(target.read_text())["kept"]] == ["sales"]
    assert target.stat().st_mode & 0o777 == 0o600
    assert "nothing is kept" in run("export", "somebody else", file=file, code=1)


def test_forgetting_leaves_nothing_to_export_and_says_what_is_left(canary: Canary, file: Path) -> None:
    done = json.loads(run("forget", PERSON, "--yes", "--compact", "--json", file=file))
    assert done["deleted"]["conversations"] == 2
    assert done["deleted"]["outcomes"] == 2
    assert done["agents"] == ["sales", "support"]
    assert any("Traces, logs and backups" in sentence for sentence in done["left"])
    assert "nothing is kept" in run("export", PERSON, file=file, code=1)
    canary.stop_blocking()
    found = [path.name for path in file.parent.rglob("*") if path.is_file() and b"4711" in path.read_bytes()]
    assert found == []


def test_forgetting_is_never_done_without_being_asked(canary: Canary, file: Path) -> None:
    assert "add --yes" in run("forget", PERSON, file=file, code=2)
    assert len(json.loads(run("export", PERSON, file=file))["kept"]) == 2


def test_explain_finds_a_conversation_by_its_id_also_where_only_hashes_are_kept(canary: Canary, file: Path) -> None:
    said = json.loads(run("explain", PERSON, "--json", file=file))
    assert said["parts"][0]["turns"] == 1
