"""Which column of a table means what, and what is refused before anything is counted. Pure, standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from agentcanary_analysis.metrics import BUILT_IN, SAFETY_VIOLATIONS, Kind, Metric


class TableError(ValueError):
    """A table that cannot be analysed; the message names the column, the value and what is needed instead."""


class ColumnKind(StrEnum):
    """What a column may hold, as far as it matters here."""

    NUMBER = "numbers"
    TEXT = "text"
    TIME = "times"
    OTHER = "something else"


# The columns of the article's metrics, by the metric that reads them.
METRIC_COLUMNS = {
    "error_rate": "error",
    "task_completion_rate": "completed",
    "p95_latency": "latency_s",
    "safety_violations": "safety_violations",
    "user_satisfaction": "satisfaction",
}
_OPTIONAL = ("started_at", "epoch", "weight", "bucket", "excluded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where everything is.

    Attributes:
        version: Column of the version that a conversation was assigned to.
        unit: Column of its id; None takes every row as a conversation of its own.
        cluster: Column of the user, task, … that several conversations share; None for none.
        strata: Columns whose values are kept apart, as epochs are.
        started_at: Column of the time of the first turn, or None.
        epoch: Column of the epoch, or None.
        weight: Column of the share that the canary was to get then, or None.
        bucket: Column of the resampling bucket, 0 … 199, or None.
        excluded: Column of the reason why a row is in no statistic, empty for the others, or None.
        values: Per metric the column of its values, in order.
    """

    version: str
    unit: str | None
    cluster: str | None = None
    strata: tuple[str, ...] = ()
    started_at: str | None = None
    epoch: str | None = None
    weight: str | None = None
    bucket: str | None = None
    excluded: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[str, ...]:
        """Every column that is read, each once."""
        single = (self.version, self.unit, self.cluster, self.started_at, self.epoch, self.weight, self.bucket)
        found = [name for name in (*single, self.excluded, *self.strata, *self.values.values()) if name is not None]
        return tuple(dict.fromkeys(found))


def find_columns(
    there: Sequence[str],
    *,
    metrics: Sequence[Metric],
    unit: str | None = "conversation_id",
    cluster: str | None = None,
    strata: Sequence[str] = (),
    mapping: Mapping[str, str] | None = None,
    wanted: Collection[str] = (),
) -> Columns:
    """The columns of a table.

    Args:
        there: Its columns.
        metrics: Metrics that may be asked for.
        unit: Column of the conversation's id.
        cluster: Column of the cluster.
        strata: Columns whose values are kept apart.
        mapping: Names of this table by ours: ``{"latency_s": "duration", "version": "model"}``.
        wanted: Metrics that must be there; the others are taken if they are.

    Raises:
        TableError: If a column is not there, or ``mapping`` names nothing that is read.

    >>> find_columns(["id", "version", "error"], metrics=BUILT_IN, unit="id").values
    {'error_rate': 'error'}
    """
    ours = {metric.name: METRIC_COLUMNS.get(metric.name, metric.outcome) for metric in metrics}
    given = dict(mapping or {})
    known = {"version", *_OPTIONAL, *ours, *ours.values()}
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise TableError(f"columns: {name!r} is nothing that is read; {hint}")
    missing: dict[str, str] = {}

    def must(ours_name: str, theirs: str) -> str:
        if theirs not in there:
            missing[ours_name] = theirs
        return theirs

    version = must("version", given.get("version", "version"))
    if unit is not None:
        must("unit", unit)
    if cluster is not None:
        must("cluster", cluster)
    for stratum in strata:
        must("strata", stratum)
    optional: dict[str, str | None] = {}
    for name in _OPTIONAL:
        theirs = given.get(name, name)
        optional[name] = must(name, theirs) if name in given else theirs if theirs in there else None
    values = {}
    for metric in metrics:
        theirs = given.get(metric.name, given.get(ours[metric.name], ours[metric.name]))
        if metric.name in wanted or metric.name in given or ours[metric.name] in given:
            must(metric.name, theirs)
        if theirs in there:
            values[metric.name] = theirs
    if missing:
        raise TableError(_missing(missing, there))
    if not values:
        columns = sorted(ours.values())
        raise TableError(f"the table has none of the columns {', '.join(columns)}; it has {_listed(there)}")
    return Columns(version=version, unit=unit, cluster=cluster, strata=tuple(strata), values=values, **optional)


