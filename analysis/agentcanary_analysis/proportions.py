"""One-look tests of proportions against a boundary ``canary = ratio * stable + shift``, stratified by epoch. Pure.

``shift = 0`` is the test of a ratio (Koopman; Farrington and Manning), ``ratio = 1`` the non-inferiority test of a
difference, ``ratio = 1, shift = 0`` Cochran's test. Counts of different epochs are never added: scores are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from agentcanary_analysis.checked_input import MOST_UNITS, checked_counts, checked_type, float_array, paired_epochs
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.conditional import conditional_p_value
from agentcanary_analysis.constrained import constrained_rates
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim, OneLook

FloatArray = NDArray[np.float64]

RARE = 10
"""Below this many events or non-events in an arm the normal distribution is not trusted (statistics of 5/95 splits)."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """Events among units in one arm.

    Attributes:
        events: Units with the event, ``0 <= events <= units``.
        units: Units observed. Zero is legal: an arm starts empty.
    """

    events: int
    units: int

    def __post_init__(self) -> None:
        for name, value in (("events", self.events), ("units", self.units)):
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise ValueError(f"{name} must be a whole number, got {value!r}")  # noqa: TRY004 (bad counts are one kind of mistake)
        if not 0 <= self.events <= self.units:
            raise ValueError(f"events must be between 0 and units, got events={self.events}, units={self.units}")
        if self.units > MOST_UNITS:
            raise ValueError(f"units must be at most {MOST_UNITS:.0e}, got {self.units}")

    def __add__(self, other: Proportion) -> Proportion:
        return Proportion(self.events + other.events, self.units + other.units)

    @property
    def rate(self) -> float:
        """Events per unit.

        Raises:
            ValueError: If the arm is empty.
        """
        if self.units == 0:
            raise ValueError("an empty arm has no rate; check units first")
        return self.events / self.units


def boundary_test(
    canary: Sequence[Proportion], stable: Sequence[Proportion], boundary: Boundary, *, claim: Claim = Claim.BEYOND
) -> OneLook:
    """One-sided test of the canary against a boundary, stratified by epoch.

    The score test; where an arm has fewer than ``RARE`` events or non-events, the stratified conditional mid-p test.

    Args:
        canary: One proportion an epoch.
        stable: The same epochs.
        boundary: The line. A null hypothesis holds on the line too.
        claim: What a small p-value shall speak for; ``BEYOND`` is worse than the line.

    Raises:
        ValueError: If no epoch has units in both arms, or the boundary leaves no room in [0, 1].

    >>> up = Boundary(ratio=1.10, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> test = boundary_test([Proportion(75, 1000)], [Proportion(950, 19000)], up)
    >>> test.method, round(test.p_value, 6)
    ('stratified score test', 0.003773)
    """
    checked_type("boundary", boundary, Boundary)
    counts = paired_counts(canary, stable)
    events_c, units_c, events_s, units_s = (column.sum() for column in counts)
    if min(events_c, units_c - events_c, events_s, units_s - events_s) < RARE:
        p_value = conditional_p_value(*counts, boundary, claim=claim, share_of_equal=0.5)
        return OneLook("stratified conditional mid-p test", float(events_c), p_value)
    return score_test(canary, stable, boundary, claim=claim)


def score_test(
    canary: Sequence[Proportion], stable: Sequence[Proportion], boundary: Boundary, *, claim: Claim = Claim.BEYOND
) -> OneLook:
    """One-sided score test of the canary against a boundary, stratified by epoch.

    Args:
        canary: One proportion an epoch.
        stable: The same epochs.
        boundary: The line.
        claim: What a small p-value shall speak for.

    Raises:
        ValueError: If no epoch has units in both arms, or the boundary leaves no room in [0, 1].

    Source:
        Koopman (1984), Biometrics 40:513-517; Farrington and Manning (1990), Statistics in Medicine 9:1447-1454;
        Gart and Nam (1990), Biometrics 46:637-643, for the strata, here with Mantel-Haenszel weights.

    >>> down = Boundary(ratio=1.0, floor=0.10, direction=Direction.DOWN_IS_WORSE)
    >>> test = score_test([Proportion(850, 1000)], [Proportion(900, 1000)], down, claim=Claim.WITHIN)
    >>> round(test.statistic, 4), round(test.p_value, 6)
    (3.3274, 0.000438)
    """
    checked_type("boundary", boundary, Boundary)
    z, informative = _score(*paired_counts(canary, stable), ratio=boundary.ratio, shift=boundary.shift)
    return OneLook("stratified score test", float(z), float(_one_sided(z, informative, boundary.direction, claim)))


def score_p_values(
    canary_events: ArrayLike,
    canary_units: ArrayLike,
    stable_events: ArrayLike,
    stable_units: ArrayLike,
    boundary: Boundary,
    *,
    claim: Claim = Claim.BEYOND,
) -> FloatArray:
    """The p-values of ``score_test`` for many rollouts at once.

    Args:
        canary_events: Shape (…, epochs).
        canary_units: Shape (…, epochs); zero where an epoch has not begun.
        stable_events: Shape (…, epochs).
        stable_units: Shape (…, epochs).
        boundary: The line.
        claim: What a small p-value shall speak for.

    Returns:
        Shape (…,). One where nothing is known: no epoch has units in both arms, or no event tells the arms apart.

    Raises:
        ValueError: If counts are impossible or the boundary leaves no room in [0, 1].

    >>> up = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)
    >>> score_p_values([[60], [600]], [[1000], [10000]], [[45], [500]], [[1000], [10000]], up).round(5).tolist()
    [0.06631, 0.00096]
    """
    checked_type("boundary", boundary, Boundary)
    counts = checked_counts(canary_events, canary_units, stable_events, stable_units)
    z, informative = _score(*counts, ratio=boundary.ratio, shift=boundary.shift)
    return _one_sided(z, informative, boundary.direction, claim)


def score_statistic(
    canary_events: ArrayLike,
    canary_units: ArrayLike,
    stable_events: ArrayLike,
    stable_units: ArrayLike,
    *,
    ratio: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
) -> FloatArray:
    """Standardised distance of the canary from ``ratio * stable + shift``, positive above it.

    Args:
        canary_events: Shape (…, epochs).
        canary_units: Shape (…, epochs).
        stable_events: Shape (…, epochs).
        stable_units: Shape (…, epochs).
        ratio: Broadcasts against the counts; positive.
        shift: Broadcasts against the counts; in (-ratio, 1).

    Returns:
        Shape (…,), asymptotically standard normal on the line; zero where nothing tells the arms apart.

    Raises:
        ValueError: If counts are impossible or the line leaves no room in [0, 1].

    >>> round(float(score_statistic([75], [1000], [950], [19000], ratio=1.1)), 6)
    2.671774
    """
    counts = checked_counts(canary_events, canary_units, stable_events, stable_units)
    return _score(*counts, ratio=ratio, shift=shift)[0]


def _score(
    k_c: FloatArray, n_c: FloatArray, k_s: FloatArray, n_s: FloatArray, *, ratio: ArrayLike, shift: ArrayLike
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The statistic over the last axis, and whether anything tells the arms apart."""
    r, a = float_array("ratio", ratio), float_array("shift", shift)
    c, s = constrained_rates(k_c, n_c, k_s, n_s, ratio=r, shift=a)
    some_c, some_s = np.maximum(n_c, 1), np.maximum(n_s, 1)
    weight = n_c * n_s / np.maximum(n_c + n_s, 1)  # zero for an epoch with an empty arm
    distance = (weight * (k_c / some_c - r * k_s / some_s - a)).sum(axis=-1)
    variance = (weight**2 * (c * (1 - c) / some_c + r**2 * s * (1 - s) / some_s)).sum(axis=-1)
    # No spread on the line means that no count differs from it by more than rounding.
    informative = variance > 1e-32 * (weight**2).sum(axis=-1)
    return np.where(informative, distance / np.sqrt(np.where(informative, variance, 1.0)), 0.0), informative


def _one_sided(z: FloatArray, informative: NDArray[np.bool_], direction: Direction, claim: Claim) -> FloatArray:
    above = (direction is Direction.UP_IS_WORSE) == (checked_type("claim", claim, Claim) is Claim.BEYOND)
    return np.where(informative, ndtr(-z if above else z), 1.0)


def paired_counts(
    canary: Sequence[Proportion], stable: Sequence[Proportion]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Canary events and units, stable events and units, each of shape (epochs with units in both arms,).

    Raises:
        ValueError: If the arms have different epochs, or no epoch has units in both.

    >>> [column.tolist() for column in paired_counts([Proportion(1, 5), Proportion(0, 0)], [Proportion(2, 9)] * 2)]
    [[1.0], [5.0], [2.0], [9.0]]
    """
    pairs = [(c, s) for c, s in paired_epochs(canary, stable, Proportion) if c.units and s.units]
    if not pairs:
        raise ValueError("no epoch has units in both arms, so they cannot be compared")
    k_c, n_c, k_s, n_s = np.array([(c.events, c.units, s.events, s.units) for c, s in pairs], dtype=float).T
    return k_c, n_c, k_s, n_s
