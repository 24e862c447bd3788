"""Harmed? Safe? The questions of one metric against one boundary that may be asked at every look. Pure.

Every function takes the cells of many rollouts and answers for each: one look, a simulation and a calibration run the
same code. The method follows from the metric and the boundary alone, never from the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, assert_never

import numpy as np

from agentcanary_analysis.cells import BoolArray, Cells, FloatArray, stacked
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.confidence_sequences import (
    Contrast,
    Moments,
    best_kappa,
    contrast_of,
    log_e_contrast,
    unbiased_variance,
)
from agentcanary_analysis.evalues import (
    Growth,
    Question,
    conditional_growth,
    distinct,
    late_changes,
    log_sum_exp,
    mixtures,
)
from agentcanary_analysis.metrics import Direction, Kind, Metric
from agentcanary_analysis.two_by_two import two_by_two_growth, two_by_two_growths

MAX_RESPONSE_DIFFERENCE = 0.02
_PLANNED_UNITS = {Question.HARM: 600.0, Question.SAFE: 4000.0}
MOST_ALPHA = 0.4  # beyond it the mixture has no best precision


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

    def __hash__(self) -> int:
        # A look asks for its lines hundreds of times, and a metric has ten fields.
        return hash((self.metric.name, self.boundary))

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
            case Kind.MEAN | Kind.RATIO:
                return Method.CONTRAST
            case Kind.COUNT:
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
    return late_changes(_log_e(cells, line, Question.HARM, _from_stages(cells), alpha))


def log_e_safe(cells: Cells, line: Line, *, weight: float, alpha: float) -> FloatArray:
    """Log e-value against "beyond the boundary", on the epochs of one weight, shape (batch,).

    Args:
        cells: Of this line.
        line: Metric and boundary.
        weight: The weight of those epochs, in (0, 1); with any other there is no evidence.
        alpha: Budget; only the prior of the contrast depends on it.
    """
    proving = _proving(cells, weight)
    return _log_e(proving, line, Question.SAFE, proving.testable[:, None, :], alpha)[:, 0]


def _proving(cells: Cells, weight: float) -> Cells:
    """The epochs that prove: the others lose their weight."""
    return replace(cells, weight=np.where(cells.weight == weight, cells.weight, 0.0))


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


class Answers(NamedTuple):
    """What is known of a line at one look, each of shape (batch,).

    Attributes:
        log_e_harm: Against "within the boundary at all times".
        log_e_safe: Against "beyond the boundary", after missing values are accounted for.
        safe: Proven within the boundary, if the stages do not disagree.
        unanswered: Would be safe, if the missing values could be trusted to be like the others.
    """

    log_e_harm: FloatArray
    log_e_safe: FloatArray
    safe: BoolArray
    unanswered: BoolArray


def answer(cells: Cells, line: Line, *, weight: float, alpha: float, alpha_promote: float) -> Answers:
    """What is known of a line, missing values accounted for.

    With values missing, ``safe`` needs the worst case (missing of the canary = failure, missing of stable = success) to
    be safe, or the response rates to be proven within 2 points of each other, both ways.

    The canary's share among units *with a value* is the designed weight only if the arms answer equally often. So with
    values missing, harm and safety must be proven at the realised share too: two arms with equal values that answered
    in 90 % and 60 % were otherwise called harmful nearly always.

    Args:
        cells: Of this line.
        line: Metric and boundary.
        weight: ``safe`` is asked on epochs of this weight.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``: it needs an e-value of ``1 / alpha_promote``.
    """
    needed = -np.log(alpha_promote)
    harm = log_e_harm(cells, line, alpha=alpha)
    observed = log_e_safe(cells, line, weight=weight, alpha=alpha_promote)
    unanswered = np.zeros(observed.shape, dtype=np.bool_)
    gaps = np.flatnonzero(cells.gaps)
    if not gaps.size or line.method is Method.REPORT_ONLY:
        return Answers(harm, observed, observed >= needed, unanswered)
    some = cells.rows(gaps)
    proving = _proving(some, weight).at_realised_share()
    realised = _log_e(proving, line, Question.SAFE, proving.testable[:, None, :], alpha_promote)[:, 0]
    complete = np.minimum(observed[gaps], realised)
    alike = log_e_response(some, line.metric, weight=weight, alpha=alpha_promote) >= needed
    worst = np.zeros(gaps.size)
    if line.metric.kind is Kind.PROPORTION:
        worst = log_e_safe(some.worst_case(line.boundary.direction), line, weight=weight, alpha=alpha_promote)
    counted = observed.copy()
    counted[gaps] = np.where(alike, np.maximum(complete, worst), worst)
    unanswered[gaps] = (complete >= needed) & (counted[gaps] < needed)
    harm[gaps] = np.minimum(harm[gaps], log_e_harm(some.at_realised_share(), line, alpha=alpha))
    return Answers(harm, counted, counted >= needed, unanswered)


def answers(
    cells: Sequence[Cells], lines: Sequence[Line], *, weights: Sequence[float], alpha: float, alpha_promote: float
) -> list[Answers]:
    """``answer`` of several lines of one rollout; those that are judged by events, without missing values, in one go.

    Args:
        cells: One for each line, each a batch of one over the same epochs.
        lines: The lines.
        weights: One for each line: ``safe`` is asked on epochs of this weight.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``.
    """
    found: dict[int, Answers] = {}
    for methods in ((Method.TWO_BY_TWO,), (Method.CONDITIONAL, Method.EXCEEDANCE)):
        group = [at for at, line in enumerate(lines) if line.method in methods and not cells[at].gaps[0]]
        if group:
            own, at_weights = [lines[at] for at in group], np.array([weights[at] for at in group])
            harm, safe = _answers(stacked([cells[at] for at in group]), own, at_weights)
            proven = safe >= -np.log(alpha_promote)
            for row, at in enumerate(group):
                one = slice(row, row + 1)
                found[at] = Answers(harm[one], safe[one], proven[one], np.zeros(1, dtype=np.bool_))
    return [
        found[at]
        if at in found
        else answer(cells[at], line, weight=weights[at], alpha=alpha, alpha_promote=alpha_promote)
        for at, line in enumerate(lines)
    ]


def with_early_ages(found: Answers, early: Sequence[Answers]) -> Answers:
    """The answers about a metric that is asked about early: harm by the mean of the e-values of all its ages.

    Args:
        found: At the metric's horizon, where alone it is proven safe.
        early: At the earlier ages.
    """
    if not early:
        return found
    ages = np.stack([found.log_e_harm, *(one.log_e_harm for one in early)], axis=-1)
    return found._replace(log_e_harm=log_sum_exp(ages) - np.log(ages.shape[-1]))


def _answers(cells: Cells, lines: Sequence[Line], weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log e-values of harm and of safety, a line a row, each of shape (lines,)."""
    harm = mixtures(growths(cells, lines, Question.HARM), _from_stages(cells))
    proving = replace(cells, weight=np.where(cells.weight == weights[:, None], cells.weight, 0.0))
    safe = mixtures(growths(proving, lines, Question.SAFE), proving.testable[:, None, :])
    return late_changes(harm), safe[:, 0]


