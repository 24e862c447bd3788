"""What was counted of a table, as arrays: by arm, epoch, slice of time and group. Pure.

A group is a cluster where the clusters were counted one by one, else a resampling bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from agentcanary_analysis.aggregates import RESAMPLING_BUCKETS, Aggregates, Arm, Cell, Epoch, Safety, Tally
from agentcanary_analysis.frame_columns import Columns, TableError
from agentcanary_analysis.metrics import Kind, Metric

Table = Mapping[str, npt.NDArray[Any]]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

ARMS = (Arm.STABLE, Arm.CANARY)


class Side(IntEnum):
    """Where a row belongs: to an arm (these two are the arms' positions), or why to none."""

    STABLE = 0
    CANARY = 1
    NO_VERSION = 2
    OTHER = 3
    NO_UNIT = 4
    NO_CLUSTER = 5
    EXCLUDED = 6


_REASONS = {
    Side.NO_VERSION: "no version",
    Side.OTHER: "another version",
    Side.NO_UNIT: "no conversation id",
    Side.NO_CLUSTER: "no cluster",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Keys:
    """What rows were counted under; arrays of shape (cells,).

    Attributes:
        arm: 0 for stable, 1 for the canary.
        epoch: Index of the epoch.
        slice: Number of the slice of time.
        group: Number of the group.
        rows: Conversations.
    """

    arm: IntArray
    epoch: IntArray
    slice: IntArray
    group: IntArray
    rows: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sums:
    """Of one metric, aligned with the keys; shape (cells,).

    Attributes:
        observed: Conversations with a value.
        total: Sum of the values; zeros for a quantile.
        squares: Sum of their squares; zeros where nothing reads them.
    """

    observed: FloatArray
    total: FloatArray
    squares: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bins:
    """Of one quantile metric; shape (filled bins,).

    Attributes:
        keys: What the rows were counted under; without clusters all groups are 0.
        number: The bin.
    """

    keys: Keys
    number: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counted:
    """Everything that was counted of a table.

    Attributes:
        metrics: Those whose columns are there.
        columns: What was read.
        epochs: By index: weight as designed (the realised share where nobody said it), label for people.
        labels: What each epoch was in the table, in words.
        designed: Somebody said which share the canary was to get.
        keys: Of the sums.
        sums: Per metric.
        bins: Per quantile metric.
        buckets: Resampling bucket of each group, shape (groups,).
        clustered: Rows were taken together by cluster.
        exact_clusters: Each group is one cluster.
        excluded: Per reason the rows in no statistic.
        cuts: Unix seconds at which slices begin, the first left out; of numbers that are no times, those.
    """

    metrics: tuple[Metric, ...]
    columns: Columns
    epochs: tuple[Epoch, ...]
    labels: tuple[str, ...]
    designed: bool
    keys: Keys
    sums: Mapping[str, Sums]
    bins: Mapping[str, Bins]
    buckets: IntArray
    clustered: bool
    exact_clusters: bool
    excluded: Mapping[str, int] = field(default_factory=dict)
    cuts: tuple[float, ...] = ()

    @property
    def slices(self) -> int:
        """Into how many stretches of time the rows were divided."""
        return len(self.cuts) + 1

    def units(self, upto: int | None = None) -> FloatArray:
        """Conversations, shape (epochs, arms).

        Args:
            upto: Only the slices before this number.
        """
        return self._sum(self.keys, self.keys.rows, upto)

    def observed(self, metric: str, upto: int | None = None) -> FloatArray:
        """Conversations with a value, shape (epochs, arms)."""
        return self._sum(self.keys, self.sums[metric].observed, upto)

    def tallies(self, metric: str, upto: int | None = None) -> list[tuple[Tally, Tally]]:
        """Per epoch the sums of stable and of the canary."""
        sums = self.sums[metric]
        columns = np.stack(
            [
                self._sum(self.keys, column, upto)
                for column in (self.keys.rows, sums.observed, sums.total, sums.squares)
            ],
            axis=-1,
        )
        return [(_tally(stable), _tally(canary)) for stable, canary in columns]

    def histograms(self, metric: str, upto: int | None = None) -> list[tuple[dict[int, int], dict[int, int]]]:
        """Per epoch the filled bins of stable and of the canary."""
        found: list[tuple[dict[int, int], dict[int, int]]] = [({}, {}) for _ in self.epochs]
        bins = self.bins[metric]
        chosen = slice(None) if upto is None else bins.keys.slice < upto
        number = bins.number[chosen]
        if number.size:
            lowest = int(number.min())
            width = int(number.max()) - lowest + 1
            address = (bins.keys.epoch[chosen] * 2 + bins.keys.arm[chosen]) * width + number - lowest
            rows = _added(address, bins.keys.rows[chosen], len(self.epochs) * 2 * width)
            for at in np.flatnonzero(rows).tolist():
                epoch, arm = divmod(at // width, 2)
                found[epoch][arm][at % width + lowest] = round(rows[at])
        return found

    def aggregates(self, upto: int | None = None, *, by_bucket: bool = True) -> Aggregates:
        """The additive statistics that every engine function reads.

        Args:
            upto: Only the slices before this number.
            by_bucket: False puts everything into one bucket: the sums are the same.
        """
        keys, epochs = self.keys, len(self.epochs)
        chosen = np.ones(keys.rows.size, dtype=bool) if upto is None else keys.slice < upto
        width = RESAMPLING_BUCKETS if by_bucket else 1
        bucket = self.buckets[keys.group] if by_bucket else np.zeros(keys.rows.size, dtype=np.int64)
        address = ((keys.epoch * 2 + keys.arm) * width + bucket)[chosen]
        tallies: dict[Cell, dict[int, Tally]] = {}
        histograms: dict[Cell, dict[int, int]] = {}
        rows = _added(address, keys.rows[chosen], epochs * 2 * width).reshape(epochs, 2, width)
        for metric in self.metrics:
            if metric.kind is Kind.COUNT:
                continue
            sums = self.sums[metric.name]
            columns = [rows] + [
                _added(address, column[chosen], epochs * 2 * width).reshape(epochs, 2, width)
                for column in (sums.observed, sums.total, sums.squares)
            ]
            for epoch, described in enumerate(self.epochs):
                for number, arm in enumerate(ARMS):
                    cell = Cell(metric.name, described.number, arm)
                    filled = np.flatnonzero(rows[epoch, number])
                    parts = np.stack([column[epoch, number, filled] for column in columns], axis=1)
                    if filled.size:
                        tallies[cell] = {int(at): _tally(part) for at, part in zip(filled, parts, strict=True)}
            if metric.kind is Kind.QUANTILE:
                for described, both in zip(self.epochs, self.histograms(metric.name, upto), strict=True):
                    for arm, filled_bins in zip(ARMS, both, strict=True):
                        if filled_bins:
                            histograms[Cell(metric.name, described.number, arm)] = filled_bins
        units = self.units(upto)
        return Aggregates(
            epochs=self.epochs,
            tallies=tallies,
            histograms=histograms,
            assigned={
                (epoch.number, arm): int(units[index, number])
                for index, epoch in enumerate(self.epochs)
                for number, arm in enumerate(ARMS)
            },
            excluded=dict(self.excluded),
            safety=self.safety(upto),
        )

    def safety(self, upto: int | None = None) -> Safety:
        """Violations and reports of both arms."""
        counts = [metric.name for metric in self.metrics if metric.kind is Kind.COUNT]
        if not counts:
            return Safety()
        sums = self.sums[counts[0]]
        totals = self._sum(self.keys, sums.total, upto).sum(axis=0)
        reports = self._sum(self.keys, sums.observed, upto).sum()
        return Safety(stable=round(totals[0]), canary=round(totals[1]), reports=round(reports))

    def split_first(self, slices: int) -> Counted:
        """The same counts, the first epoch cut in two after so many slices; both halves have its weight.

        What the first half shows may then be used to fix what is asked of the second.
        """
        first, later = self.epochs[0], self.epochs[1:]
        epochs = (
            replace(first, number=0),
            replace(first, number=1),
            *(replace(epoch, number=number) for number, epoch in enumerate(later, 2)),
        )

        def moved(keys: Keys) -> Keys:
            return replace(keys, epoch=keys.epoch + ((keys.epoch > 0) | (keys.slice >= slices)))

        labels = (f"{self.labels[0]} (beginning)", f"{self.labels[0]} (rest)", *self.labels[1:])
        bins = {name: replace(found, keys=moved(found.keys)) for name, found in self.bins.items()}
        return replace(self, epochs=epochs, labels=labels, keys=moved(self.keys), bins=bins)

    def _sum(self, keys: Keys, column: FloatArray, upto: int | None) -> FloatArray:
        chosen = slice(None) if upto is None else keys.slice < upto
        address = (keys.epoch * 2 + keys.arm)[chosen]
        return _added(address, column[chosen], len(self.epochs) * 2).reshape(len(self.epochs), 2)


def arrange(
    sums: Table,
    bins: Mapping[str, Table],
    *,
    metrics: tuple[Metric, ...],
    columns: Columns,
    weight: float | None,
    cuts: tuple[float, ...],
    exact_clusters: bool,
    most_epochs: int,
) -> Counted:
    """The counts of a table from what the backend returned.

    Args:
        sums: One row a key: side, why, key0, key1, …, slice, group, and the sums of each metric.
        bins: Per quantile metric one row a key and bin.
        metrics: In order.
        columns: What was read.
        weight: Designed share of all epochs, where there is no column for it.
        cuts: Beginnings of slices.
        exact_clusters: Groups are clusters.
        most_epochs: More are a slip.

    Raises:
        TableError: If there are too many epochs or one has two weights.
    """
    sides = sums["side"].astype(np.int64)
    counted = sides <= Side.CANARY
    names = [name for name in (columns.epoch, columns.weight, *columns.strata) if name is not None]
    combinations = _combinations(sums, counted, names)
    if len(combinations) > most_epochs:
        raise TableError(
            f"the columns {', '.join(names)} have {len(combinations)} combinations; at most {most_epochs} can be "
            "kept apart"
        )
    index = {combination: number for number, combination in enumerate(combinations)}
    groups, numbered = np.unique(sums["group"][counted], return_inverse=True)
    keys = Keys(
        arm=sides[counted],
        epoch=_indices(sums, counted, names, index),
        slice=sums["slice"][counted].astype(np.int64),
        group=numbered.ravel().astype(np.int64),
        rows=sums["rows"][counted].astype(np.float64),
    )
    found = {metric.name: _metric_sums(sums, counted, metric) for metric in metrics}
    arranged_bins = {}
    for name, table in bins.items():
        every = np.ones(table["rows"].size, dtype=bool)
        by_group = "group" in table
        arranged_bins[name] = Bins(
            keys=Keys(
                arm=table["side"].astype(np.int64),
                epoch=_indices(table, every, names, index),
                slice=table["slice"].astype(np.int64),
                group=np.searchsorted(groups, table["group"]) if by_group else np.zeros(every.size, dtype=np.int64),
                rows=table["rows"].astype(np.float64),
            ),
            number=table["bin"].astype(np.int64),
        )
    if exact_clusters:
        buckets = [int.from_bytes(blake2b(repr(group).encode(), digest_size=8).digest()) for group in groups.tolist()]
    else:
        buckets = [int(group) for group in groups.tolist()]
    shares = [_designed(combination, columns, weight, names) for combination in combinations]
    designed = all(share is not None for share in shares) and bool(shares)
    units = np.zeros((len(combinations), 2))
    np.add.at(units, (keys.epoch, keys.arm), keys.rows)
    realised = units[:, 1] / np.maximum(units.sum(axis=1), 1)
    stages = {share: stage for stage, share in enumerate(dict.fromkeys(shares))}
    epochs = tuple(
        Epoch(
            number=number,
            weight=float(realised[number]) if share is None or not designed else share,
            stage=stages[share] if designed else number,
        )
        for number, share in enumerate(shares)
    )
    return Counted(
        metrics=metrics,
        columns=columns,
        epochs=epochs,
        labels=tuple(", ".join(f"{n} {v}" for n, v in zip(names, c, strict=True)) or "all" for c in combinations),
        designed=designed,
        keys=keys,
        sums=found,
        bins=arranged_bins,
        buckets=np.array([bucket % RESAMPLING_BUCKETS for bucket in buckets], dtype=np.int64),
        clustered=columns.cluster is not None,
        exact_clusters=exact_clusters,
        excluded=_excluded(sums),
        cuts=cuts,
    )


def _excluded(sums: Table) -> dict[str, int]:
    """Per reason the rows in no statistic, those of the table itself first."""
    excluded: dict[str, int] = {}
    why = sums["why"].tolist() if "why" in sums else [""] * sums["rows"].size
    for side, told, rows in zip(sums["side"].tolist(), why, sums["rows"].tolist(), strict=True):
        if side > Side.CANARY:
            reason = told if side == Side.EXCLUDED else _REASONS[Side(side)]
            excluded[reason] = excluded.get(reason, 0) + int(rows)
    return dict(sorted(excluded.items()))


def _combinations(sums: Table, counted: npt.NDArray[np.bool_], names: list[str]) -> list[tuple[Any, ...]]:
    columns = [sums[f"key{number}"][counted].tolist() for number in range(len(names))]
    if not columns:
        return [()]
    different = {tuple(_plain(value) for value in row) for row in zip(*columns, strict=True)}
    return sorted(different, key=lambda row: [(type(value).__name__, value) for value in row])


def _plain(value: Any) -> Any:
    """A key that can be sorted and compared: a missing one is the text ``(missing)``."""
    return "(missing)" if value is None or value != value else value


def _indices(
    table: Table, chosen: npt.NDArray[np.bool_], names: list[str], index: Mapping[tuple[Any, ...], int]
) -> IntArray:
    columns = [table[f"key{number}"][chosen].tolist() for number in range(len(names))]
    if not columns:
        return np.zeros(int(chosen.sum()), dtype=np.int64)
    rows = (tuple(_plain(value) for value in row) for row in zip(*columns, strict=True))
    return np.array([index[row] for row in rows], dtype=np.int64)


def _metric_sums(sums: Table, counted: npt.NDArray[np.bool_], metric: Metric) -> Sums:
    observed = sums[f"observed {metric.name}"][counted].astype(np.float64)

    def column(part: str) -> FloatArray:
        name = f"{part} {metric.name}"
        if name not in sums:
            return np.zeros(observed.size)
        values = sums[name][counted].astype(np.float64)
        return np.where(observed > 0, values, 0.0)

    # Events are 0 or 1: their squares are the events themselves.
    events = metric.kind is Kind.PROPORTION
    return Sums(observed=observed, total=column("total"), squares=column("total" if events else "squares"))


def _designed(combination: tuple[Any, ...], columns: Columns, weight: float | None, names: list[str]) -> float | None:
    if columns.weight is None:
        return weight
    told = combination[names.index(columns.weight)]
    return None if isinstance(told, str) else float(told)


def _added(address: IntArray, column: FloatArray, size: int) -> FloatArray:
    return np.bincount(address, weights=column, minlength=size).astype(np.float64)


def _tally(sums: FloatArray) -> Tally:
    units, observed, total, squares = sums.tolist()
    return Tally(round(units), round(observed), total, squares)
