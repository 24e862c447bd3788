"""The questions that a look asks of one metric against one boundary: harmed? suspect? safe? drifting? Pure.

Every function takes the cells of many rollouts and answers for each: one look, a simulation and a calibration run the
same code. The method follows from the metric and the boundary alone, never from the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, assert_never

import numpy as np
from scipy.special import chdtrc

from agentcanary_analysis.cells import BoolArray, Cells, FloatArray
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.conditional import conditional_p_value
from agentcanary_analysis.confidence_sequences import (
    Moments,
    best_kappa,
    contrast,
    log_e_contrast,
    one_look_p,
    unbiased_variance,
)
from agentcanary_analysis.evalues import Growth, Question, conditional_binomial, late_changes, mixture, two_by_two
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.proportions import RARE, score_p_values

SUSPECT_BELOW = 0.10
DRIFTING_BELOW = 0.01
MAX_RESPONSE_DIFFERENCE = 0.02
_PLANNED_UNITS = {Question.HARM: 600.0, Question.SAFE: 4000.0}
_DRIFT_NEEDS = 5
_MOST_ALPHA = 0.4  # beyond it the mixture has no best precision


class Method(StrEnum):
    """How a metric is tested at any time."""

    CONDITIONAL = "conditional binomial e-process"
    TWO_BY_TWO = "2×2 e-process with floor"
    EXCEEDANCE = "scaled exceedance e-process"
    CONTRAST = "asymptotic e-process on the contrast"
    REPORT_ONLY = "report only"


@dataclass(frozen=True, slots=True)
class Line:
    """A metric and a boundary that it is judged against."""

    metric: Metric
    boundary: Boundary

    @property
    def method(self) -> Method:
        """How it is tested; a matter of the plan alone.

        The conditional test is as good where events are rare and needs no grid of base rates; a rate of which less is
        worse is usually high, and there it would throw away most of what is known.
        """
        match self.metric.kind:
            case Kind.PROPORTION:
                rare = self.boundary.floor == 0 and self.boundary.direction is Direction.UP_IS_WORSE
                return Method.CONDITIONAL if rare else Method.TWO_BY_TWO
            case Kind.QUANTILE:
                return Method.EXCEEDANCE
            case Kind.MEAN:
                return Method.CONTRAST
            case Kind.RATIO | Kind.COUNT:
                return Method.REPORT_ONLY
            case _:
                assert_never(self.metric.kind)


def log_e_harm(cells: Cells, line: Line, *, alpha: float) -> FloatArray:
    """Log e-value against "within the boundary at all times", shape (batch,); late changes are caught too.

    Args:
        cells: Of this line.
        line: Metric and boundary.
        alpha: Budget; only the prior of the contrast depends on it.
    """
    process = _Process(cells, line, Question.HARM, alpha)
    last = int(cells.stage[cells.testable].max(initial=0))
    by_stage = [process.log_e(cells.testable & (cells.stage >= stage)) for stage in range(last + 1)]
    return late_changes(np.stack(by_stage, axis=-1))


def log_e_safe(cells: Cells, line: Line, *, weight: float, alpha: float) -> FloatArray:
    """Log e-value against "beyond the boundary", on the epochs of one weight, shape (batch,).

    Args:
        cells: Of this line.
        line: Metric and boundary.
        weight: The weight of those epochs, in (0, 1); with any other there is no evidence.
        alpha: Budget; only the prior of the contrast depends on it.
    """
    include = cells.testable & (cells.weight == weight)
    return _Process(cells, line, Question.SAFE, alpha).log_e(include)


def log_e_response(cells: Cells, metric: Metric, *, weight: float, alpha: float) -> FloatArray:
    """Log e-value against "the arms' response rates are 2 points or more apart", shape (batch,): the weaker side's."""
    sides = [log_e_safe(cells.responses(), line, weight=weight, alpha=alpha) for line in response_lines(metric)]
    return np.minimum(*sides)


def response_lines(metric: Metric) -> tuple[Line, Line]:
    """Both sides of "the response rates are within 2 points of each other"."""
    response = replace(metric, name=f"{metric.name}_answered", kind=Kind.PROPORTION, quantile=None)
    up, down = (
        Line(response, Boundary(ratio=1.0, floor=MAX_RESPONSE_DIFFERENCE, direction=direction))
        for direction in Direction
    )
    return up, down


def method_name(line: Line) -> str:
    """The one-look test of ``suspect_p``, for people."""
    match line.method:
        case Method.CONTRAST:
            return "Welch test on the contrast, stratified by epoch"
        case Method.EXCEEDANCE:
            return "score test on scaled exceedances, stratified by epoch"
        case Method.CONDITIONAL | Method.TWO_BY_TWO:
            return "score test, stratified by epoch (conditional mid-p below 10 events)"
        case Method.REPORT_ONLY:
            return "none: report only"
        case _:
            assert_never(line.method)


