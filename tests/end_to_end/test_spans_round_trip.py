"""What the middleware emits as spans gives the same counts as what the store recorded."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

from agentcanary import Canary, CanaryMiddleware, current
from agentcanary.cli import app as commands
from agentcanary.config import parse_config
from agentcanary.store import Store
from agentcanary.store.database import Database
from agentcanary.store.tables import Tables
from agentcanary_analysis import Arm, Kind, frame_aggregates, read_spans

YAML = """
agent: support
stable: support-v1
canary: support-v2
look_every: 1s
horizon: 2s
canary_stages:
  - {name: half, weight: 0.5, duration_minutes: 30, min_requests: 50, checks: ["safety_violations == 0"]}
  - {name: full, weight: 1.0, duration_minutes: 0}
"""


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not happen"
        await asyncio.sleep(0.02)


def application(canary: Canary) -> FastAPI:
    app = FastAPI()
    app.add_middleware(CanaryMiddleware, canary=canary)

    @app.post("/chat")
    async def chat(body: dict[str, str]) -> dict[str, str]:
        assignment = current()
        assert assignment is not None
        if body["message"] == "fail":
            raise RuntimeError("the model is away")
        canary.record(assignment.unit, "task_completion", float(body["message"] == "done"))
        return {"version": assignment.version}

    return app


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A file of spans, and the URL of the store that the same 60 conversations were recorded in."""
    return asyncio.run(record(tmp_path_factory.mktemp("traffic")))


async def record(folder: Path) -> tuple[Path, str]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    config = parse_config(YAML, filename=str(folder / "canary.yaml"))
    canary = Canary(config, notifiers=[], tracer_provider=provider)
    await canary.start()
    try:
        await until(lambda: canary.view()[0].open and canary.clock() >= canary.view()[0].handover_until)
        transport = httpx.ASGITransport(app=application(canary), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://agent") as http:
            for number in range(60):
                for turn in range(1 + number % 2):
                    message = "fail" if number % 9 == 4 and turn else "done" if number % 5 else "open"
                    await http.post("/chat", json={"conversation_id": f"c-{number}", "message": message})
        rollout = canary.store.current("support")
        assert rollout is not None

        def counted() -> bool:
            tallies = canary.store.aggregates(rollout).tallies.items()
            return sum(t.units for cell, found in tallies if cell.metric == "error_rate" for t in found.values()) == 60

        await until(counted)
    finally:
        await canary.stop()
    spans = folder / "spans.jsonl"
    spans.write_text("".join(otlp(span) + "\n" for span in exporter.get_finished_spans()))
    return spans, config.store


def otlp(span: ReadableSpan) -> str:
    """A line of the Collector's file exporter with this span."""
    assert span.context is not None

    def attributes(found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        kinds = {bool: "boolValue", int: "intValue", float: "doubleValue", str: "stringValue"}
        return [{"key": key, "value": {kinds[type(value)]: value}} for key, value in (found or {}).items()]

    written = {
        "traceId": f"{span.context.trace_id:032x}",
        "spanId": f"{span.context.span_id:016x}",
        "name": span.name,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": attributes(span.attributes),
        "events": [
            {"name": event.name, "timeUnixNano": str(event.timestamp), "attributes": attributes(event.attributes)}
            for event in span.events
        ],
        "status": {"code": span.status.status_code.value},
    }
    resource = {"attributes": attributes(span.resource.attributes)}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [written]}]}]})


def test_spans_and_store_give_the_same_aggregates(traffic: tuple[Path, str]) -> None:
    file, url = traffic
    store = Store(url)
    rollout = store.current("support")
    assert rollout is not None
    counted = store.aggregates(rollout)
    metrics = [metric for metric in rollout.plan.metrics if metric.kind is not Kind.RATIO]
    database = Database(url)
    table = Tables(database).conversations(rollout, metrics, until=time.time(), reports=False)
    database.close()
    store.close()
    horizon = {metric.horizon for metric in metrics}
    assert horizon == {2.0}
    spans = read_spans(file, horizon=2.0)
    assert spans.seen["turns"] == 90
    of_spans = frame_aggregates(spans.frame, stable="support-v1", canary="support-v2")
    of_table = frame_aggregates(pd.DataFrame(table), stable="support-v1", canary="support-v2")
    assert of_spans.assigned == of_table.assigned
    for name in ("error_rate", "task_completion_rate"):
        for arm in Arm:
            there = counted.tally(name, 0, arm)
            assert there.units >= 10
            assert of_table.tally(name, 0, arm) == there
            assert of_spans.tally(name, 0, arm) == there
    for arm in Arm:
        bins = counted.histogram("p95_latency", 0, arm)
        assert sum(bins.values()) == counted.tally("error_rate", 0, arm).units
        assert of_table.histogram("p95_latency", 0, arm) == bins
        assert of_spans.histogram("p95_latency", 0, arm) == bins
    # The table carries the buckets that the store drew, so even the resampling is the same.
    assert of_table.tallies[next(iter(of_table.tallies))].keys() == counted.tallies[next(iter(of_table.tallies))].keys()


def test_analyze_reads_the_rollouts_own_store(traffic: tuple[Path, str]) -> None:
    result = CliRunner().invoke(commands, ["analyze", traffic[1], "--json"])
    assert result.exit_code == 11, result.output
    assert '"method": "anytime"' in result.stdout
    assert '"check": "error_rate_increase < 0.1"' in result.stdout
