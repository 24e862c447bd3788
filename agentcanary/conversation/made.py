"""Where a server states the id that it made for a conversation: in a response header, a JSON body or an event. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agentcanary.conversation.identity import MAX_LENGTH, SEPARATOR, UnusableIdError, checked, checked_json


@dataclass(frozen=True, slots=True)
class MadeHeader:
    """A header of the response.

    Attributes:
        name: In any case.
        pattern: What the value looks like, with one group for the id; by default all of it.

    >>> MadeHeader("Content-Location", r"/threads/([^/]+).*").find([(b"content-location", b"/threads/t-1/runs/r-1")])
    't-1'
    """

    name: str
    pattern: str = "(.*)"
    _key: bytes = field(init=False, repr=False)
    _regex: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", self.name.lower().encode("latin-1"))
        object.__setattr__(self, "_regex", re.compile(self.pattern, re.DOTALL))

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The id, or None where the header is missing or says something else."""
        for name, value in headers:
            if name.lower() == self._key:
                match = self._regex.fullmatch(value.decode("latin-1"))
                return None if match is None else _usable(match[1])
        return None


@dataclass(frozen=True, slots=True)
class MadeValue:
    r"""A value in a JSON body or in the data of an event.

    Attributes:
        path: Keys from the top, joined by dots; several paths, separated by spaces, make a composite key.

    >>> MadeValue("appName userId id").find({"appName": "a", "userId": "u", "id": "s"})
    'a\x1fu\x1fs'
    """

    path: str
    _keys: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keys", tuple(tuple(path.split(".")) for path in self.path.split()))

    @property
    def marker(self) -> bytes:
        """What an event must contain to state the id."""
        return f'"{self._keys[-1][-1]}"'.encode()

    def find(self, document: object) -> str | None:
        """The id, or None where it is not stated."""
        parts = []
        for keys in self._keys:
            value = document
            for key in keys:
                value = value.get(key) if isinstance(value, dict) else None
            found = None if value is None else _usable(value)
            if found is None:
                return None
            parts.append(found)
        return SEPARATOR.join(parts)


Made = MadeHeader | MadeValue


def made_in(document: object, made: Iterable[Made]) -> Iterator[str]:
    """The ids that a document states, each once.

    >>> list(made_in({"id": "resp_1"}, [MadeValue("response.id"), MadeValue("id")]))
    ['resp_1']
    """
    known = set()
    for place in made:
        if isinstance(place, MadeValue):
            found = place.find(document)
            if found is not None and found not in known:
                known.add(found)
                yield found


def _usable(value: object) -> str | None:
    """The id, or None for what the same client could not send back as one."""
    try:
        return checked(value, MAX_LENGTH) if isinstance(value, str) else checked_json(value, MAX_LENGTH)
    except UnusableIdError:
        return None
