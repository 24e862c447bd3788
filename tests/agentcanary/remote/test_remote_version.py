"""A version behind a URL, through two real servers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from agentcanary import Canary
from agentcanary.assignment import bucket
from agentcanary.config import parse_config
from agentcanary.middleware import CanaryMiddleware
from agentcanary.outcomes import TurnOutcome
from agentcanary.remote import RemoteVersion
from agentcanary.state_machine import new_rollout
from agentcanary.transitions import enter
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FakeHost

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(uvicorn|websockets).*")


class Agent:
    """The agent in the other Deployment, and what it saw."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.first_piece = threading.Event()
        self.clients: set[Any] = set()
        self.closed_with: list[int] = []
        self.app = Starlette(
            routes=[
                Route("/base/echo/{rest:path}", self.echo, methods=["GET", "POST", "PUT", "HEAD"]),
                Route("/base/stream", self.stream),
                Route("/base/broken", self.broken),
                Route("/base/slow", self.slow),
                Route("/base/gzip", self.compressed),
                Route("/base/upload", self.upload, methods=["POST"]),
                WebSocketRoute("/base/talk", self.talk),
                WebSocketRoute("/base/close", self.close),
                WebSocketRoute("/base/refuse", self.refuse),
            ]
        )

    async def echo(self, request: Request) -> Response:
        self.clients.add(request.client)
        body = await request.body()
        headers = [[name, value] for name, value in request.headers.items()]
        seen = {
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "headers": headers,
            "body": hashlib.sha256(body).hexdigest(),
            "method": request.method,
        }
        response = JSONResponse(seen, status_code=207)
        response.raw_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"keep-alive", b"timeout=5")]
        return response

    async def stream(self, _: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                for number in range(1000):
                    yield f"data: {number}\n\n".encode()
                    await asyncio.sleep(0.02)
            finally:
                self.left.set()

        return StreamingResponse(events(), media_type="text/event-stream")

    async def broken(self, _: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            raise OSError("the model is gone")

        return StreamingResponse(events(), media_type="text/event-stream")

    async def slow(self, request: Request) -> Response:
        try:
            while not await request.is_disconnected():
                await asyncio.sleep(0.02)
        finally:
            self.left.set()
        return Response()

    async def compressed(self, _: Request) -> Response:
        return Response(gzip.compress(b"hello" * 100), headers={"content-encoding": "gzip"})

    async def upload(self, request: Request) -> Response:
        total = 0
        async for piece in request.stream():
            self.first_piece.set()
            total += len(piece)
        return JSONResponse({"total": total})

    async def talk(self, websocket: WebSocket) -> None:
        chosen = "chat.v2" if "chat.v2" in websocket.scope["subprotocols"] else None
        await websocket.accept(subprotocol=chosen)
        await websocket.send_text(websocket.headers.get("x-canary", "no"))
        with suppress(WebSocketDisconnect):
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    self.closed_with.append(message["code"])
                    return
                if message.get("text") is not None:
                    await websocket.send_text(message["text"])
                else:
                    await websocket.send_bytes(message["bytes"])

    async def close(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4001, "no more turns")

    async def refuse(self, websocket: WebSocket) -> None:
        await websocket.send_denial_response(JSONResponse({"detail": "no"}, status_code=403))


@contextmanager
def served(app: Any) -> Iterator[str]:
    """A server on a free port of this machine, stopped afterwards."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", proxy_headers=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10.0)
        listener.close()


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def front(agent: Agent) -> Iterator[str]:
    """Where clients come in: everything is handed on to the agent."""
    with served(agent.app) as there, served(RemoteVersion(f"http://{there}/base", canary=True)) as here:
        yield here


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold within ten seconds"
        time.sleep(0.01)


def test_method_path_query_headers_and_body_arrive_as_they_were_sent(front: str) -> None:
    body = bytes(range(256)) * 4000
    answer = httpx.put(
        f"http://{front}/echo/a%2Fb/ü?q=1&q=2&empty=",
        content=body,
        headers={
            "x-conversation-id": "c-1",
            "x-canary": "false",
            "connection": "x-hop",
            "x-hop": "1",
            "te": "trailers",
            "x-forwarded-for": "10.9.8.7",
        },
    )
    seen = answer.json()
    assert answer.status_code == 207
    assert (seen["method"], seen["path"], seen["query"]) == ("PUT", "/base/echo/a%2Fb/%C3%BC", "q=1&q=2&empty=")
    assert seen["body"] == hashlib.sha256(body).hexdigest()
    headers = [tuple(pair) for pair in seen["headers"]]
    assert headers.count(("x-canary", "true")) == 1
    assert ("x-canary", "false") not in headers, "nobody says by himself that he is the canary's"
    assert ("x-conversation-id", "c-1") in headers
    assert ("x-forwarded-for", "10.9.8.7, 127.0.0.1") in headers
    assert ("x-forwarded-host", front) in headers
    assert ("x-forwarded-proto", "http") in headers
    assert not {"x-hop", "te"} & {name for name, _ in headers}
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert "keep-alive" not in answer.headers


def test_connections_to_the_other_server_are_used_again(front: str, agent: Agent) -> None:
    with httpx.Client() as client:
        for _ in range(5):
            client.get(f"http://{front}/echo/x")
    assert len(agent.clients) == 1


def test_a_head_request_and_a_compressed_answer_stay_what_they_are(front: str) -> None:
    head = httpx.head(f"http://{front}/echo/x")
    assert (head.status_code, head.content) == (207, b"")
    assert int(head.headers["content-length"]) > 0
    with httpx.stream("GET", f"http://{front}/gzip") as answer:
        raw = b"".join(answer.iter_raw())
    assert gzip.decompress(raw) == b"hello" * 100


def test_a_stream_comes_piece_by_piece_and_is_given_up_when_the_client_leaves(front: str, agent: Agent) -> None:
    with httpx.stream("GET", f"http://{front}/stream") as answer:
        pieces = answer.iter_raw()
        begun = time.monotonic()
        assert next(pieces).startswith(b"data: 0")
        assert time.monotonic() - begun < 10.0, "the whole stream takes twenty seconds"
    assert agent.left.wait(10.0)


def test_a_client_that_does_not_wait_for_the_answer_ends_the_request(front: str, agent: Agent) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://{front}/slow", timeout=httpx.Timeout(5.0, read=0.3))
    assert agent.left.wait(10.0)


def test_a_body_is_handed_on_before_it_is_complete(front: str, agent: Agent) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x" * 1000
        assert agent.first_piece.wait(10.0), "the other server has read the beginning before the end was sent"
        yield b"y" * 500

    assert httpx.post(f"http://{front}/upload", content=pieces()).json() == {"total": 1500}


def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(front: str) -> None:
    with pytest.raises(httpx.RemoteProtocolError), httpx.stream("GET", f"http://{front}/broken") as answer:
        for _ in answer.iter_raw():
            pass


@pytest.mark.parametrize(("read_timeout", "status"), [(0.2, 504), (30.0, 502)])
def test_a_server_that_is_slow_or_not_there_gives_a_gateway_error(
    agent: Agent, read_timeout: float, status: int
) -> None:
    with served(agent.app) as there:
        url = f"http://{there}/base"
        if status == 502:
            with socket.create_server(("127.0.0.1", 0)) as nobody:
                url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with served(RemoteVersion(url, read_timeout=read_timeout)) as here:
            answer = httpx.get(f"http://{here}/slow")
    assert answer.status_code == status
    assert answer.json() == {"detail": "the version that serves this conversation does not answer"}


def test_messages_go_both_ways_with_the_chosen_subprotocol(front: str, agent: Agent) -> None:
    with connect(f"ws://{front}/talk", subprotocols=["chat.v1", "chat.v2"]) as talk:  # type: ignore[list-item] # a name
        assert talk.subprotocol == "chat.v2"
        assert talk.recv(10) == "true"
        talk.send("hello")
        talk.send(b"\x00\xff")
        assert (talk.recv(10), talk.recv(10)) == ("hello", b"\x00\xff")
        talk.close(4000, "bye")
    until(lambda: agent.closed_with == [4000])


def test_the_other_server_closes_with_its_code_and_reason(front: str) -> None:
    with connect(f"ws://{front}/close") as talk, pytest.raises(ConnectionClosed) as closed:
        talk.recv(10)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "no more turns")


def test_a_refused_handshake_is_refused_with_the_same_status(front: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{front}/refuse")
    assert refused.value.response.status_code == 403


def test_a_websocket_to_nobody_is_a_bad_gateway() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with served(RemoteVersion(f"http://127.0.0.1:{port}")) as here, pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{here}/talk")
    assert refused.value.response.status_code == 502


def test_each_conversation_goes_to_its_version_and_a_failure_there_is_an_error_of_the_canary(
    host: FakeHost, agent: Agent
) -> None:
    async def local(request: Request) -> Response:
        return JSONResponse({"headers": [], "here": True})

    def unit_on(arm: Arm) -> str:
        wanted = arm is Arm.CANARY
        names = (f"c-{number}" for number in range(100))
        return next(n for n in names if (bucket(host.shown.salt, n).assignment < host.shown.weight) is wanted)

    app = Starlette(routes=[Route("/echo/x", local), Route("/slow", local)])
    with served(agent.app) as there:
        version = RemoteVersion(f"http://{there}/base", read_timeout=0.3)
        with served(CanaryMiddleware(app, canary=host, versions={"support-v2": version})) as here:
            answers = [
                httpx.get(f"http://{here}/echo/x", headers={"x-conversation-id": unit_on(arm)}).json()
                for arm in (Arm.STABLE, Arm.CANARY)
            ]
            late = httpx.get(f"http://{here}/slow", headers={"x-conversation-id": unit_on(Arm.CANARY)})
    assert "here" in answers[0]
    assert ["x-canary", "true"] in answers[1]["headers"]
    assert late.status_code == 504
    outcomes = [(turn.assignment.arm, turn.outcome, turn.error_type) for turn in host.ended]
    assert outcomes == [
        (Arm.STABLE, TurnOutcome.OK, None),
        (Arm.CANARY, TurnOutcome.OK, None),
        (Arm.CANARY, TurnOutcome.ERROR, "ReadTimeout"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "support-canary:8080"}, "needs an http or https URL without a query, got 'support-canary:8080'"),
        ({"url": "ftp://host"}, "needs an http or https URL"),
        ({"url": "http://host?x=1"}, "without a query"),
        ({"url": "http://user:hunter2@host"}, "must hold no password"),
        ({"url": "http://host", "read_timeout": 0.0}, "time-outs are positive seconds, got 5 and 0"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as raised:
        RemoteVersion(**arguments)
    assert "hunter2" not in str(raised.value)


def test_the_configuration_says_which_versions_are_remote(tmp_path: Path, agent: Agent) -> None:
    async def local(_: Request) -> Response:
        return JSONResponse({"headers": [], "here": True})

    with served(agent.app) as there:
        text = f"""
agent: support
stable: support-v1
canary: support-v2
controller: false
security: {{trust_header: true}}
versions: {{support-v2: {{url: "http://{there}/base"}}}}
canary_stages: [{{name: all, weight: 0.5, duration: 1h}}, {{name: full, weight: 1, duration: 0s}}]
"""
        canary = Canary(parse_config(text, str(tmp_path / "canary.yaml")), notifiers=[])
        begun = time.time() - 60.0
        plan = canary.config.plan
        rollout = new_rollout("support", "support-v1", "support-v2", plan, now=begun, new_salt=b"s" * 32)
        canary.store.open()
        canary.store.start(enter(rollout, 0, begun, "test", "", {}).rollout)
        app = Starlette(routes=[Route("/echo/x", local)])
        with served(CanaryMiddleware(app, canary=canary)) as here:
            stable = httpx.get(f"http://{here}/echo/x").json()
            forced = httpx.get(f"http://{here}/echo/x", headers={"x-canary": "true"}).json()
    assert "here" in stable
    assert ["x-canary", "true"] in forced["headers"]
