"""All criteria of a rollout together, and the split: is harm proven, is the data valid? Pure; takes a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from agentcanary_analysis.cells import BoolArray, Cells, FloatArray
from agentcanary_analysis.evalues import log_sum_exp
from agentcanary_analysis.questions import Answers, Line, Method, log_e_harm
from agentcanary_analysis.sample_ratio import ALARM, log_e_sample_ratio


class Split(NamedTuple):
    """Numbers of units by epoch, each of shape (batch, epochs).

    Attributes:
        weight: Designed share of the canary.
        canary_assigned: Canary units assigned, counted yet or not.
        stable_assigned: The same of stable.
        canary_counted: Canary units counted.
        stable_counted: The same of stable.
    """

    weight: FloatArray
    canary_assigned: FloatArray
    stable_assigned: FloatArray
    canary_counted: FloatArray
    stable_counted: FloatArray


class Weighed(NamedTuple):
    """What all criteria say at one look.

    Attributes:
        log_e_harm: Of all criteria together, shape (batch,).
        harmed: Harm is proven, shape (batch,).
        log_e_assigned: Against "the split is as designed", on assigned units, shape (batch,).
        log_e_counted: The same on counted units.
        alarm: The split is not as designed, shape (batch,).
    """

    log_e_harm: FloatArray
    harmed: BoolArray
    log_e_assigned: FloatArray
    log_e_counted: FloatArray
    alarm: BoolArray


def weigh(
    lines: Sequence[Line],
    cells: Sequence[Cells],
    answers: Sequence[Answers],
    split: Split,
    *,
    alpha: float,
    early: Mapping[int, Sequence[Cells]] = MappingProxyType({}),
) -> Weighed:
    """What all criteria say at one look.

    Harm is proven when the mean of the criteria's e-values, all of this look, reaches ``1 / alpha``: never later than
    with ``alpha`` split among them, and one budget whatever their dependence. While the split alarms, it must be
    reached both with the designed weights and with the realised shares.

    Args:
        lines: One for each criterion, fixed for the rollout.
        cells: One for each line.
        answers: To the questions of each line.
        split: Numbers of units.
        alpha: Budget of ``harmed``, of this attempt.
        early: The cells at earlier ages of the lines that are asked about early, by position.

    **Source**: a mean of e-values is an e-value (Vovk & Wang 2021, Annals of Statistics 49:1736-1754).
    """
    together = combined(lines, [found.log_e_harm for found in answers], len(split.weight))
    harmed = together >= -np.log(alpha)
    log_e_assigned, log_e_counted = np.split(
        log_e_sample_ratio(
            np.concatenate([split.canary_assigned, split.canary_counted]),
            np.concatenate([split.stable_assigned, split.stable_counted]),
            np.concatenate([split.weight, split.weight]),
        ),
        2,
    )
    alarm = np.maximum(log_e_assigned, log_e_counted) >= np.log(ALARM)
    doubtful = np.flatnonzero(alarm & harmed)
    if doubtful.size:
        realised = []
        for at, (line, counts) in enumerate(zip(lines, cells, strict=True)):
            ages = [
                log_e_harm(one.rows(doubtful).at_realised_share(), line, alpha=alpha)
                for one in (counts, *early.get(at, ()))
            ]
            realised.append(log_sum_exp(np.stack(ages, axis=-1)) - np.log(len(ages)))
        harmed[doubtful] &= combined(lines, realised, doubtful.size) >= -np.log(alpha)
    return Weighed(together, harmed, log_e_assigned, log_e_counted, alarm)


def combined(lines: Sequence[Line], log_e: Sequence[FloatArray], batch: int) -> FloatArray:
    """Log of the mean of the criteria's e-values, shape (batch,); metrics that are only reported do not count."""
    tested = [values for line, values in zip(lines, log_e, strict=True) if line.method is not Method.REPORT_ONLY]
    if not tested:
        return np.zeros(batch)
    return log_sum_exp(np.stack(tested, axis=-1)) - float(np.log(len(tested)))


def budget(alpha: float, attempt: int) -> float:
    """The share of ``alpha`` that one attempt with the same pair of versions gets.

    The first has all of it; the k-th restart gets ``alpha / (k (k + 1))``, and all restarts together ``alpha``.

    Raises:
        ValueError: If ``alpha`` is outside (0, 0.5) or ``attempt`` is below 1.

    >>> [round(budget(0.05, attempt), 5) for attempt in (1, 2, 3, 4)]
    [0.05, 0.025, 0.00833, 0.00417]
    """
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be between 0 and 0.5, got {alpha} (write 0.05 for 5 %)")
    if attempt < 1:
        raise ValueError(f"attempts are counted from 1, got {attempt}")
    restart = attempt - 1
    return alpha if restart == 0 else alpha / (restart * (restart + 1))
