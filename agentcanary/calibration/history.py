"""A frame of past conversations → what replays read. Pure; what is wrong with the frame is said, nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agentcanary.durations import format_duration
from agentcanary_analysis.histogram import GROWTH, INFINITE_BIN, LOWEST_BIN
from agentcanary_analysis.metrics import Kind, Metric

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY = 86400.0
LEAST_CONVERSATIONS = 200
_GAP = DAY
_MILLISECONDS = 1e11  # as seconds, the year 5138
MISSING_BIN = LOWEST_BIN - 1
_COLUMNS = {
    "turn.error": "error",
    "turn.latency": "latency_s",
    "task_completion": "completed",
    "safety_violation": "safety_violations",
    "satisfaction": "satisfaction",
}


class HistoryError(ValueError):
    """A history that cannot be replayed; the message says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Conversations of one version in the order of their beginning. Arrays have the shape (conversations,).

    Attributes:
        times: When they began, Unix seconds, ascending.
        units: Their ids.
        keys: What is hashed: the ids, or with ``sticky_by: user`` the users.
        users: The user of each, or None where no column says it.
        values: Per metric of the plan the value of each; NaN where it is missing.
        bins: Per quantile metric the histogram bin of each; ``MISSING_BIN`` where it is missing.
        violations: Confirmed safety violations of each; zeros where no column says it.
        hashes: A 64-bit hash of each id.
        notes: What is odd about it, a sentence each.
    """

    times: FloatArray
    units: tuple[str, ...]
    keys: tuple[str, ...]
    users: tuple[str, ...] | None
    values: Mapping[str, FloatArray]
    bins: Mapping[str, IntArray]
    violations: FloatArray
    hashes: npt.NDArray[np.uint64]
    notes: tuple[str, ...]

    @property
    def days(self) -> float:
        """From the first to the last conversation."""
        return float(self.times[-1] - self.times[0]) / DAY

    @property
    def per_hour(self) -> float:
        """Conversations an hour."""
        return len(self.times) / (self.days * 24)


def columns_of(metric: Metric) -> tuple[str, ...]:
    """The columns of a frame that may hold a metric's outcome, the usual one first."""
    return tuple(dict.fromkeys((_COLUMNS.get(metric.outcome, metric.outcome), metric.outcome, metric.name)))


def history_of(
    frame: Any,
    metrics: Sequence[Metric],
    *,
    version: str | None = None,
    sticky_by: str = "conversation",
    columns: Mapping[str, str] | None = None,
) -> History:
    """The conversations of one version, ready to be replayed.

    Args:
        frame: One row a conversation, with ``conversation_id``, ``started_at`` and any of ``version``, ``user_id``,
            ``error``, ``completed``, ``safety_violations``, ``satisfaction``, ``latency_s`` and the outcomes of the
            plan's own metrics: a pandas frame, or another that Narwhals knows.
        metrics: Those of the plan.
        version: Whose conversations; it may be left out where there is only one.
        sticky_by: ``user`` hashes the users, who then need a column.
        columns: Names of columns that are called otherwise: ``{"conversation_id": "session"}``.

    Raises:
        HistoryError: If the frame cannot be replayed.
    """
    named = {"conversation_id": "conversation_id", "started_at": "started_at", **(columns or {})}

    def column(name: str) -> str:
        return named.get(name, name)

    rows = _pandas(frame)
    for name in ("conversation_id", "started_at"):
        if column(name) not in rows.columns:
            raise HistoryError(
                f"the history has no column {column(name)!r}, only {', '.join(map(str, rows.columns))}; "
                f"a replay needs when each conversation began and its id"
            )
    rows, version_note = _one_version(rows, column("version"), version)
    if len(rows) < LEAST_CONVERSATIONS:
        raise HistoryError(f"the history has {len(rows)} conversations; a replay needs at least {LEAST_CONVERSATIONS}")
    times = _times(rows[column("started_at")])
    order = np.argsort(times, kind="stable")
    rows, times = rows.iloc[order], times[order]
    if not times[-1] > times[0]:
        raise HistoryError("all conversations of the history began at the same moment; nothing can be replayed")
    unnamed = int(rows[column("conversation_id")].isna().sum())
    if unnamed:
        raise HistoryError(f"{column('conversation_id')} is missing in {unnamed} of {len(rows)} rows; leave them out")
    units = tuple(rows[column("conversation_id")].astype(str))
    _refuse_repeated(units)
    users = _users(rows[column("user_id")], units) if column("user_id") in rows.columns else None
    if sticky_by == "user" and users is None:
        raise HistoryError("the plan is sticky_by: user, but the history has no column 'user_id'")
    values: dict[str, FloatArray] = {}
    violations = np.zeros(len(times))
    notes = [*version_note, *_gaps(times)]
    for metric in metrics:
        there = [name for name in map(column, columns_of(metric)) if name in rows.columns]
        if not there or metric.kind is Kind.RATIO:
            continue
        name = there[0]
        found = _values(rows[name], metric, name)
        missing = int(np.isnan(found).sum())
        if missing == len(found):
            notes.append(f"{metric.name}: every value is missing, so it is replayed as if it were never recorded")
            continue
        if metric.kind is Kind.COUNT:
            violations = violations + np.nan_to_num(found)
            continue
        if missing:
            notes.append(f"{metric.name}: {missing / len(found):.1%} of the values are missing, and stay missing")
        values[metric.name] = found
    quantiles = {metric.name for metric in metrics if metric.kind is Kind.QUANTILE} & values.keys()
    return History(
        times=times,
        units=units,
        keys=users if sticky_by == "user" and users is not None else units,
        users=users,
        values=values,
        bins={name: bins_of(values[name]) for name in quantiles},
        violations=violations,
        hashes=np.array([_hash(unit) for unit in units], dtype=np.uint64),
        notes=tuple(notes),
    )


