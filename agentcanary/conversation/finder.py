"""Finding a request's conversation: places in order, the first that has an id counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agentcanary.conversation.body import MAX_BODY, JsonField, Receive, may_peek, parsed, peek
from agentcanary.conversation.extractors import Cookie, Extractor, Header, Path, Query, Scope
from agentcanary.conversation.identity import MAX_LENGTH, Problem, UnusableIdError
from agentcanary.conversation.signed_cookie import SignedCookie

DEFAULT_PLACES = (
    ("header", "x-conversation-id"),
    ("json", "conversation_id"),
    ("json", "session_id"),
    ("json", "thread_id"),
    ("signed_cookie", "agentcanary"),
)


class Found(NamedTuple):
    """What a search gave.

    Attributes:
        unit: The id, or None.
        problem: Why there is none; of several, the first that is more than absence.
        receive: What the application reads the request from: a body that was read is given once more.
        document: The parsed JSON body, or None when it was not read.
        error: What an extractor raised that it must not raise.
    """

    unit: str | None
    problem: Problem
    receive: Receive
    document: object = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Finder:
    """Looks for an id in several places, in order.

    Attributes:
        places: Extractors that are called with the scope, and fields of a JSON body. The body is read only when no
            place before the first of its fields had an id.
        max_body: Bodies of more bytes are handed on without being looked into.
    """

    places: tuple[Extractor | JsonField, ...]
    max_body: int = MAX_BODY

    def at_once(self, scope: Scope) -> str | None:
        """The id, if the first place has it and it can be used: what nearly every request comes to.

        Only a shortcut: where this is None, ``search`` says what there is.
        """
        first = self.places[0]
        if isinstance(first, JsonField):
            return None
        try:
            return first(scope)
        except Exception:  # noqa: BLE001 (an extractor may be the user's; ``search`` calls it again and reports it)
            return None

    async def search(self, scope: Scope, receive: Receive) -> Found:
        """The id, or why there is none. Raises nothing that an extractor raises."""
        problem, error = Problem.ABSENT, None
        document: object = None
        looked = False
        fields = [place for place in self.places if isinstance(place, JsonField)]
        for place in self.places:
            try:
                if isinstance(place, JsonField):
                    if not looked:
                        looked = True
                        if may_peek(scope, max_body=self.max_body):
                            peeked = await peek(receive, max_body=self.max_body)
                            receive = peeked.receive
                            document = parsed(peeked.whole(), fields)
                    unit = None if document is None else place.find(document)
                else:
                    unit = place(scope)
            except UnusableIdError as unusable:
                unit = None
                problem = unusable.problem if problem is Problem.ABSENT else problem
            except Exception as failure:  # noqa: BLE001 (extractors may be the user's; a bug in one must not cost a request)
                unit = None
                problem, error = Problem.EXTRACTOR_FAILED, failure
            if unit is not None:
                return Found(unit, problem, receive, document, error)
        return Found(None, problem, receive, document, error)


def finder(
    places: Iterable[tuple[str, str]] = DEFAULT_PLACES,
    *,
    cookie: SignedCookie | None = None,
    max_body: int = MAX_BODY,
    max_length: int = MAX_LENGTH,
) -> Finder:
    """A finder from places as they are written in a configuration.

    Args:
        places: Pairs of ``header | cookie | query | path | json | signed_cookie`` and a name.
        cookie: What reads ``signed_cookie``; without one that place is left out.
        max_body: Bytes.
        max_length: Characters.

    Raises:
        ValueError: If a place is unknown, or none is left.

    >>> finder([("header", "x-session-id")]).at_once({"headers": [(b"x-session-id", b"s-1")]})
    's-1'
    """
    found: list[Extractor | JsonField] = []
    for place, name in places:
        match place:
            case "header":
                found.append(Header(name, max_length))
            case "cookie":
                found.append(Cookie(name, max_length))
            case "query":
                found.append(Query(name, max_length))
            case "path":
                found.append(Path(name, max_length))
            case "json":
                found.append(JsonField(name, max_length))
            case "signed_cookie":
                if cookie is not None:
                    found.append(cookie)
            case _:
                raise ValueError(
                    f"unknown place {place!r} for an id; use header, cookie, query, path, json or signed_cookie"
                )
    return Finder(tuple(found), max_body)


def first_of(places: Sequence[Extractor | JsonField], scope: Scope, document: object) -> str | None:
    """The first id that one of the places has, without reading the body; unusable ones are passed over.

    For the user, whose absence is no problem: the conversation is then drawn by itself.
    """
    for place in places:
        try:
            unit = place.find(document) if isinstance(place, JsonField) else place(scope)
        except Exception:  # noqa: BLE001 (as in ``Finder.search``)
            continue
        if unit is not None:
            return unit
    return None
