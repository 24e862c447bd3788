"""Tables of conversations → counts, where the rows are: pandas, Polars, DuckDB, PyArrow, PySpark, Ibis. Pure.

One expression through Narwhals for all of them, so the counts are equal everywhere. Two passes over the rows: one for
sums, one for histograms. What comes back has a size that does not depend on the number of rows.

Missing values stay missing; a NaN is one too, on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
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
)
from agentcanary_analysis.frame_queries import bins_query, grouped_rows, is_whole, keyed_rows, sums_query
from agentcanary_analysis.frame_values import out_of_range, problems_of, refuse_absent, refuse_duplicates, rows_of
from agentcanary_analysis.metrics import Kind, Metric

Frame = nw.LazyFrame[Any]
Progress = Callable[[str], None]

_MOST_EPOCHS = 1000


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
    whole = {name for name, dtype in schema.items() if is_whole(dtype)}
    kept = {metric.name: metric for metric in metrics if metric.name in where.values}
    tell("reading")
    cuts = _cuts(lazy, where, slices, complete=needs_times)
    group, lazy = grouped_rows(lazy, where)
    keyed = keyed_rows(lazy, where, stable, canary, group, cuts)
    tell("counting")
    extremes = out_of_range(lazy, where, kept)
    sums = _table(sums_query(keyed, where, kept, whole, extremes=extremes))
    problems = problems_of(sums, where, kept)
    if problems:
        raise TableError("; ".join(problems))
    refuse_absent(sums, lazy, where.version, stable=stable, canary=canary)
    tell("histograms")
    counted_rows = keyed.filter(nw.col("side").is_in([int(Side.STABLE), int(Side.CANARY)]))
    bins = {
        name: _table(bins_query(counted_rows, where.values[name], by_group=cluster is not None))
        for name, metric in kept.items()
        if metric.kind is Kind.QUANTILE
    }
    if unit is not None:
        tell("looking for conversations that occur twice")
        refuse_duplicates(lazy, unit)
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


def _cuts(lazy: Frame, where: Columns, slices: int, *, complete: bool) -> list[Any]:
    """The times at which a new slice begins, the first left out; empty without times."""
    if slices < 2 or where.started_at is None:
        return []
    column = nw.col(where.started_at)
    known = [column.min().alias("first"), column.max().alias("last"), column.null_count().alias("unknown")]
    ends = rows_of(lazy.select(*known).collect())[0]
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


def _table(query: Frame) -> Table:
    frame = query.collect()
    return {name: frame.get_column(name).to_numpy() for name in frame.columns}
