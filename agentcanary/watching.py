"""What a response says about its turn: errors inside a status of 200, first words, tokens, ids that the server made.

It stands between the application and the turn, and only where a configuration asks for it. Everything is passed on
as it came and at once; but an id that the server made is stored before the client sees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, Protocol

from opentelemetry.trace import Span

from agentcanary.assignment import Assignment
from agentcanary.clock import Clock
from agentcanary.config import Config
from agentcanary.conversation import Finder, Found, MadeHeader, Preset
from agentcanary.outcomes import Judge, Outcome, Record, TurnOutcome
from agentcanary.protocols import NOTHING, PROTOCOLS, BodyReader, EventReader, FrameReader, Noticed, protocol_of
from agentcanary.protocols import Protocol as Responses
from agentcanary.seen import Recent
from agentcanary.settled import digest
from agentcanary.telemetry import TIME_TO_FIRST_TOKEN, USAGE_INPUT, USAGE_OUTPUT

Message = MutableMapping[str, Any]
FIRST_TOKEN, INPUT_TOKENS, OUTPUT_TOKENS, COST = "time_to_first_token", "input_tokens", "output_tokens", "cost"
_CAPACITY = 10_000
_RUNNING, _FINE, _FAILED = "running", "fine", "failed"


class WatchedTurn(Protocol):
    """The turn of a response."""

    assignment: Assignment
    outcome: TurnOutcome
    ended: bool
    span: Span | None

    @property
    def turn_id(self) -> str:
        """Unique id of the turn."""

    def fail(self, error_type: str) -> None:
        """Make ``error`` its outcome."""

    def abort(self) -> None:
        """Make ``aborted`` its outcome, unless it is an error."""

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message to the server."""


class Aliases(Protocol):
    """Where ids that servers make are kept."""

    async def bind(self, names: Iterable[str], unit: str) -> None:
        """Make ids aliases of a unit."""


class Sink(Protocol):
    """Where outcomes go.

    Attributes:
        clock: The time of rollouts.
        finder: Knows how ids are named.
        pseudonym: What stands for an id, or None when ids are kept as they are.
    """

    clock: Clock
    finder: Finder
    pseudonym: Callable[[str], str | None] | None

    def put(self, record: Record) -> None:
        """Take an outcome."""

    def degraded(self, kind: str, error: BaseException | None = None) -> None:
        """Note a failure of ours."""


class Watching:
    """How the responses of one agent are watched.

    Args:
        protocols: Names of protocols that are read where no preset says which.
        own: The team's own rules, as a protocol, or None.
        measures: False to record neither first words nor tokens nor cost as outcomes.
    """

    def __init__(self, protocols: Iterable[str] = (), own: Responses | None = None, *, measures: bool = True) -> None:
        self._own = () if own is None else (own,)
        self._all = (*(PROTOCOLS[name] for name in protocols if name in PROTOCOLS), *self._own)
        self._names = frozenset(protocols)
        self.measures = measures
        self.turns: Recent[str] = Recent(_CAPACITY)

    @classmethod
    def configured(cls, config: Config) -> Watching | None:
        """How a configuration wants responses watched, or None where nothing is read in them."""
        responses, conversation = config.responses, config.conversation
        if not (responses.watched or conversation.presets or conversation.turn_from):
            return None
        own = protocol_of(responses.error_if) if responses.error_if else None
        return cls(responses.protocols, own, measures=responses.measure)

    def protocols(self, preset: Preset | None) -> tuple[Responses, ...]:
        """The protocols in which a response may be written."""
        if preset is None or preset.name not in self._names:
            return self._all
        known = PROTOCOLS.get(preset.name)
        return self._own if known is None else (known, *self._own)


