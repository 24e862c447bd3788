"""Where an id stands in a request: header, cookie, query, path. Pure; none of them reads the body.

Each is a value that is called with an ASGI scope. They are called for every request, so they look at bytes and
build no header mapping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from agentcanary.conversation.identity import MAX_LENGTH, cleaned

Scope = MutableMapping[str, Any]
Extractor = Callable[[Scope], str | None]
"""The id, None where there is none. Raises ``UnusableIdError`` for one that cannot be used."""

_PLACEHOLDER = re.compile(r"\{[A-Za-z_]\w*\}")


@dataclass(frozen=True, slots=True)
class Header:
    """The value of a header.

    Attributes:
        name: In any case.
        max_length: Most characters that an id may have.

    >>> Header("X-Conversation-Id")({"headers": [(b"x-conversation-id", b"c-1")]})
    'c-1'
    """

    name: str
    max_length: int = MAX_LENGTH
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", self.name.lower().encode("latin-1"))

    def __call__(self, scope: Scope) -> str | None:
        """The id, if the header is there."""
        key = self._key
        for name, value in scope["headers"]:
            if name == key:
                if len(value) <= self.max_length and value.isascii():
                    # What ``cleaned`` would return: on the path of every request.
                    text: str = value.decode()
                    if text.isprintable() and text[:1] > " " < text[-1:]:
                        return text
                return cleaned(value, self.max_length)
        return None


def cookie_value(scope: Scope, name: bytes) -> bytes | None:
    """The raw value of a cookie, without the quotes that may stand around it; None where there is none.

    HTTP/2 clients may send several ``cookie`` headers (RFC 9113, 8.2.3).

    >>> cookie_value({"headers": [(b"cookie", b'a=1; chat="c-1"')]}, b"chat")
    b'c-1'
    """
    for header, line in scope["headers"]:
        if header == b"cookie" and name in line:
            for pair in line.split(b";"):
                key, separator, value = pair.partition(b"=")
                if separator and key.strip() == name:
                    value = value.strip()
                    quoted = len(value) > 1 and value[:1] == value[-1:] == b'"'
                    return bytes(value[1:-1] if quoted else value)
    return None


@dataclass(frozen=True, slots=True)
class Cookie:
    """The value of a cookie that the application or its client set.

    Attributes:
        name: Case matters.
        max_length: Most characters that an id may have.
    """

    name: str
    max_length: int = MAX_LENGTH
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", self.name.encode("latin-1"))

    def __call__(self, scope: Scope) -> str | None:
        """The id, if the cookie is there."""
        value = cookie_value(scope, self._key)
        return None if value is None else cleaned(value, self.max_length)


@dataclass(frozen=True, slots=True)
class Query:
    """The first value of a parameter in the query string.

    Attributes:
        name: Case matters.
        max_length: Most characters that an id may have.

    >>> Query("session")({"query_string": b"q=hello&session=c%2D1"})
    'c-1'
    """

    name: str
    max_length: int = MAX_LENGTH
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", self.name.encode())

    def __call__(self, scope: Scope) -> str | None:
        """The id, if the parameter is there."""
        query = scope.get("query_string", b"")
        if not query:
            return None
        key = self._key
        for pair in query.split(b"&"):
            name, separator, value = pair.partition(b"=")
            if separator and (name == key or (b"%" in name and unquote_to_bytes(name) == key)):
                return cleaned(unquote_to_bytes(value.replace(b"+", b" ")), self.max_length)
        return None


@dataclass(frozen=True, slots=True)
class Path:
    """A segment of the path, below the prefix at which the application is mounted.

    Attributes:
        template: Matches the beginning of the path, with one placeholder: ``/threads/{thread_id}/runs``.
        max_length: Most characters that an id may have.

    Raises:
        ValueError: If the template does not have exactly one placeholder.

    >>> Path("/threads/{thread_id}")({"path": "/threads/t-1/runs"})
    't-1'
    """

    template: str
    max_length: int = MAX_LENGTH
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        before, *rest = _PLACEHOLDER.split(self.template)
        if len(rest) != 1 or not self.template.startswith("/"):
            raise ValueError(
                f"a path template starts with / and has one placeholder, got {self.template!r}; "
                "write /threads/{thread_id}/runs"
            )
        pattern = f"{re.escape(before)}([^/]+){re.escape(rest[0].rstrip('/'))}(?:/.*)?"
        object.__setattr__(self, "_pattern", re.compile(pattern, re.DOTALL))

    def __call__(self, scope: Scope) -> str | None:
        """The id, if the path matches."""
        root, path = scope.get("root_path", ""), scope["path"]
        if root and path.startswith(root):
            path = path[len(root) :]
        match = self._pattern.fullmatch(path)
        return None if match is None else cleaned(match[1], self.max_length)
