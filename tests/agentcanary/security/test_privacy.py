"""privacy: hash. Nothing that agentcanary writes anywhere holds a conversation id."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from agentcanary import Canary, CanaryMiddleware
from agentcanary.config import parse_config
from agentcanary.errors import StoreError

PERSON = "customer-4711"
YAML = "agent: support\nstable: v1\ncanary: v2\nprivacy: hash\nlook_every: 1s\n"


def application(canary: Canary) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CanaryMiddleware, canary=canary)

    @app.post("/chat")
    async def chat(request: Request) -> dict[str, str]:
        body = await request.json()
        if body.get("fail"):
            raise RuntimeError("the model is away")
        canary.record(PERSON, "satisfaction", 4, explanation="thanks")
        return {"reply": "hello"}

    return app


def files_with_the_person(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and b"4711" in path.read_bytes()]


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def canary(tmp_path: Path, spans: InMemorySpanExporter) -> Iterator[Canary]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    config = parse_config(YAML, filename=str(tmp_path / "canary.yaml"))
    made = Canary(config, tracer_provider=provider, notifiers=[])
    yield made
    made.stop_blocking()


async def talk(app: FastAPI) -> None:
    """A conversation whose id comes in a header, in a body, and in a request that fails."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://agent") as client:
        await client.post("/chat", json={}, headers={"x-conversation-id": PERSON})
        await client.post("/chat", json={"conversation_id": PERSON})
        await client.post("/chat", json={"conversation_id": PERSON, "fail": True})


async def test_no_raw_id_is_in_the_database_the_journal_the_logs_or_the_spans(
    canary: Canary,
    spans: InMemorySpanExporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        await canary.start()
        app = application(canary)
        await talk(app)
        with canary.conversation(PERSON):
            canary.record(PERSON, "safety_violation", 1, label="pii")
        assert canary.recorder.flush_and_wait(5.0)
        in_database = files_with_the_person(tmp_path)

        def away(*_: Any, **__: Any) -> None:
            raise StoreError("the store is away")

        with monkeypatch.context() as broken:
            broken.setattr(canary.store, "add", away)
            await talk(app)
            assert not canary.recorder.flush_and_wait(0.3)
            assert canary.recorder.counters["journal_bytes"] > 0
            in_journal = files_with_the_person(tmp_path)
        assert canary.recorder.flush_and_wait(5.0)
        await canary.stop()
    assert (in_database, in_journal, files_with_the_person(tmp_path)) == ([], [], [])
    told = json.dumps([json.loads(span.to_json()) for span in spans.get_finished_spans()])
    assert "agentcanary.turn" in told
    assert "4711" not in told
    assert "4711" not in str(logs) + caplog.text
    # It is the same conversation all the while, and it can be found by who knows its id.
    known = canary.store.conversation("support", canary.unit_of(PERSON))
    assert known is not None
    assert sum(part.turns for part in known.parts) == 7
    assert len(known.outcomes) == 5


def test_the_same_id_is_the_same_pseudonym_in_every_process_and_another_in_another_store(tmp_path: Path) -> None:
    def unit(folder: str, more: str = "") -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        canary = Canary(parse_config(YAML + more, filename=str(tmp_path / folder / "canary.yaml")), notifiers=[])
        try:
            return canary.unit_of(PERSON)
        finally:
            canary.stop_blocking()

    assert unit("a") == unit("a") != unit("b")
    secret = "security: {id_secret: 0123456789abcdef}\n"
    assert unit("a", secret) == unit("b", secret) != unit("a")


def test_what_is_a_pseudonym_already_stays_one_for_the_application(canary: Canary) -> None:
    unit = canary.unit_of(PERSON)
    assert canary.unit_of(unit) == unit


def test_without_the_key_nothing_is_recorded_under_another_one(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_: str) -> bytes:
        raise StoreError("the store is away")

    with monkeypatch.context() as broken:
        broken.setattr(canary.store, "secret", away)
        canary.start_blocking()
        with pytest.raises(StoreError, match="privacy: hash needs its key"):
            canary.record(PERSON, "satisfaction", 4)
        with canary.conversation(PERSON) as turn:
            assert (turn.assignment.unit, turn.version) == ("", "v1")
