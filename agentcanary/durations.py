"""How a length of time is written: text with units, ``30m`` or ``1h30m``. Pure."""

from __future__ import annotations

import math
import re

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_SECONDS = 366 * 86400.0
_NUMBER = r"[0-9]+(\.[0-9]+)?"
PATTERN = rf"^({_NUMBER}d)?({_NUMBER}h)?({_NUMBER}m)?({_NUMBER}s)?$"
"""For JSON Schema; the empty text, which it would allow, is excluded by a minimum length."""
_PARTS = re.compile(rf"({_NUMBER})([smhd])", re.ASCII)
_WHOLE = re.compile(PATTERN, re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds of a duration written with units, the largest first.

    Raises:
        ValueError: If it cannot be read, or is longer than a year.

    >>> parse_duration("1h30m"), parse_duration("10s"), parse_duration("0.5d")
    (5400.0, 10.0, 43200.0)
    """
    if not text or len(text) > 40 or _WHOLE.fullmatch(text) is None:
        raise ValueError("must be a duration with a unit, largest first: 90s, 30m, 1h30m, 6h or 1d")
    return checked_seconds(sum(float(match[1]) * UNITS[match[3]] for match in _PARTS.finditer(text)))


def checked_seconds(seconds: float) -> float:
    """The same seconds, when they are a length of time that a plan can have.

    Raises:
        ValueError: If they are negative, not finite, or longer than a year.
    """
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise ValueError("must be a duration from 0 to 366 days")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration as it would be written.

    >>> format_duration(5400), format_duration(604800), format_duration(0), format_duration(0.25)
    ('1h30m', '7d', '0s', '0.25s')
    """
    parts = []
    rest = seconds
    for unit in ("d", "h", "m"):
        whole = int(rest // UNITS[unit])
        if whole:
            parts.append(f"{whole}{unit}")
            rest -= whole * UNITS[unit]
    if rest > 0 or not parts:
        parts.append(f"{rest:.10g}s")
    return "".join(parts)
