"""Every degraded mode has a meaning, a metric, a log event and a line in ``status``: a new one fails here without."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import agentcanary
from agentcanary.cli.output import Line
from agentcanary.cli.status_view import status_lines
from agentcanary.degraded import KINDS, LOG_EVERY, Degraded, meaning
from agentcanary.status.situation import Situation
from agentcanary.status.status_data import status_data
from agentcanary.store import Worker
from agentcanary.telemetry import Telemetry
from agentcanary_analysis.aggregates import Aggregates
from agentcanary_analysis.verdict import Findings
from tests.faults.world import rollout_under_way

SOURCE = Path(agentcanary.__file__).parent
REPORTERS = {"degraded", "_degraded", "on_failure", "_on_failure"}
# Counted by themselves, under names that are put together.
OTHERS = {"no_conversation_id"}


def reported() -> Iterator[tuple[str, str]]:
    """Every kind that the source reports, and where."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if name in REPORTERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, f"{path.relative_to(SOURCE)}:{node.lineno}"


def test_every_kind_that_is_reported_is_explained_and_every_explained_one_is_reported() -> None:
    found = dict(reported())
    assert {kind: place for kind, place in found.items() if kind not in KINDS} == {}
    assert set(KINDS) - set(found) - OTHERS == set()


def test_every_kind_is_in_the_operations_manual() -> None:
    manual = (SOURCE.parent / "docs" / "operations.md").read_text("utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in manual] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_counted_logged_and_shown(kind: str) -> None:
    reader = InMemoryMetricReader()
    telemetry = Telemetry("support", meter_provider=MeterProvider(metric_readers=[reader]))
    now = [0.0]
    degraded = Degraded("support", count=telemetry.degraded, monotonic=lambda: now[0])
    with structlog.testing.capture_logs() as logs:
        for second in (0.0, 1.0, LOG_EVERY):
            now[0] = second
            degraded(kind, OSError("the disk is away"))
    assert [(entry["event"], entry["kind"], entry["total"]) for entry in logs] == [
        ("agentcanary.degraded", kind, 1),
        ("agentcanary.degraded", kind, 3),
    ]
    data = reader.get_metrics_data()
    assert data is not None
    points = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "agentcanary.degraded"
        for point in metric.data.data_points
    ]
    ((value, attributes),) = [(getattr(point, "value", None), dict(point.attributes or {})) for point in points]
    assert value == 3
    assert kind in attributes.values()
    assert degraded.totals == {kind: 3}
    assert meaning(kind) == KINDS[kind] != ""


def test_status_has_a_line_for_each() -> None:
    now = 1_750_000_000.0
    worker = Worker(
        id="w-1",
        agent="support",
        started_at=now,
        reachable_since=now,
        heartbeat_at=now,
        flushed_until=now,
        degraded=dict.fromkeys(KINDS, 3),
    )
    rollout = rollout_under_way(now)
    situation = Situation(
        rollout=rollout, findings=Findings(), aggregates=Aggregates(epochs=rollout.epochs), now=now, workers=[worker]
    )
    shown = [line.text.plain for line in status_lines(status_data(situation)) if isinstance(line, Line)]
    for kind in KINDS:
        assert f"degraded: {kind} 3 ({KINDS[kind]})" in shown
