"""Tables of conversations → counts, where the rows are: pandas, Polars, DuckDB, PyArrow, PySpark, Ibis. Pure.

One expression through Narwhals for all of them, so the counts are equal everywhere. Two passes over the rows: one for
sums, one for histograms. What comes back has a size that does not depend on the number of rows.

Missing values stay missing; a NaN is one too, on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import reduce
from operator import add
from typing import Any

import narwhals as nw
import numpy as np

from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.counted import Counted, Side, Table, arrange
from agentcanary_analysis.frame_columns import (
    ColumnKind,
    Columns,
    TableError,
    check_kinds,
    default_metrics,
    find_columns,
    range_problem,
)
from agentcanary_analysis.histogram import GROWTH, INFINITE_BIN
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.resampling import with_bucket

Frame = nw.LazyFrame[Any]
Progress = Callable[[str], None]

# Up to so many rows each cluster is counted by itself; beyond, clusters are taken together by resampling bucket.
EXACT_CLUSTERS_UP_TO = 300_000
_MOST_EPOCHS = 1000
# What lies outside has the lowest bin and the infinite one, as in ``bin_of``.
_SMALLEST, _LARGEST = 1e-9, 1e87
_SHOWN = 8


def frame_aggregates(
    frame: Any,
    *,
    stable: str,
    canary: str,
    metrics: Sequence[Metric] = (),
    unit: str | None = "conversation_id",
    cluster: str | None = None,
    strata: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    weight: float | None = None,
) -> Aggregates:
    """The additive statistics of a table with one row a conversation.

    Args:
        frame: pandas, Polars (eager or lazy), PyArrow, a DuckDB relation, PySpark or Ibis.
        stable: Name of the stable version.
        canary: Name of the canary version.
        metrics: The caller's own, beside the article's; their column has the name of their outcome.
        unit: Column of the conversation's id; None takes each row as one.
        cluster: Column of the cluster, whose hash then gives the bucket.
        strata: Columns whose values are kept apart, as epochs are.
        columns: Names of this table by ours, see ``find_columns``.
        weight: Share that the canary was to get, where there is no column for it.

    Returns:
        One epoch for each combination of ``epoch``, ``weight`` and strata, in their order. Buckets: the column
        ``bucket``, else see ``resampling``.

    Raises:
        TableError: If columns are missing or hold what cannot be counted.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"conversation_id": ["a", "b", "c"], "version": ["v1", "v1", "v2"], "error": [0, 1, None]})
    >>> counted = frame_aggregates(table, stable="v1", canary="v2", weight=0.3)
    >>> [(cell.arm.value, sum(t.observed for t in buckets.values())) for cell, buckets in counted.tallies.items()]
    [('stable', 2), ('canary', 0)]
    """
    found = count_frame(
        frame,
        stable=stable,
        canary=canary,
        metrics=default_metrics(metrics),
        unit=unit,
        cluster=cluster,
        strata=strata,
        columns=columns,
        weight=weight,
    )
    return found.aggregates()


def count_frame(
    frame: Any,
    *,
    stable: str,
    canary: str,
    metrics: Sequence[Metric],
    wanted: Sequence[str] = (),
    unit: str | None = "conversation_id",
    cluster: str | None = None,
    strata: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    weight: float | None = None,
    slices: int = 1,
    needs_times: bool = False,
    needs_design: bool = False,
    progress: Progress | None = None,
) -> Counted:
    """Everything that an analysis reads of a table.

    Args:
        frame: As for ``frame_aggregates``.
        stable: Name of the stable version.
        canary: Name of the canary version.
        metrics: Those that may be counted, see ``default_metrics``.
        wanted: Those that must be there.
        unit: Column of the conversation's id, or None.
        cluster: Column of the cluster, or None.
        strata: Columns whose values are kept apart.
        columns: Names of this table by ours.
        weight: Designed share, where there is no column for it.
        slices: Stretches of ``started_at``, equally long, that are counted apart.
        needs_times: Refuse a table that cannot be divided into slices.
        needs_design: Refuse a table that says nothing of the share that the canary was to get.
        progress: Told what is being done.

    Raises:
        TableError: If columns are missing or hold what cannot be counted.
    """
    tell = progress or (lambda _: None)
    lazy = _narwhals(frame)
    if stable == canary:
        raise TableError(f"stable and canary are both {stable!r}; name two versions")
    names = lazy.collect_schema().names()
    where = find_columns(
        names, metrics=metrics, unit=unit, cluster=cluster, strata=strata, mapping=columns, wanted=wanted
    )
    if weight is not None:
        if where.weight is not None:
            raise TableError(
                f"the table has weights of its own in column {where.weight!r}; leave out weight={weight:g}, "
                "or the column"
            )
        if not 0 < weight < 1:
            raise TableError(f"weight must be between 0 and 1, got {weight:g} (write 0.05 for 5 %)")
    if needs_design and weight is None and where.weight is None and where.epoch is None:
        raise TableError(
            "method anytime needs to know which share the canary was to get: give weight, or a column weight or epoch"
        )
    if needs_times and where.started_at is None:
        raise TableError("method group-sequential needs the column started_at: it divides the looks")
    lazy = _readable(lazy.select(*where.needed), where)
    schema = lazy.collect_schema()
    check_kinds(where, {name: _kind(dtype) for name, dtype in schema.items()})
    whole = {name for name, dtype in schema.items() if _is_whole(dtype)}
    kept = {metric.name: metric for metric in metrics if metric.name in where.values}
    tell("reading")
    cuts = _cuts(lazy, where, slices, complete=needs_times)
    group, lazy = grouped_rows(lazy, where)
    keyed = keyed_rows(lazy, where, stable, canary, group, cuts)
    tell("counting")
    extremes = _out_of_range(lazy, where, kept)
    sums = _table(sums_query(keyed, where, kept, whole, extremes=extremes))
    problems = _problems(sums, where, kept)
    if problems:
        raise TableError("; ".join(problems))
    _refuse_absent(sums, lazy, where.version, stable=stable, canary=canary)
    tell("histograms")
    counted_rows = keyed.filter(nw.col("side").is_in([int(Side.STABLE), int(Side.CANARY)]))
    bins = {
        name: _table(bins_query(counted_rows, where.values[name], by_group=cluster is not None))
        for name, metric in kept.items()
        if metric.kind is Kind.QUANTILE
    }
    if unit is not None:
        tell("looking for conversations that occur twice")
        _refuse_duplicates(lazy, unit)
    return arrange(
        sums,
        bins,
        metrics=tuple(kept.values()),
        columns=where,
        weight=weight,
        cuts=tuple(_seconds(cut) for cut in cuts),
        exact_clusters=cluster is not None and group == cluster,
        most_epochs=_MOST_EPOCHS,
    )


def _narwhals(frame: Any) -> Frame:
    try:
        found = nw.from_native(frame)
    except TypeError:
        raise TypeError(
            f"a table is pandas, Polars, PyArrow, DuckDB, PySpark or Ibis, got {type(frame).__name__}; "
            "a file is read by its path, spans by read_spans"
        ) from None
    lazy: Frame = found.lazy()
    return lazy


def _readable(lazy: Frame, where: Columns) -> Frame:
    """Columns of pandas objects and of texts that hold times, as what they hold."""
    schema = lazy.collect_schema()
    numbers = [name for name in (*where.values.values(), where.weight, where.bucket) if name is not None]
    odd = [name for name in dict.fromkeys(numbers) if schema[name] == nw.Object]
    if odd and lazy.implementation.is_pandas():
        native = lazy.to_native()
        lazy = nw.from_native(native.assign(**{name: _from_objects(native[name]) for name in odd})).lazy()
    if where.started_at and schema[where.started_at] == nw.String:
        try:
            lazy = _with_times(lazy, where.started_at)
            lazy.select(nw.col(where.started_at).min()).collect()
        except Exception as error:  # noqa: BLE001 (every backend has its own; the message says it all)
            raise TableError(
                f"column {where.started_at!r} holds text that is no time; write 2026-01-31T12:00:00Z or Unix seconds "
                f"({type(error).__name__})"
            ) from None
    return lazy


def _with_times(lazy: Frame, column: str) -> Frame:
    """The frame with a column of texts as times."""
    engine = lazy.implementation
    if engine.is_polars():
        import polars as pl

        # A lazy frame of Polars must know the zone before it has seen the texts.
        made = lazy.to_native().with_columns(pl.col(column).str.to_datetime(time_zone="UTC"))
        found: Frame = nw.from_native(made).lazy()
        return found
    text = nw.col(column)
    eager = engine.is_pandas() or engine.is_pyarrow()
    return lazy.with_columns(text.str.to_datetime() if eager else text.cast(nw.Datetime))


def _from_objects(series: Any) -> Any:
    """A pandas column of Python objects as numbers, if they are."""
    import pandas as pd

    present = series[series.notna()]
    for value in present:
        if isinstance(value, str) or not np.isscalar(value):
            raise TableError(
                f"column {series.name!r} holds {value!r}, and its values must be numbers; write 0 and 1 for no and "
                "yes, and leave missing values empty"
            )
    numbers = np.full(len(series), np.nan)
    numbers[series.notna().to_numpy()] = [float(value) for value in present]
    return pd.Series(numbers, index=series.index)


def _kind(dtype: Any) -> ColumnKind:
    if dtype.is_numeric() or dtype == nw.Boolean:
        return ColumnKind.NUMBER
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return ColumnKind.TEXT
    return ColumnKind.TIME if dtype in (nw.Datetime, nw.Date) else ColumnKind.OTHER


def _number(column: str, dtype: Any) -> nw.Expr:
    """The column as numbers; NaN is missing."""
    value = nw.col(column).cast(nw.Float64)
    return value if _is_whole(dtype) else nw.when(~value.is_nan()).then(value)


def _is_whole(dtype: Any) -> bool:
    """Whole numbers, yes and no: such a column has no NaN and no half events."""
    return bool(dtype.is_integer() or dtype == nw.Boolean)


def _cuts(lazy: Frame, where: Columns, slices: int, *, complete: bool) -> list[Any]:
    """The times at which a new slice begins, the first left out; empty without times."""
    if slices < 2 or where.started_at is None:
        return []
    column = nw.col(where.started_at)
    known = [column.min().alias("first"), column.max().alias("last"), column.null_count().alias("unknown")]
    ends = _rows(lazy.select(*known).collect())[0]
    first, last = ends["first"], ends["last"]
    if complete and (first is None or first == last or ends["unknown"]):
        raise TableError(
            f"column {where.started_at!r} cannot divide the looks: it has {int(ends['unknown'])} missing times, "
            f"and the others go from {first} to {last}"
        )
    if first is None or first == last:
        return []
    return [first + (last - first) * (number / slices) for number in range(1, slices)]


def _seconds(moment: Any) -> float:
    """Unix seconds of what a cut is; a time without a zone is UTC."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, date):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC).timestamp()
    return float(moment)


