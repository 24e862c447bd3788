"""The middleware under a real server: clients that leave in mid-stream, over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.sync.client import connect

from agentcanary import current_version
from agentcanary.middleware import CanaryMiddleware
from agentcanary.outcomes import TurnOutcome

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FakeHost

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(uvicorn|websockets).*")


async def chat(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"said": body["text"], "version": current_version()})


async def stream(_: Request) -> Response:
    async def events() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(events(), media_type="text/event-stream")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


@contextmanager
def served(host: FakeHost) -> Iterator[int]:
    """A server on a free port of this machine, stopped afterwards."""
    app = Starlette(
        routes=[Route("/chat", chat, methods=["POST"]), Route("/stream", stream), WebSocketRoute("/talk", talk)],
        middleware=[Middleware(CanaryMiddleware, canary=host)],
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10.0)
        listener.close()


def until(condition: Callable[[], Any]) -> None:
    """Wait until something holds, at most five seconds."""
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold within five seconds"
        time.sleep(0.01)


def request(port: int, head: str, body: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5.0)
    connection.sendall(f"{head}\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_requests_streams_and_sockets_end_as_their_clients_end_them(host: FakeHost) -> None:
    with served(host) as port:
        until(lambda: host.starts == 1)

        body = b'{"text": "hi", "conversation_id": "c-1"}'
        with request(port, "POST /chat HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json", body) as sent:
            answer = b"".join(iter(lambda: sent.recv(65536), b""))
        assert b'"said":"hi"' in answer
        until(lambda: len(host.ended) == 1)
        assert host.ended[0].outcome is TurnOutcome.OK
        assert host.ended[0].assignment.unit == "c-1"

        with request(port, "GET /stream HTTP/1.1\r\nx-conversation-id: c-2") as sent:
            assert sent.recv(65536)
        until(lambda: len(host.ended) == 2)
        assert (host.ended[1].assignment.unit, host.ended[1].outcome) == ("c-2", TurnOutcome.ABORTED)

        with connect(f"ws://127.0.0.1:{port}/talk", additional_headers={"x-conversation-id": "c-3"}) as open_socket:
            open_socket.send("hello")
            assert open_socket.recv() == "hello"
        until(lambda: len(host.ended) == 3)
        assert (host.ended[2].assignment.unit, host.ended[2].outcome) == ("c-3", TurnOutcome.OK)

        headers = {"x-conversation-id": "c-4"}
        with connect(f"ws://127.0.0.1:{port}/talk", additional_headers=headers, close_timeout=0.1) as vanishing:
            vanishing.send("hello")
            vanishing.recv()
            vanishing.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: len(host.ended) == 4)
        assert (host.ended[3].assignment.unit, host.ended[3].outcome) == ("c-4", TurnOutcome.ABORTED)
    assert host.stops == 1
    assert host.failures == []
