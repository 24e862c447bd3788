"""Every query of the alert rules and of the Grafana dashboard asks for metrics and labels that are emitted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agentcanary.assignment import NOWHERE, Assignment, Reason, RolloutView
from agentcanary.outcomes import Outcome, TurnOutcome
from agentcanary.telemetry import Telemetry
from agentcanary_analysis.aggregates import Arm

DOCS = Path(__file__).parents[2] / "docs" / "prometheus"


@pytest.fixture
def emitted() -> Iterator[dict[str, set[str]]]:
    """The labels of every sample that a Prometheus exporter shows, by the sample's name."""
    reader = PrometheusMetricReader()
    provider = MeterProvider(metric_readers=[reader])
    telemetry = Telemetry("support", span="off", meter_provider=provider)
    telemetry.observe(weight=lambda: 0.05, queue=lambda: 3)
    telemetry.degraded("pin_lookup")
    telemetry.verdict("rollback")
    telemetry.outcome(
        Outcome(id="o", agent="support", conversation_id="c", name="satisfaction", value=1.0, at=1.0), variant="canary"
    )
    view = RolloutView(agent="support", rollout="r-1", stable="v1", canary="v2")
    given = Assignment(view, "c", Arm.CANARY, "v2", Reason.SPLIT, 0, NOWHERE, None, True)
    for outcome in TurnOutcome:
        telemetry.end(None, given, turn_id="t", latency=1.0, time_to_first_byte=None, outcome=outcome, error_type=None)
    text = generate_latest(REGISTRY).decode()
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    yield samples
    provider.shutdown()


def queries() -> list[tuple[str, str]]:
    rules = yaml.safe_load((DOCS / "alerts.yaml").read_text(encoding="utf-8"))
    found = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    dashboard = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))
    found += [
        (panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$agent", "support"))
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    return found


def asked(query: str) -> Iterator[tuple[str, set[str]]]:
    """The series that a query reads, and the labels by which it chooses among them."""

    def walk(node: Any) -> Iterator[tuple[str, set[str]]]:
        match type(node).__name__:
            case "VectorSelector":
                yield node.name, {matcher.name for matcher in node.matchers.matchers}
            case "MatrixSelector":
                yield from walk(node.vector_selector)
            case "Call":
                for argument in node.args:
                    yield from walk(argument)
            case "BinaryExpr":
                yield from walk(node.lhs)
                yield from walk(node.rhs)
            case "AggregateExpr" | "ParenExpr" | "UnaryExpr" | "SubqueryExpr":
                yield from walk(node.expr)
            case "NumberLiteral" | "StringLiteral":
                return
            case unknown:
                raise AssertionError(f"a part of a query that this test does not know: {unknown}")

    yield from walk(promql_parser.parse(query))


@pytest.mark.parametrize(("name", "query"), queries(), ids=[name for name, _ in queries()])
def test_a_query_reads_what_is_emitted(name: str, query: str, emitted: dict[str, set[str]]) -> None:
    series = list(asked(query))
    assert series
    labels: set[str] = set()
    for metric, matched in series:
        assert metric in emitted, (
            f"{metric} is not emitted; {sorted(n for n in emitted if n.startswith('agentcanary'))}"
        )
        assert matched <= emitted[metric], f"{metric} has no label {sorted(matched - emitted[metric])}"
        labels |= emitted[metric]
    grouped = {label.strip() for group in re.findall(r"(?:by|on) \(([^)]*)\)", query) for label in group.split(",")}
    assert grouped <= labels, f"nothing has the label {sorted(grouped - labels)}"


def test_a_name_that_is_not_emitted_is_found(emitted: dict[str, set[str]]) -> None:
    ((metric, _),) = asked("sum(rate(agentcanary_turns_total[5m]))")
    assert metric not in emitted


def test_what_the_alerts_say_names_labels_that_their_queries_keep() -> None:
    rules = yaml.safe_load((DOCS / "alerts.yaml").read_text(encoding="utf-8"))
    for rule in rules["groups"][0]["rules"]:
        said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        kept = {label.strip() for group in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in group.split(",")}
        assert said <= kept
