"""Finding a request's conversation: places in order, the first that has an id counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agentcanary.conversation.body import MAX_BODY, Body, Media, Receive, read_body
from agentcanary.conversation.extractors import Extractor, Scope
from agentcanary.conversation.first_frame import Send, read_first_frame
from agentcanary.conversation.forms import FormField
from agentcanary.conversation.identity import MAX_LENGTH, SEPARATOR, Problem, UnusableIdError
from agentcanary.conversation.json_reader import JsonField, JsonReader
from agentcanary.conversation.places import (
    Composite,
    FirstFrame,
    FirstMessage,
    Known,
    Place,
    fields_of,
    look,
    media_of,
    simple,
)
from agentcanary.conversation.presets import Preset


class Found(NamedTuple):
    """What a search gave.

    Attributes:
        unit: The id, or None.
        problem: Why there is none; of several, the first that is more than absence.
        receive: What the application reads the request from: a body that was read is given once more.
        document: The body, for ``find_user``, or None when it was not read.
        error: What an extractor raised that it must not raise.
        preset: Whose place had the id; without an id, whose server is going to make it. None for neither.
        turn: What names the turn, or None.
        stated: Outcomes that the request states, by name.
        send: What the application sends to, where a connection was accepted to read its first frame; else None.
    """

    unit: str | None
    problem: Problem
    receive: Receive
    document: Body | None = None
    error: Exception | None = None
    preset: Preset | None = None
    turn: str | None = None
    stated: tuple[tuple[str, float], ...] = ()
    send: Send | None = None

    @property
    def begins(self) -> bool:
        """True for a conversation whose id the server is going to make."""
        return self.unit is None and self.preset is not None


@dataclass(frozen=True, slots=True)
class Finder:
    """Looks for an id in several places, in order.

    Attributes:
        places: Where. The body is read only when no place before the first that needs it had an id.
        max_body: Bodies of more bytes are handed on without being looked into.
        presets: Frameworks whose places are looked at after these.
        max_length: Most characters that an id, or a part of one, from a preset's place may have.
        turn: Places of what names a turn, where no preset says it.
        every: True when ``search`` must see every request, because responses are watched.
        first: The first place, where nearly every request has its id: a shortcut. Where it gives none or raises,
            ``search`` says what there is.
    """

    places: tuple[Place, ...]
    max_body: int = MAX_BODY
    presets: tuple[Preset, ...] = ()
    max_length: int = MAX_LENGTH
    turn: tuple[Place, ...] = ()
    every: bool = False
    first: Extractor = field(init=False, repr=False)
    _sources: tuple[tuple[Place, Preset | None, bool], ...] = field(init=False, repr=False)
    _media: frozenset[Media] = field(init=False, repr=False)
    _turns: Mapping[Preset | None, tuple[Place, ...]] = field(init=False, repr=False)
    _json: JsonReader | None = field(init=False, repr=False)
    _frame: JsonReader | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sources: list[tuple[Place, Preset | None, bool]] = [(place, None, _reads_head(place)) for place in self.places]
        sources += [(place, preset, _reads_head(place)) for preset in self.presets for place in preset.places]
        places = tuple(place for place, _, _ in sources)
        asks = [field for preset in self.presets for field in preset.asks]
        signals = [signal.field for preset in self.presets for signal in preset.signals]
        turns = fields_of((*self.turn, *(place for preset in self.presets for place in preset.turn)))
        fields = (*fields_of(places), *asks, *signals, *turns)
        frames = fields_of(places, frame=True)
        first: Extractor = _nowhere
        if self.places and not (self.presets or self.turn or self.every):
            place = self.places[0]
            if not isinstance(place, JsonField | FormField | FirstFrame | FirstMessage | Composite):
                first = place
        put = object.__setattr__
        put(self, "first", first)
        put(self, "_sources", tuple(sources))
        put(self, "_turns", {None: self.turn, **{preset: (*self.turn, *preset.turn) for preset in self.presets}})
        put(self, "_media", media_of(places) | ({Media.JSON} if asks else frozenset()))
        put(self, "_json", JsonReader(fields) if fields else None)
        put(self, "_frame", JsonReader(frames) if frames else None)

    async def search(
        self, scope: Scope, receive: Receive, send: Send | None = None, *, document: Body | None = None
    ) -> Found:
        """The id, or why there is none. Raises nothing that an extractor raises.

        Args:
            scope: The request.
            receive: The server's.
            send: The server's; without it no first frame is read.
            document: The body, where it was read before.
        """
        search = _Search(self, receive)
        if document is not None:
            search.take(document, Problem.ABSENT, receive)
        for place, preset, reads_head in self._sources:
            if not (reads_head or search.ready):
                if scope["type"] == "http":
                    search.take(*await read_body(scope, receive, self._media, max_body=self.max_body))
                else:
                    await search.read_frame(scope, send)
            unit = search.look(place, scope)
            if unit is None:
                continue
            if preset is None:
                return search.found(scope, unit, None)
            if len(unit) <= self.max_length or _longest(unit) <= self.max_length:
                return search.found(scope, self.named(unit, preset), preset)
            search.refuse(Problem.TOO_LONG)
        for preset in self.presets:
            if preset.made and search.problem is Problem.ABSENT:
                if preset.asks and not search.ready and scope["type"] == "http":
                    search.take(*await read_body(scope, receive, self._media, max_body=self.max_body))
                if search.begins(preset, scope):
                    return search.found(scope, None, preset)
        return search.found(scope, None, None)

    def named(self, unit: str, preset: Preset) -> str:
        """An id as it is used, which says whose it is where several presets could mean the same by it.

        >>> from agentcanary.conversation.presets import PRESETS
        >>> both = Finder((), presets=(PRESETS["agui"], PRESETS["a2a"]))
        >>> both.named("c-1", PRESETS["a2a"])
        'a2a:c-1'
        """
        return unit if len(self.presets) < 2 else f"{preset.name}:{unit}"

    def known(self, body: Body) -> Known:
        """What a body says, as far as these places ask.

        Raises:
            UnusableIdError: If it cannot be read.
        """
        if body.media is not Media.JSON:
            return Known(form=body)
        return _NOTHING if self._json is None else _new(Known, (self._json.read(body.content), None, None))


_NOTHING = Known()
_new = tuple.__new__


class _Search:
    """One search: what has been read of a request, and what was wrong so far."""

    __slots__ = ("_finder", "_known", "_send", "body", "error", "problem", "ready", "receive")

    def __init__(self, finder: Finder, receive: Receive) -> None:
        self._finder = finder
        self.receive = receive
        self._send: Send | None = None
        self._known = _NOTHING
        self.body: Body | None = None
        self.error: Exception | None = None
        self.problem = Problem.ABSENT
        self.ready = False

    async def read_frame(self, scope: Scope, send: Send | None) -> None:
        """Read the first frame, where a place needs it."""
        self.ready = True
        finder = self._finder
        if finder._frame is None or send is None:
            return
        text, problem, self.receive, self._send = await read_first_frame(
            scope, self.receive, send, max_bytes=finder.max_body
        )
        if text is None:
            self.refuse(problem)
            return
        try:
            self._known = Known(frame=finder._frame.read(text))
        except UnusableIdError as unusable:
            self.refuse(unusable.problem)

    def take(self, body: Body | None, problem: Problem, receive: Receive) -> None:
        """Read what a body says, or note why there is none."""
        self.ready, self.body, self.receive = True, body, receive
        if body is None:
            self.refuse(problem)
            return
        try:
            self._known = self._finder.known(body)
        except UnusableIdError as unusable:
            self.refuse(unusable.problem)

    def look(self, place: Place, scope: Scope) -> str | None:
        """The id in one place."""
        try:
            if type(place) is JsonField:
                return place.find(self._known.json)
            return look(place, scope, self._known)
        except UnusableIdError as unusable:
            self.refuse(unusable.problem)
        except Exception as failure:  # noqa: BLE001 (extractors may be the user's: a bug must not cost a request)
            self.problem, self.error = Problem.EXTRACTOR_FAILED, failure
        return None

    def refuse(self, problem: Problem) -> None:
        """Note what is wrong, unless something was wrong before."""
        if self.problem is Problem.ABSENT:
            self.problem = problem

    def begins(self, preset: Preset, scope: Scope) -> bool:
        """True when the request begins a conversation of a preset."""
        try:
            return preset.begins(scope, self._known)
        except UnusableIdError as unusable:
            self.refuse(unusable.problem)
            return False

    def found(self, scope: Scope, unit: str | None, preset: Preset | None) -> Found:
        """What the search gave."""
        turn: str | None = None
        stated: tuple[tuple[str, float], ...] = ()
        known = self._known
        try:
            for place in self._finder._turns[preset]:
                turn = place.find(known.json) if type(place) is JsonField else look(place, scope, known)
                if turn is not None:
                    break
            if preset is not None and preset.signals and known.json is not None:
                signals = [(signal.name, signal.find(known.json)) for signal in preset.signals]
                stated = tuple((name, value) for name, value in signals if value is not None)
        except UnusableIdError:
            # A turn that cannot be named is as good as one without a name.
            turn = None
        problem, error, send = self.problem, self.error, self._send
        return _new(Found, (unit, problem, self.receive, self.body, error, preset, turn, stated, send))


def _reads_head(place: Place) -> bool:
    """True for a place that is called with the scope alone."""
    if isinstance(place, Composite):
        return all(_reads_head(part) for part in simple(place.parts))
    return not isinstance(place, JsonField | FormField | FirstFrame | FirstMessage)


def _longest(unit: str) -> int:
    return len(unit) if SEPARATOR not in unit else max(map(len, unit.split(SEPARATOR)))


def _nowhere(scope: Scope) -> None:
    """For a list that does not begin with the head of a request, which only ``search`` reads."""


async def find_user(
    finder: Finder, scope: Scope, receive: Receive, document: Body | None
) -> tuple[str | None, Receive]:
    """The user, for ``sticky_by: user``, and what to read the request from afterwards.

    A user who is not there or cannot be used is no problem: the conversation is then drawn by itself.

    Args:
        finder: Where to look.
        scope: The request.
        receive: What reads it.
        document: The body, where the search for the conversation has read it.
    """
    found = await finder.search(scope, receive, document=document)
    return found.unit, found.receive
