"""Ids that servers make, on a real store: later turns follow the first in any worker, at any weight, once restarted."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agentcanary import Canary, CanaryMiddleware
from agentcanary.config import parse_config
from agentcanary.context import current_version
from agentcanary.state_machine import Action, ActionKind, advance

START = 1_800_000_000.0
CONFIG = """
agent: support
stable: v1
canary: v2
conversation: {preset: openai-responses}
controller: false
canary_stages:
  - {name: low, weight: 0.3, duration: 1m}
  - {name: high, weight: 0.9, duration: 1m}
  - {name: full, weight: 1}
"""
responses = itertools.count()


class Now:
    """A clock that is set."""

    speed = 1.0

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    """A server shaped like the Responses API, which streams."""
    await receive()
    made = f"resp_{next(responses)}"
    event = {"type": "response.created", "response": {"id": made, "output": current_version()}}
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    await send(head)
    await send({"type": "http.response.body", "body": f"data: {json.dumps(event)}\n\n".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


class Deployment:
    """Workers on one store; ``turn`` asks one of them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.now = Now()
        self.workers: list[Canary] = []

    def worker(self) -> Canary:
        canary = Canary(parse_config(f"{CONFIG}store: {self.url}\n"), clock=self.now)
        # On a busy machine a look-up may take longer than a request should wait; that is tested elsewhere.
        canary.pins._deadline = canary.aliases._deadline = 30.0
        canary.start_blocking()
        self.workers.append(canary)
        return canary

    def turn(self, worker: Canary, previous: str | None = None) -> tuple[str, str]:
        """The id of a response and the version that made it."""
        sent: list[Any] = []

        async def receive() -> Any:
            body = {"input": "Hi"} if previous is None else {"input": "Hi", "previous_response_id": previous}
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/responses", "query_string": b"", "headers": headers}
        asyncio.run(CanaryMiddleware(answer, canary=worker)(scope, receive, send))
        response = json.loads(sent[1]["body"].removeprefix(b"data: "))["response"]
        return response["id"], response["output"]

    def move(self, kind: ActionKind) -> None:
        """Act on the rollout, and let every worker know; the hand-over is then over."""
        store = self.workers[0].store
        for canary in self.workers:
            assert canary.recorder.flush_and_wait(10.0)
        rollout = store.current("support")
        assert rollout is not None
        self.now.now += 60.0
        action = Action(kind=kind, actor="a test", reason="to see")
        store.save(advance(rollout, action, now=self.now()), expected_revision=rollout.revision, now=self.now())
        self.tell()

    def tell(self) -> None:
        """Let every worker know the rollout as it is, and the hand-over be over."""
        for canary in self.workers:
            canary.snapshots.poll()
        told = self.now()
        self.now.now += 10.0
        # The hand-over lasts until every worker has reported that what it recorded before is stored.
        store, patience = self.workers[0].store, time.monotonic() + 30.0
        while store.watermark("support", self.now(), dead_after=3600.0) < told and time.monotonic() < patience:
            time.sleep(0.02)
        for canary in self.workers:
            canary.snapshots.poll()
        self.now.now += 10.0


@pytest.fixture
def deployment(new_url: Callable[[], str]) -> Iterator[Deployment]:
    made = Deployment(new_url())
    yield made
    for canary in made.workers:
        canary.stop_blocking()


def test_a_chain_of_responses_stays_on_its_version(deployment: Deployment) -> None:
    one, other = deployment.worker(), deployment.worker()
    one.controller.tick()
    deployment.tell()
    chains = [deployment.turn(one) for _ in range(16)]
    versions = [version for _, version in chains]
    assert set(versions) == {"v1", "v2"}

    def follow(worker: Canary) -> None:
        for number, (previous, version) in enumerate(chains):
            chains[number] = deployment.turn(worker, previous)
            assert chains[number][1] == version

    follow(other)
    deployment.move(ActionKind.ADVANCE)
    follow(one)
    one.stop_blocking()
    restarted = deployment.worker()
    follow(restarted)
    assert restarted.recorder.flush_and_wait(10.0)
    known = restarted.store.conversation("support", chains[0][0])
    assert known is not None
    assert known.parts[0].turns >= 3
    # A worker without HTTP follows the same id.
    previous, version = chains[0]
    with restarted.conversation(previous) as turn:
        assert (turn.version, turn.assignment.unit) == (version, known.unit)


def test_a_session_without_http_keeps_its_version_while_the_weight_changes(deployment: Deployment) -> None:
    worker = deployment.worker()
    worker.controller.tick()
    deployment.tell()
    rooms = [f"room-{number}" for number in range(8)]
    with ExitStack() as sessions:
        began = {room: sessions.enter_context(worker.conversation(room)) for room in rooms}
        versions = {room: turn.version for room, turn in began.items()}
        deployment.move(ActionKind.ADVANCE)
        assert {room: turn.version for room, turn in began.items()} == versions
        for room in rooms:
            with worker.conversation(room) as again:
                assert again.version == versions[room]

    async def hang_up() -> None:
        async with worker.conversation(rooms[0]):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(hang_up())
    assert worker.recorder.flush_and_wait(10.0)
    known = worker.store.conversation("support", rooms[0])
    assert known is not None
    (part,) = known.parts
    assert (part.turns, part.open, part.errors, part.aborted) == (3, 0, 0, 1)
    assert sum(entry.latency > 0 for entry in part.log) == 3
