"""Segments of conversations, such as a language or a tenant: reported beside the whole, never deciding. Pure.

A segment is told as an outcome of the conversation whose name says both: ``segment.language=de``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

PREFIX = "segment."
OTHER = "other"
MOST_NAMES = 5
MOST_VALUES = 20
"""Of each name, in one rollout; what comes later is counted together, as ``other``."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LONGEST = 64
_MARK = "@"


class Segment(NamedTuple):
    """One segment of conversations.

    Attributes:
        name: ``language``.
        value: ``de``.
    """

    name: str
    value: str

    @property
    def outcome(self) -> str:
        """The name of the outcome that puts a conversation into it.

        >>> Segment("language", "de").outcome
        'segment.language=de'
        """
        return f"{PREFIX}{self.name}={self.value}"


def segment(name: str, value: str) -> Segment:
    """A segment that may be told.

    Raises:
        ValueError: Saying which part cannot be, and what instead.

    >>> segment("tenant", "acme")
    Segment(name='tenant', value='acme')
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(f"a segment's name has up to 32 of a-z, 0-9 and _, such as language; got {name!r}")
    readable = isinstance(value, str) and value.isprintable() and value == value.strip()
    if not readable or not 0 < len(value) <= _LONGEST:
        raise ValueError(f"segment {name} must be 1 to {_LONGEST} printable characters, got {str(value)[:70]!r}")
    return Segment(name, value)


def segments_of(outcomes: Iterable[tuple[str, float]]) -> dict[str, str]:
    """The segments of a conversation, by name; of a name that was told twice, the later one.

    Args:
        outcomes: Name and time of each of its outcomes, in any order.

    >>> segments_of([("segment.language=de", 2.0), ("segment.language=en", 1.0), ("task_completion", 3.0)])
    {'language': 'de'}
    """
    found: dict[str, tuple[float, str]] = {}
    for outcome, at in outcomes:
        if outcome.startswith(PREFIX):
            name, _, value = outcome.removeprefix(PREFIX).partition("=")
            if value and (name not in found or at >= found[name][0]):
                found[name] = (at, value)
    return {name: value for name, (_, value) in found.items()}


def counted_as(metric: str, of: Segment) -> str:
    """The name under which a metric is counted in a segment; no metric of a plan has such a name.

    >>> counted_as("error_rate", Segment("language", "de"))
    'error_rate@language=de'
    """
    return f"{metric}{_MARK}{of.name}={of.value}"


def read_counted(name: str) -> tuple[str, Segment] | None:
    """The opposite of ``counted_as``; None for a metric of the whole.

    >>> read_counted("error_rate@language=de"), read_counted("error_rate")
    (('error_rate', Segment(name='language', value='de')), None)
    """
    metric, mark, rest = name.partition(_MARK)
    if not mark:
        return None
    of, _, value = rest.partition("=")
    return metric, Segment(of, value)


class Room:
    """Which segments a rollout counts: few names, few values, the first that come.

    Args:
        counted: Those that it has counted already.
    """

    def __init__(self, counted: Iterable[Segment]) -> None:
        self._values: dict[str, set[str]] = {}
        for one in counted:
            self._values.setdefault(one.name, set()).add(one.value)

    def of(self, told: dict[str, str]) -> list[Segment]:
        """The segments under which a conversation is counted.

        >>> room = Room([Segment("tenant", str(number)) for number in range(20)])
        >>> room.of({"tenant": "another", "language": "de"})
        [Segment(name='tenant', value='other'), Segment(name='language', value='de')]
        """
        found = []
        for name, value in told.items():
            if name not in self._values and len(self._values) >= MOST_NAMES:
                continue
            values = self._values.setdefault(name, set())
            if value not in values and len(values - {OTHER}) >= MOST_VALUES:
                found.append(Segment(name, OTHER))
            else:
                values.add(value)
                found.append(Segment(name, value))
        return found
