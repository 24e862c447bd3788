"""One HTTP request, handed on to another server in pieces, and its answer handed back in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import httpx
import structlog

from agentcanary.context import current_turn
from agentcanary.errors import VersionError
from agentcanary.remote.headers import handed_back, handed_on

log = structlog.get_logger("agentcanary")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LEFT = "the client left"


async def serve_http(
    transport: httpx.AsyncBaseTransport,
    url: str,
    canary: bool,
    scope: Scope,
    receive: Receive,
    send: Send,
    timeout: httpx.Timeout,
) -> None:
    """Hand one request on.

    Args:
        transport: Keeps the connections.
        url: The whole of it, path and query included.
        canary: True for a request that carries ``x-canary: true``.
        scope: ASGI scope.
        receive: The server's.
        send: The server's.
        timeout: For connecting, and for each wait.

    Raises:
        VersionError: If the other server breaks off its answer: whoever called us then cuts it off as well.
    """
    body = _Body(receive)
    headers = handed_on(scope, canary=canary)
    content = body.pieces() if _has_body(scope) else None
    request = httpx.Request(
        scope["method"], url, headers=headers, content=content, extensions={"timeout": timeout.as_dict()}
    )
    answering = asyncio.ensure_future(_answer(transport, request, send))
    leaving = asyncio.ensure_future(body.left(read=content is None))
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
        await asyncio.wait((answering,))
    finally:
        for task in (answering, leaving):
            task.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
    if not answering.cancelled():
        answering.result()


async def _answer(transport: httpx.AsyncBaseTransport, request: httpx.Request, send: Send) -> None:
    try:
        response = await transport.handle_async_request(request)
    except httpx.HTTPError as error:
        await _failed(error, send)
        return
    try:
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": handed_back(response.headers.raw),
            }
        )
        # As they come, and as they are: what is compressed stays compressed.
        async for piece in _pieces(response):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except httpx.HTTPError as error:
        raise VersionError(f"the remote version broke off its answer: {type(error).__name__}") from error
    finally:
        await response.aclose()


async def _failed(error: httpx.HTTPError, send: Send) -> None:
    status = 504 if isinstance(error, httpx.TimeoutException) else 502
    turn = current_turn()
    if turn is not None:
        turn.fail(type(error).__name__)
    log.warning("agentcanary.remote_failed", error_type=type(error).__name__, error=str(error), status=status)
    text = b'{"detail":"the version that serves this conversation does not answer"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class _Body:
    """The body of a request as it comes in, and the leaving of the client after it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._read = asyncio.Event()
        self._gone = False

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                self._read.set()
                # Ends the request to the other server without an end of its body.
                raise httpx.ReadError(_LEFT)
            more = message.get("more_body", False)
            if piece := message.get("body", b""):
                yield piece
        self._read.set()

    async def left(self, *, read: bool) -> None:
        """Return when the client has left. Waits until the body was read, unless nobody reads it."""
        if not read:
            await self._read.wait()
        while not self._gone:
            self._gone = (await self._receive())["type"] == "http.disconnect"


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _pieces(response: httpx.Response) -> AsyncIterable[bytes]:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise VersionError("the remote version's answer is no stream")
    return response.stream
