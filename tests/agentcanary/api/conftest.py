"""A canary on a real store, whose API is asked over ASGI with tokens of every scope."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcanary import Canary
from agentcanary.config import parse_config
from agentcanary.rollout import Audit
from agentcanary.state_machine import new_rollout
from agentcanary.testing import FrozenClock

TOKENS = {
    "READ": "ac_reading-0123456789abcdef",
    "OPERATE": "ac_operating-0123456789abcdef",
    "RECORD": "ac_recording-0123456789abcdef",
}
YAML = """
agent: support
stable: support-v1
canary: support-v2
controller: false
canary_stages:
  - {name: half, weight: 0.5, duration_minutes: 30}
  - {name: full, weight: 1.0, duration_minutes: 0}
"""
ROLLOUT_SALT = b"a salt of 32 bytes for a rollout"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Canary]:
    for scope, token in TOKENS.items():
        monkeypatch.setenv(f"AGENTCANARY_{scope}_TOKEN", token)

    def make(more: str = "", *, folder: str = "") -> Canary:
        file = tmp_path / folder / "canary.yaml"
        return Canary(parse_config(YAML + more, filename=str(file)), notifiers=[], clock=FrozenClock())

    return make


@pytest.fixture
async def canary(make: Callable[..., Canary]) -> AsyncIterator[Canary]:
    made = make()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def known(canary: Canary) -> str:
    """A conversation that had a turn."""
    return turn(canary, "c-1")


def turn(canary: Canary, conversation: str) -> str:
    with canary.conversation(conversation):
        pass
    assert canary.recorder.flush_and_wait(5.0)
    return conversation


def begin(canary: Canary) -> str:
    """A rollout that waits for its first look; its id."""
    now = canary.clock()
    config = canary.config
    assert config.canary is not None
    rollout = new_rollout(config.agent, config.stable, config.canary, config.plan, now=now, new_salt=ROLLOUT_SALT)
    audit = Audit(at=now, actor="test", action="create", reason="a test", before="", after="pending")
    canary.store.start(rollout, audit)
    return rollout.id


class Client:
    """Asks the API as whoever has the token of a scope."""

    def __init__(self, canary: Canary) -> None:
        transport = httpx.ASGITransport(app=canary.api(), raise_app_exceptions=True)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://agent")

    async def __call__(
        self, method: str, path: str, *, scope: str | None = "READ", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        named = dict(headers or {})
        if scope is not None:
            named["authorization"] = f"Bearer {TOKENS[scope]}"
        return await self._http.request(method, path, headers=named, **more)


@pytest.fixture
def ask(canary: Canary) -> Client:
    return Client(canary)
