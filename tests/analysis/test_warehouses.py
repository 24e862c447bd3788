"""A cluster and a warehouse give the same answer: PySpark in local mode, Ibis on ClickHouse (chDB). Slow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ibis
import narwhals as nw
import numpy as np
import pandas as pd
import pytest

from agentcanary_analysis import AnalysisResult, analyze_result, clickhouse_view, frame_aggregates, read_spans
from agentcanary_analysis.frame_columns import default_metrics, find_columns
from agentcanary_analysis.frame_queries import bins_query, grouped_rows, keyed_rows, sums_query

pytestmark = pytest.mark.slow


def table(rows: int = 4000) -> pd.DataFrame:
    rng = np.random.default_rng(13)
    canary = rng.random(rows) < 0.3
    return pd.DataFrame(
        {
            "conversation_id": [f"c-{number}" for number in range(rows)],
            "version": np.where(canary, "v2", "v1"),
            "user_id": [f"u-{number}" for number in rng.integers(0, 500, rows)],
            "error": (rng.random(rows) < np.where(canary, 0.09, 0.05)).astype(float),
            "completed": np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows) < 0.85),
            "satisfaction": np.where(rng.random(rows) < 0.6, np.nan, rng.integers(1, 6, rows)),
            "latency_s": rng.lognormal(0.5, 0.8, rows),
            "started_at": pd.Timestamp("2026-01-05") + pd.to_timedelta(np.arange(rows) * 30, unit="s"),
            "weight": np.where(np.arange(rows) < rows // 3, 0.25, 0.35),
            "bucket": rng.integers(0, 200, rows),
        }
    )


def same(found: AnalysisResult, expected: AnalysisResult) -> None:
    """Equal but for the last digits of sums, which add up in another order."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.9g}")
        if isinstance(value, dict):
            return {key: rounded(one) for key, one in value.items()}
        return [rounded(one) for one in value] if isinstance(value, list) else value

    assert rounded(found.to_dict()) == rounded(expected.to_dict())


