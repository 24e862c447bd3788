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

import itertools
import os
import secrets
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


# Ids of turns: unique among all processes by their first half, within one by their second.
_process = secrets.token_hex(6)
_numbers = itertools.count()


class Turn:
    """One turn, from its request to the end of its response: pass ``receive`` and ``send`` to the application,
    then call ``returned`` or ``raised``.

    It is put into the recorder's queue when it begins, and read from there: by the time of the next flush most turns
    have ended, and cost one record. Nothing that it does by itself raises: the response matters more than its record.

    Args:
        sink: Where it is recorded.
        assignment: The unit's assignment.
        begun: ``perf_counter()`` when the application is called: what we took before is not the version's latency.
        started_at: Unix time at the request.
        receive: The server's.
        send: The server's.

    Attributes:
        number: Counts the turns of this process.
        ended: True from its end on; ``outcome`` and ``latency`` hold from then on.
        outcome: ok, error or aborted.
        error_type: Exception class, HTTP status or protocol code of an error.
        latency: Seconds.
        first_byte: Seconds from ``begun`` to the first byte of the body, or None.
    """  # noqa: D205 (one sentence)

    # Attributes of the class until a turn needs its own: most never do.
    ended = False
    outcome = TurnOutcome.OK
    error_type: str | None = None
    latency = 0.0
    first_byte: float | None = None
    outer: RunningTurn | None = None
    span: Span | None = None
    traced = False
    # True while nothing is to be done at its end but to note it.
    _plain = True
    _failed: str | None = None
    _given_up = False
    _left = False
    # What it was given, where something else serves it.
    _given: Assignment | None = None
    _kept = True

    def __init__(
        self, sink: Sink, assignment: Assignment, begun: float, started_at: float, receive: Receive, send: Send
    ) -> None:
        self._sink = sink
        self.assignment = assignment
        self.number = next(_numbers)
        self._begun = begun
        self.started_at = started_at
        self._receive = receive
        self._send = send

    @property
    def turn_id(self) -> str:
        """Unique id of the turn."""
        return f"{_process}-{self.number:x}"

    @property
    def start(self) -> TurnStarted:
        """The record of its start."""
        return TurnStarted(self.turn_id, self._given or self.assignment, self.started_at)

    def end_at(self, speed: float) -> TurnEnded:
        """The record of its end.

        Args:
            speed: Seconds of the rollout's clock in a real second.
        """
        return TurnEnded(
            self.turn_id,
            self._given or self.assignment,
            self.started_at,
            self.started_at + self.latency * speed,
            self.latency,
            self.first_byte,
            self.outcome,
            self.error_type,
        )

    def over(self) -> None:
        """The application has returned: let go of the server's request, which the recorder must not keep alive."""
        self._receive, self._send = _disconnected, _ignored

    def release(self) -> None:
        """Told by a recorder that ends: nobody reads this turn any more, so it puts the record of its end itself."""
        self._kept = self._plain = False
        if self.ended:
            self._put_end()

    def trace(self) -> None:
        """Start its span, and measure it when it ends."""
        self.traced, self._plain = True, False
        try:
            self.span = self._sink.telemetry.begin(self.assignment)
        except Exception as error:  # noqa: BLE001 (a sampler or span processor may be anybody's)
            self._sink.degraded("telemetry", error)

    def fail(self, error_type: str) -> None:
        """Make ``error`` its outcome, whatever the response looks like."""
        self._failed, self._plain = error_type, False

    def abort(self) -> None:
        """Make ``aborted`` its outcome, unless it is an error: the client wanted no answer any more."""
        self._given_up, self._plain = True, False

    def fall_back(self, error_type: str) -> None:
        """Let stable serve it, in place of a version that cannot: an error of that version all the same."""
        self.fail(error_type)
        self._given = self._given or self.assignment
        self.assignment = self.assignment._replace(version=self.assignment.view.stable)

    def end(self, outcome: TurnOutcome, error_type: str | None = None) -> None:
        """Note its end, once."""
        if self.ended:
            return
        self.latency = perf_counter() - self._begun
        if self._failed is not None:
            outcome, error_type = _ERROR, self._failed
        elif self._given_up and outcome is _OK:
            outcome = _ABORTED
        self.outcome, self.error_type = outcome, error_type
        # The recorder's thread reads what is above as soon as it sees this.
        self.ended = True
        if not self._kept:
            self._put_end()
        if self.traced:
            try:
                self._sink.telemetry.end(
                    self.span,
                    self.assignment,
                    turn_id=self.turn_id,
                    latency=self.latency,
                    time_to_first_byte=self.first_byte,
                    outcome=outcome,
                    error_type=error_type,
                )
            except Exception as error:  # noqa: BLE001 (a span processor or exporter may be anybody's)
                self._sink.degraded("telemetry", error)

    def _put_end(self) -> None:
        mine = object()
        # It may end while it is released: one of the two records it.
        if self.__dict__.setdefault("_recorded", mine) is mine:
            try:
                self._sink.put(self.end_at(self._sink.clock.speed))
            except Exception as error:  # noqa: BLE001 (a full disk or a bug of ours must not break a response)
                self._sink.degraded("record", error)

    def raised(self, error: BaseException) -> None:
        """End it with an exception that left the application."""
        if isinstance(error, Exception):
            self.end(_ERROR, error_name(error))
        else:
            # Cancelled: the server gave the request up because the client left, or because it shuts down.
            self.end(_ABORTED)


async def _disconnected() -> Message:
    return {"type": "http.disconnect"}


async def _ignored(_: Message) -> None:
    """What a task sends that outlives its request reaches nobody."""


class HttpTurn(Turn):
    """A turn over HTTP.

    Attributes:
        tells: True for a server that raises ``OSError`` when the client is gone (ASGI 2.4).
    """

    tells = False
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

        The usual response, in one piece, is dealt with by itself: its length is the server's to check, and the turn
        has ended with it, unless the server is of those that tell when the client is gone.
        """
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            self._headers = message.get("headers", ())
        elif kind == "http.response.body":
            if self._sent < 0 and not message.get("more_body"):
                if self.tells:
                    return self._send_whole(message)
                latency = perf_counter() - self._begun
                if message.get("body"):
                    self.first_byte = latency
                if self._plain and self._status < 400:
                    self.latency = latency
                    self.ended = True
                else:
                    self._complete()
                self._sent = 0
            elif not self.ended:
                return self._send_chunk(message)
        elif kind == "http.response.pathsend" and not self.ended:
            return self._send_file(message)
        return self._send(message)

    async def _send_whole(self, message: Message) -> None:
        self._sent = 0
        if message.get("body"):
            self.first_byte = perf_counter() - self._begun
        try:
            await self._send(message)
        except OSError:
            self._left = True
            raise
        self._complete()

    async def _send_file(self, message: Message) -> None:
        # The server sends the file, and knows its length.
        self.first_byte = perf_counter() - self._begun
        await self._send(message)
        self._complete()

    async def _send_chunk(self, message: Message) -> None:
        body = message.get("body")
        if self._sent < 0:
            self._sent = 0
        if body:
            self._sent += len(body)
            if self.first_byte is None:
                self.first_byte = perf_counter() - self._begun
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
            if self.first_byte is None:
                self.first_byte = perf_counter() - self._begun
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


def _after_fork() -> None:
    global _process
    _process = secrets.token_hex(6)


os.register_at_fork(after_in_child=_after_fork)
