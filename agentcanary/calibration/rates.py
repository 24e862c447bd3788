"""A share of replays, with what is known of it: for this history, and for the next one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from agentcanary.calibration.design import ENOUGH_BLOCKS
from agentcanary.calibration.history import IntArray
from agentcanary_analysis.proportion_intervals import clopper_pearson_interval, clopper_pearson_upper
from agentcanary_analysis.proportions import Proportion

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of the replays.

    Attributes:
        count: Replays in which it was so.
        replays: All of them.
        low: Lower end of the exact interval at 95 %: given this history, over salts and starts.
        high: Upper end.
        between_low: Lower end of the interval over disjoint blocks of days, as independent samples of what may come;
            None with one block.
        between_high: Upper end.
        blocks: How many blocks.
    """

    count: int
    replays: int
    low: float
    high: float
    between_low: float | None
    between_high: float | None
    blocks: int

    @property
    def share(self) -> float:
        """Share of the replays."""
        return self.count / self.replays

    @property
    def at_least(self) -> float:
        """Lower limit of the share, one-sided at 95 %, exact for this history."""
        return 1 - float(clopper_pearson_upper(Proportion(self.replays - self.count, self.replays)))

    @property
    def few_blocks(self) -> bool:
        """Fewer than ten blocks: the interval over blocks is wide, and leans on their being alike."""
        return self.blocks < ENOUGH_BLOCKS

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        between = None if self.between_low is None else {"low": self.between_low, "high": self.between_high}
        return {
            "count": self.count,
            "replays": self.replays,
            "share": self.share,
            "interval": {"low": self.low, "high": self.high, "level": LEVEL, "method": "Clopper-Pearson"},
            "between_blocks": between,
            "blocks": self.blocks,
        }


def rate_of(happened: npt.NDArray[np.bool_], block: IntArray) -> Rate:
    """The share of replays in which something happened.

    The exact interval holds for this history. The one over blocks, mean ± t(D - 1) s / sqrt(D), holds for others like
    it, as far as D blocks can tell.

    Args:
        happened: Shape (replays,).
        block: Block of each replay, the same shape.

    Raises:
        ValueError: If there is no replay.

    >>> found = rate_of(np.array([True, False, False, False]), np.array([0, 0, 1, 1]))
    >>> found.share, round(found.high, 3), found.between_low
    (0.25, 0.806, 0.0)
    """
    if not len(happened):
        raise ValueError("a share of no replays is not known")
    count = int(np.count_nonzero(happened))
    interval = clopper_pearson_interval(Proportion(count, len(happened)))
    _, number, size = np.unique(block, return_inverse=True, return_counts=True)
    shares = np.bincount(number, happened) / size
    low = high = None
    if len(shares) > 1:
        reach = float(student.ppf((1 + LEVEL) / 2, len(shares) - 1) * shares.std(ddof=1) / np.sqrt(len(shares)))
        low, high = max(float(shares.mean()) - reach, 0.0), min(float(shares.mean()) + reach, 1.0)
    return Rate(
        count=count,
        replays=len(happened),
        low=float(interval.low),
        high=float(interval.high),
        between_low=low,
        between_high=high,
        blocks=len(shares),
    )
