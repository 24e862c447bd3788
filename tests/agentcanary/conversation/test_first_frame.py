"""Ids in the first frame of a WebSocket: read before the version is known, and handed on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentcanary.conversation import Finder, FirstFrame, Found, JsonField, Problem, Query, first_frame

PLACES = Finder((Query("id"), FirstFrame(JsonField("id"))), max_body=1000)
CONNECT = {"type": "websocket.connect"}
LEAVE = {"type": "websocket.disconnect", "code": 1000}


class Socket:
    """The server's side of a WebSocket: what it delivers, and what it was sent."""

    def __init__(self, *messages: dict[str, Any], later: asyncio.Event | None = None) -> None:
        self.messages = [CONNECT, *messages]
        self.sent: list[Any] = []
        self.later = later

    async def receive(self) -> Any:
        if len(self.messages) == 1 and self.later is not None:
            await self.later.wait()
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def search(self, query: bytes = b"", subprotocols: list[str] | None = None) -> Found:
        scope = {"type": "websocket", "headers": [], "query_string": query, "subprotocols": subprotocols or []}
        return await PLACES.search(scope, self.receive, self.send)


def text(content: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": content}


@pytest.mark.parametrize(
    ("frame", "unit", "problem"),
    [
        (text('{"id": "c-1"}'), "c-1", Problem.ABSENT),
        ({"type": "websocket.receive", "bytes": b'{"id": "c-1"}'}, "c-1", Problem.ABSENT),
        (text("hello"), None, Problem.MALFORMED_JSON),
        (text('{"id": {}}'), None, Problem.WRONG_TYPE),
        (text('{"id": "' + "x" * 2000), None, Problem.BODY_TOO_LARGE),
        (LEAVE, None, Problem.DISCONNECTED),
    ],
    ids=["text", "bytes", "no JSON", "wrong type", "too large", "leaves"],
)
def test_the_first_frame_is_looked_into_and_handed_on(
    frame: dict[str, Any], unit: str | None, problem: Problem
) -> None:
    async def run() -> tuple[Found, list[Any], list[Any]]:
        socket = Socket(frame, text("second"))
        found = await socket.search()
        return found, [await found.receive() for _ in range(3)], socket.sent

    found, seen, sent = asyncio.run(run())
    assert (found.unit, found.problem) == (unit, problem)
    assert seen == [CONNECT, frame, text("second")]
    assert [message["type"] for message in sent] == ["websocket.accept"]


def test_a_cheaper_place_leaves_the_connection_alone() -> None:
    async def run() -> tuple[Found, list[Any]]:
        socket = Socket(text('{"id": "c-1"}'))
        return await socket.search(b"id=c-9"), socket.sent

    found, sent = asyncio.run(run())
    assert (found.unit, found.send, sent) == ("c-9", None, [])


def test_the_applications_accept_is_passed_over_and_the_rest_is_sent() -> None:
    async def run() -> list[Any]:
        socket = Socket(text('{"id": "c-1"}'))
        found = await socket.search(subprotocols=["chat", "other"])
        assert found.send is not None
        await found.send({"type": "websocket.accept", "subprotocol": "chat"})
        await found.send({"type": "websocket.send", "text": "hello"})
        await found.send({"type": "websocket.close", "code": 4000})
        return socket.sent

    accept, hello, close = asyncio.run(run())
    assert accept == {"type": "websocket.accept", "subprotocol": "chat", "headers": []}
    assert (hello["text"], close["code"]) == ("hello", 4000)


@pytest.mark.parametrize(
    "refusal",
    [
        [{"type": "websocket.close"}],
        [
            {"type": "websocket.http.response.start", "status": 401, "headers": []},
            {"type": "websocket.http.response.body", "body": b"no"},
        ],
    ],
    ids=["close", "response"],
)
def test_an_application_that_refuses_the_connection_closes_it(refusal: list[dict[str, Any]]) -> None:
    async def run() -> list[Any]:
        socket = Socket(text('{"id": "c-1"}'))
        found = await socket.search()
        assert found.send is not None
        for message in refusal:
            await found.send(message)
        return socket.sent

    _, close = asyncio.run(run())
    assert (close["type"], close["code"]) == ("websocket.close", 1008)


def test_a_client_that_says_nothing_is_not_waited_for_and_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_frame.read_first_frame, "__kwdefaults__", {"deadline": 0.01})

    async def run() -> tuple[Found, list[Any]]:
        later = asyncio.Event()
        socket = Socket(text("late"), later=later)
        found = await socket.search()
        asyncio.get_running_loop().call_soon(later.set)
        return found, [await found.receive(), await found.receive()]

    found, seen = asyncio.run(run())
    assert (found.unit, found.problem) == (None, Problem.ABSENT)
    assert seen == [CONNECT, text("late")]