class Answers(NamedTuple):
    """What is known of a line at one look, each of shape (batch,).

    Attributes:
        log_e_harm: Against "within the boundary at all times".
        log_e_safe: Against "beyond the boundary", after missing values are accounted for.
        safe: Proven within the boundary: enough evidence, no drift.
        unanswered: Would be safe, if the missing values could be trusted to be like the others.
        drifting: The stages disagree about how the arms differ.
    """

    log_e_harm: FloatArray
    log_e_safe: FloatArray
    safe: BoolArray
    unanswered: BoolArray
    drifting: BoolArray


def answer(cells: Cells, line: Line, *, weight: float, alpha: float, alpha_promote: float) -> Answers:
    """What is known of a line, missing values and drift accounted for.

    With values missing, ``safe`` needs the worst case (missing of the canary = failure, missing of stable = success) to
    be safe, or the response rates to be proven within 2 points of each other, both ways.

    Args:
        cells: Of this line.
        line: Metric and boundary.
        weight: ``safe`` is asked on epochs of this weight.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``: it needs an e-value of ``1 / alpha_promote``.
    """
    needed = -np.log(alpha_promote)
    observed = log_e_safe(cells, line, weight=weight, alpha=alpha_promote)
    counted, unanswered = observed, np.zeros(observed.shape, dtype=np.bool_)
    gaps = cells.gaps
    if gaps.any() and line.method is not Method.REPORT_ONLY:
        alike = log_e_response(cells, line.metric, weight=weight, alpha=alpha_promote) >= needed
        worst = np.zeros(observed.shape)
        if line.metric.kind is Kind.PROPORTION:
            worst = log_e_safe(cells.worst_case(line.boundary.direction), line, weight=weight, alpha=alpha_promote)
        counted = np.where(gaps & ~alike, worst, observed)
        unanswered = (observed >= needed) & (counted < needed)
    drifting = drift_p(cells, line) < DRIFTING_BELOW
    harm = log_e_harm(cells, line, alpha=alpha)
    return Answers(harm, counted, (counted >= needed) & ~drifting, unanswered, drifting)


def suspect_p(cells: Cells, line: Line) -> FloatArray:
    """One-look p-value against "not beyond the boundary", stratified by epoch, shape (batch,); 1 if nothing is known.

    Proportions: the score test, or the conditional mid-p test with fewer than 10 events or non-events in an arm;
    quantiles: the same on scaled exceedances; means: Welch's test on the contrast.
    """
    match line.method:
        case Method.CONTRAST:
            return one_look_p(contrast(*merged_moments(cells, cells.testable), line.boundary))
        case Method.REPORT_ONLY:
            return np.ones(len(cells.weight))
        case Method.EXCEEDANCE:
            return _proportion_p(cells, Boundary(ratio=1.0, floor=0.0, direction=line.boundary.direction))
        case Method.CONDITIONAL | Method.TWO_BY_TWO:
            return _proportion_p(cells, line.boundary)
        case _:
            assert_never(line.method)


def drift_p(cells: Cells, line: Line) -> FloatArray:
    """P-value against "the canary differs from stable equally in all stages" (Cochran's Q), shape (batch,).

    On log ratios of proportions and exceedances, on the contrast of means; a stage takes part with at least 5 events
    and 5 non-events in each arm (30 values, for means). 1 where fewer than two stages do. A stage with two weights
    counts as two.

    **Source**: Cochran (1954), Biometrics 10:101-129.
    """
    estimates, variances, known = [], [], []
    strata = {(float(stage), float(weight)) for stage, weight in zip(cells.stage.flat, cells.weight.flat, strict=True)}
    for stage, weight in sorted(strata) or [(0.0, 0.0)]:
        here = cells.testable & (cells.stage == stage) & (cells.weight == weight)
        estimate, variance, usable = _stage_estimate(cells, line, here)
        estimates.append(estimate)
        variances.append(np.where(usable, variance, 1.0))
        known.append(usable)
    precision = np.where(np.stack(known, axis=-1), 1 / np.stack(variances, axis=-1), 0.0)
    values = np.stack(estimates, axis=-1)
    centre = (precision * values).sum(axis=-1) / np.maximum(precision.sum(axis=-1), 1e-300)
    spread = (precision * (values - centre[:, None]) ** 2).sum(axis=-1)
    freedom = np.stack(known, axis=-1).sum(axis=-1) - 1
    p: FloatArray = np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), spread), 1.0)
    return p


