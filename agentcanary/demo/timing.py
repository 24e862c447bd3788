"""The demo's two clocks: the real one, and the one on which its rollouts live."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from agentcanary.clock import AcceleratedClock

SPEED = 360.0
_ORIGIN, _SPEED = "AGENTCANARY_DEMO_ORIGIN", "AGENTCANARY_DEMO_SPEED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How the two clocks belong together.

    The accelerated clock starts hours in the past and catches up with the real one when the demo ends, so that what
    is looked at afterwards, on the real clock, does not lie in the future.

    Attributes:
        meets: Unix time at which both clocks show the same.
        speed: Seconds of the accelerated clock in a real second.
    """

    meets: float
    speed: float = SPEED

    @property
    def clock(self) -> AcceleratedClock:
        """The accelerated clock."""
        return AcceleratedClock(origin=self.meets, speed=self.speed)

    def real(self, at: float) -> float:
        """The real Unix time at which the accelerated clock showed ``at``.

        >>> Timing(meets=1000.0, speed=100.0).real(900.0)
        999.0
        """
        return self.meets + (at - self.meets) / self.speed

    def environment(self) -> dict[str, str]:
        """What tells the agent's worker processes."""
        return {_ORIGIN: repr(self.meets), _SPEED: repr(self.speed)}


def timing_from(environment: Mapping[str, str] = os.environ) -> Timing:
    """What ``Timing.environment`` told.

    Raises:
        RuntimeError: If it told nothing.
    """
    try:
        return Timing(meets=float(environment[_ORIGIN]), speed=float(environment[_SPEED]))
    except KeyError as missing:
        raise RuntimeError(f"{missing.args[0]} is not set: the demo's agent is started by: agentcanary demo") from None


def since(seconds: float) -> str:
    """A time of the accelerated clock since the first rollout began, in hours and minutes.

    >>> since(9060.0)
    '+02:31 h'
    """
    minutes = int(seconds // 60)
    return f"+{minutes // 60:02}:{minutes % 60:02} h"
