"""The turns of one conversation as one short text, that only ever grows at its end. Pure.

A conversation is counted at a fixed age, and every metric may have its own. Whether a turn was open at that age can be
asked long after it ended, so start and end of every turn are kept. As a text in the conversation's row they cost no row
of their own, and texts of several workers are joined in any order: each entry stands for itself.
"""

from __future__ import annotations

import math
from binascii import a2b_base64, b2a_base64
from collections import Counter
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple

# 33 bytes, a multiple of 3: entries in base64 have no padding and can be joined.
_ENTRY = Struct("<ddddB")
ENTRY_LENGTH = 44
# After about 2,000 turns no more are kept: a row must not grow without end. See ``values``.
FULL = 2000 * ENTRY_LENGTH

STARTED = 0
OK = 1
ERROR = 2
ABORTED = 3
# Added to the three above where the turn's start is an entry of its own.
LATER = 3


class Entry(NamedTuple):
    """A turn, or the start of one, or the end of one whose start is another entry.

    Attributes:
        started_at: Unix time in seconds.
        ended_at: Unix time in seconds, nan for a start.
        latency: Seconds by a monotonic clock, nan for a start.
        time_to_first_byte: Seconds, nan where no byte was sent.
        code: ``STARTED``, or ``OK``, ``ERROR``, ``ABORTED``, each plus ``LATER`` for the end of an earlier start.
    """

    started_at: float
    ended_at: float
    latency: float
    time_to_first_byte: float
    code: int

    @property
    def outcome(self) -> int:
        """``STARTED``, ``OK``, ``ERROR`` or ``ABORTED``."""
        return self.code - LATER if self.code > LATER else self.code


pack = _ENTRY.pack


def to_text(entries: bytes) -> str:
    """Packed entries as text.

    >>> len(to_text(pack(1.0, 3.5, 2.5, 0.25, OK)))
    44
    """
    return b2a_base64(entries, newline=False).decode("ascii")


def read(turn_log: str) -> list[Entry]:
    """The entries of a log, in the order in which they were stored.

    Raises:
        ValueError: If the text is not a log.

    >>> read(to_text(pack(1.0, 3.5, 2.5, 0.25, OK)))
    [Entry(started_at=1.0, ended_at=3.5, latency=2.5, time_to_first_byte=0.25, code=1)]
    """
    if len(turn_log) % ENTRY_LENGTH:
        raise ValueError(f"a turn log has {ENTRY_LENGTH} characters a turn, got {len(turn_log)}")
    return [Entry._make(entry) for entry in _ENTRY.iter_unpack(a2b_base64(turn_log))]


def is_full(turn_log: str) -> bool:
    """True when later turns of the conversation may be missing from its log."""
    return len(turn_log) >= FULL


def open_at(entries: Iterable[Entry], at: float) -> bool:
    """True when a turn had started by ``at`` and had not ended by then.

    >>> open_at([Entry(1.0, 9.0, 8.0, 1.0, OK)], 5.0), open_at([Entry(1.0, 4.0, 3.0, 1.0, OK)], 5.0)
    (True, False)
    """
    waiting: Counter[float] = Counter()
    for entry in entries:
        if entry.started_at > at:
            continue
        if entry.code == STARTED:
            waiting[entry.started_at] += 1
        elif entry.ended_at > at:
            return True
        elif entry.code > LATER:
            waiting[entry.started_at] -= 1
    return any(count > 0 for count in waiting.values())


def ended_with(entries: Iterable[Entry], outcome: int, at: float) -> bool:
    """True when a turn had ended with ``outcome`` by ``at``."""
    return any(entry.outcome == outcome and entry.ended_at <= at for entry in entries)


def first_turn(entries: Sequence[Entry], at: float) -> Entry | None:
    """The first turn of the conversation if it had ended by ``at``, else None."""
    started_at = min(entry.started_at for entry in entries)
    ended = (entry for entry in entries if entry.started_at == started_at and entry.ended_at <= at)
    return min(ended, default=None)


def active_between(entries: Iterable[Entry], after: float, before: float) -> bool:
    """True when a turn started or ended within ``(after, before)``."""
    return any(
        after < moment < before
        for entry in entries
        for moment in (entry.started_at, entry.ended_at)
        if not math.isnan(moment)
    )
