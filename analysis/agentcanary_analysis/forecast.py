"""About how many more conversations a line needs until it is decided, if things go on as they did. Pure."""

from __future__ import annotations

import numpy as np

from agentcanary_analysis.cells import BoolArray, Cells, FloatArray
from agentcanary_analysis.confidence_sequences import log_normal_mixture
from agentcanary_analysis.evalues import FROM_THE_START, Question, conditional_growth, log_sum_exp
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.questions import Line, Method, contrasts, growth, kappa
from agentcanary_analysis.two_by_two import two_by_two_step

_SIZES = np.geomspace(20, 2e7, 61)


def standardised(cells: Cells, canary: FloatArray, stable: FloatArray) -> tuple[float, float] | None:
    """Values of both arms over epochs, each epoch with the same weight in both; None without a common epoch.

    With the Mantel–Haenszel weights ``n_c n_s / n`` their quotient is the Mantel–Haenszel ratio.

    Args:
        cells: A batch of one.
        canary: Sums of the canary, shape (1, epochs).
        stable: Sums of stable, shape (1, epochs).
    """
    common = cells.testable & (cells.canary_n > 0) & (cells.stable_n > 0)
    units = np.where(common, cells.canary_n + cells.stable_n, np.inf)
    total = float((cells.canary_n * cells.stable_n / units).sum())
    if total == 0:
        return None
    return (
        float((canary * cells.stable_n / units).sum()) / total,
        float((stable * cells.canary_n / units).sum()) / total,
    )


def needs(
    cells: Cells, line: Line, *, weight: float, alpha_promote: float, log_e_needed: float | None = None
) -> int | None:
    """About how many more conversations, of both arms, until the line is decided at the present estimates.

    Harm is looked for at the present weight; safety is proven on conversations at ``weight``. Every alternative of the
    mixture goes on growing at its expected rate.

    Args:
        cells: A batch of one.
        line: Metric and boundary.
        weight: ``safe`` is asked on epochs of this weight.
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
    if question is Question.SAFE:
        needed, at, include = -float(np.log(alpha_promote)), weight, cells.testable & (cells.weight == weight)
    elif log_e_needed is None:
        return None
    else:
        running = cells.weight[cells.testable]
        needed, at, include = log_e_needed - float(np.log(FROM_THE_START)), float(running[-1]), cells.testable
    if not 0 < at < 1:
        return None
    answered = np.array([cells.canary_n.sum(), cells.stable_n.sum()]) / np.maximum(
        [cells.canary_units.sum(), cells.stable_units.sum()], 1
    )
    rates = np.array([at, 1 - at]) * answered
    if line.method is Method.CONTRAST:
        size = _contrast_size(cells, line, question, include, rates, needed, alpha_promote)
    else:
        size = _mixture_size(cells, line, question, include, at, rates * values, rates, needed)
    if size is None:
        return None
    digits = 10 ** max(int(np.floor(np.log10(size))) - 1, 0)
    return int(np.ceil(size / digits) * digits)


def _mixture_size(
    cells: Cells,
    line: Line,
    question: Question,
    include: BoolArray,
    weight: float,
    events: FloatArray,
    units: FloatArray,
    needed: float,
) -> float | None:
    present = growth(cells, line, question)
    log_e = np.where(include[0][:, None], present.log_e[0], 0.0).sum(axis=0) + present.log_prior
    if line.method is Method.TWO_BY_TWO:
        counts = np.array([events[0], units[0] - events[0], events[1], units[1] - events[1]])
        step = counts @ two_by_two_step(line.boundary, question, weight)
    else:
        step = conditional_growth(
            events[:1, None],
            events[1:, None],
            np.array([[weight]]),
            ratio=line.boundary.ratio if line.method is Method.CONDITIONAL else 1.0,
            question=question,
            worse=[line.boundary.direction],
        ).log_e[0, 0]
    return _first(log_sum_exp(log_e + _SIZES[:, None] * step), needed)


def _contrast_size(
    cells: Cells,
    line: Line,
    question: Question,
    include: BoolArray,
    units: FloatArray,
    needed: float,
    alpha: float,
) -> float | None:
    present = contrasts(cells, include[:, None], line.boundary)
    every = contrasts(cells, cells.testable[:, None], line.boundary)
    if not every.known[0, 0] or not units.all():
        return None
    # Per effective unit: how far beyond the line on the average, and the variance of one.
    effective = _SIZES / (1 / units[0] + line.boundary.ratio**2 / units[1])
    distance = float(every.difference[0, 0]) * (1 if question is Question.HARM else -1)
    variance = float(every.variance[0, 0] / every.effective[0, 0])
    total = float(present.total[0, 0]) * (1 if question is Question.HARM else -1) + effective * distance
    log_e = log_normal_mixture(
        total, float(present.variance[0, 0]) + effective * variance, kappa(cells, question, alpha)
    )
    return _first(log_e, needed)


def _first(log_e: FloatArray, needed: float) -> float | None:
    """The size at which the log e-value first reaches what is needed, on a straight line between two sizes."""
    reached = np.flatnonzero(log_e >= needed)
    if not reached.size:
        return None
    at = int(reached[0])
    if at == 0:
        return float(_SIZES[0])
    share = (needed - log_e[at - 1]) / (log_e[at] - log_e[at - 1])
    return float(_SIZES[at - 1] + share * (_SIZES[at] - _SIZES[at - 1]))