def _missing(missing: Mapping[str, str], there: Sequence[str]) -> str:
    parts = []
    for ours, theirs in missing.items():
        near = difflib.get_close_matches(theirs, there, n=1, cutoff=0.7)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        parts.append(f"{theirs!r}{'' if ours == theirs else f' for {ours}'}{hint}")
    return (
        f"the table has no column {', '.join(parts)}; it has {_listed(there)}. "
        "Needed are a unit (conversation_id), version and a column for each check; other names are given as columns: "
        '{"latency_s": "duration"}, on the command line --column latency_s=duration'
    )


def _listed(there: Sequence[str]) -> str:
    shown = ", ".join(there[:40])
    return f"{shown}, … ({len(there)} columns)" if len(there) > 40 else shown or "no columns"


def check_kinds(columns: Columns, kinds: Mapping[str, ColumnKind]) -> None:
    """Refuse columns that hold what cannot be counted.

    Args:
        columns: What is read.
        kinds: What each column holds.

    Raises:
        TableError: Naming the column.
    """
    numbers = {column: f"the values of {metric}" for metric, column in columns.values.items()}
    numbers |= {name: what for name, what in ((columns.weight, "weights"), (columns.bucket, "buckets")) if name}
    for column, what in numbers.items():
        if kinds[column] is not ColumnKind.NUMBER:
            raise TableError(
                f"column {column!r} holds {kinds[column].value}, and {what} must be numbers; "
                "write 0 and 1 for no and yes, seconds for times, and leave missing values empty"
            )
    if columns.started_at and kinds[columns.started_at] is ColumnKind.OTHER:
        raise TableError(f"column {columns.started_at!r} must hold times or Unix seconds")


def as_recorded(metric: Metric) -> Metric:
    """The metric as a table has it: a conversation without a value is missing, never without the event.

    >>> from agentcanary_analysis.metrics import ERROR_RATE
    >>> as_recorded(ERROR_RATE).always_measured
    False
    """
    return metric if metric.kind is Kind.COUNT else replace(metric, always_measured=False)


def range_problem(metric: Metric, column: str, low: float, high: float, *, broken: bool) -> str | None:
    """What is wrong with a column's values, or None.

    Args:
        metric: What the column is of.
        column: Its name.
        low: The smallest value.
        high: The largest.
        broken: Some value of a proportion lies between 0 and 1, or some count is no whole number.

    >>> from agentcanary_analysis.metrics import ERROR_RATE
    >>> range_problem(ERROR_RATE, "error", 0, 2, broken=False)
    "column 'error' has the value 2; error_rate needs 0 (no) or 1 (yes)"
    """
    if metric.kind is Kind.PROPORTION:
        odd = low if low < 0 else high if high > 1 else None
        if odd is not None:
            return f"column {column!r} has the value {odd:g}; {metric.name} needs 0 (no) or 1 (yes)"
        if broken:
            return f"column {column!r} has values between 0 and 1; {metric.name} needs 0 (no) or 1 (yes)"
    elif metric.kind is Kind.QUANTILE:
        if low < 0:
            return f"column {column!r} has the value {low:g}; {metric.name} needs values of 0 and more"
    elif metric.kind is Kind.COUNT:
        if low < 0 or broken:
            return f"column {column!r} has {low:g} or a broken number; {metric.name} needs whole numbers of 0 and more"
    elif not (abs(low) < 1e30 and abs(high) < 1e30):
        odd = low if abs(low) >= 1e30 else high
        return f"column {column!r} has the value {odd:g}; {metric.name} needs finite numbers below 1e30"
    return None


def default_metrics(extra: Sequence[Metric] = ()) -> tuple[Metric, ...]:
    """The article's metrics and the caller's own, as tables have them; one of the same name replaces ours.

    >>> [metric.name for metric in default_metrics()][:2]
    ['error_rate', 'task_completion_rate']
    """
    metrics = {metric.name: as_recorded(metric) for metric in (*BUILT_IN, *extra)}
    for metric in metrics.values():
        if metric.kind is Kind.RATIO:
            raise ValueError(f"{metric.name} is a ratio over turns; a table of conversations has no turns")
        if metric.kind is Kind.COUNT and metric.name != SAFETY_VIOLATIONS.name:
            raise ValueError(f"{metric.name} is a count; only safety_violations is one in a table")
    return tuple(metrics.values())