class Watch:
    """Watches the response of one turn: pass ``send`` to the application instead of the turn's.

    Args:
        watching: How.
        sink: Where outcomes go.
        aliases: Where made ids go.
        turn: The turn.
        found: What was found in the request.

    Attributes:
        repeats: True for a turn that this process has served before: the client sent its request once more.
    """

    __slots__ = (
        *("_aliases", "_begun", "_facts", "_feed", "_first_words", "_found", "_name"),
        *("_sink", "_turn", "_watching", "repeats"),
    )

    def __init__(self, watching: Watching, sink: Sink, aliases: Aliases, turn: WatchedTurn, found: Found) -> None:
        self._watching = watching
        self._sink = sink
        self._aliases = aliases
        self._turn = turn
        self._found = found
        self._begun = perf_counter()
        self._facts = NOTHING
        self._first_words: float | None = None
        self._feed: Callable[..., Noticed | None] | None = None
        unit = turn.assignment.unit
        self._name = f"{unit}\x1f{found.turn}" if unit and found.turn else ""
        self.repeats = bool(self._name) and watching.turns.get(digest(self._name)) is not None
        if self._name and not self.repeats:
            watching.turns.put(digest(self._name), _RUNNING)

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, and see what it says."""
        kind = message["type"]
        if kind == "http.response.body":
            if self._feed is not None:
                try:
                    noticed = self._feed(message.get("body", b""), not message.get("more_body"))
                except Exception as error:  # noqa: BLE001 (whatever we got wrong, the response is sent)
                    noticed, self._feed = None, None
                    self._sink.degraded("response", error)
                if noticed is not None:
                    return self._act(noticed, message)
        elif kind == "http.response.start":
            return self._start(message)
        elif kind == "websocket.send":
            noticed = self._noticed(message)
            if noticed is not None:
                return self._act(noticed, message)
        elif kind == "websocket.accept":
            self._feed = FrameReader(self._watching.protocols(self._found.preset)).feed
        return self._turn.send(message)

    def stated(self) -> None:
        """Record the outcomes that the request states. Raises nothing."""
        for name, value in self._found.stated:
            self._record(name, value, kind=Judge.HUMAN)

    def finish(self) -> bool:
        """Record what was measured; True where a repeated turn counts after all, because it failed. Raises nothing."""
        facts = self._facts
        if self._watching.measures:
            measured = {
                FIRST_TOKEN: self._first_words,
                INPUT_TOKENS: facts.input_tokens,
                OUTPUT_TOKENS: facts.output_tokens,
                COST: facts.cost,
            }
            for name, value in measured.items():
                if value is not None:
                    self._record(name, value)
        if not self._name:
            return False
        failed = self._turn.outcome is TurnOutcome.ERROR
        before = self._watching.turns.get(digest(self._name))
        if failed or not self.repeats:
            self._watching.turns.put(digest(self._name), _FAILED if failed else _FINE)
        return self.repeats and failed and before != _FAILED

    def _noticed(self, message: Message) -> Noticed | None:
        if self._feed is None:
            return None
        try:
            text = message.get("text")
            return self._feed(bytes(message.get("bytes") or b"") if text is None else text.encode("utf-8", "replace"))
        except Exception as error:  # noqa: BLE001 (as above)
            self._feed = None
            self._sink.degraded("response", error)
            return None

    async def _start(self, message: Message) -> None:
        try:
            headers = message.get("headers", ())
            # From 400 on the status says what became of the turn.
            self._feed = self._reader(headers) if message["status"] < 400 else None
            preset = self._found.preset
            made = [] if preset is None else [p.find(headers) for p in preset.made if isinstance(p, MadeHeader)]
            if any(made):
                await self._bind([name for name in made if name is not None])
        except Exception as error:  # noqa: BLE001 (as above)
            self._sink.degraded("response", error)
        await self._turn.send(message)

    def _reader(self, headers: Iterable[tuple[bytes, bytes]]) -> Callable[..., Noticed | None] | None:
        kind, length, encoded = b"", None, False
        for name, value in headers:
            name = name.lower()
            if name == b"content-type":
                kind = value.partition(b";")[0].strip().lower()
            elif name == b"content-length" and value.isdigit():
                length = int(value)
            elif name == b"content-encoding":
                encoded = value.strip().lower() not in (b"", b"identity")
        preset = self._found.preset
        protocols = self._watching.protocols(preset)
        made = () if preset is None else preset.made
        if encoded:
            return None
        if kind == b"text/event-stream":
            return EventReader(protocols, made).feed
        if kind == b"application/json" or kind.endswith(b"+json"):
            return BodyReader(protocols, made, length=length).feed
        return None

    async def _act(self, noticed: Noticed, message: Message) -> None:
        """Note what was found, and pass the message on."""
        try:
            facts = noticed.facts
            self._facts = self._facts.then(facts)
            if facts.words and self._first_words is None:
                self._first_words = perf_counter() - self._begun
            if facts.error is not None:
                self._turn.fail(facts.error)
            elif facts.aborted:
                self._turn.abort()
            self._show()
            if noticed.made:
                await self._bind(noticed.made)
        except Exception as error:  # noqa: BLE001 (as above)
            self._sink.degraded("response", error)
        await self._turn.send(message)

    async def _bind(self, names: Iterable[str]) -> None:
        preset, assignment = self._found.preset, self._turn.assignment
        # Without stickiness every request is its own unit: there is nothing to follow.
        if preset is None or not assignment.unit or not assignment.view.sticky:
            return
        named = [self._sink.finder.named(name, preset) for name in names]
        if self._sink.pseudonym is not None:
            named = [hidden for name in named if (hidden := self._sink.pseudonym(name)) is not None]
        await self._aliases.bind(named, assignment.unit)

    def _show(self) -> None:
        span = self._turn.span
        if span is None or not span.is_recording():
            return
        shown: Mapping[str, float | None] = {
            TIME_TO_FIRST_TOKEN: self._first_words,
            USAGE_INPUT: _whole(self._facts.input_tokens),
            USAGE_OUTPUT: _whole(self._facts.output_tokens),
        }
        span.set_attributes({name: value for name, value in shown.items() if value is not None})

    def _record(self, name: str, value: float, *, kind: Judge = Judge.CODE) -> None:
        assignment, turn_id = self._turn.assignment, self._turn.turn_id
        if not assignment.unit:
            return
        # Named by the client, a turn that is sent once more states the same outcome, not another one.
        about = digest(f"{self._name}\x1f{name}").hex() if self._name else f"{turn_id}:{name}"
        try:
            self._sink.put(
                Outcome(
                    id=about,
                    agent=assignment.agent,
                    conversation_id=assignment.unit,
                    name=name,
                    value=value,
                    at=self._sink.clock(),
                    kind=kind,
                    turn_id=turn_id,
                )
            )
        except Exception as error:  # noqa: BLE001 (a full disk or a bug of ours must not break a response)
            self._sink.degraded("record", error)


def _whole(tokens: float | None) -> int | None:
    return None if tokens is None else int(tokens)
