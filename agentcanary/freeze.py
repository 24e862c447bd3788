"""Freeze windows: stretches of the week in which a rollout takes no step forward. Pure.

They are written in local time, for people; they are compared in Unix time. Where a change of the clocks makes a local
time ambiguous the longer window is meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
_HOURS = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", re.ASCII)
# A chain of windows that goes on for longer leaves no time for a step: the week repeats itself.
_LONGEST = timedelta(days=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeWindow:
    """A stretch of time on some days of the week.

    Attributes:
        days: On which it begins, of ``DAYS``.
        start: Minutes after midnight at which it begins.
        end: Minutes after the same midnight at which it is over; beyond 1440 it ends on the next day.
        timezone: Name in the IANA time zone database.
    """

    days: tuple[str, ...] = DAYS
    start: int = 0
    end: int = MINUTES_A_DAY
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if not self.days or len(set(self.days)) != len(self.days) or not set(self.days) <= set(DAYS):
            raise ValueError(f"days of a freeze window must be some of {', '.join(DAYS)}, each once, got {self.days}")
        if not (0 <= self.start < MINUTES_A_DAY and self.start < self.end <= self.start + MINUTES_A_DAY):
            raise ValueError(
                f"a freeze window begins within a day and lasts at most one, got minutes {self.start} to {self.end}"
            )
        zone(self.timezone)

    @property
    def text(self) -> str:
        """As people write it.

        >>> FreezeWindow(days=("fri",), start=18 * 60, end=32 * 60, timezone="Europe/Berlin").text
        'fri 18:00-08:00 Europe/Berlin'
        """
        days = "every day" if set(self.days) == set(DAYS) else ", ".join(day for day in DAYS if day in self.days)
        whole = (self.start, self.end) == (0, MINUTES_A_DAY)
        return f"{days} {'' if whole else hours_text(self.start, self.end) + ' '}{self.timezone}"

    def around(self, now: float) -> Iterator[tuple[float, float]]:
        """Beginning and end, Unix time in seconds, of its occurrences that may hold a moment."""
        zone_info = zone(self.timezone)
        today = datetime.fromtimestamp(now, zone_info).date()
        for day in (today - timedelta(days=2), today - timedelta(days=1), today):
            if DAYS[day.weekday()] in self.days:
                yield min(_moments(day, self.start, zone_info)), max(_moments(day, self.end, zone_info))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A moment lies in a freeze window.

    Attributes:
        until: Unix time in seconds at which a step may be taken again; infinite where the windows leave no time.
        window: The window that holds the moment.
    """

    until: float
    window: FreezeWindow

    @property
    def reason(self) -> str:
        """Until when, and why, in words.

        >>> Frozen(until=1767348000.0, window=FreezeWindow(days=("fri",))).reason
        'frozen until Fri 2026-01-02 10:00 UTC (freeze window fri UTC): no step forward; rollbacks always'
        """
        if math.isinf(self.until):
            return f"frozen for ever (freeze window {self.window.text}): the windows leave no time for a step"
        at = datetime.fromtimestamp(self.until, zone(self.window.timezone))
        when = f"{DAYS[at.weekday()].capitalize()} {at:%Y-%m-%d %H:%M} {self.window.timezone}"
        return f"frozen until {when} (freeze window {self.window.text}): no step forward; rollbacks always"


def frozen(windows: Iterable[FreezeWindow], now: float) -> Frozen | None:
    """The freeze that holds a moment, windows that follow each other taken together; None where none does.

    Args:
        windows: In any order; they may overlap.
        now: Unix time in seconds.

    >>> friday = FreezeWindow(days=("fri",))
    >>> night = FreezeWindow(start=20 * 60, end=32 * 60)
    >>> moment = datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp()  # a Friday
    >>> datetime.fromtimestamp(frozen([friday, night], moment).until, UTC).isoformat()
    '2026-01-03T08:00:00+00:00'
    >>> frozen([friday, night], moment - 86400) is None
    True
    """
    listed = tuple(windows)
    first: FreezeWindow | None = None
    until = now
    while True:
        ends = {end: window for window in listed for start, end in window.around(until) if start <= until < end}
        if not ends:
            return None if first is None else Frozen(until=until, window=first)
        until = max(ends)
        first = first or ends[until]
        if until - now > _LONGEST.total_seconds():
            return Frozen(until=math.inf, window=first)


def always_frozen(windows: Iterable[FreezeWindow]) -> bool:
    """True when the windows leave no time for a step in an ordinary week.

    >>> always_frozen([FreezeWindow()]), always_frozen([FreezeWindow(days=("fri", "sat", "sun"))])
    (True, False)
    """
    found = frozen(windows, datetime(2026, 1, 5, tzinfo=UTC).timestamp())
    return found is not None and math.isinf(found.until)


def parse_hours(text: str) -> tuple[int, int]:
    """Start and end of a window written ``20:00-08:00``, in minutes after the midnight before it begins.

    Raises:
        ValueError: If it cannot be read, or begins and ends at the same time.

    >>> parse_hours("20:00-08:00"), parse_hours("12:30-24:00")
    ((1200, 1920), (750, 1440))
    """
    match = _HOURS.fullmatch(text)
    if match is None:
        raise ValueError("must be two times of a day; write '20:00-08:00'")
    hour, minute, to_hour, to_minute = (int(part) for part in match.groups())
    start, end = hour * 60 + minute, to_hour * 60 + to_minute
    if hour > 23 or minute > 59 or to_minute > 59 or end > MINUTES_A_DAY:
        raise ValueError("has no such time of day; write times from 00:00 to 24:00")
    if start == end % MINUTES_A_DAY:
        raise ValueError("begins and ends at the same time; leave hours out for the whole day")
    return start, end if end > start else end + MINUTES_A_DAY


def hours_text(start: int, end: int) -> str:
    """The opposite of ``parse_hours``.

    >>> hours_text(1200, 1920), hours_text(750, 1440)
    ('20:00-08:00', '12:30-24:00')
    """
    shown = end if end <= MINUTES_A_DAY else end - MINUTES_A_DAY
    return f"{start // 60:02}:{start % 60:02}-{shown // 60:02}:{shown % 60:02}"


def freeze_window_from_dict(stored: Mapping[str, Any]) -> FreezeWindow:
    """The window that ``dataclasses.asdict`` stored."""
    return FreezeWindow(**{**stored, "days": tuple(stored["days"])})


def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database.

    Raises:
        ValueError: If there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone; write one such as UTC or Europe/Berlin") from None


def _moments(day: date, minutes: int, zone_info: ZoneInfo) -> tuple[float, float]:
    """Unix times of a local time: two different ones where the clocks change."""
    midnight = datetime.combine(day, time_of_day(), tzinfo=zone_info)
    # Arithmetic within one zone is that of the clock on the wall: 02:30 stays 02:30 whatever the offset.
    local = midnight + timedelta(minutes=minutes)
    return local.replace(fold=0).timestamp(), local.replace(fold=1).timestamp()
