"""How numbers and times are written for people. Pure; what is no time is written as in the reports."""

from __future__ import annotations

from datetime import UTC, datetime

from agentcanary.durations import UNITS, format_duration
from agentcanary_analysis.figures import change, count, e_value, value

__all__ = ["ago", "change", "count", "e_value", "moment", "span", "value"]


def span(seconds: float) -> str:
    """A length of time, to two units at most.

    >>> span(5025), span(93.4), span(0.2), span(200_000)
    ('1h23m', '1m33s', '0.2s', '2d7h')
    """
    if seconds < 0:
        return f"−{span(-seconds)}"
    if seconds < 10:
        return format_duration(round(seconds, 1))
    step = next((finer for unit, finer in (("d", "h"), ("h", "m"), ("m", "s")) if seconds >= UNITS[unit]), "s")
    return format_duration(seconds // UNITS[step] * UNITS[step])


def moment(at: float) -> str:
    """A time in UTC, to the second.

    >>> moment(1767348000.7)
    '2026-01-02 10:00:00 UTC'
    """
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(at: float, now: float) -> str:
    """How long ago, or in how long.

    >>> ago(100.0, 7300.0), ago(7300.0, 100.0)
    ('2h ago', 'in 2h')
    """
    return f"{span(now - at)} ago" if now >= at else f"in {span(at - now)}"
