"""Harm put into replayed conversations, as a canary would do it: nested, in proportion to each hour's rate. Pure.

A conversation that is made to fail takes the whole record of one that did fail in the same hour: its errors, its
completion and its latency then belong together, as they did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agentcanary.calibration.history import FloatArray, History, IntArray
from agentcanary_analysis.metrics import Direction, Kind, Metric

HOUR = 3600.0
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What is injected into the pseudo-canary.

    Attributes:
        metric: In which metric.
        ratio: How many times as bad: of the events of a proportion that is bad when up, of the failures of one that is
            bad when down, of the values of all other metrics; below 1 it is better.
    """

    metric: str
    ratio: float

    def __post_init__(self) -> None:
        if not 0 < self.ratio < np.inf:
            raise ValueError(f"an injected ratio must be positive, got {self.ratio} (2 is twice as bad)")


class Donors:
    """By hour, the conversations that failed and those that did not, of one metric.

    Args:
        history: All of it.
        metric: A proportion.
    """

    def __init__(self, history: History, metric: Metric) -> None:
        values = history.values[metric.name]
        bad = 1.0 if metric.direction is Direction.UP_IS_WORSE else 0.0
        hours = np.floor((history.times - history.times[0]) / HOUR).astype(np.int64)
        self.hour = hours
        self.failed = values == bad
        self.fine = ~np.isnan(values) & ~self.failed
        bins = int(hours[-1]) + 1
        self._of = {}
        for name, members in (("failed", self.failed), ("fine", self.fine)):
            order = np.flatnonzero(members)
            counts = np.bincount(hours[order], minlength=bins)
            self._of[name] = (order, counts, np.cumsum(counts) - counts)
        failed, fine = self._of["failed"][1], self._of["fine"][1]
        self.rate = np.divide(failed, failed + fine, out=np.zeros(bins), where=failed + fine > 0)

    def replaced(self, rows: IntArray, ratio: float, draws: FloatArray, picks: FloatArray) -> IntArray:
        """For each conversation the one whose record it has, shape (rows,).

        Args:
            rows: Positions in the history.
            ratio: How many times as many fail.
            draws: Uniform in [0, 1): below the hour's probability the record is replaced.
            picks: Uniform in [0, 1): which donor.
        """
        hour = self.hour[rows]
        rate = self.rate[hour]
        if ratio >= 1:
            chance = np.divide((ratio - 1) * rate, 1 - rate, out=np.zeros(len(rows)), where=rate < 1)
            changed, kind = self.fine[rows] & (draws < chance), "failed"
        else:
            changed, kind = self.failed[rows] & (draws < 1 - ratio), "fine"
        donors, counts, first = self._of[kind]
        number = counts[hour]
        changed &= number > 0
        found = rows.copy()
        place = first[hour] + np.minimum((picks * number).astype(np.int64), np.maximum(number - 1, 0))
        found[changed] = donors[place[changed]]
        return found


def uniforms(hashes: _Hashes, salt: bytes, use: int) -> FloatArray:
    """A number in [0, 1) for each unit and replay, the same at every use: injections are nested in their ratio.

    Args:
        hashes: Of the units.
        salt: Of the replay.
        use: Another number gives independent ones.

    Source:
        The finaliser of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA, figure 13).
    """
    mixed = hashes ^ np.uint64(int.from_bytes(salt[:8].ljust(8, b"\0")))
    mixed = mixed + np.uint64((use + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53, dtype=np.float64)


def scaled(values: FloatArray, metric: Metric, ratio: float) -> FloatArray:
    """Values of a metric that is no proportion, made worse."""
    if metric.kind is Kind.PROPORTION:
        raise ValueError(f"{metric.name} is a proportion: its failures are injected, its values are not scaled")
    return values * ratio if metric.direction is Direction.UP_IS_WORSE else values / ratio
