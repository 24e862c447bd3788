"""What the charts show, as plain values. Pure, standard library only.

``compared`` reads the lines that ``agentcanary analyze --json`` and ``agentcanary status --json`` print.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.figures import change, count, value
from agentcanary_analysis.metrics import Direction, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One check, as the forest plot shows it. All changes are canary against stable: 0.25 is 25 % more.

    Attributes:
        name: The check or the metric, for people.
        status: What the evidence says.
        change: Estimated relative change, or None.
        low: Lower end of its interval, or None.
        high: Upper end; may be infinite.
        level: Coverage of the interval, or None.
        margin: The relative change on the boundary, or None.
        direction: Which way is worse.
        arms: Both arms in words: ``5.0 % → 6.1 %``.
        reason: Why it is undecided or without data; empty otherwise.
    """

    name: str
    status: Status
    change: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    margin: float | None = None
    direction: Direction = Direction.UP_IS_WORSE
    arms: str = ""
    reason: str = ""

    @property
    def figures(self) -> str:
        """Change and interval in words.

        >>> Compared(name="errors", status=Status.SAFE, change=0.02, low=-0.1, high=0.15).figures
        '+2 % (−10 % to +15 %)'
        """
        if self.change is None:
            return "no change can be given"
        if self.low is None or self.high is None:
            return change(self.change)
        return f"{change(self.change)} ({change(self.low)} to {change(self.high)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Conversations of both arms where one weight was asked for.

    Attributes:
        weight: Share of new conversations that the canary was to have, in (0, 1).
        stable: Conversations of stable.
        canary: Conversations of the canary.
    """

    weight: float
    stable: int
    canary: int

    def __post_init__(self) -> None:
        if not 0 < self.weight < 1:
            raise ValueError(f"weight of a split is between 0 and 1, got {self.weight} (write 0.05 for 5 %)")
        if self.stable < 0 or self.canary < 0:
            raise ValueError(f"conversations must not be negative, got stable={self.stable}, canary={self.canary}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePoint:
    """One hour of the day or one day of the week.

    Attributes:
        slot: 0..23 for hours, 0 (Monday)..6 for days.
        value: The metric there, or None without data.
        low: Lower end of its interval, or None.
        high: Upper end, or None.
        conversations: Counted there.
    """

    slot: int
    value: float | None
    low: float | None = None
    high: float | None = None
    conversations: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """How often a rollout finds an injected harm.

    Attributes:
        ratio: The canary's rate as a multiple of stable's; 1 is no harm.
        share: Share of the replays that were rolled back, in [0, 1].
        low: Lower confidence limit of it.
        high: Upper confidence limit.
        replays: How many there were.
    """

    ratio: float
    share: float
    low: float
    high: float
    replays: int = 0


def compared(line: Mapping[str, Any]) -> Compared:
    """One line of ``checks`` or ``criteria``, as ``analyze`` and ``status`` print them in JSON.

    Args:
        line: With ``check`` or ``label`` or ``metric``, ``status``, ``boundary``, ``stable``, ``canary``,
            ``relative_change`` and ``interval``; ``kind`` and ``unit`` if they are known.

    Raises:
        KeyError: If the line has no status or no name.

    >>> line = {"metric": "error_rate", "status": "undecided", "kind": "proportion", "relative_change": 0.2,
    ...     "boundary": {"ratio": 1.1, "floor": 0.005, "direction": "up_is_worse", "at": 0.06}, "interval": None,
    ...     "stable": {"n": 1000, "value": 0.05}, "canary": {"n": 100, "value": 0.06}}
    >>> found = compared(line)
    >>> found.arms, round(found.margin, 3)
    ('5.0 % → 6.0 %', 0.2)
    """
    interval, boundary = line.get("interval"), line.get("boundary") or {}
    return Compared(
        name=line.get("check") or line.get("label") or line["metric"],
        status=Status(line["status"]),
        change=stored(line.get("relative_change")),
        low=None if interval is None else stored(interval["low"]),
        high=None if interval is None else stored(interval["high"]),
        level=None if interval is None else interval["level"],
        margin=_margin(boundary, _value(line.get("stable"))),
        direction=Direction(boundary.get("direction", Direction.UP_IS_WORSE)),
        arms=_arms(line),
        reason=line.get("reason") or "",
    )


def stored(number: float | str | None) -> float | None:
    """A number as it is held in JSON, where an infinite one is the text ``inf``."""
    return None if number is None else float(number)


def _margin(boundary: Mapping[str, Any], stable: float | None) -> float | None:
    """The relative change on the boundary: with the floor it depends on the stable arm's value."""
    if "ratio" not in boundary:
        return None
    line = Boundary(
        ratio=boundary["ratio"], floor=boundary.get("floor", 0.0), direction=Direction(boundary["direction"])
    )
    if line.floor == 0:
        return line.ratio - 1
    if stable is None or not 0 < stable < math.inf:
        return None
    return line.at(stable) / stable - 1


def _value(arm: Mapping[str, Any] | None) -> float | None:
    if arm is None:
        return None
    return stored(next((arm[key] for key in ("value", "mean") if arm.get(key) is not None), _rate(arm)))


def _rate(arm: Mapping[str, Any]) -> float | None:
    observed = arm.get("observed", arm.get("n"))
    return arm["events"] / observed if observed and arm.get("events") is not None else None


def _arms(line: Mapping[str, Any]) -> str:
    kind = Kind(line["kind"]) if line.get("kind") else _guessed_kind(line)
    if kind is Kind.COUNT:
        return " → ".join(_events(line[arm]) for arm in ("stable", "canary") if line.get(arm))
    stable, canary = _value(line.get("stable")), _value(line.get("canary"))
    if stable is None and canary is None:
        return ""
    unit = line.get("unit") or ""
    return f"{value(stable, kind, unit)} → {value(canary, kind, unit)}"


def _events(arm: Mapping[str, Any]) -> str:
    return "–" if arm.get("events") is None else f"{count(int(arm['events']))} in {count(arm['n'])}"


def _guessed_kind(line: Mapping[str, Any]) -> Kind:
    arm = line.get("stable") or line.get("canary") or {}
    if "mean" in arm:
        return Kind.MEAN
    return Kind.PROPORTION if "events" in arm else Kind.QUANTILE
