"""The queries that count a table, as Narwhals expressions: one for sums, one for histograms. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import narwhals as nw

from agentcanary_analysis.counted import Side
from agentcanary_analysis.frame_columns import Columns
from agentcanary_analysis.frame_values import rows_of
from agentcanary_analysis.histogram import GROWTH, INFINITE_BIN
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.resampling import with_bucket

Frame = nw.LazyFrame[Any]

# Up to so many rows each cluster is counted by itself; beyond, clusters are taken together by resampling bucket.
EXACT_CLUSTERS_UP_TO = 300_000
# What lies outside has the lowest bin and the infinite one, as in ``bin_of``.
_SMALLEST, _LARGEST = 1e-9, 1e87


def _number(column: str, dtype: Any) -> nw.Expr:
    """The column as numbers; NaN is missing."""
    value = nw.col(column).cast(nw.Float64)
    return value if is_whole(dtype) else nw.when(~value.is_nan()).then(value)


def is_whole(dtype: Any) -> bool:
    """Whole numbers, yes and no: such a column has no NaN and no half events."""
    return bool(dtype.is_integer() or dtype == nw.Boolean)


def grouped_rows(lazy: Frame, where: Columns) -> tuple[str, Frame]:
    """By which column rows are taken together, and the table with it: clusters if rows are few, else buckets.

    Args:
        lazy: The table.
        where: Its columns.
    """
    if where.cluster is not None:
        rows = int(rows_of(lazy.select(nw.len().alias("n")).collect())[0]["n"])
        if rows <= EXACT_CLUSTERS_UP_TO:
            return where.cluster, lazy
        return "our bucket", with_bucket(lazy, where.cluster, "our bucket")
    if where.bucket is not None:
        return where.bucket, lazy
    if where.unit is not None:
        return "our bucket", with_bucket(lazy, where.unit, "our bucket")
    return "our bucket", lazy.with_columns(nw.lit(0).alias("our bucket"))


def keyed_rows(lazy: Frame, where: Columns, stable: str, canary: str, group: str, cuts: Sequence[Any]) -> Frame:
    """The rows with what they are counted under: side, epoch, slice and group.

    Args:
        lazy: The table.
        where: Its columns.
        stable: Name of the stable version.
        canary: Name of the canary version.
        group: Column by which rows are taken together.
        cuts: Times at which slices begin, the first left out.
    """
    version = nw.col(where.version)
    text = version.cast(nw.String)
    # A number, not a text: it is made for every row and grouped by.
    side: nw.Expr = (
        nw.when(text == nw.lit(stable))
        .then(nw.lit(int(Side.STABLE)))
        .when(text == nw.lit(canary))
        .then(nw.lit(int(Side.CANARY)))
        .when(version.is_null())
        .then(nw.lit(int(Side.NO_VERSION)))
        .otherwise(nw.lit(int(Side.OTHER)))
    )
    for column, without in ((where.unit, Side.NO_UNIT), (where.cluster, Side.NO_CLUSTER)):
        if column is not None:
            side = nw.when(nw.col(column).is_null()).then(nw.lit(int(without))).otherwise(side)
    keys = {"side": side, "group": nw.col(group)}
    if where.excluded is not None:
        told = nw.col(where.excluded).cast(nw.String)
        counts = told.is_null() | told.is_in(["", "0", "0.0", "False", "false"])
        keys["side"] = nw.when(counts).then(side).otherwise(nw.lit(int(Side.EXCLUDED)))
        keys["why"] = nw.when(counts).then(nw.lit("")).otherwise(told)
    for number, name in enumerate(_epoch_columns(where)):
        keys[f"key{number}"] = nw.col(name)
    started = nw.col(where.started_at) if where.started_at else None
    steps = [] if started is None else [nw.when(started >= nw.lit(cut)).then(1).otherwise(0) for cut in cuts]
    keys["slice"] = reduce(add, steps) if steps else nw.lit(0)
    schema = lazy.collect_schema()
    values = {f"value {column}": _number(column, schema[column]) for column in dict.fromkeys(where.values.values())}
    return lazy.select(*(expression.alias(name) for name, expression in {**keys, **values}.items()))


def _epoch_columns(where: Columns) -> list[str]:
    return [name for name in (where.epoch, where.weight, *where.strata) if name is not None]


def sums_query(
    keyed: Frame, where: Columns, metrics: Mapping[str, Metric], whole: Collection[str], *, extremes: bool = True
) -> Frame:
    """Per key the rows, and per metric how many have a value, their sums and, where asked, their extremes.

    Args:
        keyed: Of ``keyed_rows``.
        where: Its columns.
        metrics: By name.
        whole: Columns that hold whole numbers only.
        extremes: The smallest and the largest value too.
    """
    squares = {}
    for name, metric in metrics.items():
        column = where.values[name]
        # The squares of events are the events; those of broken numbers tell that they are none.
        if metric.kind is Kind.MEAN or (metric.kind is Kind.PROPORTION and column not in whole):
            squares[f"squares {name}"] = nw.col(f"value {column}") * nw.col(f"value {column}")
    if squares:
        keyed = keyed.with_columns(**squares)
    asked = [nw.len().alias("rows")]
    for name, metric in metrics.items():
        value = nw.col(f"value {where.values[name]}")
        asked.append(value.count().alias(f"observed {name}"))
        if extremes:
            asked += [value.min().alias(f"low {name}"), value.max().alias(f"high {name}")]
        if metric.kind is not Kind.QUANTILE:
            asked.append(value.sum().alias(f"total {name}"))
        if f"squares {name}" in squares:
            asked.append(nw.col(f"squares {name}").sum().alias(f"squares {name}"))
    there = keyed.collect_schema().names()
    keys = [name for name in there if name in ("side", "why", "slice", "group") or name.startswith("key")]
    return keyed.group_by(*keys).agg(*asked)


def bins_query(rows: Frame, column: str, *, by_group: bool) -> Frame:
    """Per key and histogram bin the number of rows; the bins are those of ``histogram.bin_of``.

    Args:
        rows: Of ``keyed_rows``.
        column: Of the values.
        by_group: Keep the groups apart.
    """
    value = nw.col(f"value {column}")
    keys = [name for name in rows.collect_schema().names() if name.startswith("key")] + ["side", "slice"]
    keys += ["group"] if by_group else []
    # Logarithms only of what has one, and in one expression: databases evaluate every branch of a case.
    inside = value.clip(_SMALLEST, _LARGEST)
    number = (inside.log() / math.log(GROWTH) - 1e-9).ceil().clip(upper_bound=INFINITE_BIN)
    binned = rows.filter(~value.is_null()).with_columns(number.alias("bin"))
    return binned.group_by(*keys, "bin").agg(nw.len().alias("rows"))
