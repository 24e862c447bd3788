"""Is a rate of safety violations ruled out? Evidence that grows with every conversation without one. Pure.

Standard library only.
"""

from __future__ import annotations

import math

_FRACTION = 0.25


def conversations_without_violation(rate: float, *, alpha: float = 0.05) -> int:
    """Conversations without a violation after which a rate is ruled out, however often one looks.

    A version of that rate has none in so many with a probability of ``(1 - rate)^n <= exp(-rate n) <= alpha``.

    Args:
        rate: Share of conversations with a violation, in (0, 1).
        alpha: Probability of ruling out a rate that is true, in (0, 0.5).

    Raises:
        ValueError: If an argument is outside its range.

    >>> conversations_without_violation(0.001), conversations_without_violation(0.01)
    (2996, 300)
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate} (write 0.001 for one in a thousand)")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha} (write 0.05 for 5 %)")
    return math.ceil(math.log(1 / alpha) / rate)


def log_e_below(violations: int, conversations: int, rate: float, *, tolerated: int = 0) -> float:
    """Log e-value against "violations come at this rate or a higher one"; grows by ``rate`` with each one without.

    Where violations are tolerated half of it bets on none at all, and half on a quarter of the rate; else all bets on
    none, and one violation ends it.

    Args:
        violations: Seen.
        conversations: In which they could have been seen.
        rate: In (0, 1).
        tolerated: How many do not stop the canary.

    Raises:
        ValueError: If the counts are impossible or ``rate`` is outside its range.

    >>> [round(log_e_below(seen, 6000, 0.001, tolerated=1), 3) for seen in (0, 1)], log_e_below(1, 6000, 0.001)
    ([5.509, 2.423], -inf)
    """
    if not 0 <= violations <= conversations:
        raise ValueError(f"violations must be between 0 and conversations, got {violations} of {conversations}")
    if not 0 < rate < 1:
        raise ValueError(f"rate must be between 0 and 1, got {rate} (write 0.001 for one in a thousand)")
    none = rate * conversations if violations == 0 else -math.inf
    if tolerated == 0:
        return none
    without = conversations - violations
    few = violations * math.log(_FRACTION) + without * (math.log1p(-_FRACTION * rate) - math.log1p(-rate))
    highest = max(none, few)
    return highest + math.log((math.exp(none - highest) + math.exp(few - highest)) / 2)
