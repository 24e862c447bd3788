"""What replays read: the history with its donors and thresholds, and the conversations of each replay. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agentcanary.assignment import bucket
from agentcanary.calibration.design import Design, Replay
from agentcanary.calibration.history import MISSING_BIN, FloatArray, History, IntArray
from agentcanary.calibration.injection import Donors, uniforms
from agentcanary.plan import HOUR, Plan
from agentcanary_analysis.cells import threshold
from agentcanary_analysis.metrics import Kind, Metric

LOOK_BACK = 7 * 24
"""Hours of history that a threshold is taken from, as in a rollout."""
_DRAW, _PICK = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """What all replays of a history share.

    Attributes:
        history: All of it.
        plan: The plan, without what the history does not know.
        donors: Per proportion.
        thresholds: Per quantile metric, for each hour of the history, the threshold from the seven days before; NaN
            where there are too few conversations.
    """

    history: History
    plan: Plan
    donors: Mapping[str, Donors]
    thresholds: Mapping[str, FloatArray]


def past_of(history: History, plan: Plan) -> Past:
    """What all replays of a history share."""
    known = [metric for metric in plan.metrics if metric.name in history.values]
    return Past(
        history=history,
        plan=plan,
        donors={metric.name: Donors(history, metric) for metric in known if metric.kind is Kind.PROPORTION},
        thresholds={metric.name: _thresholds(history, metric) for metric in known if metric.kind is Kind.QUANTILE},
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Stretch:
    """The conversations of one replay.

    Attributes:
        replay: When, and by which salt.
        rows: Their positions in the history.
        buckets: Where the hash of each falls, in [0, 1).
        draws: Uniform numbers for injections.
        picks: More of them.
        begun: For each look, how many began before it.
        counted: Per horizon, for each look, how many had reached it.
        grid: All of these numbers, ascending.
        step: For each conversation the place in ``grid`` of the first number that includes it.
    """

    replay: Replay
    rows: IntArray
    buckets: FloatArray
    draws: FloatArray
    picks: FloatArray
    begun: IntArray
    counted: Mapping[float, IntArray]
    grid: IntArray
    step: IntArray


def stretch_of(past: Past, design: Design, replay: Replay) -> Stretch:
    """The conversations of one replay, split by the hash that a rollout uses."""
    history, looks = past.history, replay.start + design.looks
    first, last = np.searchsorted(history.times, [looks[0], looks[-1]])
    times = history.times[first:last]
    horizons = {metric.horizon for metric in past.plan.metrics if metric.name in history.values} or {0.0}
    begun = np.searchsorted(times, looks)
    counted = {horizon: np.searchsorted(times, looks - horizon) for horizon in horizons}
    grid = np.unique(np.concatenate([[0], begun, *counted.values()]))
    keys, hashes = history.keys[first:last], history.hashes[first:last]
    return Stretch(
        replay=replay,
        rows=np.arange(first, last),
        buckets=np.array([bucket(replay.salt, key).assignment for key in keys], dtype=np.float64),
        draws=uniforms(hashes, replay.salt, _DRAW),
        picks=uniforms(hashes, replay.salt, _PICK),
        begun=begun,
        counted=counted,
        grid=grid,
        step=np.searchsorted(grid, np.arange(last - first), side="right"),
    )


def _thresholds(history: History, metric: Metric) -> FloatArray:
    """For each hour of the history the threshold from the seven days before, shape (hours,)."""
    bins = history.bins[metric.name]
    present = bins > MISSING_BIN
    numbers, codes = np.unique(bins[present], return_inverse=True)
    hours = np.floor((history.times[present] - history.times[0]) / HOUR).astype(np.int64)
    count = int((history.times[-1] - history.times[0]) // HOUR) + 2
    table = np.zeros((count + 1, len(numbers)))
    np.add.at(table, (hours + 1, codes), 1)
    running = np.cumsum(table, axis=0)
    found = np.full(count, np.nan)
    quantile = metric.quantile
    if quantile is None:
        raise ValueError(f"{metric.name} has no quantile")
    for hour in range(count):
        recent = running[hour] - running[max(hour - LOOK_BACK, 0)]
        limit = threshold({int(b): int(n) for b, n in zip(numbers, recent, strict=True) if n}, quantile)
        found[hour] = np.nan if limit is None else limit
    return found
