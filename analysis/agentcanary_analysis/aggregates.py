"""Additive sufficient statistics by metric, epoch, arm and resampling bucket: all that any statistic reads.

Pure, standard library only. Stores, frames and warehouses produce ``Aggregates``; two of them are merged with ``+``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

RESAMPLING_BUCKETS = 200
_MOST_UNITS = 10**12  # more are a slip, not a count
_LARGEST = 1e100  # products of two sums are still doubles


class Arm(StrEnum):
    """The side of a rollout that a conversation is on."""

    STABLE = "stable"
    CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A stretch of a rollout with one constant weight.

    Attributes:
        number: 0, 1, 2, … within the rollout.
        weight: Share of new conversations given to the canary, in [0, 1].
        stage: Index of the stage it belongs to.
        thresholds: Per quantile metric the histogram edge, in the metric's unit, fixed at the epoch's start from
            earlier data; a metric without one has no anytime-valid evidence in this epoch.
    """

    number: int
    weight: float
    stage: int
    thresholds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight of epoch {self.number} is a share in [0, 1], got {self.weight}")


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over the counted conversations of one cell.

    Attributes:
        units: Conversations counted.
        observed: Those of them with a value; the others are missing.
        total: Sum of the values (events, for a proportion).
        total_squares: Sum of the squared values.
        size: Sum of the denominators, for ratios such as errors per turn; 0 for all other metrics.
        size_squares: Sum of the squared denominators.
        product: Sum of value times denominator.
    """

    units: int = 0
    observed: int = 0
    total: float = 0.0
    total_squares: float = 0.0
    size: float = 0.0
    size_squares: float = 0.0
    product: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.observed <= self.units:
            raise ValueError(f"observed must be between 0 and units, got {self.observed} of {self.units}")
        if self.units % 1 or self.observed % 1 or self.units > _MOST_UNITS:
            raise ValueError(f"units are whole numbers up to {_MOST_UNITS:.0e}, got {self.observed} of {self.units}")
        finite = -_LARGEST < self.total < _LARGEST and -_LARGEST < self.product < _LARGEST
        sums = 0 <= self.total_squares < _LARGEST and 0 <= self.size < _LARGEST and 0 <= self.size_squares < _LARGEST
        if not (finite and sums):
            raise ValueError(f"sums must be finite, and those of squares and sizes not negative, got {self}")
        # Cauchy's inequality; rounding of long sums is forgiven.
        if self.total * self.total > self.observed * self.total_squares * (1 + 1e-9) + 1e-9:
            raise ValueError(
                f"no {self.observed} values have total={self.total} and total_squares={self.total_squares}"
            )

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.units + other.units,
            self.observed + other.observed,
            self.total + other.total,
            self.total_squares + other.total_squares,
            self.size + other.size,
            self.size_squares + other.size_squares,
            self.product + other.product,
        )


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """The address of a tally or a histogram: metric, epoch number and arm."""

    metric: str
    epoch: int
    arm: Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Safety:
    """Safety reports of a rollout, by the version that served the conversation (forced conversations included).

    Attributes:
        canary: Confirmed violations in conversations that the canary served.
        stable: The same for stable.
        reports: Safety reports received at all, violations or not. Zero means that nobody watches.
    """

    canary: int = 0
    stable: int = 0
    reports: int = 0

    def __add__(self, other: Safety) -> Safety:
        return Safety(
            canary=self.canary + other.canary,
            stable=self.stable + other.stable,
            reports=self.reports + other.reports,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregates:
    """Everything that is counted about one rollout, additive.

    Attributes:
        epochs: In order of their numbers.
        tallies: Per cell, per resampling bucket (0 … 199) the sums.
        histograms: Per cell of a quantile metric, per bin (see ``histogram``) the number of conversations.
        assigned: Per (epoch number, arm) the conversations assigned, counted yet or not, without the excluded.
        excluded: Per reason the conversations in no statistic.
        safety: Confirmed violations and reports.
    """

    epochs: tuple[Epoch, ...] = ()
    tallies: Mapping[Cell, Mapping[int, Tally]] = field(default_factory=dict)
    histograms: Mapping[Cell, Mapping[int, int]] = field(default_factory=dict)
    assigned: Mapping[tuple[int, Arm], int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    safety: Safety = field(default_factory=Safety)

    def __post_init__(self) -> None:
        numbers = [epoch.number for epoch in self.epochs]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise ValueError(f"epochs must come in the order of their numbers, each once, got {numbers}")
        _refuse_negative("assigned", self.assigned.values())
        _refuse_negative("excluded", self.excluded.values())
        for cell, bins in self.histograms.items():
            _refuse_negative(f"the histogram of {cell}", bins.values())

    def tally(self, metric: str, epoch: int, arm: Arm) -> Tally:
        """The sums of one cell over its resampling buckets."""
        buckets = self.tallies.get(Cell(metric, epoch, arm), {}).values()
        # Summed field by field: a Tally for every partial sum would cost most of a look.
        sizes = [tally.size for tally in buckets]
        denominators = (
            (sum(sizes), sum([tally.size_squares for tally in buckets]), sum([tally.product for tally in buckets]))
            if any(sizes)
            else (0.0, 0.0, 0.0)
        )
        return Tally(
            sum([tally.units for tally in buckets]),
            sum([tally.observed for tally in buckets]),
            sum([tally.total for tally in buckets], 0.0),
            sum([tally.total_squares for tally in buckets], 0.0),
            *denominators,
        )

    def histogram(self, metric: str, epoch: int, arm: Arm) -> Mapping[int, int]:
        """Conversations per bin of one cell."""
        return self.histograms.get(Cell(metric, epoch, arm), {})

    def __add__(self, other: Aggregates) -> Aggregates:
        epochs = {epoch.number: epoch for epoch in self.epochs}
        for epoch in other.epochs:
            if epochs.setdefault(epoch.number, epoch) != epoch:
                raise ValueError(f"epoch {epoch.number} differs: {epochs[epoch.number]} and {epoch}")
        tallies = {cell: dict(buckets) for cell, buckets in self.tallies.items()}
        for cell, buckets in other.tallies.items():
            mine = tallies.setdefault(cell, {})
            for bucket, tally in buckets.items():
                mine[bucket] = mine.get(bucket, Tally()) + tally
        histograms = {cell: dict(bins) for cell, bins in self.histograms.items()}
        for cell, bins in other.histograms.items():
            histograms[cell] = dict(Counter(histograms.get(cell, {})) + Counter(bins))
        return Aggregates(
            epochs=tuple(epochs[number] for number in sorted(epochs)),
            tallies=tallies,
            histograms=histograms,
            assigned=dict(Counter(self.assigned) + Counter(other.assigned)),
            excluded=dict(Counter(self.excluded) + Counter(other.excluded)),
            safety=self.safety + other.safety,
        )


def _refuse_negative(what: str, counts: Iterable[int]) -> None:
    fewest = min(counts, default=0)
    if fewest < 0:
        raise ValueError(f"{what} must not hold a negative count, got {fewest}")
