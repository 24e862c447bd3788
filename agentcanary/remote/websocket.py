"""One WebSocket, handed on to another server: messages in both directions, and whoever closes first closes both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from agentcanary.context import current_turn
from agentcanary.remote.headers import handed_on

log = structlog.get_logger("agentcanary")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# Codes that may not be sent (RFC 6455, 7.4.1): nobody said why, or nobody said anything.
_UNSENDABLE = frozenset({1005, 1006, 1015})
_TRY_LATER = 1013


async def serve_websocket(
    url: str, canary: bool, scope: Scope, receive: Receive, send: Send, *, open_timeout: float
) -> None:
    """Hand one WebSocket on. It is accepted as the other server accepts it, or refused as that refuses it.

    Args:
        url: With scheme ws or wss, path and query.
        canary: True for a connection that carries ``x-canary: true``.
        scope: ASGI scope.
        receive: The server's.
        send: The server's.
        open_timeout: Seconds until the other server must have accepted.
    """
    await receive()  # websocket.connect
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in handed_on(scope, canary=canary)]
    try:
        remote = await connect(
            url,
            subprotocols=[Subprotocol(name) for name in scope.get("subprotocols", [])] or None,
            additional_headers=headers,
            user_agent_header=None,
            # Messages are handed on as they are; sizes and pings are between the client and the agent's server.
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=open_timeout,
            proxy=None,
        )
    except (OSError, TimeoutError, InvalidHandshake) as error:
        await _refuse(error, scope, send)
        return
    try:
        await send({"type": "websocket.accept", "subprotocol": remote.subprotocol, "headers": []})
        await _both_ways(remote, receive, send)
    finally:
        await remote.close()


async def _both_ways(remote: ClientConnection, receive: Receive, send: Send) -> None:
    up = asyncio.ensure_future(_up(remote, receive))
    down = asyncio.ensure_future(_down(remote, send))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        results = await asyncio.gather(up, down, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _up(remote: ClientConnection, receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", 1000)
            await remote.close(1000 if code in _UNSENDABLE else code, message.get("reason") or "")
            return
        text = message.get("text")
        try:
            await remote.send(text if text is not None else message["bytes"])
        except ConnectionClosed:
            # Its closing is handed on by the other direction.
            await asyncio.Event().wait()


async def _down(remote: ClientConnection, send: Send) -> None:
    try:
        async for message in remote:
            kind = "text" if isinstance(message, str) else "bytes"
            await send({"type": "websocket.send", kind: message})
    except ConnectionClosed:
        pass  # the code is the connection's, whether that was an error or not
    code = remote.close_code or 1006
    lost = code in _UNSENDABLE and code != 1005
    if lost:
        turn = current_turn()
        if turn is not None:
            turn.fail("ConnectionClosed")
    await send(
        {
            "type": "websocket.close",
            "code": 1011 if lost else 1000 if code in _UNSENDABLE else code,
            "reason": remote.close_reason or "",
        }
    )


async def _refuse(error: Exception, scope: Scope, send: Send) -> None:
    """Tell the client what the other server said, where the server can; 502 or 504 where it said nothing."""
    if isinstance(error, InvalidStatus):
        status, body = error.response.status_code, error.response.body or b""
    else:
        status, body = (504 if isinstance(error, TimeoutError) else 502), b""
        turn = current_turn()
        if turn is not None:
            turn.fail(type(error).__name__)
        log.warning("agentcanary.remote_failed", error_type=type(error).__name__, error=str(error), status=status)
    if "websocket.http.response" in scope.get("extensions", {}):
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": _TRY_LATER, "reason": ""})
