"""How much a metric varies without a change of version: what a comparison over time would mistake for an effect. Pure.

All functions read one value a conversation: 0 or 1 for a proportion, the value itself for a mean, and for a quantile
whether the value lies beyond the quantile of the whole history.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, chdtri

from agentcanary_analysis.checked_input import float_array

FloatArray = NDArray[np.float64]

HOUR, DAY = 3600.0, 86400.0
WEEK_HOURS = 168
_MONDAY = 4  # 1 January 1970 was a Thursday; four days later the weeks begin
_STARTS = 0.9
_LEVEL = 0.95


class Dispersion(NamedTuple):
    """A variance as a multiple of what chance alone explains.

    Attributes:
        ratio: 1 when chance alone explains it.
        low: Lower end of its 95 % interval, for values that are about normal.
        high: Upper end.
        groups: Periods, or z statistics, that it is made of.
        p_value: Against "chance alone", one-sided.
    """

    ratio: float
    low: float
    high: float
    groups: int
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rhythm:
    """A metric by hour of the day or by day of the week, in UTC.

    Attributes:
        values: Mean in each bin, NaN where the bin is empty, shape (bins,).
        units: Conversations in each bin, shape (bins,).
        shrunk: The same means moved towards the common one by as much as chance explains of their differences.
        mean: Of all conversations.
        spread: Standard deviation between the bins that chance does not explain.
        p_value: Against "all bins are alike" (chi-squared).
    """

    values: FloatArray
    units: FloatArray
    shrunk: FloatArray
    mean: float
    spread: float
    p_value: float


def over_dispersion(times: ArrayLike, values: ArrayLike, *, every: float = DAY) -> Dispersion | None:
    """Variance between periods, as a multiple of the variance that conversations within them explain.

    The factor by which a comparison of one period with another ("before and after") understates its variance. A split
    by hash is not touched by it, because both arms live through the same hours.

    Args:
        times: Unix seconds, shape (conversations,).
        values: One value each; NaN for a missing one, which is left out.
        every: Length of a period in seconds.

    Returns:
        None with fewer than two periods of two values, or with constant values.

    Source:
        The F ratio of one-way analysis of variance; for proportions Pearson's chi-squared over its degrees of freedom
        (McCullagh & Nelder 1989, Generalized Linear Models, 4.5).

    >>> day = np.repeat(np.arange(10), 1000)
    >>> found = over_dispersion(day * 86400.0, np.arange(10_000) % 20 == 0)
    >>> round(found.ratio, 3), found.groups
    (0.0, 10)
    """
    when, observed = _observed(times, values)
    if not every > 0:
        raise ValueError(f"every must be positive seconds, got {every}")
    _, period, units = np.unique(np.floor(when / every), return_inverse=True, return_counts=True)
    groups = len(units)
    if groups < 2 or len(observed) < 2 * groups:
        return None
    means = np.bincount(period, observed) / units
    within = float(((observed - means[period]) ** 2).sum()) / (len(observed) - groups)
    if not within > 0:
        return None
    between = float((units * (means - observed.mean()) ** 2).sum()) / (groups - 1)
    return _dispersion(between / within, groups)


def z_dispersion(z: ArrayLike) -> Dispersion | None:
    """Variance of the z statistics of comparisons of equal versions; 1 when the split is as random as assumed.

    Args:
        z: One statistic a comparison, shape (comparisons,); those that are not finite are left out.

    Returns:
        None with fewer than two.

    >>> round(z_dispersion([-1.5, 0.5, 1.5, -0.5]).ratio, 2)
    1.25
    """
    found = float_array("z", z)
    found = found[np.isfinite(found)]
    if len(found) < 2:
        return None
    ratio = float((found**2).mean())  # about 0, where it is centred by design
    low, high = (len(found) * ratio / chdtri(len(found), tail) for tail in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return Dispersion(ratio, float(low), float(high), len(found), float(chdtrc(len(found), len(found) * ratio)))


def design_effect(values: ArrayLike, clusters: Sequence[Hashable]) -> float | None:
    """Variance of the mean when clusters (users) are drawn, as a multiple of that when conversations are.

    ``G/(G-1) sum((y_g - mean n_g)^2) / N^2`` over ``s^2 / N``: how many conversations count as one where users, and not
    conversations, are given to the arms.

    Args:
        values: One a conversation; NaN for a missing one, which is left out.
        clusters: The cluster of each, the same length.

    Returns:
        None with fewer than two clusters or constant values.

    Source:
        Deng, Knoblich & Lu (2018), KDD, section 3.2, for the variance; Kish (1965), Survey Sampling, for the ratio.

    >>> round(design_effect([1.0, 1.0, 0.0, 0.0] * 50, [cluster for cluster in range(100) for _ in range(2)]), 2)
    2.01
    """
    observed = float_array("values", values)
    if observed.shape != (len(clusters),):
        raise ValueError(f"each conversation needs one cluster, got {len(clusters)} for {observed.shape[0]} values")
    keep = np.isfinite(observed)
    observed = observed[keep]
    codes: dict[Hashable, int] = {}
    index = np.array(
        [codes.setdefault(cluster, len(codes)) for cluster, kept in zip(clusters, keep, strict=True) if kept]
    )
    if len(codes) < 2:
        return None
    units, variance = len(observed), float(observed.var(ddof=1))
    if not variance > 0:
        return None
    residuals = np.bincount(index, observed) - observed.mean() * np.bincount(index)
    drawn = len(codes) / (len(codes) - 1) * float((residuals**2).sum()) / units**2
    return drawn / (variance / units)


def rhythm(times: ArrayLike, values: ArrayLike, *, weekly: bool = False) -> Rhythm | None:
    """A metric by hour of the day, or by day of the week (Monday first), in UTC.

    Args:
        times: Unix seconds, shape (conversations,).
        values: One value each; NaN for a missing one, which is left out.
        weekly: By day of the week.

    Returns:
        None with fewer than two values.

    Source:
        The excess variance between bins by the method of moments (DerSimonian & Laird 1986, Controlled Clinical Trials
        7:177-188, equation 8); each bin's mean shrunk by its share of it (Efron & Morris 1975, JASA 70:311-319).

    >>> hours = np.arange(24_000)
    >>> found = rhythm(hours * 3600.0, (hours % 24 < 12) & (hours % 5 == 0))
    >>> found.mean, found.values[0].round(2), found.values[12]
    (0.1, np.float64(0.2), np.float64(0.0))
    """
    when, observed = _observed(times, values)
    if len(observed) < 2:
        return None
    bins = 7 if weekly else 24
    bin_of = (np.floor(when / DAY) - _MONDAY) % 7 if weekly else np.floor(when / HOUR) % 24
    index = bin_of.astype(np.intp)
    units = np.bincount(index, minlength=bins).astype(np.float64)
    sums = np.bincount(index, observed, minlength=bins)
    mean, used = float(observed.mean()), units > 0
    means = np.divide(sums, units, out=np.full(bins, np.nan), where=used)
    squares = float(((observed - means[index]) ** 2).sum())
    freedom = len(observed) - int(used.sum())
    variance = squares / freedom if freedom > 0 else 0.0
    if not variance > 0:
        same = bool(np.ptp(means[used]) == 0)
        spread = float(np.nanstd(means))
        return Rhythm(values=means, units=units, shrunk=means, mean=mean, spread=spread, p_value=1.0 if same else 0.0)
    q = float((units[used] * (means[used] - mean) ** 2).sum()) / variance
    others = int(used.sum()) - 1
    scale = units.sum() - (units**2).sum() / units.sum()
    excess = max(0.0, (q - others) * variance / scale) if scale > 0 else 0.0
    trust = np.divide(excess, excess + variance / np.maximum(units, 1), where=used, out=np.zeros(bins))
    shrunk = np.where(used, mean + trust * (np.where(used, means, mean) - mean), mean)
    return Rhythm(
        values=means,
        units=units,
        shrunk=shrunk,
        mean=mean,
        spread=float(np.sqrt(excess)),
        p_value=float(chdtrc(others, q)) if others else 1.0,
    )


def representative_hours(daily: Rhythm, weekly: Rhythm | None, tolerance: float) -> int:
    """Hours that a stage must last, whenever it begins, to see a mix of hours and days like the whole week's.

    A stage sees that mix when its own expected value is within ``tolerance`` of the week's, for nine of ten hours at
    which it may begin, and so is any longer one's. Only what chance does not explain of the rhythm counts.

    Args:
        daily: By hour of the day.
        weekly: By day of the week; None when that is not known, and all days are taken for alike.
        tolerance: In the metric's unit, positive.

    Returns:
        1 … 168.

    >>> hours = np.arange(2400)
    >>> daily = rhythm(hours * 3600.0, np.where(hours % 24 < 12, 0.2, 0.1) + 0.001 * (hours % 7))
    >>> representative_hours(daily, None, 0.005), representative_hours(daily, None, 1.0)
    (110, 1)
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    traffic = np.tile(daily.units, 7)
    value = np.tile(daily.shrunk, 7)
    if weekly is not None:
        traffic = traffic * np.repeat(weekly.units, 24)
        value = value + np.repeat(weekly.shrunk - weekly.mean, 24)
    if not traffic.sum() > 0:
        raise ValueError("a rhythm without conversations tells nothing")
    mean = float((traffic * value).sum() / traffic.sum())
    sums, units = (np.concatenate([[0.0], np.cumsum(np.tile(part, 2))]) for part in (traffic * (value - mean), traffic))
    starts = np.arange(WEEK_HOURS)
    for hours in range(WEEK_HOURS - 1, 0, -1):
        seen = units[starts + hours] - units[starts]
        away = np.abs(sums[starts + hours] - sums[starts])
        # A stage without traffic sees nothing.
        within = (seen > 0) & (away <= tolerance * seen)
        if within.mean() < _STARTS:
            return hours + 1
    return 1


def _dispersion(ratio: float, groups: int) -> Dispersion:
    freedom = groups - 1
    low, high = (freedom * ratio / chdtri(freedom, tail) for tail in ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return Dispersion(ratio, float(low), float(high), groups, float(chdtrc(freedom, freedom * ratio)))


def _observed(times: ArrayLike, values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    when, observed = float_array("times", times), float_array("values", values)
    if when.shape != observed.shape or when.ndim != 1:
        raise ValueError(
            f"each conversation needs one time and one value, got shapes {when.shape} and {observed.shape}"
        )
    if not np.isfinite(when).all():
        raise ValueError(f"a time must be finite Unix seconds, got {when[~np.isfinite(when)][0]}")
    keep = ~np.isnan(observed)
    if np.isinf(observed).any():
        raise ValueError("a value must be finite or NaN for missing, got inf; code it as beyond the quantile")
    return when[keep], observed[keep]
