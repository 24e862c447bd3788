"""What became of a response: ok, error or aborted, for every way in which it can end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentcanary.middleware import CanaryMiddleware
from agentcanary.outcomes import TurnOutcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agentcanary.conftest import Exchange, FakeHost, Receive, Send

MakeScope = Callable[..., dict[str, Any]]
MakeExchange = Callable[..., "Exchange"]
OK, ERROR, ABORTED = TurnOutcome.OK, TurnOutcome.ERROR, TurnOutcome.ABORTED


def ending(host: FakeHost) -> tuple[TurnOutcome, str | None]:
    """Outcome and error type of the only turn; it started, and ended once."""
    (ended,) = host.ended
    (started,) = host.started
    assert started.turn_id == ended.turn_id
    return ended.outcome, ended.error_type


def sends(*messages: dict[str, Any], reads: int = 0, raises: BaseException | None = None) -> Any:
    """An application that reads so many messages, sends these, and then perhaps raises."""

    async def app(_: Any, receive: Receive, send: Send) -> None:
        for _number in range(reads):
            await receive()
        for message in messages:
            await send(message)
        if raises is not None:
            raise raises

    return app


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def chunk(body: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


LENGTH_10 = (b"content-length", b"10")


class TestHttp:
    @pytest.mark.parametrize(
        ("messages", "expected"),
        [
            ([start(200), chunk(b"x")], (OK, None)),
            ([start(204), chunk()], (OK, None)),
            ([start(404), chunk(b"x")], (OK, None)),
            ([start(422), chunk(b"x")], (OK, None)),
            ([start(408), chunk(b"x")], (ERROR, "408")),
            ([start(429), chunk(b"x")], (ERROR, "429")),
            ([start(499), chunk()], (ABORTED, None)),
            ([start(500), chunk(b"x")], (ERROR, "500")),
            ([start(503), chunk(b"x", more=True), chunk()], (ERROR, "503")),
            ([start(200), chunk(b"x", more=True), chunk(b"y", more=True), chunk()], (OK, None)),
            ([start(200), chunk(b"x", more=True)], (ERROR, "truncated")),
            ([start(200)], (ERROR, "truncated")),
            ([], (ERROR, "truncated")),
            ([start(200, LENGTH_10), chunk(b"12345", more=True), chunk(b"67890")], (OK, None)),
            ([start(200, LENGTH_10), chunk(b"12345", more=True), chunk()], (ERROR, "truncated")),
            ([start(200, LENGTH_10), chunk(b"12345", more=True), chunk(b"678901")], (ERROR, "truncated")),
            ([start(200, LENGTH_10), chunk()], (OK, None)),
            ([start(200), {"type": "http.response.pathsend", "path": "/x"}], (OK, None)),
            ([start(500), {"type": "http.response.pathsend", "path": "/x"}], (ERROR, "500")),
            ([start(200), chunk(b"x"), chunk(b"too late")], (OK, None)),
        ],
        ids=[
            "200", "204", "404", "422", "408", "429", "499", "500", "503 streamed", "stream", "cut stream",
            "no body", "nothing", "length met", "too short", "too long", "HEAD", "file", "500 file", "after the end",
        ],
    )  # fmt: skip
    def test_a_response_ends_as(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        messages: list[dict[str, Any]],
        expected: tuple[TurnOutcome, str | None],
    ) -> None:
        talk = exchange()
        asyncio.run(CanaryMiddleware(sends(*messages), canary=host)(scope(), talk.receive, talk.send))
        assert ending(host) == expected
        assert talk.sent == messages

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (ValueError("x"), (ERROR, "ValueError")),
            (HTTPException(500), (ERROR, "starlette.exceptions.HTTPException")),
            (OSError("the model's host is down"), (ERROR, "OSError")),
            (asyncio.CancelledError(), (ABORTED, None)),
            (KeyboardInterrupt(), (ABORTED, None)),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_an_exception_is_recorded_and_raised_on(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        error: BaseException,
        expected: tuple[TurnOutcome, str | None],
    ) -> None:
        talk = exchange()

        app = CanaryMiddleware(sends(start(), chunk(b"x", more=True), raises=error), canary=host)
        with pytest.raises(type(error)) as raised:
            asyncio.run(app(scope(), talk.receive, talk.send))
        assert raised.value is error
        assert ending(host) == expected

    @pytest.mark.parametrize("error", [None, RuntimeError("a consequence"), asyncio.CancelledError()], ids=str)
    def test_a_client_that_leaves_makes_it_aborted_whatever_follows(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange, error: BaseException | None
    ) -> None:
        talk = exchange(disconnects=True)

        app = CanaryMiddleware(sends(start(), chunk(b"x", more=True), reads=1, raises=error), canary=host)
        with nullcontext() if error is None else pytest.raises(type(error)):
            asyncio.run(app(scope(), talk.receive, talk.send))
        assert ending(host) == (ABORTED, None)

    def test_a_server_that_refuses_a_chunk_says_that_the_client_is_gone(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        async def gone(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise OSError("client disconnected")

        app = CanaryMiddleware(sends(start(), chunk(b"x", more=True), chunk()), canary=host)
        with pytest.raises(OSError, match="client disconnected"):
            asyncio.run(app(scope(), exchange().receive, gone))
        assert ending(host) == (ABORTED, None)

    def test_a_disconnect_after_the_last_chunk_changes_nothing(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        async def app(_: Any, receive: Receive, send: Send) -> None:
            await send(start())
            await send(chunk(b"x"))
            assert (await receive())["type"] == "http.disconnect"

        talk = exchange(disconnects=True)
        asyncio.run(CanaryMiddleware(app, canary=host)(scope(), talk.receive, talk.send))
        assert ending(host) == (OK, None)

    def test_the_first_byte_is_that_of_the_first_chunk_with_something_in_it(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The request, the application's turn, its first byte, its end: what we take before is not its latency.
        now = iter([99.0, 100.0, 101.5, 104.0])
        monkeypatch.setattr("agentcanary.middleware.perf_counter", lambda: next(now))
        monkeypatch.setattr("agentcanary.observe.perf_counter", lambda: next(now))
        messages = (start(), chunk(more=True), chunk(b"x", more=True), chunk(b"y", more=True), chunk())
        asyncio.run(CanaryMiddleware(sends(*messages), canary=host)(scope(), exchange().receive, exchange().send))
        (ended,) = host.ended
        assert (ended.time_to_first_byte, ended.latency) == (1.5, 4.0)

    def test_a_response_without_a_body_has_no_first_byte(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(sends(start(204), chunk()), canary=host)
        asyncio.run(app(scope(), exchange().receive, exchange().send))
        assert host.ended[0].time_to_first_byte is None

    def test_a_turn_is_recorded_when_it_starts_so_that_one_that_hangs_is_seen(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        async def run() -> None:
            entered = asyncio.Event()

            async def hangs(*_: Any) -> None:
                entered.set()
                await asyncio.Event().wait()

            turn = asyncio.create_task(
                CanaryMiddleware(hangs, canary=host)(scope(), exchange().receive, exchange().send)
            )
            await entered.wait()
            assert len(host.started) == 1
            assert host.ended == []
            turn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await turn

        asyncio.run(run())
        assert ending(host) == (ABORTED, None)

    def test_a_turn_ends_on_the_rollouts_clock_whatever_its_speed(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        async def app(_: Any, __: Any, send: Send) -> None:
            await send(start())
            await send(chunk(b"x"))

        asyncio.run(CanaryMiddleware(app, canary=host)(scope(), exchange().receive, exchange().send))
        (turn,) = host.turns
        ended = turn.end_at(60.0)
        assert ended.started_at == host.clock()
        assert ended.ended_at == ended.started_at + 60.0 * ended.latency > ended.started_at


class TestUnderStarlette:
    def client(self, host: FakeHost, endpoint: Callable[[Request], Awaitable[Response]]) -> TestClient:
        app = Starlette(
            routes=[Route("/", endpoint, methods=["GET", "POST", "HEAD"])],
            middleware=[Middleware(CanaryMiddleware, canary=host)],
        )
        return TestClient(app, headers={"x-conversation-id": "c-1"}, raise_server_exceptions=False)

    def test_an_exception_in_an_endpoint_is_an_error_of_its_class(self, host: FakeHost) -> None:
        async def endpoint(_: Request) -> Response:
            raise LookupError

        with self.client(host, endpoint) as client:
            assert client.get("/").status_code == 500
        assert ending(host) == (ERROR, "LookupError")

    def test_an_http_exception_is_its_status(self, host: FakeHost) -> None:
        async def endpoint(_: Request) -> Response:
            raise HTTPException(503)

        with self.client(host, endpoint) as client:
            assert client.get("/").status_code == 503
        assert ending(host) == (ERROR, "503")

    def test_server_sent_events_arrive_whole(self, host: FakeHost) -> None:
        async def endpoint(_: Request) -> Response:
            async def events() -> Any:
                for number in range(20):
                    yield f"data: {number}\n\n"

            return StreamingResponse(events(), media_type="text/event-stream")

        with self.client(host, endpoint) as client:
            assert client.get("/").text.count("data:") == 20
        assert ending(host) == (OK, None)

    def test_a_stream_that_dies_is_an_error_although_its_status_was_200(self, host: FakeHost) -> None:
        async def endpoint(_: Request) -> Response:
            async def events() -> Any:
                yield "data: 1\n\n"
                raise ConnectionError("the model hung up")

            return StreamingResponse(events())

        with self.client(host, endpoint) as client:
            assert client.get("/").status_code == 200
        assert ending(host) == (ERROR, "ConnectionError")

    def test_a_background_task_is_not_waited_for(self, host: FakeHost) -> None:
        seen: list[int] = []

        async def endpoint(_: Request) -> Response:
            return PlainTextResponse("x", background=BackgroundTask(lambda: seen.append(len(host.ended))))

        with self.client(host, endpoint) as client:
            client.get("/")
        assert seen == [1]

    def test_a_file_is_a_response(self, host: FakeHost, tmp_path: Path) -> None:
        (tmp_path / "answer.txt").write_text("x" * 200_000)

        async def endpoint(_: Request) -> Response:
            return FileResponse(tmp_path / "answer.txt")

        with self.client(host, endpoint) as client:
            assert len(client.get("/").content) == 200_000
        assert ending(host) == (OK, None)

    def test_a_response_to_head_has_no_body(self, host: FakeHost) -> None:
        async def endpoint(_: Request) -> Response:
            return PlainTextResponse("0123456789")

        with self.client(host, endpoint) as client:
            client.head("/")
        assert ending(host) == (OK, None)


class TestWebSockets:
    def client(self, host: FakeHost, endpoint: Callable[[WebSocket], Awaitable[None]]) -> TestClient:
        app = Starlette(routes=[WebSocketRoute("/", endpoint)], middleware=[Middleware(CanaryMiddleware, canary=host)])
        return TestClient(app, headers={"x-conversation-id": "c-1"})

    @pytest.mark.parametrize(
        ("code", "expected"),
        [(1000, (OK, None)), (1001, (OK, None)), (1011, (ERROR, "1011")), (4000, (ERROR, "4000"))],
        ids=str,
    )
    def test_the_applications_close_code_decides(
        self, host: FakeHost, code: int, expected: tuple[TurnOutcome, str | None]
    ) -> None:
        async def endpoint(socket: WebSocket) -> None:
            await socket.accept()
            await socket.send_text("hello")
            await socket.close(code)

        with self.client(host, endpoint).websocket_connect("/") as socket:
            assert socket.receive_text() == "hello"
            with pytest.raises(WebSocketDisconnect):
                socket.receive_text()
        assert ending(host) == expected
        assert host.ended[0].time_to_first_byte is not None

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (1000, (OK, None)),
            (1005, (OK, None)),
            (1006, (ABORTED, None)),
            (1012, (ABORTED, None)),
            (1002, (ERROR, "1002")),
        ],
        ids=str,
    )
    def test_the_clients_close_code_decides(
        self, host: FakeHost, code: int, expected: tuple[TurnOutcome, str | None]
    ) -> None:
        async def endpoint(socket: WebSocket) -> None:
            await socket.accept()
            await socket.receive_text()

        # Starlette raises it in the endpoint, which does not catch it.
        with pytest.raises(WebSocketDisconnect), self.client(host, endpoint).websocket_connect("/") as socket:
            socket.close(code)
        assert ending(host) == expected

    def test_an_exception_is_an_error(self, host: FakeHost) -> None:
        async def endpoint(socket: WebSocket) -> None:
            await socket.accept()
            raise LookupError("of the agent")

        with (
            pytest.raises(LookupError, match="of the agent"),
            self.client(host, endpoint).websocket_connect("/") as socket,
        ):
            socket.receive_text()
        assert ending(host) == (ERROR, "LookupError")

    def test_a_connection_is_one_turn_on_one_version(self, host: FakeHost) -> None:
        async def endpoint(socket: WebSocket) -> None:
            await socket.accept()
            async for text in socket.iter_text():
                await socket.send_text(f"{text} {socket.state.agentcanary.version}")

        with self.client(host, endpoint).websocket_connect("/") as socket:
            answers = set()
            for _ in range(5):
                socket.send_text("hi")
                answers.add(socket.receive_text())
        assert len(answers) == 1
        assert ending(host) == (OK, None)

    @pytest.mark.parametrize(
        ("messages", "expected"),
        [
            ([{"type": "websocket.close", "code": 1008}], (OK, None)),
            ([{"type": "websocket.accept"}], (OK, None)),
            ([], (ERROR, "truncated")),
            (
                [
                    {"type": "websocket.http.response.start", "status": 503, "headers": []},
                    {"type": "websocket.http.response.body", "body": b"x"},
                ],
                (ERROR, "503"),
            ),
            (
                [
                    {"type": "websocket.http.response.start", "status": 401, "headers": []},
                    {"type": "websocket.http.response.body", "body": b"x"},
                ],
                (OK, None),
            ),
        ],
        ids=["refused", "returns", "never accepted", "refused with 503", "refused with 401"],
    )
    def test_a_connection_without_a_conversation_ends_as(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        messages: list[dict[str, Any]],
        expected: tuple[TurnOutcome, str | None],
    ) -> None:
        talk = exchange()
        socket = {**scope(), "type": "websocket"}
        asyncio.run(CanaryMiddleware(sends(*messages), canary=host)(socket, talk.receive, talk.send))
        assert ending(host) == expected

    def test_a_vanished_client_makes_it_aborted(self, host: FakeHost, scope: MakeScope, exchange: MakeExchange) -> None:
        async def gone(message: Any) -> None:
            if message["type"] == "websocket.send":
                raise OSError("gone")

        app = CanaryMiddleware(sends({"type": "websocket.accept"}, {"type": "websocket.send"}), canary=host)
        with pytest.raises(OSError, match="gone"):
            asyncio.run(app({**scope(), "type": "websocket"}, exchange().receive, gone))
        assert ending(host) == (ABORTED, None)
