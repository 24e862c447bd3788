"""The id in a JSON body: read at most once, up to a limit, and handed on exactly as it came."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentcanary.conversation.extractors import Scope
from agentcanary.conversation.identity import MAX_LENGTH, Problem, UnusableIdError, cleaned_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_BODY = 1_048_576


@dataclass(frozen=True, slots=True)
class JsonField:
    """A value in a JSON body.

    Attributes:
        path: Keys from the top, joined by dots: ``params.message.contextId``.
        max_length: Most characters that an id may have.
    """

    path: str
    max_length: int = MAX_LENGTH
    keys: tuple[str, ...] = field(init=False, repr=False)
    quoted: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(self.path.split(".")))
        object.__setattr__(self, "quoted", json.dumps(self.keys[-1], ensure_ascii=False).encode())

    def find(self, document: object) -> str | None:
        """The id, or None where one of the keys is missing.

        Raises:
            UnusableIdError: If the value cannot be an id.

        >>> JsonField("params.message.contextId").find({"params": {"message": {"contextId": "x-1"}}})
        'x-1'
        """
        value = document
        for key in self.keys:
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return cleaned_json(value, self.max_length)


def parsed(body: bytes, fields: Sequence[JsonField]) -> object:
    """The document, or None when the body does not even contain the name of a field.

    Looking for the bytes of the name is a hundred times as fast as parsing, and most large bodies are histories
    of conversations whose id stands elsewhere. (A name written with escapes is not found; it has no reason to be.)

    Raises:
        UnusableIdError: If the body is not JSON.
    """
    for place in fields:
        if place.quoted in body:
            try:
                return json.loads(body)
            except (ValueError, RecursionError):
                raise UnusableIdError(Problem.MALFORMED_JSON) from None
    return None


def may_peek(scope: Scope, *, max_body: int = MAX_BODY) -> bool:
    """True when the request announces a JSON body that can be read.

    Raises:
        UnusableIdError: If it announces one that is compressed or larger than ``max_body`` bytes.
    """
    if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS", "TRACE"):
        return False
    content, encoding, length = b"", b"", b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content = value
        elif name == b"content-encoding":
            encoding = value
        elif name == b"content-length":
            length = value
    if content != b"application/json":
        media_type = content.partition(b";")[0].strip().lower()
        if media_type != b"application/json" and not media_type.endswith(b"+json"):
            return False
    if encoding and encoding.strip().lower() != b"identity":
        raise UnusableIdError(Problem.COMPRESSED)
    if length.isdigit() and (len(length) > 12 or int(length) > max_body):
        raise UnusableIdError(Problem.BODY_TOO_LARGE)
    return True


class Read(NamedTuple):
    """What came of a body.

    Attributes:
        document: The JSON document; None when there is none, or none that matters.
        problem: Why there is none; ``absent`` where nothing is wrong.
        receive: Gives the messages that were read once more, then whatever the server sends.
    """

    document: object
    problem: Problem
    receive: Receive


async def read_document(
    scope: Scope, receive: Receive, fields: Sequence[JsonField], *, max_body: int = MAX_BODY
) -> Read:
    """Read a JSON body up to a limit without taking it away from the application. Raises nothing of its own."""
    try:
        if not may_peek(scope, max_body=max_body):
            return Read(None, Problem.ABSENT, receive)
    except UnusableIdError as unusable:
        return Read(None, unusable.problem, receive)
    messages: list[Message] = []
    replay = _Replay(messages, receive)
    size = 0
    while True:
        try:
            message = await receive()
        except Exception:  # noqa: BLE001 (the application meets it when it reads on)
            return Read(None, Problem.DISCONNECTED, replay)
        messages.append(message)
        if message["type"] != "http.request":
            return Read(None, Problem.DISCONNECTED, replay)
        size += len(message.get("body", b""))
        if size > max_body:
            return Read(None, Problem.BODY_TOO_LARGE, replay)
        if not message.get("more_body", False):
            break
    body = message.get("body", b"") if len(messages) == 1 else b"".join(part.get("body", b"") for part in messages)
    try:
        return Read(parsed(body, fields), Problem.ABSENT, replay)
    except UnusableIdError as unusable:
        return Read(None, unusable.problem, replay)


class _Replay:
    """The messages that were read, then the real ``receive``."""

    __slots__ = ("_messages", "_next", "_receive")

    def __init__(self, messages: list[Message], receive: Receive) -> None:
        self._messages = messages
        self._receive = receive
        self._next = 0

    async def __call__(self) -> Message:
        if self._next < len(self._messages):
            message = self._messages[self._next]
            # A body of a megabyte need not live as long as the response.
            self._messages[self._next] = {}
            self._next += 1
            return message
        return await self._receive()
