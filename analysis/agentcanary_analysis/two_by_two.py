"""The exact 2×2 e-process with a floor: two event rates against the line ``canary = ratio * stable ± floor``. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.checked_input import checked_type
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evalues import FloatArray, Growth, Question, checked_counts, checked_weights, distinct
from agentcanary_analysis.metrics import Direction

# Stable's bad rates, and their prior weight. The growth depends little on them: a factor of two off costs 2 % of it.
_BAD_RATES = (
    (0.003, 0.10),
    (0.01, 0.17),
    (0.03, 0.19),
    (0.08, 0.19),
    (0.2, 0.17),
    (0.45, 0.09),
    (0.8, 0.05),
    (0.96, 0.04),
)
# Factor on the bad rate at the line, and its prior weight; most on those that take long to tell from the line.
_FACTORS = {
    "harm": ((1.12, 0.19), (1.25, 0.22), (1.5, 0.20), (2.0, 0.17), (2.8, 0.16), (6.0, 0.06)),
    "safe": ((1.06, 0.15), (1.12, 0.17), (1.2, 0.17), (1.35, 0.16), (1.6, 0.15), (2.2, 0.12), (3.5, 0.08)),
}
_MANY_WEIGHTS = 16
_RATE_LIMITS = (1e-4, 1 - 1e-4)


def two_by_two(
    canary_units: npt.ArrayLike,
    canary_events: npt.ArrayLike,
    stable_units: npt.ArrayLike,
    stable_events: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    boundary: Boundary,
    question: Question,
) -> Growth:
    """Growth of the exact 2×2 e-process against the line ``canary = ratio * stable ± floor``.

    For each alternative (factor on the bad rate at the line × base rate) the null is represented by the point of the
    line that is nearest to it in Kullback–Leibler divergence under the design, so that the likelihood ratio is an
    e-value for every point on the null's side, also when the base rate changes from unit to unit.

    Args:
        canary_units: Units counted, shape (batch, epochs) or broadcastable.
        canary_events: Those with the event.
        stable_units: The same of stable.
        stable_events: The same of stable.
        weight: Designed share of the canary in [0, 1]; epochs of weight 0 or 1 tell nothing and grow by nothing.
        boundary: The line.
        question: Harm or safe.

    Raises:
        ValueError: If a count is negative, not finite or larger than its units, or a weight is outside [0, 1].

    **Source**: Turner, Ly & Grünwald (2024), Generic E-variables for exact sequential k-sample tests that allow for
    optional stopping, JSPI 230:106116; the projection as in Grünwald, de Heide & Koolen (2024), JRSS-B 86:1091-1128.

    >>> from agentcanary_analysis.evalues import mixture
    >>> line = Boundary(ratio=1.1, floor=0.005, direction=Direction.UP_IS_WORSE)
    >>> growth = two_by_two([[500]], [[60]], [[500]], [[25]], [[0.5]], boundary=line, question=Question.HARM)
    >>> bool(mixture(growth)[0] > np.log(20))
    True
    """
    checked_type("boundary", boundary, Boundary)
    checked_type("question", question, Question)
    canary_n, canary_k, stable_n, stable_k, weights = np.broadcast_arrays(
        checked_counts(canary_units, "canary_units"),
        checked_counts(canary_events, "canary_events"),
        checked_counts(stable_units, "stable_units"),
        checked_counts(stable_events, "stable_events"),
        checked_weights(weight),
    )
    for name, events, units in (("canary", canary_k, canary_n), ("stable", stable_k, stable_n)):
        if (events > units).any():
            worst = np.argmax(events - units)
            raise ValueError(
                f"{name}_events must not exceed {name}_units, got {events.flat[worst]:g} of {units.flat[worst]:g}"
            )
    counts = np.stack([canary_k, canary_n - canary_k, stable_k, stable_n - stable_k], axis=-1)
    return two_by_two_growth(counts, weights, boundary=boundary, question=question)


def two_by_two_growth(counts: FloatArray, weights: FloatArray, *, boundary: Boundary, question: Question) -> Growth:
    """``two_by_two`` on counts that are known to be possible.

    Args:
        counts: Canary with and without the event, stable with and without, shape (batch, epochs, 4).
        weights: Shape (batch, epochs).
        boundary: The line.
        question: Harm or safe.
    """
    log_prior = _alternatives(boundary, question).log_prior
    log_e = np.zeros((*weights.shape, log_prior.size))
    values = [value for value in distinct(weights) if 0 < value < 1]
    if len(values) > _MANY_WEIGHTS:
        here = (weights > 0) & (weights < 1)
        found, place = np.unique(weights[here], return_inverse=True)
        log_e[here] = np.einsum("re,rej->rj", counts[here], _steps(boundary, question, found)[place])
        return Growth(log_e, log_prior)
    for value in values:
        here = weights == value
        log_e[here] = counts[here] @ two_by_two_step(boundary, question, value)
    return Growth(log_e, log_prior)


def two_by_two_growths(
    counts: FloatArray, weights: FloatArray, *, boundaries: Sequence[Boundary], question: Question
) -> Growth:
    """``two_by_two_growth`` with a boundary of its own for each of the batch."""
    steps = np.stack(
        [
            _row_of_steps(boundary, question, tuple(row))
            for boundary, row in zip(boundaries, weights.tolist(), strict=True)
        ]
    )
    log_prior = np.stack([_alternatives(boundary, question).log_prior for boundary in boundaries])
    return Growth((counts[:, :, None, :] @ steps)[:, :, 0], log_prior)


@lru_cache(maxsize=256)
def _row_of_steps(boundary: Boundary, question: Question, weights: tuple[float, ...]) -> FloatArray:
    """``two_by_two_step`` of every epoch, shape (epochs, 4, alternatives); zeros where nobody could choose."""
    steps = np.zeros((len(weights), 4, _alternatives(boundary, question).log_prior.size))
    for epoch, weight in enumerate(weights):
        if 0 < weight < 1:
            steps[epoch] = two_by_two_step(boundary, question, weight)
    return steps


class _Alternatives(NamedTuple):
    """Rates of both arms, and their log prior; each of shape (alternatives,)."""

    canary: FloatArray
    stable: FloatArray
    log_prior: FloatArray


@lru_cache(maxsize=256)
def _alternatives(boundary: Boundary, question: Question) -> _Alternatives:
    up = boundary.direction is Direction.UP_IS_WORSE
    factor, share = np.array(_FACTORS[question.value]).T[:, :, None]
    bad, bad_share = np.array(_BAD_RATES).T
    stable = np.broadcast_to(bad if up else 1 - bad, (factor.size, bad.size))
    line = boundary.ratio * stable + boundary.shift
    times = factor if question is Question.HARM else 1 / factor
    canary = np.clip(times * line if up else 1 - times * (1 - line), *_RATE_LIMITS)
    # Where the line leaves the unit square, or clipping crossed it, there is no alternative.
    legal = (canary > line) if up == (question is Question.HARM) else (canary < line)
    prior = np.where(legal, share * bad_share, 0.0)
    if not legal.any():
        raise ValueError(f"no rates are {'beyond' if question is Question.HARM else 'within'} {boundary}")
    with np.errstate(divide="ignore"):
        log_prior = np.log(prior / prior.sum())
    return _Alternatives(canary.ravel(), stable.ravel(), log_prior.ravel())


@lru_cache(maxsize=512)
def two_by_two_step(boundary: Boundary, question: Question, weight: float) -> FloatArray:
    """Growth by one unit: rows canary with and without the event, stable with and without; columns alternatives."""
    step: FloatArray = _steps(boundary, question, np.array([weight]))[0]
    return step


def _steps(boundary: Boundary, question: Question, weights: FloatArray) -> FloatArray:
    """``two_by_two_step`` of many weights, shape (weights, 4, alternatives)."""
    canary, stable, log_prior = _alternatives(boundary, question)
    null_canary, null_stable = project(
        canary, stable, ratio=boundary.ratio, floor=boundary.shift, weight=weights[:, None]
    )
    ratios = np.stack(
        [
            canary / null_canary,
            (1 - canary) / (1 - null_canary),
            stable / null_stable,
            (1 - stable) / (1 - null_stable),
        ],
        axis=1,
    )
    return np.where(np.isfinite(log_prior), np.log(ratios), 0.0)


def project(
    canary: FloatArray, stable: FloatArray, *, ratio: float, floor: float, weight: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """The point of the line ``c = ratio * s + floor`` nearest to (canary, stable) in Kullback–Leibler divergence.

    Args:
        canary: Rates of the alternative, in (0, 1).
        stable: The same of stable.
        ratio: Slope of the line.
        floor: Where it starts; negative where down is worse.
        weight: Share of the canary in (0, 1); broadcasts against the rates.

    Returns:
        Canary and stable rates on the line, each in (0, 1).

    Raises:
        ValueError: If the line has no point inside the unit square.

    >>> c, s = project(np.array([0.2]), np.array([0.1]), ratio=1.0, floor=0.0, weight=0.5)
    >>> c.round(6), s.round(6)
    (array([0.15]), array([0.15]))
    """
    low, high = max(0.0, -floor / ratio), min(1.0, (1 - floor) / ratio)
    if not low < high:
        raise ValueError(f"the line canary = {ratio:g} * stable {floor:+g} has no point with both rates in (0, 1)")
    share = np.asarray(weight, dtype=np.float64)
    shape = np.broadcast_shapes(canary.shape, share.shape)
    below, above = np.full(shape, low), np.full(shape, high)
    tiny = 1e-300
    # The divergence is convex along the line, so its slope has one root; 60 halvings reach the last bit.
    for _ in range(60):
        null_stable = (below + above) / 2
        null_canary = ratio * null_stable + floor
        slope = share * ratio * (null_canary - canary) / np.maximum(null_canary * (1 - null_canary), tiny)
        slope += (1 - share) * (null_stable - stable) / np.maximum(null_stable * (1 - null_stable), tiny)
        below = np.where(slope < 0, null_stable, below)
        above = np.where(slope < 0, above, null_stable)
    null_stable = (below + above) / 2
    # With a weight next to 0 or 1 a rate may be rounded to the end of its range.
    return np.clip(ratio * null_stable + floor, 1e-15, 1 - 1e-15), np.clip(null_stable, 1e-15, 1 - 1e-15)
