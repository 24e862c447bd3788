"""Many simulated rollouts, looked at nearly all the time: what the ``sim_*.py`` scripts share.

A look is taken after every conversation of the canary (in expectation) up to a hundred, then after every 1 % more:
whoever looks less often is rolled back by chance less often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from agentcanary.simulated_outcomes import SimulatedOutcomes, Truth
from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.cells import BoolArray
from agentcanary_analysis.proportion_intervals import clopper_pearson_interval
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.questions import Line

Rows = npt.NDArray[np.intp]

LEVEL = 0.05
LOOK_GROWTH = 0.01
# A promise is refuted when it would come out so badly once in a thousand such simulations.
REFUTED_BELOW = 0.001


class Stretch(NamedTuple):
    """A stage of a ramp: its weight, and its conversations of both arms."""

    weight: float
    conversations: int


class At(NamedTuple):
    """One look.

    Attributes:
        outcomes: What is counted by now.
        canary: Conversations of the canary by now, in expectation.
        conversations: Of both arms by now.
        rows: Every rollout.
    """

    outcomes: SimulatedOutcomes
    canary: float
    conversations: int
    rows: Rows


def looks(
    truth: Truth,
    lines: Sequence[Line],
    ramp: Sequence[Stretch],
    *,
    runs: int,
    rng: np.random.Generator,
    growth: float = LOOK_GROWTH,
) -> Iterator[At]:
    """Every look at rollouts along a ramp; each stretch of it is a stage and an epoch."""
    outcomes, rows = SimulatedOutcomes(truth, lines, runs, rng), np.arange(runs)
    canary, total = 0.0, 0
    for number, stretch in enumerate(ramp):
        for row in rows:
            outcomes.open_epoch(int(row), Epoch(number=number, weight=stretch.weight, stage=number))
        done = 0
        while done < stretch.conversations:
            size = min(max(ceil(1 / stretch.weight), int(growth * total)), stretch.conversations - done)
            outcomes.draw(rows, np.full(runs, number, dtype=np.intp), size)
            done, total, canary = done + size, total + size, canary + size * stretch.weight
            yield At(outcomes, canary, total, rows)


@dataclass(frozen=True, slots=True)
class Share:
    """How many of so many simulated rollouts."""

    count: int
    runs: int

    @property
    def share(self) -> float:
        """The share itself."""
        return self.count / self.runs

    @property
    def bars(self) -> tuple[float, float]:
        """Its exact 95 % interval."""
        return clopper_pearson_interval(Proportion(self.count, self.runs))

    def refutes(self, limit: float = LEVEL) -> bool:
        """Whether a true share of at most ``limit`` would hardly ever come out so large."""
        return bool(binom.sf(self.count - 1, self.runs, limit) < REFUTED_BELOW)

    def kept(self) -> dict[str, Any]:
        """As it stands in the results."""
        low, high = self.bars
        return {"share": self.share, "low": low, "high": high, "runs": self.runs}

    def __str__(self) -> str:
        low, high = self.bars
        return f"{self.share:.1%} ({low:.1%}-{high:.1%})"


def share_of(ever: BoolArray) -> Share:
    """The share of the rollouts of which it is true."""
    return Share(int(ever.sum()), ever.size)


def ever(
    walk: Iterator[At], says: Callable[[At, Rows], BoolArray], runs: int, marks: Sequence[float] = ()
) -> dict[float, Share]:
    """The share of rollouts of which something was true at some look, by so many conversations of the canary.

    Args:
        walk: From ``looks``.
        says: What is asked of some rollouts at a look, shape (rows,).
        runs: How many rollouts there are.
        marks: Expected conversations of the canary; the end of the walk is always told, as infinity.
    """
    found: dict[float, Share] = {}
    already = np.zeros(runs, dtype=np.bool_)
    ahead = sorted(marks)
    for at in walk:
        while ahead and at.canary > ahead[0] * (1 + 1e-9):
            found[ahead.pop(0)] = share_of(already)
        open_rows = np.flatnonzero(~already)
        if open_rows.size:
            already[open_rows] = says(at, open_rows)
    found |= dict.fromkeys([*ahead, np.inf], share_of(already))
    return found
