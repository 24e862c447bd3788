"""What is measured: how outcomes become a number, and which way is worse. Pure, stdlib only."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from enum import StrEnum

DEFAULT_HORIZON = 1800.0
DEFAULT_FLOOR = 0.005
_EARLY_PARTS = (20, 4)
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class Kind(StrEnum):
    """How the values of conversations become one number for an arm."""

    PROPORTION = "proportion"
    MEAN = "mean"
    RATIO = "ratio"
    QUANTILE = "quantile"
    COUNT = "count"


class Direction(StrEnum):
    """The direction in which a metric gets worse."""

    UP_IS_WORSE = "up_is_worse"
    DOWN_IS_WORSE = "down_is_worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of an agent.

    Attributes:
        name: As in reports and configuration: ``error_rate``. Letters, digits and underscores.
        kind: How values are summarised.
        direction: Which way is worse.
        outcome: Name of the outcome it reads (``task_completion``), or ``turn.error`` / ``turn.latency`` for what the
            middleware observes by itself.
        horizon: Age of a conversation, in seconds since its first turn, at which it is counted.
        floor: Absolute difference not worth acting on, in the metric's unit.
        quantile: In (0, 1), for ``Kind.QUANTILE`` only.
        always_measured: True when a conversation that reports nothing is known to be without the event.
        early: True asks for harm at a twentieth and a quarter of the horizon too, to be quick; see ``early_ages``.
    """

    name: str
    kind: Kind
    direction: Direction
    outcome: str
    horizon: float = DEFAULT_HORIZON
    floor: float = 0.0
    quantile: float | None = None
    always_measured: bool = False
    early: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a metric's name is made of letters, digits and _, got {self.name!r}")
        if not (isinstance(self.kind, Kind) and isinstance(self.direction, Direction)):
            raise TypeError(f"{self.name} needs a Kind and a Direction, got {self.kind!r} and {self.direction!r}")
        if not self.outcome:
            raise ValueError(f"{self.name} needs the name of the outcome that it reads")
        if not 0 < self.horizon < math.inf:
            raise ValueError(f"horizon of {self.name} must be positive seconds, got {self.horizon}")
        if not 0 <= self.floor < math.inf:
            raise ValueError(f"floor of {self.name} must not be negative, got {self.floor}")
        if self.kind is Kind.PROPORTION and self.floor >= 1:
            raise ValueError(
                f"floor of {self.name} is a share below 1, got {self.floor} (write 0.005 for half a point)"
            )
        if (self.kind is Kind.QUANTILE) != (self.quantile is not None):
            raise ValueError(f"{self.name}: quantile is given for a quantile metric and for no other")
        if self.early and (self.kind is not Kind.PROPORTION or self.direction is not Direction.UP_IS_WORSE):
            raise ValueError(f"{self.name}: only a proportion that is worse when up may be asked about early")
        if self.quantile is not None and not 0 < self.quantile < 1:
            raise ValueError(f"quantile of {self.name} must be between 0 and 1, got {self.quantile}")


def early_ages(metric: Metric) -> tuple[Metric, ...]:
    """The metrics that are counted beside one that is asked about early: the same at earlier ages.

    A conversation's value at an age is whether the event came until then, so each age has counts of its own; harm is
    asked of the mean of the e-values of all ages, which is an e-value.

    >>> from dataclasses import replace
    >>> [(early.name, early.horizon) for early in early_ages(replace(ERROR_RATE, early=True))]
    [('error_rate__at_1_20', 90.0), ('error_rate__at_1_4', 450.0)]
    """
    if not metric.early:
        return ()
    return tuple(
        replace(metric, name=f"{metric.name}__at_1_{part}", horizon=metric.horizon / part, early=False)
        for part in _EARLY_PARTS
    )


ERROR_RATE = Metric(
    name="error_rate",
    kind=Kind.PROPORTION,
    direction=Direction.UP_IS_WORSE,
    outcome="turn.error",
    floor=DEFAULT_FLOOR,
    always_measured=True,
)
TASK_COMPLETION_RATE = Metric(
    name="task_completion_rate",
    kind=Kind.PROPORTION,
    direction=Direction.DOWN_IS_WORSE,
    outcome="task_completion",
    floor=DEFAULT_FLOOR,
)
P95_LATENCY = Metric(
    name="p95_latency",
    kind=Kind.QUANTILE,
    direction=Direction.UP_IS_WORSE,
    outcome="turn.latency",
    quantile=0.95,
    always_measured=True,
)
SAFETY_VIOLATIONS = Metric(
    name="safety_violations",
    kind=Kind.COUNT,
    direction=Direction.UP_IS_WORSE,
    outcome="safety_violation",
    always_measured=True,
)
USER_SATISFACTION = Metric(
    name="user_satisfaction", kind=Kind.MEAN, direction=Direction.DOWN_IS_WORSE, outcome="satisfaction"
)
BUILT_IN: tuple[Metric, ...] = (ERROR_RATE, TASK_COMPLETION_RATE, P95_LATENCY, SAFETY_VIOLATIONS, USER_SATISFACTION)
