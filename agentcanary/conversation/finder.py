"""Finding a request's conversation: places in order, the first that has an id counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from agentcanary.conversation.body import MAX_BODY, JsonField, Receive, read_document
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
        first: The first place, where nearly every request has its id: a shortcut. Where it gives none or raises,
            ``search`` says what there is.
        fields: The places that are fields of a JSON body.
    """

    places: tuple[Extractor | JsonField, ...]
    max_body: int = MAX_BODY
    first: Extractor = field(init=False, repr=False)
    fields: tuple[JsonField, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(place for place in self.places if isinstance(place, JsonField)))
        first = self.places[0] if self.places else _nowhere
        object.__setattr__(self, "first", _nowhere if isinstance(first, JsonField) else first)

    async def search(self, scope: Scope, receive: Receive) -> Found:
        """The id, or why there is none. Raises nothing that an extractor raises."""
        problem, error = Problem.ABSENT, None
        document: object = None
        looked = False
        for place in self.places:
            try:
                if isinstance(place, JsonField):
                    if not looked:
                        looked = True
                        read = await read_document(scope, receive, self.fields, max_body=self.max_body)
                        document, receive = read.document, read.receive
                        problem = read.problem if problem is Problem.ABSENT else problem
                    unit = None if document is None else place.find(document)
                else:
                    unit = place(scope)
            except UnusableIdError as unusable:
                unit = None
                problem = unusable.problem if problem is Problem.ABSENT else problem
            except Exception as failure:  # noqa: BLE001 (extractors may be the user's: a bug must not cost a request)
                unit = None
                problem, error = Problem.EXTRACTOR_FAILED, failure
            if unit is not None:
                return Found(unit, problem, receive, document, error)
        return Found(None, problem, receive, document, error)


def _nowhere(scope: Scope) -> None:
    """For a list that begins with a body, which only ``search`` reads."""


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
        ValueError: If a place is unknown.

    >>> finder([("header", "x-session-id")]).first({"headers": [(b"x-session-id", b"s-1")]})
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


async def find_user(finder: Finder, scope: Scope, receive: Receive, document: object) -> tuple[str | None, Receive]:
    """The user, for ``sticky_by: user``, and what to read the request from afterwards.

    A user who is not there or cannot be used is no problem: the conversation is then drawn by itself.

    Args:
        finder: Where to look.
        scope: The request.
        receive: What reads it.
        document: The JSON body, where the search for the conversation has read it.
    """
    if document is not None:
        for place in finder.fields:
            try:
                unit = place.find(document)
            except UnusableIdError:
                continue
            if unit is not None:
                return unit, receive
    found = await finder.search(scope, receive)
    return found.unit, found.receive
