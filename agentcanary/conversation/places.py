"""Places that need more of a request than its head: its body or its first WebSocket frame, or several places. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from agentcanary.conversation.body import Body, Media
from agentcanary.conversation.extractors import Extractor, Scope
from agentcanary.conversation.forms import FormField
from agentcanary.conversation.identity import SEPARATOR
from agentcanary.conversation.json_reader import JsonField


class Known(NamedTuple):
    """What is known of a request besides its head.

    Attributes:
        json: The JSON document in its body, as far as it was asked for; None when there is none.
        form: Its body, when that is a form.
        frame: The JSON document in the first WebSocket frame.
    """

    json: object = None
    form: Body | None = None
    frame: object = None


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """A value in the first frame that a WebSocket's client sends, a JSON document.

    Attributes:
        field: Which.
    """

    field: JsonField


@dataclass(frozen=True, slots=True)
class FirstMessage:
    """The same id for every request that repeats the beginning of a conversation: a hash of its first messages.

    For APIs that send the whole history and name no conversation. Two users who begin with the same words share an
    id, so it is used only where a configuration asks for it.

    Attributes:
        path: Where the list of messages stands: ``messages``.
    """

    path: str
    field: JsonField = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", JsonField(self.path))

    def find(self, document: object) -> str | None:
        """The id, or None where there is no list with a message of the user.

        >>> turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
        >>> later = [*turns, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Bye"}]
        >>> place = FirstMessage("messages")
        >>> place.find({"messages": turns}) == place.find({"messages": later})
        True
        """
        messages = self.field.value(document)
        if not isinstance(messages, list):
            return None
        state = blake2b(digest_size=16)
        for message in messages:
            if not isinstance(message, dict):
                return None
            role, content = message.get("role"), message.get("content", message.get("parts"))
            state.update(f"{role}\x00{content!r}\x00".encode("utf-8", "surrogatepass"))
            if role == "user":
                return f"h-{state.hexdigest()}"
        return None


@dataclass(frozen=True, slots=True)
class Composite:
    r"""An id made of several places; there is none where one of them has none.

    Attributes:
        parts: The places, in the order in which their values are joined.

    >>> look(Composite((JsonField("user"), JsonField("session"))), {}, Known({"user": "u", "session": "s"}))
    'u\x1fs'
    """

    parts: tuple[Place, ...]


Place = Extractor | JsonField | FormField | FirstFrame | FirstMessage | Composite
"""Anything that an id can be looked for in."""


def look(place: Place, scope: Scope, known: Known) -> str | None:
    """The id in one place, or None where there is none.

    Raises:
        UnusableIdError: If there is something that cannot be an id.
    """
    match place:
        case JsonField():
            return None if known.json is None else place.find(known.json)
        case FormField():
            return None if known.form is None else place.find(known.form)
        case FirstMessage():
            return None if known.json is None else place.find(known.json)
        case FirstFrame():
            return None if known.frame is None else place.field.find(known.frame)
        case Composite():
            found: list[str] = []
            for part in place.parts:
                value = look(part, scope, known)
                if value is None:
                    return None
                found.append(value)
            return SEPARATOR.join(found)
        case _:
            return place(scope)


def simple(places: tuple[Place, ...]) -> Iterator[Place]:
    """All places, those of composite keys one by one."""
    for place in places:
        if isinstance(place, Composite):
            yield from simple(place.parts)
        else:
            yield place


def media_of(places: tuple[Place, ...]) -> frozenset[Media]:
    """The kinds of bodies that have to be read for these places.

    >>> sorted(media.name for media in media_of((JsonField("id"), FormField("id"))))
    ['FORM', 'JSON', 'MULTIPART']
    """
    media: set[Media] = set()
    for place in simple(places):
        if isinstance(place, JsonField | FirstMessage):
            media.add(Media.JSON)
        elif isinstance(place, FormField):
            media |= {Media.FORM, Media.MULTIPART}
    return frozenset(media)


def fields_of(places: tuple[Place, ...], *, frame: bool = False) -> tuple[JsonField, ...]:
    """The fields of the JSON body, or of the first frame, that these places read."""
    if frame:
        return tuple(place.field for place in simple(places) if isinstance(place, FirstFrame))
    return tuple(
        place.field if isinstance(place, FirstMessage) else place
        for place in simple(places)
        if isinstance(place, JsonField | FirstMessage)
    )
