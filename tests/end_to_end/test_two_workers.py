"""A real server: two uvicorn worker processes, one SQLite file; HTTP, server-sent events, WebSockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from agentcanary.rollout import Phase
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.store import Store

HERE = Path(__file__).parent
YAML = """
agent: support
stable: support-v1
canary: support-v2
look_every: 1s
canary_stages:
  - {name: half, weight: 0.5, duration_minutes: 60, min_requests: 50, checks: ["safety_violations == 0"]}
  - {name: full, weight: 1.0, duration_minutes: 0}
rollback: {pinned: {manual: switch}}
"""


class Server:
    """The agent under uvicorn, with two workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "canary.yaml"
        self.config.write_text(YAML)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.store = Store(f"sqlite:///{folder / '.agentcanary' / 'support.sqlite3'}")
        # No connection is kept, so that any worker may get the next request.
        self.http = httpx.Client(base_url=self.url, timeout=10.0, limits=httpx.Limits(max_keepalive_connections=0))
        self._pool = ThreadPoolExecutor(4)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until both workers split new conversations: the first hand-over is behind."""
        command = [sys.executable, "-m", "uvicorn", "agent_app:app", "--workers", "2", "--log-level", "warning"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self.port)],
                env={**os.environ, "CANARY_YAML": str(self.config), "PYTHONPATH": str(HERE)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_for_both(lambda known: known["open"] is True and known["handed_over"] is True)

    def wait_for_both(self, condition: Callable[[dict[str, object]], bool], seconds: float = 40.0) -> float:
        """Wait until both workers say so; the seconds it took."""
        begun = time.monotonic()
        workers: dict[object, bool] = {}
        while len(workers) < 2 or not all(workers.values()):
            assert time.monotonic() - begun < seconds, (self.folder / "log").read_text()
            for known in self._pool.map(self._health, range(4)):
                if known:
                    workers[known["pid"]] = condition(known)
        return time.monotonic() - begun

    def _health(self, _: int) -> dict[str, object]:
        try:
            known: dict[str, object] = self.http.get("/health").json()
        except httpx.TransportError:
            time.sleep(0.05)
            return {}
        return known

    def kill(self) -> None:
        """kill -9, the workers too."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def close(self) -> None:
        """Close what is open on this side."""
        self._pool.shutdown()
        self.http.close()
        self.store.close()

    def chat(self, conversation: str, message: str = "hello") -> str:
        """One turn, by any of the workers."""
        body = {"conversation_id": conversation, "message": message}
        response = self.http.post("/chat", json=body)
        return str(response.json()["version"]) if response.status_code == 200 else f"status {response.status_code}"

    def stream(self, conversation: str, words: int) -> set[str]:
        """One streamed turn; the versions that its words name."""
        body = {"conversation_id": conversation, "message": str(words)}
        with self.http.stream("POST", "/stream", json=body) as response:
            return {line.split()[1] for line in response.iter_lines() if line}

    def on_the_canary(self, prefix: str) -> str:
        """A conversation that the canary serves."""
        return next(unit for unit in (f"{prefix}-{n}" for n in range(100)) if self.chat(unit) == "support-v2")

    def turns(self, conversation: str) -> tuple[int, int, int]:
        """Turns, errors and aborted turns of a conversation, as stored."""
        known = self.store.conversation("support", conversation)
        part = known.parts[-1] if known is not None and known.parts else None
        return (part.turns, part.errors, part.aborted) if part is not None else (0, 0, 0)


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server")) as started:
        yield started


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not happen"
        time.sleep(0.02)


def test_a_conversation_keeps_its_version_whichever_worker_serves_it(server: Server) -> None:
    versions = {f"keep-{n}": server.chat(f"keep-{n}") for n in range(30)}
    assert set(versions.values()) == {"support-v1", "support-v2"}
    for _ in range(3):
        assert {unit: server.chat(unit) for unit in versions} == versions


def test_streams_and_sockets_are_served_by_the_conversations_version(server: Server) -> None:
    for number in range(12):
        unit = f"mixed-{number}"
        version = server.chat(unit)
        assert server.stream(unit, 5) == {version}
        with connect(f"ws://127.0.0.1:{server.port}/socket", additional_headers={"x-conversation-id": unit}) as ws:
            ws.send("hello")
            assert ws.recv() == version
    until(lambda: server.turns("mixed-0") == (3, 0, 0))


def test_errors_and_clients_that_leave_are_told_apart(server: Server) -> None:
    assert server.chat("failing", "fail") == "status 500"
    body = {"conversation_id": "leaving", "message": "500"}
    with server.http.stream("POST", "/stream", json=body) as response:
        next(response.iter_lines())
    until(lambda: server.turns("failing") == (1, 1, 0))
    until(lambda: server.turns("leaving") == (1, 0, 1))


def test_a_killed_server_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        versions = {f"c-{n}": server.chat(f"c-{n}") for n in range(30)}
        until(lambda: all(server.turns(unit) == (1, 0, 0) for unit in versions))
        before = server.store.current("support")
        server.kill()
        server.start()
        assert before is not None
        after = server.store.current("support")
        assert after is not None
        assert (after.id, after.stage_started_at, after.phase) == (before.id, before.stage_started_at, before.phase)
        assert {unit: server.chat(unit) for unit in versions} == versions


def test_a_rollback_reaches_every_worker_within_a_second(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        unit = server.on_the_canary("moved")
        rollout = server.store.current("support")
        assert rollout is not None
        action = Action(kind=ActionKind.ROLLBACK, actor="ada", reason="a test")
        now = time.time()
        server.store.save(advance(rollout, action, now=now), expected_revision=rollout.revision, now=now)
        assert server.wait_for_both(lambda known: known["open"] is False) < 1.0
        assert {server.chat(unit) for _ in range(6)} == {"support-v1"}


def test_a_safety_violation_stops_all_workers_and_becomes_a_rollback(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.chat(server.on_the_canary("victim"), "harm")
        assert server.wait_for_both(lambda known: known["open"] is False) < 1.0
        assert {server.chat(f"after-{n}") for n in range(20)} == {"support-v1"}

        def rolled_back() -> bool:
            rollout = server.store.current("support")
            return rollout is not None and rollout.phase is Phase.ROLLED_BACK and rollout.cause == "safety"

        until(rolled_back)