WAYS: dict[str, dict[str, Any]] = {
    "one look": {},
    "by cluster": {"cluster": "user_id"},
    "any look": {"method": "anytime"},
    "scheduled looks": {"method": "group-sequential"},
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pyspark_sql = pytest.importorskip("pyspark.sql", reason="PySpark is in the dependency group slow")
    folder = tmp_path_factory.mktemp("spark")
    session = (
        pyspark_sql.SparkSession.builder.master("local[2]")
        .appName("agentcanary")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.warehouse.dir", str(folder))
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.needs("java")
@pytest.mark.filterwarnings("ignore")  # PySpark's own
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_spark_gives_the_same_report(way: dict[str, Any], spark: Any, tmp_path: Path) -> None:
    frame = table()
    path = tmp_path / "table.parquet"
    frame.to_parquet(path, coerce_timestamps="us")
    found = analyze_result(spark.read.parquet(str(path)), stable="v1", canary="v2", **way)
    same(found, analyze_result(frame, stable="v1", canary="v2", **way))


@pytest.mark.needs("java")
@pytest.mark.filterwarnings("ignore")  # PySpark's own
def test_spark_makes_uniform_buckets(spark: Any, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table().drop(columns="bucket").to_parquet(path, coerce_timestamps="us")
    found = frame_aggregates(spark.read.parquet(str(path)), stable="v1", canary="v2")
    rows = np.zeros(200)
    for cell, buckets in found.tallies.items():
        if cell.metric == "error_rate":
            for bucket, tally in buckets.items():
                rows[bucket] += tally.units
    assert rows.sum() == 4000
    assert rows.min() >= 4
    assert rows.max() <= 45


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    session_module = pytest.importorskip("chdb.session", reason="chDB is in the dependency group slow")
    session = session_module.Session(str(tmp_path_factory.mktemp("clickhouse")))
    session.query("CREATE DATABASE otel")
    yield session
    session.cleanup()


def seconds(nanoseconds: str) -> str:
    """With all nine digits behind the point."""
    return f"{nanoseconds[:-9]}.{nanoseconds[-9:]}"


def rows_of(session: Any, query: str) -> pd.DataFrame:
    """The rows of a query; infinite numbers come as text."""
    lines = str(session.query(f"{query} SETTINGS output_format_json_quote_denormals = 1", "JSONEachRow")).splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


OTEL_TRACES = """
CREATE TABLE otel.otel_traces (
  Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
  SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String),
  ResourceAttributes Map(LowCardinality(String), String), ScopeName String, ScopeVersion String,
  SpanAttributes Map(LowCardinality(String), String), Duration UInt64, StatusCode LowCardinality(String),
  StatusMessage String,
  Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)),
  Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String))
) ENGINE = MergeTree ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
"""  # as the Collector's ClickHouse exporter makes it


def otlp_spans() -> list[dict[str, Any]]:
    """Our own turns, traces of other tracers, late and broken evaluations, turns beyond the horizon."""
    rng = np.random.default_rng(3)
    spans: list[dict[str, Any]] = []
    start = 1_767_600_000_000_000_000

    def add(number: int, at: float, seconds: float, attributes: dict[str, Any], **more: Any) -> None:
        begun = start + round(at * 1e9)
        spans.append(
            {
                "traceId": f"{more.get('trace', number):032x}",
                "spanId": f"{number + 1:016x}",
                "parentSpanId": more.get("parent", ""),
                "name": "span",
                "startTimeUnixNano": str(begun),
                "endTimeUnixNano": str(begun + round(seconds * 1e9)),
                "attributes": attributes,
                "status": {"code": 2} if more.get("failed") else {},
                "events": [
                    {
                        "name": "gen_ai.evaluation.result",
                        "timeUnixNano": str(begun + round(late * 1e9)),
                        "attributes": said,
                    }
                    for late, said in more.get("events", [])
                ],
            }
        )

    for number in range(300):
        version = f"v{1 + number % 2}"
        attributes = {
            "agentcanary.turn": f"t-{number}",
            "gen_ai.conversation.id": f"c-{number // 2}",
            "gen_ai.agent.version": version,
            "agentcanary.outcome": "error" if rng.random() < 0.1 else "ok",
            "agentcanary.weight": "0.5",
            "agentcanary.epoch": "1",
        }
        late = float(rng.choice([1.0, 100.0, 5000.0]))
        value = {"gen_ai.evaluation.name": "task_completion", "gen_ai.evaluation.score.value": str(number % 3 % 2)}
        rating = {
            "gen_ai.evaluation.name": "satisfaction",
            "gen_ai.evaluation.score.value": "4" if number % 5 else "good",
        }
        add(number, number * 7.0 + (3000 if number % 20 == 1 else 0), float(rng.lognormal()), attributes,
            parent="f" * 16 if number % 3 else "", events=[(late, value), (0.5, rating)])  # fmt: skip
    for number in range(300, 400):
        add(number, float(number), 2.5, {"session.id": f"s-{number % 60}"}, failed=number % 9 == 0)
        add(1000 + number, float(number), 1.0, {"gen_ai.agent.version": "v1", "user.id": "u"},
            trace=number, parent=f"{number + 1:016x}", failed=True)  # fmt: skip
    return spans


def test_the_view_on_otel_traces_gives_what_the_files_give(clickhouse: Any, tmp_path: Path) -> None:
    spans = otlp_spans()
    path = tmp_path / "spans.jsonl"
    path.write_text(
        "".join(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}) + "\n" for one in spans)
    )
    expected = read_spans(path).frame
    rows = [
        {
            "Timestamp": seconds(one["startTimeUnixNano"]),
            "TraceId": one["traceId"],
            "SpanId": one["spanId"],
            "ParentSpanId": one["parentSpanId"],
            "SpanAttributes": one["attributes"],
            "Duration": int(one["endTimeUnixNano"]) - int(one["startTimeUnixNano"]),
            "StatusCode": "Error" if one["status"] else "Unset",
            "Events.Timestamp": [seconds(event["timeUnixNano"]) for event in one["events"]],
            "Events.Name": [event["name"] for event in one["events"]],
            "Events.Attributes": [event["attributes"] for event in one["events"]],
        }
        for one in spans
    ]
    table_file = tmp_path / "rows.jsonl"
    table_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    clickhouse.query(OTEL_TRACES)
    columns = {
        "Timestamp": "DateTime64(9)",
        "TraceId": "String",
        "SpanId": "String",
        "ParentSpanId": "String",
        "SpanAttributes": "Map(LowCardinality(String), String)",
        "Duration": "UInt64",
        "StatusCode": "String",
        "Events.Timestamp": "Array(DateTime64(9))",
        "Events.Name": "Array(LowCardinality(String))",
        "Events.Attributes": "Array(Map(LowCardinality(String), String))",
    }
    names = ", ".join(f"`{name}`" for name in columns)
    schema = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
    clickhouse.query(
        f"INSERT INTO otel.otel_traces ({names}) SELECT {names} FROM file('{table_file}', JSONEachRow, '{schema}')"
    )
    clickhouse.query(clickhouse_view("otel.conversations", table="otel.otel_traces"))
    found = rows_of(clickhouse, "SELECT * FROM otel.conversations")
    assert len(found) == len(expected)
    compared = ["version", "turns", "error", "latency_s", "epoch", "weight", "completed", "satisfaction"]
    merged = expected.merge(found, on="conversation_id", suffixes=("", "_found"), validate="one_to_one")
    assert len(merged) == len(expected)
    for column in compared:
        mine, theirs = merged[column], merged[f"{column}_found"]
        if column == "version":
            assert mine.fillna("").tolist() == theirs.fillna("").tolist()
        else:
            np.testing.assert_allclose(
                pd.to_numeric(mine, errors="raise"), pd.to_numeric(theirs, errors="raise"), rtol=0, atol=1e-6
            )


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # Ibis 12 on DuckDB 2
def test_what_ibis_compiles_for_clickhouse_gives_the_same_counts(clickhouse: Any, tmp_path: Path) -> None:
    """Ibis needs a server to run; here it compiles, and chDB, the same engine, runs what it compiled."""
    frame = table()
    path = tmp_path / "table.parquet"
    frame.to_parquet(path, coerce_timestamps="us")
    clickhouse.query(f"CREATE TABLE otel.outcomes ENGINE = Memory AS SELECT * FROM file('{path}', Parquet)")
    in_duckdb = ibis.duckdb.connect().read_parquet(str(path))
    unbound = ibis.table(in_duckdb.schema(), name="outcomes", database="otel")
    metrics = {metric.name: metric for metric in default_metrics()}
    where = find_columns(frame.columns.tolist(), metrics=tuple(metrics.values()))
    kept = {name: metrics[name] for name in where.values}

    def keyed(made: Any) -> Any:
        group, lazy = grouped_rows(nw.from_native(made).lazy().select(*where.needed), where)
        return keyed_rows(lazy, where, "v1", "v2", group, [])

    queries: list[Callable[[Any], Any]] = [
        lambda rows: sums_query(rows, where, kept, set()),
        lambda rows: bins_query(rows, "latency_s", by_group=True),
    ]
    for query in queries:
        sql = str(ibis.to_sql(query(keyed(unbound)).to_native(), dialect="clickhouse"))
        here = pd.DataFrame(query(keyed(frame)).collect().to_dict(as_series=False))
        there = rows_of(clickhouse, sql)
        keys = [name for name in here.columns if name in ("side", "slice", "group", "bin") or name.startswith("key")]
        found, expected = (
            one[sorted(here.columns)].astype(float).sort_values(keys).reset_index(drop=True) for one in (there, here)
        )
        pd.testing.assert_frame_equal(found, expected)
