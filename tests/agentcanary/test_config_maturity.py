"""Maturity: a metric whose outcomes come late is counted when they have come."""

from __future__ import annotations

import pytest

from agentcanary import ConfigError
from agentcanary.config import parse_config

FILE = "agent: support\nstable: v1\ncanary: v2\nmetrics: [{}]\n"


@pytest.mark.parametrize(
    ("metric", "horizon"),
    [
        ("{name: helpful, kind: mean, worse: down, maturity: 24h}", 86_400.0),
        ("{name: helpful, kind: mean, worse: down, maturity_minutes: 10}", 1800.0),
        ("{name: helpful, kind: mean, worse: down, horizon: 2h, maturity: 1h}", 7200.0),
        ("{name: helpful, kind: mean, worse: down}", 1800.0),
        ("{name: user_satisfaction, maturity: 24h}", 86_400.0),
    ],
)
def test_a_conversation_is_counted_when_its_outcomes_have_come(metric: str, horizon: float) -> None:
    name = metric[1:-1].split(",")[0].removeprefix("name: ")
    assert parse_config(FILE.format(metric)).plan.metric(name).horizon == horizon


@pytest.mark.parametrize(
    "metric",
    [
        "{name: error_rate, maturity: 2h}",
        "{name: p50, kind: quantile, quantile: 0.5, worse: up, outcome: turn.latency, maturity: 2h}",
    ],
)
def test_what_we_observe_ourselves_needs_none(metric: str) -> None:
    with pytest.raises(ConfigError, match="maturity is for outcomes that are reported later; write horizon"):
        parse_config(FILE.format(metric))