class _Process:
    """The e-process of a line, ready to be asked about any set of epochs."""

    def __init__(self, cells: Cells, line: Line, question: Question, alpha: float) -> None:
        self._cells, self._line, self._question = cells, line, question
        self._growth: Growth | None = None
        boundary = line.boundary
        match line.method:
            case Method.TWO_BY_TWO:
                self._growth = two_by_two(
                    cells.canary_n,
                    cells.canary_k,
                    cells.stable_n,
                    cells.stable_k,
                    cells.weight,
                    boundary=boundary,
                    question=question,
                )
            case Method.CONDITIONAL | Method.EXCEEDANCE:
                self._growth = conditional_binomial(
                    cells.canary_k,
                    cells.stable_k,
                    cells.weight,
                    # The margin of a quantile is in the canary's threshold; the exceedances are compared as they are.
                    ratio=boundary.ratio if line.method is Method.CONDITIONAL else 1.0,
                    question=question,
                    worse=boundary.direction,
                )
            case Method.CONTRAST:
                self._kappa = best_kappa(_PLANNED_UNITS[question], min(alpha, _MOST_ALPHA)) * _planned_variance(cells)
            case Method.REPORT_ONLY:
                pass
            case _:
                assert_never(line.method)

    def log_e(self, include: BoolArray) -> FloatArray:
        """Log e-value of the included epochs, shape (batch,)."""
        if self._growth is not None:
            return mixture(self._growth, include)
        if self._line.method is Method.CONTRAST:
            parts = contrast(*merged_moments(self._cells, include), self._line.boundary)
            sign = 1.0 if self._question is Question.HARM else -1.0
            return log_e_contrast(parts, kappa=self._kappa, sign=sign)
        return np.zeros(len(self._cells.weight))


def merged_moments(cells: Cells, include: BoolArray) -> tuple[Moments, Moments]:
    """The sums of both arms over the included epochs, epochs of equal weight merged; shape (batch, weights)."""
    arms = (
        (cells.canary_n, cells.canary_k, cells.canary_squares),
        (cells.stable_n, cells.stable_k, cells.stable_squares),
    )
    masks = [include & (cells.weight == weight) for weight in np.unique(cells.weight)] or [include]
    canary, stable = (
        Moments(*(np.stack([np.where(mask, column, 0.0).sum(axis=1) for mask in masks], axis=-1) for column in arm))
        for arm in arms
    )
    return canary, stable


def _planned_variance(cells: Cells) -> FloatArray:
    """The variance before the rollout; without that history, stable's so far; 1 where neither is known."""
    _, stable = merged_moments(cells, cells.testable)
    present = unbiased_variance(Moments(*(column.sum(axis=1, keepdims=True) for column in stable)))[:, 0]
    return np.where(np.isfinite(cells.variance), cells.variance, np.where(present > 0, present, 1.0))


def _proportion_p(cells: Cells, boundary: Boundary) -> FloatArray:
    filled = cells.testable & (cells.canary_n > 0) & (cells.stable_n > 0)
    c_k, c_n, s_k, s_n = (
        np.where(filled, column, 0.0) for column in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)
    )
    rarest = np.minimum.reduce([column.sum(axis=1) for column in (c_k, c_n - c_k, s_k, s_n - s_k)])
    some = filled.any(axis=1)
    often = some & (rarest >= RARE)
    p = np.ones(len(cells.weight))
    if often.any():
        p[often] = score_p_values(c_k[often], c_n[often], s_k[often], s_n[often], boundary)
    for row in np.flatnonzero(some & ~often):
        epochs = filled[row]
        p[row] = conditional_p_value(c_k[row, epochs], c_n[row, epochs], s_k[row, epochs], s_n[row, epochs], boundary)
    return p


def _stage_estimate(cells: Cells, line: Line, include: BoolArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Estimate, variance, and whether there is enough, each of shape (batch,)."""
    if line.method is Method.CONTRAST:
        parts = contrast(*merged_moments(cells, include), line.boundary)
        effective = np.where(parts.known, parts.effective, 1.0)
        return parts.difference, parts.variance / effective**2, parts.known
    canary_k, canary_n, stable_k, stable_n = (
        np.where(include, column, 0.0).sum(axis=1)
        for column in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)
    )
    usable = np.minimum.reduce([canary_k, canary_n - canary_k, stable_k, stable_n - stable_k]) >= _DRIFT_NEEDS
    c_k, c_n, s_k, s_n = (np.where(usable, column, 1.0) for column in (canary_k, canary_n, stable_k, stable_n))
    return np.log(c_k * s_n / (c_n * s_k)), 1 / c_k - 1 / c_n + 1 / s_k - 1 / s_n, usable
