"""The true power and the true size of the one-look test of proportions, by enumeration of all outcomes. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.one_look import Claim
from agentcanary_analysis.proportions import RARE, Proportion, boundary_test, score_p_values

FloatArray = NDArray[np.float64]

_NEGLIGIBLE = 1e-9  # outcomes less likely than this are left out, and counted as not rejected
_MOST_OUTCOMES = 10**7


def enumerated_power(
    canary_rate: float,
    stable_rate: float,
    canary_units: int,
    stable_units: int,
    boundary: Boundary,
    *,
    claim: Claim = Claim.BEYOND,
    alpha: float = 0.05,
) -> float:
    """Probability that ``boundary_test`` supports ``claim`` at one look, of one epoch; on the line it is the size.

    ``proportion_power`` is the formula for it, and is good where both arms expect some ten events.

    Args:
        canary_rate: True rate, in [0, 1].
        stable_rate: True rate, in [0, 1].
        canary_units: Of the canary.
        stable_units: Of stable.
        boundary: The line.
        claim: What shall be shown.
        alpha: One-sided level, in (0, 0.5).

    Raises:
        ValueError: If an argument is outside its range or there are more than ten million likely outcomes.

    >>> from agentcanary_analysis.metrics import Direction
    >>> equal = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> [round(enumerated_power(rate, 0.05, 200, 3800, equal), 3) for rate in (0.10, 0.05)]
    [0.864, 0.057]
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha}")
    k_c, chance_c = _likely_counts("canary", canary_rate, canary_units)
    k_s, chance_s = _likely_counts("stable", stable_rate, stable_units)
    if k_c.size * k_s.size > _MOST_OUTCOMES:
        raise ValueError(f"{k_c.size} × {k_s.size} outcomes are too many to enumerate; use proportion_power")
    rejected = (
        score_p_values(k_c[:, None, None], canary_units, k_s[None, :, None], stable_units, boundary, claim=claim)
        <= alpha
    )
    chance = chance_c[:, None] * chance_s
    rarest = np.minimum(
        np.minimum(k_c, canary_units - k_c)[:, None],
        np.minimum(k_s, stable_units - k_s),
    )
    exact = rarest < RARE
    for row, column in np.argwhere(exact & (chance > _NEGLIGIBLE)).tolist():
        arms = [Proportion(int(k_c[row]), canary_units)], [Proportion(int(k_s[column]), stable_units)]
        rejected[row, column] = boundary_test(*arms, boundary, claim=claim).p_value <= alpha
    return float((chance * rejected)[~exact | (chance > _NEGLIGIBLE)].sum())


def _likely_counts(arm: str, rate: float, units: int) -> tuple[NDArray[np.int64], FloatArray]:
    """All numbers of events but the most unlikely ones, and their probabilities."""
    if not 0 <= rate <= 1:
        raise ValueError(f"{arm}_rate must be between 0 and 1, got {rate} (write 0.05 for 5 %)")
    if Proportion(0, units).units == 0:
        raise ValueError(f"{arm}_units must be positive, got {units}")
    reach = 7 * math.sqrt(units * rate * (1 - rate)) + 20
    counts = np.arange(max(0, math.floor(units * rate - reach)), min(units, math.ceil(units * rate + reach)) + 1)
    # On the logarithm: rates as small as a double can be are legal too.
    log_chance = gammaln(units + 1) - gammaln(counts + 1) - gammaln(units - counts + 1)
    chance = np.exp(log_chance + xlogy(counts, rate) + xlog1py(units - counts, -rate))
    return counts, chance / chance.sum()
