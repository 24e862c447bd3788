"""E-processes for events: the conditional binomial and the 2×2 with a floor. Pure; every kernel takes a batch.

An e-process is evidence that may be looked at as often as one likes: under its null hypothesis the chance that it ever
reaches ``1/alpha`` is at most ``alpha``. Both processes here are mixtures over alternatives ``j``; their kernels return
the *growth* ``log e(j)`` of every epoch, shape (batch, epochs, alternatives), and ``mixture`` makes the e-value of the
epochs that a question is about. Epochs of different weight are multiplied, never pooled.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction

FloatArray = npt.NDArray[np.float64]

_PRIOR_SCALE = 0.7
_PRIOR_POINTS = 48
_PRIOR_REACH = {"harm": 16.0, "safe": 8.0}
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
_FEW = 1000
_MANY_WEIGHTS = 16
_RATE_LIMITS = (1e-4, 1 - 1e-4)


class Question(StrEnum):
    """What an e-value is evidence for.

    ``HARM`` is against "within the boundary", ``SAFE`` against "beyond the boundary".
    """

    HARM = "harm"
    SAFE = "safe"


class Growth(NamedTuple):
    """What a mixture is made of.

    Attributes:
        log_e: Log growth of each alternative in each epoch, shape (batch, epochs, alternatives).
        log_prior: Log weight of each alternative, shape (alternatives,).
    """

    log_e: FloatArray
    log_prior: FloatArray


def log_sum_exp(values: FloatArray) -> FloatArray:
    """``log(sum(exp(values)))`` over the last axis, without overflow."""
    highest = values.max(axis=-1)
    total: FloatArray = highest + np.log(np.exp(values - highest[..., None]).sum(axis=-1))
    return total


def mixture(growth: Growth) -> FloatArray:
    """Log e-value of a mixture over its alternatives, on all epochs, shape (batch,)."""
    return log_sum_exp(growth.log_e.sum(axis=1) + growth.log_prior)


def mixtures(growth: Growth, include: npt.NDArray[np.bool_]) -> FloatArray:
    """Log e-values of several sets of epochs, shape (batch, sets).

    Args:
        growth: From one of the kernels.
        include: Epochs of each set, shape (batch, sets, epochs); the others are as if they never were.
    """
    return log_sum_exp(include.astype(np.float64) @ growth.log_e + growth.log_prior)


def late_changes(log_e_from_stage: FloatArray) -> FloatArray:
    """Log e-value that also catches harm which begins with a later stage, shape (batch,).

    ``E = E(0)/2 + sum over k >= 1 of 2^-(k+1) E(k)``, where ``E(k)`` uses the epochs from stage ``k`` on. A stage that
    has not begun counts 1: the weights are the same however many stages there are, and the mixture is an e-process.

    Args:
        log_e_from_stage: ``log E(k)`` for k = 0 … stages-1, shape (batch, stages).

    >>> late_changes(np.log([[4.0, 8.0]])).round(4)  # log(4/2 + 8/4 + 1/4)
    array([1.4469])
    """
    stages = log_e_from_stage.shape[-1]
    log_weights = -np.log(2) * np.arange(1, stages + 1)
    rest = np.full((*log_e_from_stage.shape[:-1], 1), -np.log(2) * stages)
    return log_sum_exp(np.concatenate([log_e_from_stage + log_weights, rest], axis=-1))


def conditional_binomial(
    canary_events: npt.ArrayLike,
    stable_events: npt.ArrayLike,
    weight: npt.ArrayLike,
    *,
    ratio: float,
    question: Question,
    worse: Direction = Direction.UP_IS_WORSE,
) -> Growth:
    """Growth of the conditional binomial e-process on the ratio of two event probabilities.

    Given an event in an epoch of weight ``w``, it is the canary's with probability ``q(R) = wR/(wR + 1 - w)`` when the
    canary's probability is ``R`` times the stable's, whatever the base rate is at that hour. The alternatives are
    ratios with a half-normal prior (scale 0.7) on their log distance from the boundary.

    Args:
        canary_events: Units with the event, shape (batch, epochs) or broadcastable.
        stable_events: The same of stable.
        weight: Designed share of the canary in [0, 1]; epochs of weight 0 or 1 tell nothing and grow by nothing.
        ratio: The boundary, canary over stable.
        question: Harm or safe.
        worse: Which way is worse.

    Raises:
        ValueError: If a count is negative or not finite, or a weight is outside [0, 1].

    **Source**: Lindon & Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35, one-sided and
    with a margin.

    >>> growth = conditional_binomial([[30]], [[20]], [[0.5]], ratio=1.0, question=Question.HARM)
    >>> mixture(growth).round(3)
    array([0.494])
    """
    canary, stable, weights = np.broadcast_arrays(
        _counts(canary_events, "canary_events"), _counts(stable_events, "stable_events"), _weights(weight)
    )
    if not (ratio > 0 and np.isfinite(ratio)):
        raise ValueError(f"ratio must be positive and finite, got {ratio}")
    return conditional_growth(canary, stable, weights, ratio=ratio, question=question, worse=worse)


def conditional_growth(
    canary: FloatArray, stable: FloatArray, weights: FloatArray, *, ratio: float, question: Question, worse: Direction
) -> Growth:
    """``conditional_binomial`` on arrays of one shape that are known to be possible."""
    distance, log_prior = _half_normal(question)
    log_change = distance if (question is Question.HARM) == (worse is Direction.UP_IS_WORSE) else -distance
    testable = (weights > 0) & (weights < 1)
    # Share of the canary among the events on the boundary; log_total is log((w theta + 1 - w) / (w r + 1 - w)).
    share = weights * ratio / (weights * ratio + 1 - weights)
    log_total = np.log1p(share[..., None] * np.expm1(log_change))
    log_e = np.where(testable, canary, 0.0)[..., None] * log_change
    log_e -= np.where(testable, canary + stable, 0.0)[..., None] * log_total
    return Growth(log_e, log_prior)


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

    >>> from agentcanary_analysis.checks import Boundary
    >>> line = Boundary(ratio=1.1, floor=0.005, direction=Direction.UP_IS_WORSE)
    >>> growth = two_by_two([[500]], [[60]], [[500]], [[25]], [[0.5]], boundary=line, question=Question.HARM)
    >>> bool(mixture(growth)[0] > np.log(20))
    True
    """
    canary_n, canary_k, stable_n, stable_k, weights = np.broadcast_arrays(
        _counts(canary_units, "canary_units"),
        _counts(canary_events, "canary_events"),
        _counts(stable_units, "stable_units"),
        _counts(stable_events, "stable_events"),
        _weights(weight),
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


def distinct(values: FloatArray) -> list[float]:
    """The different values of an array; faster than ``numpy.unique`` on the few epochs of one look."""
    return sorted(set(values.ravel().tolist())) if values.size < _FEW else np.unique(values).tolist()


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


@lru_cache(maxsize=2)
def _half_normal(question: Question) -> tuple[FloatArray, FloatArray]:
    """Log distances from the boundary and their log prior, each shape (points,)."""
    distance = (np.arange(_PRIOR_POINTS) + 0.5) / _PRIOR_POINTS * np.log(_PRIOR_REACH[question.value])
    log_density = -(distance**2) / (2 * _PRIOR_SCALE**2)
    return distance, log_density - log_sum_exp(log_density)


def _counts(values: npt.ArrayLike, name: str) -> FloatArray:
    counts = np.atleast_2d(np.asarray(values, dtype=np.float64))
    legal = (counts >= 0) & (counts < np.inf)
    if not legal.all():
        raise ValueError(f"{name} must be finite and not negative, got {counts[~legal].flat[0]}")
    return counts


def _weights(values: npt.ArrayLike) -> FloatArray:
    weights = np.atleast_2d(np.asarray(values, dtype=np.float64))
    legal = (weights >= 0) & (weights <= 1)
    if not legal.all():
        raise ValueError(f"weight must be between 0 and 1, got {weights[~legal].flat[0]} (write 0.05 for 5 %)")
    return weights
