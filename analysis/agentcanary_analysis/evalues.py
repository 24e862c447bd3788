"""E-processes for events: what mixtures are, and the conditional binomial. Pure; every kernel takes a batch.

An e-process is evidence that may be looked at as often as one likes: under its null hypothesis the chance that it ever
reaches ``1/alpha`` is at most ``alpha``. The processes here and in ``two_by_two`` are mixtures over alternatives;
their kernels return the *growth* of each alternative in each epoch, shape (batch, epochs, alternatives), and
``mixtures`` makes the e-values of the sets of epochs that a question is about. Epochs of different weight are
multiplied, never pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.checked_input import checked_type, float_array
from agentcanary_analysis.metrics import Direction

FloatArray = npt.NDArray[np.float64]

_PRIOR_POINTS = 48


class _Prior(NamedTuple):
    """A normal density of the log distance from the boundary, cut to (0, log reach]."""

    centre: float
    scale: float
    reach: float


# Harm: most on rates near the doubled one. Against a half-normal prior of scale 0.7, which puts most where no sample of
# a rollout's size tells anything, it needs 5 to 10 % fewer conversations at 1.5, 2 and 3 times, and 10 % more at 1.25.
_PRIORS = {"harm": _Prior(0.65, 0.35, 16.0), "safe": _Prior(0.0, 0.7, 8.0)}
# The part of the e-value of harm that is for harm from the start; the rest is for changes that come late.
FROM_THE_START = 0.85
_FEW = 1000


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
        log_prior: Log weight of each alternative, shape (alternatives,), or (batch, alternatives) where rows differ.
    """

    log_e: FloatArray
    log_prior: FloatArray


def log_sum_exp(values: FloatArray) -> FloatArray:
    """``log(sum(exp(values)))`` over the last axis, without overflow."""
    highest = values.max(axis=-1)
    total: FloatArray = highest + np.log(np.exp(values - highest[..., None]).sum(axis=-1))
    return total


def mixture(growth: Growth) -> FloatArray:
    """Log e-value of a mixture over its alternatives, on all epochs, shape (batch,).

    Args:
        growth: From one of the kernels.
    """
    checked_type("growth", growth, Growth)
    return log_sum_exp(growth.log_e.sum(axis=1) + growth.log_prior)


def mixtures(growth: Growth, include: npt.NDArray[np.bool_]) -> FloatArray:
    """Log e-values of several sets of epochs, shape (batch, sets).

    Args:
        growth: From one of the kernels.
        include: Epochs of each set, shape (batch, sets, epochs); the others are as if they never were.
    """
    prior = growth.log_prior if growth.log_prior.ndim == 1 else growth.log_prior[:, None]
    return log_sum_exp(include.astype(np.float64) @ growth.log_e + prior)


def late_changes(log_e_from_stage: FloatArray) -> FloatArray:
    """Log e-value that also catches harm which begins with a later stage, shape (batch,).

    ``E = 0.85 E(0) + 0.15 * sum over k >= 1 of 2^-k E(k)``, where ``E(k)`` uses the epochs from stage ``k`` on. A stage
    that has not begun counts 1: the weights are the same however many stages there are, and the mixture is an
    e-process. Harm from the start is what a canary is for, so most of the evidence is kept for it.

    Args:
        log_e_from_stage: ``log E(k)`` for k = 0 … stages-1, shape (batch, stages).

    >>> late_changes(np.log([[4.0, 8.0]])).round(4)  # log(0.85 * 4 + 0.075 * 8 + 0.075)
    array([1.4049])
    """
    stages = log_e_from_stage.shape[-1]
    late = np.log(1 - FROM_THE_START)
    log_weights = np.concatenate([[np.log(FROM_THE_START)], late - np.log(2) * np.arange(1, stages)])
    rest = np.full((*log_e_from_stage.shape[:-1], 1), late - np.log(2) * (stages - 1))
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
    ratios with a prior on their log distance from the boundary: normal (0.65, 0.35) for harm, half-normal (0.7) for
    safety.

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
    array([0.439])
    """
    checked_type("question", question, Question)
    checked_type("worse", worse, Direction)
    canary, stable, weights = np.broadcast_arrays(
        checked_counts(canary_events, "canary_events"),
        checked_counts(stable_events, "stable_events"),
        checked_weights(weight),
    )
    if not (ratio > 0 and np.isfinite(ratio)):
        raise ValueError(f"ratio must be positive and finite, got {ratio}")
    return conditional_growth(canary, stable, weights, ratio=ratio, question=question, worse=[worse])


def conditional_growth(
    canary: FloatArray,
    stable: FloatArray,
    weights: FloatArray,
    *,
    ratio: float | FloatArray,
    question: Question,
    worse: Sequence[Direction],
) -> Growth:
    """``conditional_binomial`` on arrays of one shape that are known to be possible.

    Args:
        canary: Canary events, shape (batch, epochs).
        stable: Stable events.
        weights: Designed shares.
        ratio: The boundary; broadcasts against the events.
        question: Harm or safe.
        worse: Which way is worse: one for all, or one for each of the batch.
    """
    distance, log_prior = half_line_prior(question)
    above = [(question is Question.HARM) == (direction is Direction.UP_IS_WORSE) for direction in worse]
    log_change = np.where(above, 1.0, -1.0)[:, None, None] * distance
    testable = (weights > 0) & (weights < 1)
    # Share of the canary among the events on the boundary; log_total is log((w theta + 1 - w) / (w r + 1 - w)).
    share = weights * ratio / (weights * ratio + 1 - weights)
    log_total = np.log1p(share[..., None] * np.expm1(log_change))
    log_e = np.where(testable, canary, 0.0)[..., None] * log_change
    log_e -= np.where(testable, canary + stable, 0.0)[..., None] * log_total
    return Growth(log_e, log_prior)


def distinct(values: FloatArray) -> list[float]:
    """The different values of an array; faster than ``numpy.unique`` on the few epochs of one look."""
    return sorted(set(values.ravel().tolist())) if values.size < _FEW else np.unique(values).tolist()


@lru_cache(maxsize=2)
def half_line_prior(question: Question) -> tuple[FloatArray, FloatArray]:
    """Log distances from the boundary and their log prior, each shape (points,)."""
    prior = _PRIORS[question.value]
    distance = (np.arange(_PRIOR_POINTS) + 0.5) / _PRIOR_POINTS * np.log(prior.reach)
    log_density = -((distance - prior.centre) ** 2) / (2 * prior.scale**2)
    return distance, log_density - log_sum_exp(log_density)


def checked_counts(values: npt.ArrayLike, name: str) -> FloatArray:
    """Counts as an array of shape (batch, epochs).

    Raises:
        ValueError: If one is negative or not finite.
    """
    counts = np.atleast_2d(float_array(name, values))
    legal = (counts >= 0) & (counts < np.inf)
    if not legal.all():
        raise ValueError(f"{name} must be finite and not negative, got {counts[~legal].flat[0]}")
    return counts


def checked_weights(values: npt.ArrayLike) -> FloatArray:
    """Weights as an array of shape (batch, epochs).

    Raises:
        ValueError: If one is outside [0, 1].
    """
    weights = np.atleast_2d(float_array("weight", values))
    legal = (weights >= 0) & (weights <= 1)
    if not legal.all():
        raise ValueError(f"weight must be between 0 and 1, got {weights[~legal].flat[0]} (write 0.05 for 5 %)")
    return weights
