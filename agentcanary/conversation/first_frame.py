"""The first frame of a WebSocket, read before the version is chosen.

A client sends nothing before it is accepted, so the connection is accepted here, and the application's own accept is
passed over: with the first subprotocol that the client offers, and without headers of the application's. One that
refuses the connection closes it instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agentcanary.conversation.body import Message, Receive, Replay
from agentcanary.conversation.extractors import Scope
from agentcanary.conversation.identity import Problem

Send = Callable[[Message], Awaitable[None]]

# A client that says who it is does so at once.
DEADLINE = 2.0
_POLICY_VIOLATION = 1008


class FirstFrameRead(NamedTuple):
    """What came of the first frame.

    Attributes:
        text: The frame; None when none came in time.
        problem: Why there is none.
        receive: Gives what was read once more, then what the server sends.
        send: Leaves out the application's accept.
    """

    text: bytes | None
    problem: Problem
    receive: Receive
    send: Send


async def read_first_frame(
    scope: Scope, receive: Receive, send: Send, *, max_bytes: int, deadline: float = DEADLINE
) -> FirstFrameRead:
    """Accept a connection and read its first frame without taking it away from the application.

    Args:
        scope: Of the WebSocket.
        receive: The server's.
        send: The server's.
        max_bytes: A larger frame is handed on without being looked into.
        deadline: Seconds to wait for the frame.
    """
    connect = await receive()
    if connect["type"] != "websocket.connect":
        return FirstFrameRead(None, Problem.DISCONNECTED, Replay([connect], receive), send)
    offered = scope.get("subprotocols") or [None]
    await send({"type": "websocket.accept", "subprotocol": offered[0], "headers": []})
    accepted = _Accepted(send)
    # Not cancelled when the time is up: the application goes on waiting for the same frame.
    pending = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({pending}, timeout=deadline)
    except asyncio.CancelledError:
        pending.cancel()
        raise
    if not pending.done():
        return FirstFrameRead(None, Problem.ABSENT, Replay([connect], _after(pending, receive)), accepted)
    if pending.exception() is not None:
        return FirstFrameRead(None, Problem.DISCONNECTED, Replay([connect], _after(pending, receive)), accepted)
    frame = pending.result()
    replay = Replay([connect, frame], receive)
    if frame["type"] != "websocket.receive":
        return FirstFrameRead(None, Problem.DISCONNECTED, replay, accepted)
    text, data = frame.get("text"), frame.get("bytes")
    content = text.encode("utf-8", "surrogatepass") if text is not None else bytes(data or b"")
    if len(content) > max_bytes:
        return FirstFrameRead(None, Problem.BODY_TOO_LARGE, replay, accepted)
    return FirstFrameRead(content, Problem.ABSENT, replay, accepted)


def _after(pending: asyncio.Future[Message], receive: Receive) -> Receive:
    """A ``receive`` that gives what is already on its way first."""
    waiting: list[asyncio.Future[Message]] = [pending]

    async def next_message() -> Message:
        if waiting:
            message = await asyncio.shield(waiting[0])
            waiting.clear()
            return message
        return await receive()

    return next_message


class _Accepted:
    """A ``send`` for a connection that was accepted already."""

    __slots__ = ("_accepted", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._accepted = False

    async def __call__(self, message: Message) -> None:
        """Send a message, or not."""
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepted = True
        elif kind == "websocket.http.response.start":
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
        elif kind == "websocket.close" and not self._accepted:
            await self._send({**message, "code": message.get("code", _POLICY_VIOLATION)})
        elif kind != "websocket.http.response.body":
            await self._send(message)
