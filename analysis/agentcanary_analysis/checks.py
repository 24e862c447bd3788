"""The check grammar (``error_rate_increase < 0.10``) and the boundary it draws. Pure, standard library only."""

from __future__ import annotations

import difflib
import math
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
        if not isinstance(self.direction, Direction):
            raise TypeError(f"the direction of a boundary must be a Direction, got {self.direction!r}")
        if not (0 < self.ratio < math.inf and 0 <= self.floor < math.inf):
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
        """The line that this check draws for ``metric``, with the metric's floor.

        Raises:
            ValueError: If ``metric`` is another metric or a count.
        """
        if metric.name != self.metric:
            raise ValueError(f"check {self.text!r} is about {self.metric}, not {metric.name}")
        return relative_boundary(metric, self.limit)


def relative_boundary(metric: Metric, margin: float) -> Boundary:
    """The line for a metric that may get worse by ``margin`` relative to stable.

    Args:
        metric: The metric; its direction and floor are used.
        margin: 0.10 for 10 %, not negative; below 1 where down is worse.

    Raises:
        ValueError: If the margin is negative or would allow everything, or the metric is a count.

    >>> from agentcanary_analysis.metrics import TASK_COMPLETION_RATE
    >>> relative_boundary(TASK_COMPLETION_RATE, 0.02).ratio
    0.98
    """
    _check_metric(metric)
    if metric.kind is Kind.COUNT:
        raise ValueError(f"{metric.name} is a count: it has a limit, not a boundary relative to stable")
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin of {metric.name} must not be negative, got {margin} (write 0.02, not -0.02)")
    if metric.direction is Direction.UP_IS_WORSE:
        return Boundary(ratio=1 + margin, floor=metric.floor, direction=metric.direction)
    if margin >= 1:
        raise ValueError(f"margin of {metric.name} must be below 1, got {margin} (write 0.02 for 2 %)")
    return Boundary(ratio=1 - margin, floor=metric.floor, direction=metric.direction)


def check_name(metric: Metric) -> str:
    """The name under which checks speak of a metric: ``<metric>_increase`` or ``<metric>_regression``.

    >>> from agentcanary_analysis.metrics import TASK_COMPLETION_RATE
    >>> check_name(TASK_COMPLETION_RATE)
    'task_completion_regression'
    """
    _check_metric(metric)
    return f"{_SHORT_NAMES.get(metric.name, metric.name)}{_suffix(metric)}"


def _check_metric(metric: Metric) -> None:
    if not isinstance(metric, Metric):
        raise TypeError(f"a metric must be a Metric, got {metric!r:.80}; those of agentcanary are in BUILT_IN")


def _suffix(metric: Metric) -> str:
    if metric.kind is Kind.COUNT:
        return ""
    return "_increase" if metric.direction is Direction.UP_IS_WORSE else "_regression"


def _named(metrics: Iterable[Metric]) -> dict[str, Metric]:
    """The metrics by every name that a check may use: the short one of the article, and the metric's own."""
    names: dict[str, Metric] = {}
    for metric in metrics:
        for name in {check_name(metric), metric.name + _suffix(metric)}:
            if names.setdefault(name, metric) != metric:
                raise CheckError(f"two metrics are both called {name!r}: {names[name].name!r} and {metric.name!r}")
    return names


def parse_check(text: str, metrics: Iterable[Metric] = BUILT_IN) -> Check:
    """The check written as ``NAME < NUMBER``, or ``safety_violations == 0``.

    Args:
        text: One check.
        metrics: The metrics that may be named; users' own are declared beside the built-in ones.

    Raises:
        CheckError: Naming what is wrong, with the value and what to write instead.

    >>> parse_check("error_rate_increase < 0.10")
    Check(text='error_rate_increase < 0.10', metric='error_rate', limit=0.1)
    """
    if not isinstance(text, str):
        raise CheckError(f'a check is text, got {text!r}; write it in quotes: "error_rate_increase < 0.10"')
    names = _named(metrics)
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise CheckError(f"check {text!r} cannot be read; write NAME < NUMBER, for example error_rate_increase < 0.10")
    name, comparison, written = match["name"], match["comparison"], match["limit"]
    metric = names.get(name)
    if metric is None:
        raise CheckError(f"check {text!r} names an unknown metric {name!r}; {_hint(name, names)}")
    limit = _number(text, written)
    if metric.kind is Kind.COUNT:
        return _count_check(text, metric, comparison, limit)
    if comparison != "<":
        raise CheckError(f"check {text!r} uses {comparison!r}; {name} is compared with <")
    if limit < 0:
        raise CheckError(
            f"check {text!r} has the limit {written}; the name says which way, so write {name} < {-limit:g}"
        )
    most = 1 if metric.direction is Direction.DOWN_IS_WORSE else 2
    if limit >= most:
        percent = f"write {limit / 100:g} for {limit:g} %" if limit <= 100 else "5 % is written 0.05"
        raise CheckError(f"check {text!r} has the limit {written}; limits are shares below {most}, so {percent}")
    return Check(text=text.strip(), metric=metric.name, limit=limit)


def _hint(name: str, names: dict[str, Metric]) -> str:
    """What to write instead: the other direction, the missing ending, or the nearest name."""
    stem = re.sub(r"_(increase|regression)$", "", name)
    for metric in names.values():
        if stem in {metric.name, _SHORT_NAMES.get(metric.name)}:
            if metric.kind is Kind.COUNT:
                return f"{metric.name} is a count; write {metric.name} == 0"
            worse = "up" if metric.direction is Direction.UP_IS_WORSE else "down"
            return f"{metric.name} gets worse when it goes {worse}; write {check_name(metric)} < NUMBER"
    near = difflib.get_close_matches(name, names, n=1)
    known = sorted({check_name(metric) for metric in names.values()})
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _number(text: str, written: str) -> float:
    try:
        limit = float(written)
    except ValueError:
        percent = re.fullmatch(r"(\d+(?:\.\d+)?)%", written)
        remedy = f"write {float(percent[1]) / 100:g}" if percent else "write a share such as 0.10"
        raise CheckError(f"check {text!r} compares with {written!r}, which is not a number; {remedy}") from None
    if not math.isfinite(limit):
        raise CheckError(f"check {text!r} compares with {written!r}; write a finite number such as 0.10")
    return limit


def _count_check(text: str, metric: Metric, comparison: str, limit: float) -> Check:
    if comparison not in {"==", "<="}:
        raise CheckError(f"check {text!r} uses {comparison!r}; {metric.name} is compared with == 0 or <= NUMBER")
    if limit < 0 or limit != int(limit) or (comparison == "==" and limit != 0):
        raise CheckError(f"check {text!r} has the limit {limit:g}; write {metric.name} == 0, or <= a whole number")
    return Check(text=text.strip(), metric=metric.name, limit=limit)