def grouped_rows(lazy: Frame, where: Columns) -> tuple[str, Frame]:
    """By which column rows are taken together, and the table with it: clusters if rows are few, else buckets.

    Args:
        lazy: The table.
        where: Its columns.
    """
    if where.cluster is not None:
        rows = int(_rows(lazy.select(nw.len().alias("n")).collect())[0]["n"])
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


def _out_of_range(lazy: Frame, where: Columns, metrics: Mapping[str, Metric]) -> bool:
    """True if some value of the table, counted or not, may be one that cannot be counted.

    Files know the extremes of their columns; by key they cost a quarter of a pass over the rows.
    """
    columns = dict.fromkeys(where.values[name] for name in metrics)
    asked = [nw.col(column).min().alias(f"min {column}") for column in columns]
    asked += [nw.col(column).max().alias(f"max {column}") for column in columns]
    found = _rows(lazy.select(*asked).collect())[0]
    for name, metric in metrics.items():
        ends = [found[f"{end} {where.values[name]}"] for end in ("min", "max")]
        if None in ends:
            return True
        low, high = map(float, ends)
        if math.isnan(low) or math.isnan(high) or (metric.kind is Kind.COUNT and math.isinf(high)):
            return True
        if range_problem(metric, where.values[name], low, high, broken=False) is not None:
            return True
    return False


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


