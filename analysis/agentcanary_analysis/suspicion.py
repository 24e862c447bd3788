"""Suspect? Drifting? The questions of one metric against one boundary that one look answers. Pure.

Every function takes the cells of many rollouts and answers for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import numpy as np
from scipy.special import chdtrc, ndtr

from agentcanary_analysis.cells import Cells, FloatArray, stacked
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.conditional import conditional_p_value
from agentcanary_analysis.confidence_sequences import one_look_p
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.proportions import RARE, score_statistic
from agentcanary_analysis.questions import Line, Method, contrasts

SUSPECT_BELOW = 0.10
DRIFTING_BELOW = 0.01
_DRIFT_NEEDS = 5


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


def suspect_p(cells: Cells, line: Line) -> FloatArray:
    """One-look p-value against "not beyond the boundary", stratified by epoch, shape (batch,); 1 if nothing is known.

    Proportions: the score test, or the conditional mid-p test with fewer than 10 events or non-events in an arm;
    quantiles: the same on scaled exceedances; means: Welch's test on the contrast.
    """
    match line.method:
        case Method.CONTRAST:
            return one_look_p(contrasts(cells, cells.testable[:, None], line.boundary))[:, 0]
        case Method.REPORT_ONLY:
            return np.ones(len(cells.weight))
        case Method.EXCEEDANCE | Method.CONDITIONAL | Method.TWO_BY_TWO:
            return _proportion_p(cells, [_compared(line)] * len(cells.weight))
        case _:
            assert_never(line.method)


def suspect_ps(cells: Sequence[Cells], lines: Sequence[Line]) -> list[float]:
    """``suspect_p`` of several lines of one rollout; proportions and quantiles in one go.

    Args:
        cells: One for each line, each a batch of one over the same epochs.
        lines: The lines.
    """
    events = [index for index, line in enumerate(lines) if line.method not in (Method.CONTRAST, Method.REPORT_ONLY)]
    found = {}
    if events:
        together = _proportion_p(stacked([cells[index] for index in events]), [_compared(lines[i]) for i in events])
        found = dict(zip(events, together.tolist(), strict=True))
    return [
        found[index] if index in found else float(suspect_p(cells[index], line)[0]) for index, line in enumerate(lines)
    ]


def drift_p(cells: Cells, line: Line) -> FloatArray:
    """P-value against "the canary differs from stable equally in all stages" (Cochran's Q), shape (batch,).

    On log ratios of proportions and exceedances, on the contrast of means; a stage takes part with at least 5 events
    and 5 non-events in each arm (30 values, for means). 1 where fewer than two stages do. A stage with two weights
    counts as two.

    **Source**: Cochran (1954), Biometrics 10:101-129.
    """
    pairs = set(zip(cells.stage.ravel().tolist(), cells.weight.ravel().tolist(), strict=True))
    stages, weights = np.array(sorted(pairs) or [(0.0, 0.0)]).T[:, :, None]
    strata = (cells.stage[:, None] == stages) & (cells.weight[:, None] == weights) & cells.testable[:, None]
    if line.method is Method.CONTRAST:
        parts = contrasts(cells, strata, line.boundary)
        known, estimate = parts.known, parts.difference
        variance = parts.variance / np.where(known, parts.effective, 1.0) ** 2
    else:
        counts = strata.astype(np.float64) @ cells.counts
        known = counts.min(axis=-1) >= _DRIFT_NEEDS
        c_k, c_rest, s_k, s_rest = np.moveaxis(np.where(known[..., None], counts, 1.0), -1, 0)
        estimate = np.log(c_k * (s_k + s_rest) / (s_k * (c_k + c_rest)))
        variance = c_rest / (c_k * (c_k + c_rest)) + s_rest / (s_k * (s_k + s_rest))
    precision = known / np.where(known, variance, 1.0)
    centre = (precision * estimate).sum(axis=-1) / np.maximum(precision.sum(axis=-1), 1e-300)
    spread = (precision * (estimate - centre[:, None]) ** 2).sum(axis=-1)
    freedom = known.sum(axis=-1) - 1
    p: FloatArray = np.where(freedom > 0, chdtrc(np.maximum(freedom, 1), spread), 1.0)
    return p


def drift_ps(cells: Sequence[Cells], lines: Sequence[Line]) -> list[float]:
    """``drift_p`` of several lines of one rollout; proportions and quantiles in one go."""
    events = [index for index, line in enumerate(lines) if line.method not in (Method.CONTRAST, Method.REPORT_ONLY)]
    found = {}
    if events:
        # Log ratios need no boundary, so any of the lines will do.
        together = drift_p(stacked([cells[index] for index in events]), lines[events[0]])
        found = dict(zip(events, together.tolist(), strict=True))
    return [
        found[index] if index in found else float(drift_p(cells[index], line)[0]) for index, line in enumerate(lines)
    ]


def _compared(line: Line) -> Boundary:
    """The boundary between the counts: the margin of a quantile is already in the canary's threshold."""
    if line.method is Method.EXCEEDANCE:
        return Boundary(ratio=1.0, floor=0.0, direction=line.boundary.direction)
    return line.boundary


def _proportion_p(cells: Cells, boundaries: Sequence[Boundary]) -> FloatArray:
    """One boundary a row."""
    filled = cells.testable & (cells.canary_n > 0) & (cells.stable_n > 0)
    c_k, c_n, s_k, s_n = (
        np.where(filled, column, 0.0) for column in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)
    )
    rarest = np.minimum.reduce([column.sum(axis=1) for column in (c_k, c_n - c_k, s_k, s_n - s_k)])
    often = rarest >= RARE
    p = np.ones(len(cells.weight))
    if often.any():
        asked = [boundary for boundary, ask in zip(boundaries, often, strict=True) if ask]
        z = score_statistic(
            c_k[often],
            c_n[often],
            s_k[often],
            s_n[often],
            ratio=np.array([[boundary.ratio] for boundary in asked]),
            shift=np.array([[boundary.shift] for boundary in asked]),
        )
        p[often] = ndtr(
            [-value if b.direction is Direction.UP_IS_WORSE else value for value, b in zip(z, asked, strict=True)]
        )
    for row in np.flatnonzero(filled.any(axis=1) & ~often).tolist():
        epochs = filled[row]
        p[row] = conditional_p_value(
            c_k[row, epochs], c_n[row, epochs], s_k[row, epochs], s_n[row, epochs], boundaries[row]
        )
    return p
