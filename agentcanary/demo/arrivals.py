"""When conversations begin: a working day's pattern, replayed on the accelerated clock. Pure: rng is an argument."""

from __future__ import annotations

import random
from collections.abc import Iterator

# Conversations in each hour of a day, relative to the hours from 8 to 17; made for this demo.
DAY = (
    *(0.16, 0.11, 0.08, 0.07, 0.08, 0.14, 0.30, 0.58),
    *(0.86, 1.06, 1.14, 1.10, 0.92, 0.88, 1.02, 1.07, 0.99, 0.84),
    *(0.70, 0.62, 0.58, 0.49, 0.37, 0.24),
)
OPENS = 8.0
_HOUR = 3600.0


def intensity(hour: float) -> float:
    """How busy a time of the day is, 1 for the mean of the hours from 8 to 17; straight lines from hour to hour.

    >>> intensity(9.5), round(intensity(10.0), 2), intensity(33.5)
    (1.06, 1.1, 1.06)
    """
    # An hour's number holds for its middle.
    before = int((hour - 0.5) // 1)
    share = (hour - 0.5) - before
    return DAY[before % 24] * (1 - share) + DAY[(before + 1) % 24] * share


def arrivals(rate: float, seconds: float, *, speed: float, rng: random.Random) -> Iterator[float]:
    """When conversations begin, in real seconds from the start of the day's business.

    A Poisson process by thinning: candidates at the busiest hour's rate, each kept with the share of its own hour.

    Args:
        rate: In a real second, on average over the hours from 8 to 17.
        seconds: Real seconds that it lasts.
        speed: Seconds of the accelerated clock in a real second.
        rng: Source of randomness.

    Source:
        Lewis & Shedler (1979), Naval Research Logistics Quarterly 26:403-413.
    """
    busiest = max(DAY)
    at = rng.expovariate(rate * busiest)
    while at < seconds:
        if rng.random() * busiest < intensity(OPENS + at * speed / _HOUR):
            yield at
        at += rng.expovariate(rate * busiest)
