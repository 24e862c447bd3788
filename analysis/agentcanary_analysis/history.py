"""Histories of an agent that never was, for notebooks, tests and trying out: with the traits that mislead statistics.

Pure: the generator of random numbers is an argument. What real traffic has and independent draws have not: a daily and
a weekly rhythm of the load and of the rates, days that differ for no reason, users who come back and resemble
themselves, heavy-tailed latencies, ratings that most people do not give, violations that hardly ever happen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from agentcanary_analysis.checked_input import checked_type

FloatArray = NDArray[np.float64]

# The first of a week, so that weekdays are easy to read off.
FIRST_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
_HOURS = 24
_PEAK_HOUR = 14.0
_MOST_CONVERSATIONS = 50_000_000
# No rate leaves this: a user with a bad day is still a probability.
_HIGHEST_RATE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How the stable version of an agent fares, and how much that varies.

    Attributes:
        error_rate: Share of conversations with an error, in (0, 1).
        completion_rate: Share of conversations that reach their aim, in (0, 1).
        latency: Median latency of the first turn, in seconds.
        latency_spread: Standard deviation of its logarithm within one user and hour.
        tail: Share of turns that take very much longer: their latency is multiplied by a Pareto variable.
        timeout: Seconds after which a turn is given up.
        satisfaction: About the mean rating, between 1 and 5.
        rated: Share of conversations that are rated, in (0, 1].
        violation_rate: Share of conversations with a safety violation, in [0, 1).
        daily: How much the hour matters: 0 not at all, 1 for nights without anybody.
        weekend: Traffic of a Saturday or Sunday as a multiple of a working day's.
        load_effect: How much rates of failure and latencies rise with the load: 0.5 for the square root of it.
        day_spread: Standard deviation of the logarithm of a day's factor: why p-values of before and after are wrong.
        user_spread: The same of a user's factor: why conversations of one user are no independent evidence.
        conversations_per_user: How many a user has on average in four weeks; a few have very many.
    """

    error_rate: float = 0.05
    completion_rate: float = 0.85
    latency: float = 1.8
    latency_spread: float = 0.55
    tail: float = 0.01
    timeout: float = 60.0
    satisfaction: float = 4.2
    rated: float = 0.3
    violation_rate: float = 0.0001
    daily: float = 0.7
    weekend: float = 0.55
    load_effect: float = 0.3
    day_spread: float = 0.1
    user_spread: float = 0.5
    conversations_per_user: float = 4.0

    def __post_init__(self) -> None:
        for name in ("error_rate", "completion_rate", "rated"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in (0, 1], got {getattr(self, name)} (write 0.05 for 5 %)")
        for name in ("violation_rate", "tail", "daily"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in [0, 1], got {getattr(self, name)}")
        for name in ("latency", "timeout", "weekend", "conversations_per_user"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("latency_spread", "load_effect", "day_spread", "user_spread"):
            if not 0 <= getattr(self, name) < 5:
                raise ValueError(f"{name} must be between 0 and 5, got {getattr(self, name)}")
        if not 1 <= self.satisfaction <= 5:
            raise ValueError(f"satisfaction is a rating between 1 and 5, got {self.satisfaction}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How the canary differs, as multiples of stable: 1 is no difference, and all together an A/A comparison.

    Attributes:
        errors: Of the error rate.
        completion: Of the completion rate.
        latency: Of every latency.
        satisfaction: Of the rating before it is rounded to a whole one.
        violations: Of the rate of safety violations.
    """

    errors: float = 1.0
    completion: float = 1.0
    latency: float = 1.0
    satisfaction: float = 1.0
    violations: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < 100:
                raise ValueError(
                    f"{field.name} is a multiple of stable's, between 0 and 100, got {getattr(self, field.name)}"
                )
        if self.latency == 0:
            raise ValueError("latency must be a positive multiple of stable's, got 0")


def generate_history(
    *,
    days: int,
    conversations_per_day: float,
    rng: np.random.Generator,
    stable: str = "support-v1",
    canary: str | None = None,
    weights: Sequence[float] = (0.5,),
    effect: Effect | None = None,
    traffic: Traffic | None = None,
    start: datetime = FIRST_MONDAY,
) -> pd.DataFrame:
    """Outcomes of conversations, one row each, in the order of their starts.

    Without a canary it is the history of one version; with one, each conversation is the canary's with the weight of
    its epoch, by a coin of its own.

    Args:
        days: Length of the history.
        conversations_per_day: On average over a week.
        rng: Source of all chance: the same state gives the same frame.
        stable: Name of the stable version.
        canary: Name of the canary version; None for a history without one.
        weights: Of the canary, one an epoch; the epochs divide the history into equal parts.
        effect: How the canary differs; None for not at all.
        traffic: How stable fares; None for an agent with 5 % errors and 85 % completion.
        start: First midnight, with a time zone.

    Returns:
        Columns ``conversation_id``, ``version``, ``user_id``, ``error`` (0 or 1), ``completed`` (0 or 1),
        ``safety_violations`` (count), ``satisfaction`` (1 to 5, missing where nobody rated), ``latency_s`` (seconds),
        ``started_at`` (UTC), and with a canary ``epoch`` and ``weight``.

    Raises:
        TypeError: If ``rng``, ``start``, ``effect`` or ``traffic`` is something else.
        ValueError: If a number is outside its range, or ``start`` has no time zone.

    >>> frame = generate_history(days=14, conversations_per_day=500, rng=np.random.default_rng(7))
    >>> len(frame), int(frame["error"].sum()), frame["user_id"].nunique()
    (6972, 357, 1313)
    """
    traffic = Traffic() if traffic is None else traffic
    effect = Effect() if effect is None else effect
    for name, value, kind in (
        ("rng", rng, np.random.Generator),
        ("start", start, datetime),
        ("effect", effect, Effect),
        ("traffic", traffic, Traffic),
    ):
        checked_type(name, value, kind)
    _check(days, conversations_per_day, canary, weights, start)
    hours, day_of = _starts(days, conversations_per_day, traffic, start, rng)
    n = len(hours)
    users = _users(n, days, traffic, rng)
    epoch = np.minimum((hours / (days * _HOURS) * len(weights)).astype(int), len(weights) - 1)
    weight = np.asarray(weights, dtype=float)[epoch]
    is_canary = (rng.random(n) < weight) & (canary is not None)

    load = _load(hours, traffic, start)
    failing = (load / load.mean()) ** traffic.load_effect
    failing *= (
        _factors(days, traffic.day_spread, rng)[day_of] * _factors(users.max() + 1, traffic.user_spread, rng)[users]
    )
    failing /= failing.mean()
    errors, completed, satisfied = _outcomes(failing, is_canary, traffic, effect, rng)
    frame = pd.DataFrame(
        {
            "conversation_id": np.char.add("c", np.char.zfill(np.arange(n).astype(str), 8)),
            "version": np.where(is_canary, canary or stable, stable),
            "user_id": np.char.add("u", users.astype(str)),
            "error": errors.astype(np.int8),
            "completed": completed.astype(np.int8),
            "safety_violations": (
                rng.random(n) < traffic.violation_rate * np.where(is_canary, effect.violations, 1.0)
            ).astype(np.int8),
            "satisfaction": satisfied,
            "latency_s": _latencies(load, users, is_canary, traffic, effect, rng),
            "started_at": pd.Timestamp(start).tz_convert("UTC")
            + pd.to_timedelta((hours * 3.6e6).astype("int64"), unit="ms"),
        }
    )
    if canary is not None:
        frame["epoch"], frame["weight"] = epoch, weight
    return frame


def _check(
    days: int, conversations_per_day: float, canary: str | None, weights: Sequence[float], start: datetime
) -> None:
    if not (isinstance(days, int) and days >= 1):
        raise ValueError(f"days must be a whole number of 1 and more, got {days!r}")
    if not 1 <= conversations_per_day * days <= _MOST_CONVERSATIONS:
        raise ValueError(
            f"a history has 1 to {_MOST_CONVERSATIONS:,} conversations, "
            f"got {conversations_per_day} a day for {days} days"
        )
    if start.tzinfo is None:
        raise ValueError(f"start needs a time zone, got {start} (write tzinfo=UTC)")
    if not weights:
        raise ValueError("a history needs one weight at least, got none")
    for weight in weights:
        if canary is not None and not 0 <= weight <= 1:
            raise ValueError(f"a weight is a share in [0, 1], got {weight} (write 0.05 for 5 %)")


def _load(hours: FloatArray, traffic: Traffic, start: datetime) -> FloatArray:
    """Traffic at these hours since the start, as a multiple of a working day's mean; a cosine over the day."""
    first = start.astimezone(UTC)
    offset = first.hour + first.minute / 60
    weekday = (first.weekday() + (hours + offset) // _HOURS) % 7
    rhythm = 1 + traffic.daily * np.cos(2 * np.pi * (hours + offset - _PEAK_HOUR) / _HOURS)
    # At daily=1 the load is zero for a moment in the night; rates there are those of a very quiet hour.
    return np.maximum(rhythm, 0.02) * np.where(weekday >= 5, traffic.weekend, 1.0)


def _starts(
    days: int, conversations_per_day: float, traffic: Traffic, start: datetime, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Hours since the start of all conversations, sorted, and the day of each: a Poisson process with that load."""
    quarters = np.arange(days * _HOURS * 4) / 4
    load = _load(quarters + 0.125, traffic, start)
    week = np.arange(7 * _HOURS * 4) / 4
    mean = _load(week + 0.125, traffic, FIRST_MONDAY).mean()
    counted = rng.poisson(load / mean * conversations_per_day / (_HOURS * 4))
    hours = np.sort(np.repeat(quarters, counted) + rng.random(counted.sum()) / 4)
    if not len(hours):
        raise ValueError("no conversation fell into this history; ask for more conversations_per_day")
    return hours, (hours // _HOURS).astype(np.intp)


def _users(n: int, days: int, traffic: Traffic, rng: np.random.Generator) -> NDArray[np.intp]:
    """A user for every conversation: most come once or twice, a few very often."""
    users = max(1, round(n / traffic.conversations_per_user * min(28 / days, 1.0) ** 0.5))
    activity = rng.lognormal(sigma=1.2, size=users)
    return rng.choice(users, size=n, p=activity / activity.sum())


def _factors(size: int, spread: float, rng: np.random.Generator) -> FloatArray:
    """Log-normal factors with mean 1."""
    return np.exp(spread * rng.standard_normal(size) - spread * spread / 2)


def _outcomes(
    failing: FloatArray, is_canary: NDArray[np.bool_], traffic: Traffic, effect: Effect, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], FloatArray]:
    """Errors, completions and ratings of every conversation.

    All three hang on how well a conversation went, by a Gaussian copula: the rates are what they were asked to be.
    """
    n = len(failing)
    well = rng.standard_normal(n)

    def alike(share: float) -> FloatArray:
        return ndtr(share * well + math.sqrt(1 - share * share) * rng.standard_normal(n))

    error_rate = traffic.error_rate * failing * np.where(is_canary, effect.errors, 1.0)
    failure_rate = np.minimum((1 - traffic.completion_rate) * failing, _HIGHEST_RATE)
    completion_rate = (1 - failure_rate) * np.where(is_canary, effect.completion, 1.0)
    errors = alike(0.7) < np.minimum(error_rate, _HIGHEST_RATE)
    completed = 1 - alike(0.7) < np.minimum(completion_rate, 1.0)
    ratings = traffic.satisfaction + 0.7 * well + 0.6 * rng.standard_normal(n)
    ratings = np.clip(np.round(ratings * np.where(is_canary, effect.satisfaction, 1.0)), 1, 5)
    return errors, completed, np.where(rng.random(n) < traffic.rated, ratings, np.nan)


def _latencies(
    load: FloatArray,
    users: NDArray[np.intp],
    is_canary: NDArray[np.bool_],
    traffic: Traffic,
    effect: Effect,
    rng: np.random.Generator,
) -> FloatArray:
    n = len(load)
    latency = traffic.latency * (load / load.mean()) ** traffic.load_effect
    # Users ask for different things: half of the spread of their failures, in the time that it takes.
    latency *= np.exp(traffic.user_spread / 2 * rng.standard_normal(users.max() + 1))[users]
    latency *= np.exp(traffic.latency_spread * rng.standard_normal(n))
    # A Pareto variable with exponent 1.5 has a mean, and no variance.
    latency *= np.where(rng.random(n) < traffic.tail, 2 * (1 + rng.pareto(1.5, n)), 1.0)
    latency *= np.where(is_canary, effect.latency, 1.0)
    given_up: FloatArray = np.minimum(latency, traffic.timeout).round(4)
    return given_up
