"""When a failed effect is tried again. Pure."""

from __future__ import annotations

FIRST_WAIT = 5.0
LONGEST_WAIT = 900.0


def next_attempt(attempts: int, now: float) -> float:
    """The time of the next attempt: 5 s after the first failure, then twice as long each time, at most 15 minutes.

    Args:
        attempts: Attempts that have failed so far, at least 1.
        now: Unix time in seconds.

    Raises:
        ValueError: If nothing has failed yet.

    >>> [next_attempt(attempts, 0.0) for attempts in (1, 2, 3, 9, 1000)]
    [5.0, 10.0, 20.0, 900.0, 900.0]
    """
    if attempts < 1:
        raise ValueError(f"attempts counts the failed ones and is at least 1, got {attempts}")
    # The exponent is bounded too: a receiver may be away for weeks.
    return now + min(FIRST_WAIT * 2.0 ** min(attempts - 1, 20), LONGEST_WAIT)