def bins_of(values: FloatArray) -> IntArray:
    """``histogram.bin_of`` of many values; ``MISSING_BIN`` for NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.ceil(np.log(values) / np.log(GROWTH) - 1e-9)
    found = np.where(
        np.isnan(values), MISSING_BIN, np.clip(np.where(values > 1e-9, found, LOWEST_BIN), None, INFINITE_BIN)
    )
    return np.asarray(found, dtype=np.int64)


def _pandas(frame: Any) -> pd.DataFrame:
    import narwhals as nw

    try:
        found = nw.from_native(frame)
    except TypeError:
        raise HistoryError(f"the history must be a frame that Narwhals knows, got {type(frame).__name__}") from None
    eager = found.collect() if isinstance(found, nw.LazyFrame) else found
    return eager.to_pandas()


def _one_version(rows: pd.DataFrame, column: str, version: str | None) -> tuple[pd.DataFrame, list[str]]:
    if column not in rows.columns:
        return rows, []
    there = sorted(str(name) for name in rows[column].dropna().unique())
    if version is None:
        if len(there) > 1:
            raise HistoryError(f"the history holds the versions {', '.join(there)}; name the one to replay: version=")
        return rows, []
    if version not in there:
        raise HistoryError(f"the history holds no conversation of {version!r}, only of {', '.join(there) or 'none'}")
    kept = rows[rows[column].astype(str) == version]
    left_out = len(rows) - len(kept)
    return kept, [f"{left_out} conversations of other versions than {version} are left out"] if left_out else []


def _times(column: pd.Series[Any]) -> FloatArray:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        seconds = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if np.nanmax(np.abs(seconds), initial=0.0) > _MILLISECONDS:
            raise HistoryError(
                f"started_at must be Unix seconds or a time, got {seconds[0]:.0f}: are these milliseconds?"
            )
    else:
        try:
            when = pd.to_datetime(column, utc=True)
        except (ValueError, TypeError) as error:
            raise HistoryError(f"started_at cannot be read as a time: {error}") from None
        seconds = (when - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
    bad = ~np.isfinite(seconds)
    if bad.any():
        raise HistoryError(f"started_at is missing in {int(bad.sum())} of {len(seconds)} rows; leave those rows out")
    return np.asarray(seconds, dtype=np.float64)


def _users(column: pd.Series[Any], units: Sequence[str]) -> tuple[str, ...] | None:
    """The user of each conversation; one that nobody knows is a user of its own. None where nobody is known."""
    known = column.notna()
    if not known.any():
        return None
    return tuple(str(user) if there else f"\0{unit}" for user, there, unit in zip(column, known, units, strict=True))


def _refuse_repeated(units: Sequence[str]) -> None:
    if len(set(units)) < len(units):
        seen: set[str] = set()
        twice = next(unit for unit in units if unit in seen or seen.add(unit))  # type: ignore[func-returns-value]  # set.add returns None, which is false
        raise HistoryError(
            f"{len(units) - len(set(units))} rows repeat a conversation, such as {twice!r}; a history has one row each"
        )


def _values(column: pd.Series[Any], metric: Metric, name: str) -> FloatArray:
    import pandas as pd

    try:
        numbers = pd.to_numeric(column).astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise HistoryError(f"column {name!r} of {metric.name} must hold numbers: {error}") from None
    bad = ~np.isnan(numbers)
    match metric.kind:
        case Kind.PROPORTION:
            bad &= (numbers != 0) & (numbers != 1)
            rule = "0 or 1"
        case Kind.QUANTILE:
            bad &= ~(numbers >= 0)
            rule = "0 or more"
        case Kind.COUNT:
            bad &= ~((numbers >= 0) & np.isfinite(numbers))
            rule = "a count of 0 or more"
        case _:
            bad &= ~np.isfinite(numbers)
            rule = "finite"
    if bad.any():
        where = int(np.flatnonzero(bad)[0])
        raise HistoryError(
            f"column {name!r} of {metric.name} must be {rule}, got {numbers[where]:g} ({int(bad.sum())} such rows)"
        )
    return np.asarray(numbers, dtype=np.float64)


def _gaps(times: FloatArray) -> list[str]:
    import pandas as pd

    waits = np.diff(times)
    long = np.flatnonzero(waits >= _GAP)
    return [
        f"a gap: no conversation began for {format_duration(float(round(waits[place] / 60) * 60))} after "
        f"{pd.Timestamp(times[place], unit='s'):%Y-%m-%d %H:%M} UTC; "
        f"replays that meet this gap wait in it, as a rollout would"
        for place in long
    ]


def _hash(unit: str) -> int:
    return int.from_bytes(blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8).digest())
