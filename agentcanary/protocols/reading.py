"""Reading responses while they pass: server-sent events, JSON bodies and WebSocket frames. Pure.

A stream is never kept: what is not needed any more is forgotten with the event that held it. Nearly every piece of a
stream is ruled out by looking for a few texts in it, for less than a microsecond; only what has one is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from agentcanary.conversation.made import Made, MadeValue, made_in
from agentcanary.protocols.facts import NOTHING, Facts, Protocol

MAX_KEPT = 1_048_576
"""Bytes of an event, a body or a frame; a larger one is passed on without being read."""

_decode = msgspec.json.Decoder().decode
_BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ENDS = (b"\n\n", b"\r\n\r\n")
# The end of an event may be spread over several chunks: so many bytes of it before the last one.
_WITHIN_END = 3


class Noticed(NamedTuple):
    """What was found in a piece of a response.

    Attributes:
        facts: About the turn.
        made: Ids that the server made.
    """

    facts: Facts
    made: tuple[str, ...] = ()


class _Reader:
    """What all readers have in common: which texts are looked for, and what a document with one of them says."""

    __slots__ = ("_made", "_markers", "_protocols", "_waits_for_words")

    def __init__(self, protocols: Sequence[Protocol], made: Sequence[Made] = ()) -> None:
        self._protocols = tuple(protocols)
        self._made = tuple(place for place in made if isinstance(place, MadeValue))
        self._waits_for_words = any(protocol.words for protocol in protocols)
        self._look_for()

    def _look_for(self) -> None:
        texts = [marker for protocol in self._protocols for marker in protocol.markers]
        if self._waits_for_words:
            texts += [text for protocol in self._protocols for text in protocol.words]
        texts += [place.marker.decode() for place in self._made]
        self._markers = tuple(dict.fromkeys(text.encode() for text in texts))

    def _read(self, event: str, data: bytes) -> Noticed | None:
        """What a document says, or None for nothing."""
        try:
            document = _decode(data) if data else None
        except (ValueError, RecursionError):  # what msgspec raises is a ValueError
            document = None
        facts = NOTHING
        for protocol in self._protocols:
            facts = facts.then(protocol.read(event, document))
        if facts.words:
            if self._waits_for_words:
                self._waits_for_words = False
                self._look_for()
            else:
                facts = facts._replace(words=False)
        made = tuple(made_in(document, self._made)) if self._made else ()
        if made:
            # The first event that states an id states all there are; what follows repeats them.
            self._made = ()
            self._look_for()
        return Noticed(facts, made) if facts != NOTHING or made else None


class EventReader(_Reader):
    """Reads server-sent events.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

    Args:
        protocols: Whose events are understood.
        made: Where ids are looked for, until an event states one.
    """

    __slots__ = ("_end", "_kept", "_size", "_skips")

    def __init__(self, protocols: Sequence[Protocol], made: Sequence[Made] = ()) -> None:
        super().__init__(protocols, made)
        # Of the event that is not complete: its pieces, their size, and their last bytes.
        self._kept: list[bytes] = []
        self._size = 0
        self._end = b""
        self._skips = False

    def feed(self, chunk: bytes, last: bool = False) -> Noticed | None:  # noqa: ARG002 (as of all readers)
        """What the events say that are complete with this chunk; None for nothing.

        Args:
            chunk: The next bytes of the stream.
            last: True when no more follow. An event that was not ended is none.
        """
        if self._size or not chunk.endswith(_ENDS):
            return self._piece(chunk)
        for marker in self._markers:
            if marker in chunk:
                return self._events(chunk)
        return None

    def _piece(self, chunk: bytes) -> Noticed | None:
        """A chunk that does not begin and end with an event."""
        before = len(self._end)
        ends = [match.end() - before for match in _BLANK_LINE.finditer(self._end + chunk)]
        if not ends:
            self._keep(chunk)
            return None
        whole = chunk[ends[0] : ends[-1]] if self._skips else b"".join(self._kept) + chunk[: ends[-1]]
        self._kept, self._size, self._end, self._skips = [], 0, b"", False
        self._keep(chunk[ends[-1] :])
        return self._events(whole) if any(marker in whole for marker in self._markers) else None

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        self._end = (self._end + piece)[-_WITHIN_END:]
        if self._size > MAX_KEPT:
            self._skips = True
            self._kept = []
        else:
            self._kept.append(piece)

    def _events(self, text: bytes) -> Noticed | None:
        found: Noticed | None = None
        for block in _BLANK_LINE.split(text):
            if not any(marker in block for marker in self._markers):
                continue
            name, data = "", []
            for line in block.removeprefix(b"\xef\xbb\xbf").splitlines():
                field, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if field == b"data":
                    data.append(value)
                elif field == b"event":
                    name = value.decode("utf-8", "replace")
            found = _both(found, self._read(name, b"\n".join(data)))
        return found


class BodyReader(_Reader):
    """Reads a JSON body, when it is complete.

    Args:
        protocols: Whose documents are understood.
        made: Where ids are looked for.
        length: Bytes of the body, where the response says so: it is complete with the last of them.
    """

    __slots__ = ("_kept", "_length", "_size")

    def __init__(self, protocols: Sequence[Protocol], made: Sequence[Made] = (), *, length: int | None = None) -> None:
        super().__init__(protocols, made)
        self._kept: list[bytes] = []
        self._size = 0
        self._length = length

    def feed(self, chunk: bytes, last: bool = False) -> Noticed | None:
        """What the body says, with its last bytes; None before, and for nothing.

        Args:
            chunk: The next bytes of the body.
            last: True when no more follow.
        """
        self._size += len(chunk)
        if self._size > MAX_KEPT:
            self._kept.clear()
            return None
        self._kept.append(chunk)
        if not (last or self._size == self._length):
            return None
        whole = chunk if len(self._kept) == 1 else b"".join(self._kept)
        self._kept, self._length = [], None
        return self._read("", whole) if any(marker in whole for marker in self._markers) else None


class FrameReader(_Reader):
    """Reads WebSocket frames that are JSON documents.

    Args:
        protocols: Whose documents are understood.
    """

    __slots__ = ()

    def feed(self, frame: bytes) -> Noticed | None:
        """What a frame says, or None for nothing."""
        if len(frame) <= MAX_KEPT:
            for marker in self._markers:
                if marker in frame:
                    return self._read("", frame)
        return None


def _both(one: Noticed | None, other: Noticed | None) -> Noticed | None:
    if one is None or other is None:
        return one or other
    return Noticed(one.facts.then(other.facts), one.made + other.made)
