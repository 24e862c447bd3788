"""About how many more conversations a line needs until it is decided, if things go on as they did. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agentcanary_analysis.cells import Cells, FloatArray
from agentcanary_analysis.confidence_sequences import Moments, unbiased_variance
from agentcanary_analysis.evalues import Question
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.questions import Line, Method, log_e_harm, log_e_safe

_SIZES = np.geomspace(20, 2e7, 31)


def standardised(cells: Cells, canary: FloatArray, stable: FloatArray) -> tuple[float, float] | None:
    """Values of both arms over epochs, each epoch with the same weight in both; None without a common epoch.

    With the Mantel–Haenszel weights ``n_c n_s / n`` their quotient is the Mantel–Haenszel ratio.

    Args:
        cells: A batch of one.
        canary: Sums of the canary, shape (1, epochs).
        stable: Sums of stable, shape (1, epochs).
    """
    common = cells.testable & (cells.canary_n > 0) & (cells.stable_n > 0)
    units = np.maximum(cells.canary_n + cells.stable_n, 1)
    total = np.where(common, cells.canary_n * cells.stable_n / units, 0.0).sum()
    if total == 0:
        return None
    values = (
        np.where(common, canary * cells.stable_n / units, 0.0).sum() / total,
        np.where(common, stable * cells.canary_n / units, 0.0).sum() / total,
    )
    return float(values[0]), float(values[1])


def needs(
    cells: Cells, line: Line, *, weight: float, alpha: float, alpha_promote: float, log_e_needed: float | None = None
) -> int | None:
    """About how many more conversations, of both arms, until the line is decided at the present estimates.

    The same e-process is asked about the counts to be expected. Harm is looked for at the present weight; safety is
    proven on conversations at ``weight``.

    Args:
        cells: A batch of one.
        line: Metric and boundary.
        weight: ``safe`` is asked on epochs of this weight.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``.
        log_e_needed: Log e-value at which this metric alone proves harm; None: it is not asked.

    Returns:
        Two digits of it, or None when the estimates are too close to the line (or there are none).
    """
    values = standardised(cells, cells.canary_k, cells.stable_k)
    if values is None or line.method is Method.REPORT_ONLY:
        return None
    canary, stable = values
    beyond = canary - (stable if line.method is Method.EXCEEDANCE else line.boundary.at(stable))
    worse = beyond if line.boundary.direction is Direction.UP_IS_WORSE else -beyond
    question = Question.HARM if worse > 0 else Question.SAFE
    if question is Question.HARM and log_e_needed is None:
        return None
    base, epoch = _extended(cells, weight if question is Question.SAFE else None)
    if epoch is None:
        return None
    future = _grown(base, epoch, values, _SIZES)
    if question is Question.HARM:
        log_e = log_e_harm(future, line, alpha=alpha)
    else:
        log_e = log_e_safe(future, line, weight=weight, alpha=alpha_promote)
    needed = -float(np.log(alpha_promote)) if question is Question.SAFE or log_e_needed is None else log_e_needed
    reached = np.flatnonzero(log_e >= needed)
    if not reached.size:
        return None
    first = int(reached[0])
    if first == 0:
        return int(_SIZES[0])
    share = (needed - log_e[first - 1]) / (log_e[first] - log_e[first - 1])
    size = _SIZES[first - 1] + share * (_SIZES[first] - _SIZES[first - 1])
    digits = 10 ** max(int(np.floor(np.log10(size))) - 1, 0)
    return int(np.ceil(size / digits) * digits)


def _extended(cells: Cells, weight: float | None) -> tuple[Cells, int | None]:
    """The cells and the epoch that is going to grow: the present one, or one of ``weight``, made if there is none."""
    if weight is None:
        running = np.flatnonzero(cells.testable[0])
        return cells, int(running[-1]) if running.size else None
    if not 0 < weight < 1:
        return cells, None
    there = np.flatnonzero(cells.weight[0] == weight)
    if there.size:
        return cells, int(there[-1])
    columns = {
        name: np.concatenate([getattr(cells, name), np.zeros((1, 1))], axis=1)
        for name in cells.__slots__
        if name != "variance"
    }
    columns["weight"][0, -1] = weight
    columns["stage"][0, -1] = cells.stage.max(initial=0)
    return Cells(**columns, variance=cells.variance), cells.weight.shape[1]


def _grown(cells: Cells, epoch: int, values: tuple[float, float], sizes: FloatArray) -> Cells:
    """The cells after so many more conversations in one epoch, one row a size."""
    columns = {
        name: np.repeat(getattr(cells, name), len(sizes), axis=0) for name in cells.__slots__ if name != "variance"
    }
    weight = cells.weight[0, epoch]
    for arm, share, value in (("canary", weight, values[0]), ("stable", 1 - weight, values[1])):
        n, k, squares, units = (getattr(cells, f"{arm}_{name}") for name in ("n", "k", "squares", "units"))
        counted = sizes * share
        answered = counted * n.sum() / max(units.sum(), 1)
        spread = unbiased_variance(Moments(n.sum(), k.sum(), squares.sum()))
        columns[f"{arm}_units"][:, epoch] += counted
        columns[f"{arm}_n"][:, epoch] += answered
        columns[f"{arm}_k"][:, epoch] += answered * value
        columns[f"{arm}_squares"][:, epoch] += answered * (spread + value**2)
    return replace(cells, **columns, variance=np.repeat(cells.variance, len(sizes)))
