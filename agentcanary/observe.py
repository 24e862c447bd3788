"""What became of a response: ok, error or aborted. Shell: it stands between the application and the server.

HTTP and server-sent events:

- ``error``: the application raised; status 500 and above; 408 and 429, because to the person who waits, an agent that
  timed out or ran into its model's rate limit has failed, whoever's limit it was; a stream that is cut (fewer or
  more bytes than its ``content-length``, or no last chunk; servers check a body in one piece themselves).
- ``aborted``: the client left before the last chunk (also where the application says so itself: status 499).
- ``ok``: everything else, other client errors too: most of them say that the request was wrong. They fall on both
  arms alike, and a version that refuses good requests shows in the outcomes of its conversations.

WebSocket: the connection is the turn. Closed by either side with 1000, 1001 or without a code (1005) it is ``ok``;
with 1006 (vanished) or 1012 (the server restarts) ``aborted``; with another code ``error``. Refused before it was
accepted, it counts as its HTTP status.

A turn ends with the last chunk, not when the application returns: background tasks are not waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from typing import Any, Protocol

from opentelemetry.trace import Span

from agentcanary.assignment import Assignment
from agentcanary.clock import Clock
from agentcanary.context import RunningTurn
from agentcanary.outcomes import Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.telemetry import Telemetry

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

TRUNCATED = "truncated"
_FAILED = frozenset({408, 429})
_LEFT = 499
_NORMAL_CLOSE = frozenset({1000, 1001, 1005})
_VANISHED = frozenset({1006, 1012})
_OK, _ERROR, _ABORTED = TurnOutcome.OK, TurnOutcome.ERROR, TurnOutcome.ABORTED
_new = tuple.__new__


class Sink(Protocol):
    """Where turns go.

    Attributes:
        telemetry: Spans and metrics.
        clock: The time of rollouts.
    """

    telemetry: Telemetry
    clock: Clock

    def put(self, record: Record) -> None:
        """Take a record; returns at once."""

    def degraded(self, kind: str, error: BaseException | None = None) -> None:
        """Note a failure of ours. Raises nothing."""


class Turn:
    """One turn, from its request to the end of its response: pass ``receive`` and ``send`` to the application,
    then call ``returned`` or ``raised``.

    Nothing that it does by itself raises: the response matters more than its record.

    Args:
        sink: Where it is recorded.
        assignment: The unit's assignment.
        turn_id: Unique id of the turn.
        begun: ``perf_counter()`` when the application is called: what we took before is not the version's latency.
        started_at: Unix time at the request.
        receive: The server's.
        send: The server's.
    """  # noqa: D205 (one sentence)

    # Attributes of the class until a turn needs its own: most never do.
    ended = False
    outer: RunningTurn | None = None
    span: Span | None = None
    traced = False
    _failed: str | None = None
    _first_byte: float | None = None
    _left = False

    def __init__(
        self,
        sink: Sink,
        assignment: Assignment,
        turn_id: str,
        begun: float,
        started_at: float,
        receive: Receive,
        send: Send,
    ) -> None:
        self._sink = sink
        self.assignment = assignment
        self.turn_id = turn_id
        self._begun = begun
        self.started = _new(TurnStarted, (turn_id, assignment, started_at))
        self._receive = receive
        self._send = send

    def begin(self, *, traced: bool) -> None:
        """Record its start.

        Args:
            traced: True to start its span, too, and to measure it when it ends.
        """
        sink = self._sink
        try:
            sink.put(self.started)
        except Exception as error:  # noqa: BLE001 (a full disk or a bug of ours must not break a request)
            sink.degraded("record", error)
        if traced:
            self.traced = True
            try:
                self.span = sink.telemetry.begin(self.assignment)
            except Exception as error:  # noqa: BLE001 (a sampler or span processor may be anybody's)
                sink.degraded("telemetry", error)

    def fail(self, error_type: str) -> None:
        """Make ``error`` its outcome, whatever the response looks like."""
        self._failed = error_type

    def end(self, outcome: TurnOutcome, error_type: str | None = None) -> None:
        """Record its end, once."""
        if self.ended:
            return
        self.ended = True
        latency = perf_counter() - self._begun
        if self._failed is not None:
            outcome, error_type = _ERROR, self._failed
        sink = self._sink
        ended_at = sink.clock()
        try:
            sink.put(_new(TurnEnded, (*self.started, ended_at, latency, self._first_byte, outcome, error_type)))
        except Exception as error:  # noqa: BLE001 (a full disk or a bug of ours must not break a response)
            sink.degraded("record", error)
        if self.traced:
            try:
                sink.telemetry.end(
                    self.span,
                    self.assignment,
                    turn_id=self.turn_id,
                    latency=latency,
                    time_to_first_byte=self._first_byte,
                    outcome=outcome,
                    error_type=error_type,
                )
            except Exception as error:  # noqa: BLE001 (a span processor or exporter may be anybody's)
                sink.degraded("telemetry", error)

    def raised(self, error: BaseException) -> None:
        """End it with an exception that left the application."""
        if isinstance(error, Exception):
            self.end(_ERROR, error_name(error))
        else:
            # Cancelled: the server gave the request up because the client left, or because it shuts down.
            self.end(_ABORTED)


class HttpTurn(Turn):
    """A turn over HTTP."""

    _headers: Iterable[tuple[bytes, bytes]] = ()
    _sent = -1
    _status = 0

    async def receive(self) -> Message:
        """A message from the server; notes that the client left."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self.ended:
            self._left = True
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """A message to the server; notes status, first byte, length and end.

        The usual response, in one piece, is dealt with by itself; the server checks the length of what it is given
        at once.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            self._headers = message.get("headers", ())
            return self._send(message)
        if kind == "http.response.body":
            if self._sent < 0 and not message.get("more_body"):
                return self._send_whole(message)
            if not self.ended:
                return self._send_chunk(message)
        elif kind == "http.response.pathsend" and not self.ended:
            return self._send_file(message)
        return self._send(message)

    async def _send_whole(self, message: Message) -> None:
        self._sent = 0
        if message.get("body"):
            self._first_byte = perf_counter() - self._begun
        try:
            await self._send(message)
        except OSError:
            # What ASGI servers raise when the client is gone (ASGI 2.4).
            self._left = True
            raise
        if self._status < 400:
            self.end(_OK)
        else:
            self._complete()

    async def _send_file(self, message: Message) -> None:
        # The server sends the file, and knows its length.
        self._first_byte = perf_counter() - self._begun
        await self._send(message)
        self._complete()

    async def _send_chunk(self, message: Message) -> None:
        body = message.get("body")
        if self._sent < 0:
            self._sent = 0
        if body:
            self._sent += len(body)
            if self._first_byte is None:
                self._first_byte = perf_counter() - self._begun
        try:
            await self._send(message)
        except OSError:
            self._left = True
            raise
        if not message.get("more_body"):
            if self._sent == _content_length(self._headers, self._sent):
                self._complete()
            else:
                self.end(_ERROR, TRUNCATED)

    def returned(self) -> None:
        """End it, if it has not ended with its last chunk."""
        if self.ended:
            return
        if self._left:
            self.end(_ABORTED)
        else:
            self.end(_ERROR, TRUNCATED)

    def raised(self, error: BaseException) -> None:
        """End it with an exception; after the client left, whatever is raised is a consequence of that."""
        if self._left:
            self.end(_ABORTED)
        else:
            super().raised(error)

    def _complete(self) -> None:
        status = self._status
        if status >= 500 or status in _FAILED:
            self.end(_ERROR, str(status))
        elif status == _LEFT:
            self.end(_ABORTED)
        else:
            self.end(_OK)


def _content_length(headers: Iterable[tuple[bytes, bytes]], default: int) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return default


def with_cookie(send: Send, cookie: tuple[bytes, bytes]) -> Send:
    """``send`` that adds a header to the response."""

    def sending(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), cookie]}
        return send(message)

    return sending


class WebSocketTurn(Turn):
    """A turn over a WebSocket."""

    _accepted = False
    _status = 0

    async def receive(self) -> Message:
        """A message from the server; notes that the client closed."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            code = message.get("code", 1005)
            # uvicorn 0.54 gives a lost connection the code 1005, but no reason; a real close frame has one, if empty.
            self._closed(1006 if code == 1005 and "reason" not in message else code)
        return message

    async def send(self, message: Message) -> None:
        """A message to the server; notes the first one, and the end."""
        kind = message["type"]
        try:
            await self._send(message)
        except OSError:
            self.end(_ABORTED)
            raise
        if kind == "websocket.send":
            if self._first_byte is None:
                self._first_byte = perf_counter() - self._begun
        elif kind == "websocket.accept":
            self._accepted = True
        elif kind == "websocket.close":
            # Closing before accepting refuses the connection with 403, an answer to the client.
            self._closed(message.get("code", 1000) if self._accepted else 1000)
        elif kind == "websocket.http.response.start":
            self._status = message["status"]
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            if self._status >= 500 or self._status in _FAILED:
                self.end(_ERROR, str(self._status))
            else:
                self.end(_OK)

    def returned(self) -> None:
        """End it: servers close with 1000 for an application that returns, and refuse if it never accepted."""
        if self._accepted:
            self.end(_OK)
        else:
            self.end(_ERROR, TRUNCATED)

    def _closed(self, code: int) -> None:
        if code in _NORMAL_CLOSE:
            self.end(_OK)
        elif code in _VANISHED:
            self.end(_ABORTED)
        else:
            self.end(_ERROR, str(code))


def error_name(error: BaseException) -> str:
    """The class of an exception, with its module unless it is built in.

    >>> error_name(ValueError()), error_name(__import__("json").JSONDecodeError("", "", 0))
    ('ValueError', 'json.decoder.JSONDecodeError')
    """
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
