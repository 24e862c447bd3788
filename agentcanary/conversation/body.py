"""The body of a request: read at most once, up to a limit, and handed on exactly as it came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum, auto
from typing import Any, NamedTuple

from agentcanary.conversation.extractors import Scope
from agentcanary.conversation.identity import Problem, UnusableIdError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_BODY = 1_048_576
_new = tuple.__new__
_OF_BODIES = frozenset({b"content-type", b"content-encoding", b"content-length"})
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Media(Enum):
    """What a body is written in."""

    JSON = auto()
    FORM = auto()
    MULTIPART = auto()


class Body(NamedTuple):
    """A body that was read.

    Attributes:
        media: What it is written in.
        content: Its bytes.
        content_type: The header's value, with the boundary of a multipart form.
    """

    media: Media
    content: bytes
    content_type: bytes = b"application/json"


class Read(NamedTuple):
    """What came of reading a body.

    Attributes:
        body: None when there is none that can be looked into.
        problem: Why there is none; ``absent`` where nothing is wrong.
        receive: Gives the messages that were read once more, then whatever the server sends.
    """

    body: Body | None
    problem: Problem
    receive: Receive


def announced(scope: Scope, media: frozenset[Media], *, max_body: int = MAX_BODY) -> tuple[Media, bytes] | None:
    """What a request says of its body, or None when it has none that could hold an id.

    Args:
        scope: The request.
        media: What can be looked into.
        max_body: Bytes.

    Raises:
        UnusableIdError: If the body is of another type, compressed, or larger than ``max_body`` bytes.

    >>> json = [(b"content-type", b"application/json")]
    >>> announced({"type": "http", "method": "POST", "headers": json}, frozenset({Media.JSON}))
    (<Media.JSON: 1>, b'application/json')
    """
    if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
        return None
    content, encoding, length = b"", b"", b""
    for name, value in scope["headers"]:
        if name in _OF_BODIES:
            if name == b"content-type":
                content = value
            elif name == b"content-length":
                length = value
            else:
                encoding = value
    if not content or length == b"0":
        return None
    kind = Media.JSON if content == b"application/json" else _media(content)
    if kind is None or kind not in media:
        raise UnusableIdError(Problem.WRONG_CONTENT_TYPE)
    if encoding and encoding.strip().lower() != b"identity":
        raise UnusableIdError(Problem.COMPRESSED)
    if length.isdigit() and (len(length) > 12 or int(length) > max_body):
        raise UnusableIdError(Problem.BODY_TOO_LARGE)
    return kind, content


async def read_body(scope: Scope, receive: Receive, media: frozenset[Media], *, max_body: int = MAX_BODY) -> Read:
    """Read a body up to a limit without taking it away from the application. Raises nothing of its own."""
    try:
        known = announced(scope, media, max_body=max_body)
    except UnusableIdError as unusable:
        return Read(None, unusable.problem, receive)
    if known is None:
        return Read(None, Problem.ABSENT, receive)
    messages: list[Message] = []
    replay = Replay(messages, receive)
    size = 0
    while True:
        try:
            message = await receive()
        except Exception:  # noqa: BLE001 (the application meets it when it reads on)
            return Read(None, Problem.DISCONNECTED, replay)
        messages.append(message)
        if message["type"] != "http.request":
            return Read(None, Problem.DISCONNECTED, replay)
        part = message.get("body", b"")
        size += len(part)
        if size > max_body:
            return Read(None, Problem.BODY_TOO_LARGE, replay)
        if not message.get("more_body"):
            break
    # A server may deliver a bytearray or a memoryview.
    whole = bytes(part) if len(messages) == 1 else b"".join([read.get("body", b"") for read in messages])
    return _new(Read, (_new(Body, (known[0], whole, known[1])), Problem.ABSENT, replay))


class Replay:
    """A ``receive`` that gives the messages that were read, then calls the real one."""

    __slots__ = ("_messages", "_next", "_receive")

    def __init__(self, messages: list[Message], receive: Receive) -> None:
        self._messages = messages
        self._receive = receive
        self._next = 0

    async def __call__(self) -> Message:
        """The next message."""
        if self._next < len(self._messages):
            message = self._messages[self._next]
            # A body of a megabyte need not live as long as the response.
            self._messages[self._next] = {}
            self._next += 1
            return message
        return await self._receive()


def _media(content_type: bytes) -> Media | None:
    name = content_type.partition(b";")[0].strip().lower()
    if name == b"application/json" or name.endswith(b"+json"):
        return Media.JSON
    if name == b"application/x-www-form-urlencoded":
        return Media.FORM
    if name == b"multipart/form-data":
        return Media.MULTIPART
    return None
