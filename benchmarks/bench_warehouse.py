"""Ten million conversations in Parquet to a verdict, beside a bare GROUP BY, pandas and tea-tasting's three means.

Six metrics, clusters by user, p95. Every variant runs in a process of its own, so that memory is told apart, and all of
them in every round, in changing order. The table is made by a seeded query into a temporary folder and deleted.

    PYTHONPATH=. python benchmarks/bench_warehouse.py [--rows 10000000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.interleaved import keep

MOST_SECONDS, MOST_MEGABYTES = 4.0, 600.0
PROPORTIONS_AND_MEANS = ("error", "completed", "safety_violations", "satisfaction", "cost_usd")
CHECKS = (
    "error_rate_increase < 0.10",
    "task_completion_regression < 0.05",
    "p95_latency_increase < 0.50",
    "safety_violations == 0",
    "satisfaction_regression < 0.05",
    "cost_increase < 0.20",
)
# Uniform numbers from a hash of the row's number: the same table on every machine.
TABLE = """
COPY (
  WITH drawn AS (
    SELECT i, hash(i * 7 + 1) AS who,
      [hash(i * 7 + k) / 18446744073709551616.0 FOR k IN [2, 3, 4, 5]] AS u
    FROM range({rows}) AS numbers(i)
  )
  SELECT
    'c-' || lpad(i::VARCHAR, 8, '0') AS conversation_id,
    CASE WHEN u[1] < 0.2 THEN 'support-v2' ELSE 'support-v1' END AS version,
    'u-' || lpad((who % greatest({rows} // 10, 1))::VARCHAR, 7, '0') AS user_id,
    (u[2] < 0.05)::TINYINT AS error,
    CASE WHEN u[3] < 0.9 THEN (u[2] < 0.85)::TINYINT END AS completed,
    0::TINYINT AS safety_violations,
    CASE WHEN u[4] < 0.3 THEN 1 + floor(u[3] * 5) END AS satisfaction,
    exp(0.5 + 0.8 * sqrt(-2 * ln(greatest(u[3], 1e-12))) * cos(2 * pi() * u[4])) AS latency_s,
    0.01 * u[4] AS cost_usd,
    TIMESTAMP '2026-01-01' + INTERVAL (i * 0.3) SECOND AS started_at
  FROM drawn
) TO '{path}' (FORMAT parquet)
"""


def ours(path: str) -> Any:
    from agentcanary_analysis import Direction, Kind, Metric, analyze_result

    cost = Metric(name="cost", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="cost_usd")
    result = analyze_result(
        path,
        stable="support-v1",
        canary="support-v2",
        checks=CHECKS,
        metrics=[cost],
        cluster="user_id",
        weight=0.2,
    )
    return {"verdict": result.verdict.value, "statuses": [check.status.value for check in result.checks]}


def bare_group_by(path: str) -> Any:
    import duckdb

    sums = ", ".join(f"count({m}), sum({m}), sum({m} * {m})" for m in PROPORTIONS_AND_MEANS)
    query = f"SELECT version, count(*), {sums}, approx_quantile(latency_s, 0.95) FROM '{path}' GROUP BY version"
    return len(duckdb.connect().execute(query).fetchall())


def with_pandas(path: str) -> Any:
    import pandas as pd

    columns = ["version", *PROPORTIONS_AND_MEANS, "latency_s"]
    grouped = pd.read_parquet(path, columns=columns).groupby("version")
    sums = grouped[list(PROPORTIONS_AND_MEANS)].agg(["count", "mean", "var"])
    return len(sums), grouped.latency_s.quantile(0.95).to_dict()


def tea_tasting_means(path: str) -> Any:
    import ibis
    import tea_tasting as tt

    table = ibis.duckdb.connect().read_parquet(path)
    names = ("error", "cost_usd", "latency_s")
    experiment = tt.Experiment({name: tt.Mean(name) for name in names}, variant="version")
    return experiment.analyze(table, control="support-v1").to_dicts()[0]["metric"]


VARIANTS: dict[str, Callable[[str], Any]] = {
    "agentcanary: verdict on six metrics, by user": ours,
    "DuckDB: bare GROUP BY, no clusters, no test": bare_group_by,
    "pandas: counts, means, variances, p95, no clusters, no test": with_pandas,
    "tea-tasting: three means through Ibis on DuckDB": tea_tasting_means,
}
# Imported before the clock starts: a notebook has done that long ago.
IMPORTS = ("duckdb", "pandas", "scipy.special", "agentcanary_analysis.comparison", "ibis", "tea_tasting")


def worker(name: str, path: str) -> None:
    wanted = dict(zip(VARIANTS, (4, 1, 2, 6), strict=True))
    for module in IMPORTS[: wanted[name]]:
        __import__(module)
    begun, cpu = time.perf_counter(), time.process_time()
    said = VARIANTS[name](path)
    seconds, used = time.perf_counter() - begun, time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "megabytes": megabytes, "said": repr(said)}))


def run(name: str, path: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--worker", name, "--table", path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=VARIANTS)
    parser.add_argument("--table")
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.worker, asked.table)
        return
    load = [os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "conversations.parquet")
        import duckdb

        duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}).execute(TABLE.format(rows=asked.rows, path=path))
        size = Path(path).stat().st_size / 1e6
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
        names = list(VARIANTS)
        for number in range(asked.rounds):
            for position in range(len(names)):
                name = names[(position + number) % len(names)]
                found[name].append(run(name, path))
            load.append(os.getloadavg())
    base = found["DuckDB: bare GROUP BY, no clusters, no test"]
    print(f"{asked.rows:,} conversations, {size:.0f} MB of Parquet; load averages {[round(one[0], 1) for one in load]}")
    print(f"{'variant':62s} {'s':>6s} {'CPU s':>6s} {'MB':>6s} {'x GROUP BY':>11s}")
    rows = []
    for name, rounds in found.items():
        ratios = [one["seconds"] / other["seconds"] for one, other in zip(rounds, base, strict=True)]
        row = {
            "variant": name,
            **{
                measure: {
                    "min": min(one[measure] for one in rounds),
                    "median": statistics.median(one[measure] for one in rounds),
                    "max": max(one[measure] for one in rounds),
                }
                for measure in ("seconds", "cpu_seconds", "megabytes")
            },
            "ratio": {"min": min(ratios), "median": statistics.median(ratios), "max": max(ratios)},
            "said": rounds[0]["said"],
        }
        rows.append(row)
        seconds, cpu, megabytes, ratio = (
            row[key]["median"] for key in ("seconds", "cpu_seconds", "megabytes", "ratio")
        )
        print(f"{name:62s} {seconds:6.2f} {cpu:6.2f} {megabytes:6.0f} {ratio:11.2f}")
    mine = rows[0]
    passed = mine["seconds"]["min"] <= MOST_SECONDS and mine["megabytes"]["max"] <= MOST_MEGABYTES
    print(f"verdict within {MOST_SECONDS} s (best round) and {MOST_MEGABYTES:.0f} MB: {passed}")
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=Path(__file__).parent
    ).stdout.strip()
    keep(
        "warehouse",
        title=f"{asked.rows} conversations in Parquet to a verdict",
        rows=asked.rows,
        rounds=asked.rounds,
        load_averages=load,
        commit=commit,
        machine={"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("duckdb", "pandas", "narwhals", "numpy", "tea-tasting")},
        },
        within_limits=passed,
        variants=rows,
    )


if __name__ == "__main__":
    main()
