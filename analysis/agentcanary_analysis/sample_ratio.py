"""Is the split what was asked for: a Dirichlet–multinomial e-process on the numbers of units. Pure; takes a batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

from agentcanary_analysis.checked_input import float_array
from agentcanary_analysis.evalues import distinct

FloatArray = npt.NDArray[np.float64]

CONCENTRATION = 100.0
ALARM = 1000.0
_SMALLEST = 1e-300


def log_e_sample_ratio(
    canary_units: npt.ArrayLike,
    stable_units: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    concentration: float = CONCENTRATION,
) -> FloatArray:
    """Log e-value against "every unit became the canary's with the designed weight", shape (batch,).

    Epochs of equal weight are merged: under the null their split is one sequence of coin tosses. It may be looked at as
    often as one likes; the alarm at 1000 is false in less than one rollout in a thousand.

    Args:
        canary_units: Shape (batch, epochs) or broadcastable.
        stable_units: The same of stable.
        weight: Designed share of the canary in [0, 1]; epochs of weight 0 or 1 are in no test.
        concentration: Of the Dirichlet prior around the design; 100 looks for a share that is off by a few points.

    Raises:
        ValueError: If a count is negative or not finite, or a weight outside [0, 1].

    **Source**: Lindon & Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35.

    >>> log_e_sample_ratio([[5200]], [[4800]], [[0.5]]).round(4)
    array([5.6136])
    """
    canary = _counts(canary_units, "canary_units")
    stable = _counts(stable_units, "stable_units")
    weights = np.atleast_2d(float_array("weight", weight))
    if not ((weights >= 0) & (weights <= 1)).all():
        raise ValueError(f"weight must be between 0 and 1, got {weights.tolist()} (write 0.05 for 5 %)")
    if ((weights > 0) & (weights < _SMALLEST)).any():
        raise ValueError(f"weight is too small to compute with, got {weights[weights > 0].min()}; write 0 or 0.001")
    if not 0 < concentration < np.inf:
        raise ValueError(f"concentration must be positive and finite, got {concentration}")
    canary, stable, weights = np.broadcast_arrays(canary, stable, weights)
    log_e = np.zeros(weights.shape[0])
    for value in distinct(weights[(weights > 0) & (weights < 1)]):
        merged = weights == value
        in_canary = np.where(merged, canary, 0.0).sum(axis=1)
        in_stable = np.where(merged, stable, 0.0).sum(axis=1)
        prior = concentration * value, concentration * (1 - value)
        log_e += betaln(prior[0] + in_canary, prior[1] + in_stable) - betaln(*prior)
        log_e -= in_canary * np.log(value) + in_stable * np.log1p(-value)
    return log_e


def _counts(values: npt.ArrayLike, name: str) -> FloatArray:
    counts = np.atleast_2d(float_array(name, values))
    legal = (counts >= 0) & (counts < np.inf)
    if not legal.all():
        raise ValueError(f"{name} must be finite and not negative, got {counts[~legal].flat[0]}")
    return counts
