"""``agentcanary dashboard``: where the pages are, which token opens them; and what a shell completes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agentcanary.cli import app
from agentcanary.config import parse_config
from agentcanary.state_machine import new_rollout
from agentcanary.store import Store

CONFIG = "agent: support\nstable: v1\ncanary: v2\n"
TOKEN = "anna-token-of-many-characters"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a configuration and a store with one rollout."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AGENTCANARY_")]:
        monkeypatch.delenv(name)
    (tmp_path / "canary.yaml").write_text(CONFIG)
    config = parse_config(CONFIG, str(tmp_path / "canary.yaml"))
    store = Store(config.store)
    store.start(new_rollout("support", "v1", "v2", config.plan, now=time.time(), new_salt=b"salt"))
    store.close()
    return tmp_path


class Running:
    """The command in a process of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-c", "from agentcanary.cli import main; main()", "dashboard", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--for", "60", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stderr is not None
        self.said = [self.process.stderr.readline() for _ in range(3)]

    @property
    def url(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.said[0])
        assert found is not None, self.said
        return found[0]

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        return self.process.returncode


def signed_in(url: str, token: str) -> httpx.Client:
    client = httpx.Client(base_url=url, trust_env=False, headers={"accept": "text/html"})
    answer = client.post("login", data={"token": token})
    assert answer.status_code == 303, answer.text
    return client


def test_the_pages_of_a_store_open_with_the_token_that_is_printed(folder: Path) -> None:
    running = Running("--store", f"sqlite:///{folder}/.agentcanary/support.sqlite3")
    token = re.search(r"token, for this run only: (ac_\S+)", running.said[1])
    assert token is not None, running.said
    with closing(signed_in(running.url, token[1])) as client:
        text = client.get("").text
        assert "support: v1 → v2" in text
        page = client.get(re.findall(r'href="(/rollout/[^"]+)"', text)[0]).text
        assert 'id="do-rollback"' in page
    assert running.end() == 0


def test_the_pages_of_a_configuration_open_with_its_own_token(folder: Path) -> None:
    running = Running(environment={"AGENTCANARY_READ_TOKEN": TOKEN})
    assert "AGENTCANARY_READ_TOKEN" in running.said[1]
    assert TOKEN not in "".join(running.said)
    with closing(signed_in(running.url, TOKEN)) as client:
        page = client.get(re.findall(r'href="(/rollout/[^"]+)"', client.get("").text)[0]).text
        assert "scope operate" in page
    assert running.end() == 0


def test_what_cannot_be_served_says_what_to_do(folder: Path) -> None:
    def said(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["dashboard", "--for", "1", *arguments])
        assert result.exit_code == 1
        return result.stderr

    assert "there is no such file yet" in said("--store", f"sqlite:///{folder}/none.sqlite3")
    assert "write sqlite:///path" in said("--store", "nothing")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another one with --port" in said("--port", str(taken.getsockname()[1]))
    assert not (folder / "none.sqlite3").exists()


def test_a_shell_completes_the_ids_of_rollouts(folder: Path) -> None:
    store = Store(f"sqlite:///{folder}/.agentcanary/support.sqlite3")
    rollout = store.rollouts()[0].id
    store.close()

    def completed(words: str) -> list[str]:
        environment = {"_AGENTCANARY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
        result = CliRunner().invoke(app, [], env=environment, prog_name="agentcanary")
        return result.stdout.split()

    assert completed("agentcanary status sup") == [rollout]
    assert completed("agentcanary status xyz") == []
    (folder / "canary.yaml").unlink()
    assert completed("agentcanary status sup") == []