def _from_stages(cells: Cells) -> BoolArray:
    """The testable epochs from stage 0, 1, … on, shape (batch, stages, epochs)."""
    last = int(cells.stage[cells.testable].max(initial=0))
    included: BoolArray = cells.testable[:, None, :] & (cells.stage[:, None, :] >= np.arange(last + 1)[:, None])
    return included


def _log_e(cells: Cells, line: Line, question: Question, include: BoolArray, alpha: float) -> FloatArray:
    """Log e-values of several sets of epochs, shape (batch, sets); ``include`` has the shape (batch, sets, epochs)."""
    match line.method:
        case Method.TWO_BY_TWO | Method.CONDITIONAL | Method.EXCEEDANCE:
            return mixtures(growth(cells, line, question), include)
        case Method.CONTRAST:
            parts = contrasts(cells, include, line.boundary)
            sign = 1.0 if question is Question.HARM else -1.0
            return log_e_contrast(parts, kappa=kappa(cells, question, alpha)[:, None], sign=sign)
        case Method.REPORT_ONLY:
            return np.zeros(include.shape[:2])
        case _:
            assert_never(line.method)


def growth(cells: Cells, line: Line, question: Question) -> Growth:
    """The growth of a line's mixture by epoch.

    Raises:
        ValueError: If the line is not judged by events.
    """
    if line.method is Method.TWO_BY_TWO:
        return two_by_two_growth(cells.counts, cells.weight, boundary=line.boundary, question=question)
    if line.method not in (Method.CONDITIONAL, Method.EXCEEDANCE):
        raise ValueError(f"{line.metric.name} is judged by {line.method}, which is no mixture over alternatives")
    return conditional_growth(
        cells.canary_k,
        cells.stable_k,
        cells.weight,
        ratio=_ratio(line),
        question=question,
        worse=[line.boundary.direction],
    )


def growths(cells: Cells, lines: Sequence[Line], question: Question) -> Growth:
    """``growth`` of lines that are judged alike, a line a row: all 2×2, or none."""
    if lines[0].method is Method.TWO_BY_TWO:
        return two_by_two_growths(
            cells.counts, cells.weight, boundaries=[line.boundary for line in lines], question=question
        )
    return conditional_growth(
        cells.canary_k,
        cells.stable_k,
        cells.weight,
        ratio=np.array([[_ratio(line)] for line in lines]),
        question=question,
        worse=[line.boundary.direction for line in lines],
    )


def _ratio(line: Line) -> float:
    """The ratio of events on the line: the margin of a quantile is in the canary's threshold already."""
    return line.boundary.ratio if line.method is Method.CONDITIONAL else 1.0


def contrasts(cells: Cells, include: BoolArray, boundary: Boundary) -> Contrast:
    """The contrast of sets of epochs, epochs of equal weight merged; each of shape (batch, sets).

    Args:
        cells: Of a mean.
        include: Epochs of each set, shape (batch, sets, epochs).
        boundary: The line.
    """
    weights = np.array(distinct(cells.weight))
    members = include[:, :, None, :] & (cells.weight[:, None, None, :] == weights[:, None])
    columns = np.stack(
        [
            [cells.canary_n, cells.stable_n],
            [cells.canary_k, cells.stable_k],
            [cells.canary_squares, cells.stable_squares],
        ]
    )
    sums = np.einsum("bswe,mabe->mabsw", members.astype(np.float64), columns)
    return contrast_of(sums, boundary)


def kappa(cells: Cells, question: Question, alpha: float) -> FloatArray:
    """Prior precision of the contrast, shape (batch,).

    From the variance before the rollout; without that history from stable's so far; as if it were 1 where neither is
    known.
    """
    stable = Moments(*(column.sum(axis=1) for column in (cells.stable_n, cells.stable_k, cells.stable_squares)))
    present = unbiased_variance(stable)
    variance = np.where(np.isfinite(cells.variance), cells.variance, np.where(present > 0, present, 1.0))
    return best_kappa(_PLANNED_UNITS[question], min(alpha, MOST_ALPHA)) * variance
