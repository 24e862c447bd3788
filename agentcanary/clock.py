"""The time, and how fast it goes. Everything that decides gets ``now`` from one of these."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Tells the time of a rollout."""

    @property
    def speed(self) -> float:
        """Seconds of this clock in a second of the wall clock.

        What guards against the delays of real machines (polls, leases, heartbeats) lasts real seconds, hence
        ``speed`` times as long on this clock.
        """

    def __call__(self) -> float:
        """Unix time in seconds; the same in every process."""


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The wall clock."""

    speed: float = 1.0
    # Unix time in seconds; not a method around it, because every request asks.
    __call__ = staticmethod(time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratedClock:
    """A clock that runs ``speed`` times as fast as the wall clock, for demonstrations.

    Attributes:
        origin: Unix time at which both showed the same.
        speed: Seconds of this clock in a second of the wall clock.
    """

    origin: float
    speed: float

    def __call__(self) -> float:
        """Unix time in seconds, accelerated."""
        return self.origin + (time.time() - self.origin) * self.speed
