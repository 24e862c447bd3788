"""What is refused once a table's values are seen: what is out of range, absent or there twice. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import narwhals as nw
import numpy as np

from agentcanary_analysis.counted import Side, Table
from agentcanary_analysis.frame_columns import Columns, TableError, range_problem
from agentcanary_analysis.metrics import Kind, Metric

Frame = nw.LazyFrame[Any]

_SHOWN = 8


def out_of_range(lazy: Frame, where: Columns, metrics: Mapping[str, Metric]) -> bool:
    """True if some value of the table, counted or not, may be one that cannot be counted.

    Files know the extremes of their columns; by key they cost a quarter of a pass over the rows.
    """
    columns = dict.fromkeys(where.values[name] for name in metrics)
    asked = [nw.col(column).min().alias(f"min {column}") for column in columns]
    asked += [nw.col(column).max().alias(f"max {column}") for column in columns]
    found = rows_of(lazy.select(*asked).collect())[0]
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


def problems_of(sums: Table, where: Columns, metrics: Mapping[str, Metric]) -> list[str]:
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


def refuse_absent(sums: Table, lazy: Frame, version: str, *, stable: str, canary: str) -> None:
    """Refuse a version that the table does not have; one whose rows are all excluded is there.

    Args:
        sums: What was counted.
        lazy: The table.
        version: Its column of versions.
        stable: Name of the stable version.
        canary: Name of the canary version.

    Raises:
        TableError: Naming the versions that are there.
    """
    sides = set(sums["side"].tolist())
    absent = [name for name, side in ((stable, Side.STABLE), (canary, Side.CANARY)) if side not in sides]
    # A version all of whose rows are excluded is there; its arm is empty, which is a status and no mistake.
    if not absent:
        return
    found = lazy.group_by(version).agg(nw.len().alias("rows")).collect()
    there = {str(row[version]): int(row["rows"]) for row in rows_of(found) if row[version] is not None}
    absent = [name for name in absent if name not in there]
    if not absent:
        return
    shown = [f"{name} ({there[name]})" for name in sorted(there, key=lambda name: -there[name])[:_SHOWN]]
    more = f", … ({len(there)} in all)" if len(there) > _SHOWN else ""
    raise TableError(
        f"version {' and '.join(repr(name) for name in absent)} is not in column {version!r}; "
        f"it has {', '.join(shown) or 'no version'}{more}"
    )


def refuse_duplicates(lazy: Frame, unit: str) -> None:
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
    number = int(rows_of(twice.select(nw.len().alias("n")).collect())[0]["n"])
    if not number:
        return
    first = rows_of(twice.sort(unit).head(1).collect())[0]
    raise TableError(
        f"{number} conversations have more than one row, {first[unit]!r} for example has {first['rows']}; "
        f"the table needs one row a conversation: name the right column as unit, or group the rows by {unit!r} first"
    )


def rows_of(frame: nw.DataFrame[Any]) -> list[dict[str, Any]]:
    """The rows of a small result."""
    return [dict(row) for row in frame.rows(named=True)]
