"""A version that runs behind a URL. Shell: every request of its conversations goes there, and the answer comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from agentcanary.context import current
from agentcanary.remote.http import serve_http
from agentcanary_analysis.aggregates import Arm

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class RemoteVersion:
    """An ASGI application that another server answers for: HTTP, server-sent events and WebSockets.

    Bodies go through in pieces, in both directions, as they come. Connections are kept and used again. When the client
    leaves, the request to the other server is given up; when that server fails, the client gets 502, or 504 after a
    time-out, and the turn is an error. The canary's requests carry ``x-canary: true``, which a mesh obeys.

    Args:
        url: Where the version runs: ``http://support-canary:8080``. A path in it comes before that of the request.
        connect_timeout: Seconds to connect.
        read_timeout: Seconds without a byte from the other server: a model may think for minutes.
        canary: Whether its requests carry the header; None where the arm of each conversation says so.

    Raises:
        ValueError: If the URL is none, or a time-out is not positive.
    """

    def __init__(
        self, url: str, *, connect_timeout: float = 5.0, read_timeout: float = 600.0, canary: bool | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                f"a remote version needs an http or https URL without a query, got {url!r}; "
                "write http://support-canary:8080"
            )
        if parts.username is not None or parts.password is not None:
            raise ValueError("the URL of a remote version must hold no password: the client's own headers are sent on")
        if not (connect_timeout > 0 and read_timeout > 0):
            raise ValueError(f"time-outs are positive seconds, got {connect_timeout:g} and {read_timeout:g}")
        self.url = url.rstrip("/")
        self._timeout = httpx.Timeout(read_timeout, connect=connect_timeout)
        self._connect_timeout = connect_timeout
        self._canary = canary
        self._transport: httpx.AsyncHTTPTransport | None = None

    def __repr__(self) -> str:
        return f"RemoteVersion({self.url!r})"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        match scope["type"]:
            case "http":
                await serve_http(
                    self._opened(), self._target(scope, self.url), self._marks(), scope, receive, send, self._timeout
                )
            case "websocket":
                # websockets is loaded only where there is one.
                from agentcanary.remote.websocket import serve_websocket

                url = "ws" + self.url.removeprefix("http")
                await serve_websocket(
                    self._target(scope, url), self._marks(), scope, receive, send, open_timeout=self._connect_timeout
                )
            case "lifespan":
                await self._live(receive, send)
            case kind:
                raise ValueError(f"a remote version serves http and websocket, got a connection of type {kind!r}")

    def _marks(self) -> bool:
        if self._canary is not None:
            return self._canary
        assignment = current()
        return assignment is not None and assignment.arm is Arm.CANARY

    def _opened(self) -> httpx.AsyncHTTPTransport:
        # Not at import: connections belong to an event loop. And no client around it: cookies, redirects and
        # authentication are between the client and the agent.
        if self._transport is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
            self._transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        return self._transport

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                transport, self._transport = self._transport, None
                if transport is not None:
                    await transport.aclose()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    @staticmethod
    def _target(scope: Scope, url: str) -> str:
        path = scope.get("raw_path") or scope["path"].encode()
        # raw_path has the query in some servers, against the specification.
        text = path.partition(b"?")[0].decode("latin-1")
        query = scope.get("query_string", b"").decode("latin-1")
        return f"{url}{text}?{query}" if query else f"{url}{text}"
