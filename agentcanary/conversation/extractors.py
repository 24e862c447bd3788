"""Where an id stands in a request: header, cookie, query, path. Pure; none of them reads the body.

Each is a value that is called with an ASGI scope. They are called for every request, so they look at bytes and
build no header mapping. Where one place holds two ids that disagree, there is none: whoever reads the request next
may take the other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from agentcanary.conversation.identity import MAX_LENGTH, SEPARATOR, Problem, UnusableIdError, checked

Scope = MutableMapping[str, Any]
Extractor = Callable[[Scope], str | None]
"""The id, None where there is none. Raises ``UnusableIdError`` for one that cannot be used."""

_PLACEHOLDER = re.compile(r"\{[A-Za-z_]\w*\}")
_PLAIN = re.compile(rb"[!-~]+").fullmatch


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
        key, found = self._key, None
        for name, value in scope["headers"]:
            if name == key:
                if found is not None and found != value:
                    raise UnusableIdError(Problem.IDS_DISAGREE)
                found = value
        if found is None:
            return None
        if _PLAIN(found):
            # What ``checked`` would return: on the path of every request.
            text: str = found.decode("ascii")
            if len(text) <= self.max_length:
                return text
        return checked(found, self.max_length)


def cookie_value(scope: Scope, name: bytes) -> bytes | None:
    """The raw value of a cookie, without the quotes that may stand around it; None where there is none.

    HTTP/2 clients may send several ``cookie`` headers (RFC 9113, 8.2.3).

    Raises:
        UnusableIdError: If it is there twice with two values, as a browser sends cookies of two paths.

    >>> cookie_value({"headers": [(b"cookie", b'a=1; chat="c-1"')]}, b"chat")
    b'c-1'
    """
    found: bytes | None = None
    for header, line in scope["headers"]:
        if header == b"cookie" and name in line:
            for pair in line.split(b";"):
                key, separator, value = pair.partition(b"=")
                if separator and key.strip() == name:
                    value = bytes(value.strip())
                    if len(value) > 1 and value[:1] == value[-1:] == b'"':
                        value = value[1:-1]
                    if found is not None and found != value:
                        raise UnusableIdError(Problem.IDS_DISAGREE)
                    found = value
    return found


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
        return None if value is None else checked(value, self.max_length)


def parameter(query: bytes, key: bytes, max_length: int) -> str | None:
    """The value of a parameter in a query string or an urlencoded form.

    Raises:
        UnusableIdError: If it cannot be an id, or is there twice with two values.

    >>> parameter(b"q=hello&session=c%2D1", b"session", 256)
    'c-1'
    """
    found: bytes | None = None
    for pair in query.split(b"&"):
        name, separator, value = pair.partition(b"=")
        if separator and (name == key or (b"%" in name and unquote_to_bytes(name) == key)):
            if b"+" in value or b"%" in value:
                value = unquote_to_bytes(value.replace(b"+", b" "))
            if found is not None and found != value:
                raise UnusableIdError(Problem.IDS_DISAGREE)
            found = value
    if found is None:
        return None
    try:
        return checked(found.decode(), max_length)
    except UnicodeDecodeError:
        raise UnusableIdError(Problem.INVALID_UTF8) from None


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter in the query string.

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
        return parameter(query, self._key, self.max_length) if query else None


@dataclass(frozen=True, slots=True)
class Path:
    """One or several segments of the path, below the prefix at which the application is mounted.

    Attributes:
        template: Matches the beginning of the path, with placeholders for what makes the id:
            ``/threads/{thread_id}/runs``; several make a composite key, in their order.
        max_length: Most characters that a segment may have.

    Raises:
        ValueError: If the template has no placeholder.

    >>> Path("/threads/{thread_id}")({"path": "/threads/t-1/runs"})
    't-1'
    """

    template: str
    max_length: int = MAX_LENGTH
    _pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        fixed = _PLACEHOLDER.split(self.template)
        if len(fixed) < 2 or not self.template.startswith("/"):
            raise ValueError(
                f"a path template starts with / and has a placeholder, got {self.template!r}; "
                "write /threads/{thread_id}/runs"
            )
        fixed[-1] = fixed[-1].rstrip("/")
        pattern = "([^/]+)".join(map(re.escape, fixed)) + "(?:/.*)?"
        object.__setattr__(self, "_pattern", re.compile(pattern, re.DOTALL))

    def __call__(self, scope: Scope) -> str | None:
        """The id, if the path matches."""
        match = self._pattern.fullmatch(below_root(scope))
        if match is None:
            return None
        return SEPARATOR.join([checked(segment, self.max_length) for segment in match.groups()])


def below_root(scope: Scope) -> str:
    """The path below the prefix at which the application is mounted.

    >>> below_root({"root_path": "/api", "path": "/api/threads/t-1"})
    '/threads/t-1'
    """
    root, path = scope.get("root_path", ""), scope["path"]
    if root and path.startswith(root):
        return str(path[len(root) :])
    return str(path)
