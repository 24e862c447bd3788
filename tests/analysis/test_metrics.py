"""Metric definitions refuse what could not be measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from agentcanary_analysis.metrics import (
    BUILT_IN,
    ERROR_RATE,
    P95_LATENCY,
    TASK_COMPLETION_RATE,
    Direction,
    Kind,
    Metric,
)


def test_the_built_in_metrics_are_the_five_of_the_article() -> None:
    assert [metric.name for metric in BUILT_IN] == [
        "error_rate",
        "task_completion_rate",
        "p95_latency",
        "safety_violations",
        "user_satisfaction",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "error rate"}, "letters, digits and _, got 'error rate'"),
        ({"name": ""}, "letters, digits and _, got ''"),
        ({"name": "fehlerrate_ü"}, "letters, digits and _"),
        ({"outcome": ""}, "error_rate needs the name of the outcome"),
        ({"horizon": 0.0}, "positive seconds, got 0.0"),
        ({"horizon": math.inf}, "positive seconds, got inf"),
        ({"horizon": math.nan}, "positive seconds, got nan"),
        ({"floor": -0.01}, "must not be negative, got -0.01"),
        ({"floor": math.nan}, "must not be negative, got nan"),
        ({"floor": 5.0}, "a share below 1, got 5.0"),
        ({"quantile": 0.95}, "for a quantile metric and for no other"),
    ],
)
def test_an_impossible_metric_is_refused_with_its_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ERROR_RATE, **change)


@pytest.mark.parametrize("quantile", [0.0, 1.0, -0.5, 95.0, math.nan])
def test_a_quantile_outside_0_to_1_is_refused(quantile: float) -> None:
    with pytest.raises(ValueError, match="quantile of p95_latency must be between 0 and 1"):
        replace(P95_LATENCY, quantile=quantile)


def test_a_team_may_declare_its_own_metric() -> None:
    cost = Metric(name="cost_usd", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="cost")
    assert (cost.horizon, cost.floor, cost.always_measured) == (1800.0, 0.0, False)


def test_only_a_proportion_that_is_worse_when_up_is_asked_about_early() -> None:
    for metric in (TASK_COMPLETION_RATE, P95_LATENCY):
        with pytest.raises(ValueError, match="only a proportion that is worse when up may be asked about early"):
            replace(metric, early=True)
