"""Logarithmic bins of about 2 %, so that latency distributions add up exactly. Pure, standard library only.

Bin ``b`` holds values in ``(edge(b - 1), edge(b)]`` with ``edge(b) = 1.02 ** b``; a value that never came
(a timeout, an unfinished turn) is in ``INFINITE_BIN``, and so is all that is too large to have come (1e85 and more);
values of 1e-9 and less are in ``LOWEST_BIN``.
"""

from __future__ import annotations

import math

GROWTH = 1.02
_LOG_GROWTH = math.log(GROWTH)
LOWEST_BIN = math.ceil(math.log(1e-9) / _LOG_GROWTH)
INFINITE_BIN = 10_000


def bin_of(value: float) -> int:
    """The bin of a non-negative value, ``inf`` included.

    Raises:
        ValueError: If the value is negative or not a number.

    >>> bin_of(1.0), bin_of(1.01), bin_of(math.inf)
    (0, 1, 10000)
    """
    if not value >= 0:  # also refuses NaN
        raise ValueError(f"a histogram holds values of 0 and more, got {value}")
    if math.isinf(value):
        return INFINITE_BIN
    if value <= 1e-9:
        return LOWEST_BIN
    # The slack keeps every edge in its own bin although the logarithm is rounded.
    return min(math.ceil(math.log(value) / _LOG_GROWTH - 1e-9), INFINITE_BIN)


def edge(bin_number: int) -> float:
    """The upper edge of a bin, in the values' unit.

    >>> round(edge(1), 4)
    1.02
    """
    return math.inf if bin_number >= INFINITE_BIN else GROWTH**bin_number