def _table(query: Frame) -> Table:
    frame = query.collect()
    return {name: frame.get_column(name).to_numpy() for name in frame.columns}


def _rows(frame: nw.DataFrame[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in frame.rows(named=True)]


def _problems(sums: Table, where: Columns, metrics: Mapping[str, Metric]) -> list[str]:
    """What is wrong with the values, of every column at once."""
    if not sums["rows"].size or not sums["rows"].sum():
        return ["the table has no rows"]
    # What is excluded may hold anything.
    counts = sums["side"] <= Side.CANARY
    sums = {name: column[counts] for name, column in sums.items()}
    found = []
    for name, metric in metrics.items():
        observed = sums[f"observed {name}"] > 0
        if not observed.any():
            continue
        # Extremes that were not asked for are known to be in range.
        low, high = 0.0, 1.0
        if f"low {name}" in sums:
            low = float(sums[f"low {name}"][observed].min())
            high = float(sums[f"high {name}"][observed].max())
        broken = False
        if f"squares {name}" in sums and metric.kind is Kind.PROPORTION and low >= 0 and high <= 1:
            # 0 and 1 are the only numbers in [0, 1] that are their own squares.
            totals, squares = (np.where(observed, sums[f"{part} {name}"], 0.0) for part in ("total", "squares"))
            broken = bool((totals - squares > 1e-12 * np.maximum(totals, 1)).any())
        if metric.kind is Kind.COUNT:
            broken = bool((np.where(observed, sums[f"total {name}"], 0.0) % 1).any()) or not np.isfinite(high)
        problem = range_problem(metric, where.values[name], low, high, broken=broken)
        if problem is not None:
            found.append(problem)
    if where.weight is not None:
        weights = sums["key1" if where.epoch is not None else "key0"].astype(float)
        odd = weights[~((weights >= 0) & (weights <= 1))]
        if odd.size:
            found.append(f"column {where.weight!r} has the value {odd[0]:g}; a weight is a share between 0 and 1")
    if where.bucket is not None and where.cluster is None:
        buckets = sums["group"].astype(float)
        odd = buckets[~((buckets >= 0) & (buckets < 200) & (buckets % 1 == 0))]
        if odd.size:
            found.append(f"column {where.bucket!r} has the value {odd[0]:g}; a bucket is a whole number from 0 to 199")
    return found


def _refuse_absent(sums: Table, lazy: Frame, version: str, *, stable: str, canary: str) -> None:
    sides = set(sums["side"].tolist())
    absent = [name for name, side in ((stable, Side.STABLE), (canary, Side.CANARY)) if side not in sides]
    # A version all of whose rows are excluded is there; its arm is empty, which is a status and no mistake.
    if not absent:
        return
    found = lazy.group_by(version).agg(nw.len().alias("rows")).collect()
    there = {str(row[version]): int(row["rows"]) for row in _rows(found) if row[version] is not None}
    absent = [name for name in absent if name not in there]
    if not absent:
        return
    shown = [f"{name} ({there[name]})" for name in sorted(there, key=lambda name: -there[name])[:_SHOWN]]
    more = f", … ({len(there)} in all)" if len(there) > _SHOWN else ""
    raise TableError(
        f"version {' and '.join(repr(name) for name in absent)} is not in column {version!r}; "
        f"it has {', '.join(shown) or 'no version'}{more}"
    )


def _refuse_duplicates(lazy: Frame, unit: str) -> None:
    """Refuse a table in which a conversation has two rows: every test would count it twice."""
    present = lazy.filter(~nw.col(unit).is_null())
    if lazy.implementation.is_duckdb():
        # Sorting the hashes takes a quarter of the time of grouping the ids, and equal ids have equal hashes.
        native: Any = present.to_native()
        quoted = unit.replace('"', '""')
        hashes = native.select(f'hash("{quoted}") AS h').fetchnumpy()["h"]
        hashes.sort()
        if not (hashes[1:] == hashes[:-1]).any():
            return
    twice = present.group_by(unit).agg(nw.len().alias("rows")).filter(nw.col("rows") > 1)
    number = int(_rows(twice.select(nw.len().alias("n")).collect())[0]["n"])
    if not number:
        return
    first = _rows(twice.sort(unit).head(1).collect())[0]
    raise TableError(
        f"{number} conversations have more than one row, {first[unit]!r} for example has {first['rows']}; "
        f"the table needs one row a conversation: name the right column as unit, or group the rows by {unit!r} first"
    )
