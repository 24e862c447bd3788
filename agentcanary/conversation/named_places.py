"""Places as they are written in a configuration: a word for the place and a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agentcanary.conversation.body import MAX_BODY
from agentcanary.conversation.extractors import Cookie, Header, Path, Query
from agentcanary.conversation.finder import Finder
from agentcanary.conversation.forms import FormField
from agentcanary.conversation.identity import MAX_LENGTH
from agentcanary.conversation.json_reader import JsonField
from agentcanary.conversation.places import Composite, FirstFrame, FirstMessage, Place
from agentcanary.conversation.presets import PRESETS
from agentcanary.conversation.signed_cookie import SignedCookie

DEFAULT_PLACES = (
    ("header", "x-conversation-id"),
    ("json", "conversation_id"),
    ("json", "session_id"),
    ("json", "thread_id"),
    ("signed_cookie", "agentcanary"),
)
PLACES = (
    *("header", "cookie", "query", "path", "json", "form"),
    *("websocket_first_frame", "first_message", "signed_cookie", "composite"),
)


def finder(
    places: Iterable[tuple[str, object]] = DEFAULT_PLACES,
    *,
    cookie: SignedCookie | None = None,
    max_body: int = MAX_BODY,
    max_length: int = MAX_LENGTH,
    presets: Sequence[str] = (),
    turn: Iterable[tuple[str, object]] = (),
    every: bool = False,
) -> Finder:
    """A finder from places as they are written in a configuration.

    Args:
        places: Pairs of a place (one of ``PLACES``) and a name; for ``composite`` a sequence of such pairs.
        cookie: What reads ``signed_cookie``; without one that place is left out.
        max_body: Bytes.
        max_length: Characters.
        presets: Names of frameworks, looked at after the places.
        turn: Places of what names a turn.
        every: True when ``search`` must see every request.

    Raises:
        ValueError: If a place or a preset is unknown.

    >>> finder([("header", "x-session-id")]).first({"headers": [(b"x-session-id", b"s-1")]})
    's-1'
    """
    unknown = [name for name in presets if name not in PRESETS]
    if unknown:
        raise ValueError(f"unknown preset {unknown[0]!r}; use {', '.join(PRESETS)}")
    return Finder(
        _places(places, cookie, max_length),
        max_body,
        tuple(PRESETS[name] for name in presets),
        max_length,
        _places(turn, cookie, max_length),
        every,
    )


def _places(named: Iterable[tuple[str, object]], cookie: SignedCookie | None, longest: int) -> tuple[Place, ...]:
    made = [_place(place, name, cookie, longest) for place, name in named]
    return tuple(place for place in made if place is not None)


def _place(place: str, name: Any, cookie: SignedCookie | None, longest: int) -> Place | None:
    match place:
        case "header":
            return Header(name, longest)
        case "cookie":
            return Cookie(name, longest)
        case "query":
            return Query(name, longest)
        case "path":
            return Path(name, longest)
        case "json":
            return JsonField(name, longest)
        case "form":
            return FormField(name, longest)
        case "websocket_first_frame":
            return FirstFrame(JsonField(name, longest))
        case "first_message":
            return FirstMessage(name)
        case "composite":
            return Composite(_places(name, cookie, longest))
        case "signed_cookie":
            return cookie
        case _:
            raise ValueError(f"unknown place {place!r} for an id; use {', '.join(PLACES)}")
