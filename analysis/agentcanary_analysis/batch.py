"""The decisions of one look for many rollouts at once, for simulation and calibration. Pure.

The same kernels, orders and limits as ``verdict.judge``, without what only people read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.cells import BoolArray, Cells, FloatArray
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.questions import Line, answer, log_e_harm
from agentcanary_analysis.suspicion import DRIFTING_BELOW, SUSPECT_BELOW, drift_p, suspect_p
from agentcanary_analysis.weighing import Split, weigh

STATUSES = tuple(Status)
_CODES = {status: code for code, status in enumerate(STATUSES)}

Codes = npt.NDArray[np.int8]


class Decisions(NamedTuple):
    """What ``judge`` would find, for each rollout.

    Attributes:
        harmed: Harm is proven, shape (batch,).
        alarm: The split is not as designed, shape (batch,).
        criteria: Index into ``STATUSES`` of each criterion, shape (batch, criteria).
        log_e_harm: Of all criteria together, shape (batch,).
        log_e_by_criterion: Of each criterion against "within its boundary", shape (batch, criteria).
    """

    harmed: BoolArray
    alarm: BoolArray
    criteria: Codes
    log_e_harm: FloatArray
    log_e_by_criterion: FloatArray


def decide(
    cells: Mapping[Line, Cells],
    criteria: Sequence[Line],
    split: Split,
    *,
    weight: float,
    alpha: float,
    alpha_promote: float,
) -> Decisions:
    """Harm, validity and the status of every criterion.

    Args:
        cells: Of every line, each with the same batch.
        criteria: The lines of the criteria.
        split: Numbers of units.
        weight: ``safe`` is asked on the epochs of this weight.
        alpha: Budget of ``harmed``, of this attempt.
        alpha_promote: Budget of ``safe``, of this attempt.
    """
    answers = [answer(cells[line], line, weight=weight, alpha=alpha, alpha_promote=alpha_promote) for line in criteria]
    weighed = weigh(criteria, [cells[line] for line in criteria], answers, split, alpha=alpha)
    alone = np.log(max(len(criteria), 1)) - np.log(alpha)
    codes = np.full((len(split.weight), len(criteria)), _CODES[Status.UNDECIDED], dtype=np.int8)
    for column, (line, found) in enumerate(zip(criteria, answers, strict=True)):
        codes[_undisputed(found.safe, cells[line], line), column] = _CODES[Status.SAFE]
        codes[found.unanswered, column] = _CODES[Status.NO_DATA]
        # Beyond the limit of harm by its design, and not by what is realised: neither harmed nor safe.
        codes[found.log_e_harm >= alone, column] = _CODES[Status.UNDECIDED]
        codes[_empty(cells[line]), column] = _CODES[Status.NO_DATA]
    each = np.stack([found.log_e_harm for found in answers], axis=-1) if criteria else np.zeros(codes.shape)
    return Decisions(weighed.harmed, weighed.alarm, codes, weighed.log_e_harm, each)


def margin_statuses(cells: Cells, line: Line, *, weight: float, alpha: float, alpha_promote: float) -> Codes:
    """Index into ``STATUSES`` of a margin that promotion asks for, shape (batch,).

    Args:
        cells: Of this line.
        line: Metric and the margin's boundary.
        weight: ``safe`` is asked on the epochs of this weight.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``.
    """
    codes = np.full(len(cells.weight), _CODES[Status.UNDECIDED], dtype=np.int8)
    found = answer(cells, line, weight=weight, alpha=alpha, alpha_promote=alpha_promote)
    codes[found.unanswered] = _CODES[Status.NO_DATA]
    codes[_undisputed(found.safe, cells, line)] = _CODES[Status.SAFE]
    codes[found.log_e_harm >= -np.log(alpha)] = _CODES[Status.SUSPECT]
    codes[_empty(cells)] = _CODES[Status.NO_DATA]
    return codes


def check_statuses(
    cells: Cells, line: Line, *, weight: float, alpha: float, alpha_promote: float, prove: bool
) -> Codes:
    """Index into ``STATUSES`` of one check's status, shape (batch,).

    Args:
        cells: Of this line.
        line: Metric and the check's boundary.
        weight: The current stage's weight, at which a check is proven.
        alpha: Budget of ``harmed``.
        alpha_promote: Budget of ``safe``.
        prove: Whether ``safe`` is wanted; without it a check that is safe may be called undecided.
    """
    codes = np.full(len(cells.weight), _CODES[Status.UNDECIDED], dtype=np.int8)
    if prove:
        safe = answer(cells, line, weight=weight, alpha=alpha, alpha_promote=alpha_promote).safe
        codes[_undisputed(safe, cells, line)] = _CODES[Status.SAFE]
    harmed = log_e_harm(cells, line, alpha=alpha) >= -np.log(alpha)
    codes[harmed | (suspect_p(cells, line) < SUSPECT_BELOW)] = _CODES[Status.SUSPECT]
    codes[_empty(cells)] = _CODES[Status.NO_DATA]
    return codes


def _undisputed(safe: BoolArray, cells: Cells, line: Line) -> BoolArray:
    """Rollouts that are safe and whose stages do not disagree, shape (batch,)."""
    rows = np.flatnonzero(safe)
    found = safe.copy()
    if rows.size:
        found[rows] = drift_p(cells.rows(rows), line) >= DRIFTING_BELOW
    return found


def _empty(cells: Cells) -> BoolArray:
    """Rollouts in which an arm has no value in any testable epoch, shape (batch,)."""
    canary = np.where(cells.testable, cells.canary_n, 0.0).any(axis=1)
    stable = np.where(cells.testable, cells.stable_n, 0.0).any(axis=1)
    return np.asarray(~(canary & stable), dtype=np.bool_)
