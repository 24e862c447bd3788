"""The check grammar (``error_rate_increase < 0.10``) and the boundary it draws. Pure, standard library only."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from agentcanary_analysis.metrics import BUILT_IN, Direction, Kind, Metric

_GRAMMAR = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?P<comparison>[<>=!]=?|[^\w\s.+-]+)\s*(?P<limit>\S+)\s*")
_SHORT_NAMES = {
    "task_completion_rate": "task_completion",
    "user_satisfaction": "satisfaction",
}


class CheckError(ValueError):
    """A check that cannot be read; the message names the part, the value and what to write instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """The line between acceptable and not: ``ratio * stable + floor`` (up is worse), ``ratio * stable - floor`` (down).

    Attributes:
        ratio: Canary over stable at which the line stands without a floor: 1.10 for "up by at most 10 %".
        floor: Absolute difference not worth acting on, in the metric's unit, never negative.
        direction: Which way is worse.
    """

    ratio: float
    floor: float
    direction: Direction

    def __post_init__(self) -> None:
        if not (self.ratio > 0 and self.floor >= 0):
            raise ValueError(f"a boundary needs ratio > 0 and floor >= 0, got ratio={self.ratio}, floor={self.floor}")

    def at(self, stable: float) -> float:
        """The canary's value on the line for a given stable value, in the metric's unit.

        >>> Boundary(ratio=1.10, floor=0.005, direction=Direction.UP_IS_WORSE).at(0.05)
        0.060000000000000005
        """
        return self.ratio * stable + self.shift

    @property
    def shift(self) -> float:
        """The floor with its sign: added where up is worse, subtracted where down is worse."""
        return self.floor if self.direction is Direction.UP_IS_WORSE else -self.floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A stage's threshold on a metric.

    Attributes:
        text: As it was written.
        metric: Name of the metric.
        limit: Relative to stable for increases and regressions (0.10 is 10 %); a count for ``safety_violations``.
    """

    text: str
    metric: str
    limit: float

    def boundary(self, metric: Metric) -> Boundary:
        """The line that this check draws for ``metric``, with the metric's floor."""
        return relative_boundary(metric, self.limit)


def relative_boundary(metric: Metric, margin: float) -> Boundary:
    """The line for a metric that may get worse by ``margin`` relative to stable.

    Args:
        metric: The metric; its direction and floor are used.
        margin: 0.10 for 10 %, not negative; below 1 where down is worse.

    Raises:
        ValueError: If the margin is negative or would allow everything.
    """
    if not margin >= 0:
        raise ValueError(f"margin of {metric.name} must not be negative, got {margin} (write 0.02, not -0.02)")
    if metric.direction is Direction.UP_IS_WORSE:
        return Boundary(ratio=1 + margin, floor=metric.floor, direction=metric.direction)
    if margin >= 1:
        raise ValueError(f"margin of {metric.name} must be below 1, got {margin} (write 0.02 for 2 %)")
    return Boundary(ratio=1 - margin, floor=metric.floor, direction=metric.direction)


def check_name(metric: Metric) -> str:
    """The name under which checks speak of a metric.

    >>> from agentcanary_analysis.metrics import TASK_COMPLETION_RATE
    >>> check_name(TASK_COMPLETION_RATE)
    'task_completion_regression'
    """
    if metric.kind is Kind.COUNT:
        return metric.name
    suffix = "increase" if metric.direction is Direction.UP_IS_WORSE else "regression"
    return f"{_SHORT_NAMES.get(metric.name, metric.name)}_{suffix}"


def parse_check(text: str, metrics: Iterable[Metric] = BUILT_IN) -> Check:
    """The check written as ``NAME < NUMBER``, or ``safety_violations == 0``.

    Args:
        text: One check.
        metrics: The metrics that may be named.

    Raises:
        CheckError: Naming what is wrong, with the nearest known name.

    >>> parse_check("error_rate_increase < 0.10")
    Check(text='error_rate_increase < 0.10', metric='error_rate', limit=0.1)
    """
    names = {check_name(metric): metric for metric in metrics}
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise CheckError(f"check {text!r} cannot be read; write NAME < NUMBER, for example error_rate_increase < 0.10")
    metric = names.get(match["name"])
    if metric is None:
        near = difflib.get_close_matches(match["name"], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(names))}"
        raise CheckError(f"check {text!r} names an unknown metric {match['name']!r}; {hint}")
    try:
        limit = float(match["limit"])
    except ValueError:
        raise CheckError(f"check {text!r} compares with {match['limit']!r}, which is not a number") from None
    if metric.kind is Kind.COUNT:
        return _count_check(text, metric, match["comparison"], limit)
    if match["comparison"] != "<":
        raise CheckError(f"check {text!r} uses {match['comparison']!r}; {match['name']} is compared with <")
    if (not 0 <= limit < 1 and metric.direction is Direction.DOWN_IS_WORSE) or not 0 <= limit < 2:
        raise CheckError(f"check {text!r} has the limit {match['limit']}; limits are shares, so 5 % is written 0.05")
    return Check(text=text.strip(), metric=metric.name, limit=limit)


def _count_check(text: str, metric: Metric, comparison: str, limit: float) -> Check:
    if comparison not in {"==", "<="}:
        raise CheckError(f"check {text!r} uses {comparison!r}; {metric.name} is compared with == 0 or <= NUMBER")
    if limit < 0 or limit != int(limit) or (comparison == "==" and limit != 0):
        raise CheckError(f"check {text!r} has the limit {limit:g}; write {metric.name} == 0, or <= a whole number")
    return Check(text=text.strip(), metric=metric.name, limit=limit)
