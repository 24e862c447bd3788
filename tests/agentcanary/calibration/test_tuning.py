"""The tuned canary.yaml: it loads, says what is recommended, and leaves the rest as it was."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from agentcanary.calibration import Calibration
from agentcanary.calibration.findings import MetricFindings
from agentcanary.config import parse_config
from agentcanary.plan import HOUR
from agentcanary.presets import PRESETS
from tests.agentcanary.calibration.conftest import PLAN

NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"
FLOW = (
    NAMES
    + """
canary_stages:
- {name: low, weight: 0.2, duration_minutes: 120, min_requests: 50, checks: ["error_rate_increase < 0.10"]}
- name: half
  weight: 0.5
  duration_minutes: 240   # four hours
- {name: all, weight: 1}
rollback: {max_error_increase: 0.60, max_completion_drop: null}
"""
)


@pytest.fixture
def advised(found: Calibration) -> Calibration:
    """A calibration that recommends something else for everything."""
    metrics = with_advice(found, recommended=0.75, criterion=0.75, reason="shown")
    stages = tuple(
        replace(one, recommended=26.5 * HOUR, reason="a rhythm") if one.name == "half" else one for one in found.stages
    )
    alpha = replace(found.alpha, recommended=0.02, reason="too many")
    return replace(found, metrics=metrics, stages=stages, alpha=alpha)


def with_advice(found: Calibration, **changes: Any) -> tuple[MetricFindings, ...]:
    """The metrics that have advice, with other advice."""
    return tuple(replace(one, advice=replace(one.advice, **changes)) for one in found.metrics if one.advice is not None)


def test_it_loads_and_says_what_is_recommended(advised: Calibration) -> None:
    text = advised.to_yaml(PLAN)
    plan = parse_config(text).plan
    assert {one.metric: one.margin for one in plan.criteria} == {"error_rate": 0.75, "p95_latency": 0.75}
    assert [stage.duration for stage in plan.stages] == [2 * HOUR, 26.5 * HOUR, 0.0]
    assert plan.alpha == 0.02


def test_other_keys_and_comments_stay_and_reasons_stand_above_their_values(advised: Calibration) -> None:
    text = advised.to_yaml(PLAN)
    for line in ("# a release", "stable: support-v1   # serves now", "  # agreed with support", "notify: [log]"):
        assert line in text.splitlines()
    lines = text.splitlines()
    for key, reason in (
        ("max_error_increase: 0.75", "# calibrated: shown"),
        ("duration: 1d2h30m", "# calibrated: a rhythm"),
        ("alpha: 0.02", "# calibrated: too many"),
    ):
        place = next(number for number, line in enumerate(lines) if line.strip().startswith(key))
        above = lines[place - 1]
        while lines[place - 1].strip().startswith("# calibrated: ") and reason not in above:
            place -= 1
            above = lines[place - 1]
        assert reason in above
        assert len(above) - len(above.lstrip()) == len(lines[place]) - len(lines[place].lstrip())
    assert lines[0].startswith("# calibrated: Of 40 harmless rollouts replayed")
    before, after = (yaml.safe_load(one) for one in (PLAN, text))
    assert after.pop("traffic")["stable"]["error_rate"] == pytest.approx(0.1, abs=0.01)
    assert after.pop("alpha") == 0.02
    after["rollback"] |= {"max_error_increase": 0.60, "max_latency_increase": 0.50}
    after["canary_stages"][1]["duration"] = "4h"
    assert after == before


def test_what_stands_in_one_line_is_changed_there_and_its_reason_is_told_at_the_top(advised: Calibration) -> None:
    text = advised.to_yaml(FLOW)
    plan = parse_config(text).plan
    assert {one.metric: one.margin for one in plan.criteria} == {"error_rate": 0.75, "p95_latency": 0.75}
    assert [stage.duration for stage in plan.stages] == [2 * HOUR, 26.5 * HOUR, 0.0]
    assert re.search(r"duration_minutes: 1590 +# four hours\n", text)
    assert "# calibrated: max_error_increase 0.75: shown" in text
    assert "\n- name: half\n" in text


def test_calibrating_again_replaces_the_reasons(advised: Calibration) -> None:
    once = advised.to_yaml(PLAN)
    assert advised.to_yaml(once) == once


def test_what_is_kept_and_not_stated_stays_unstated(found: Calibration) -> None:
    metrics = tuple(
        replace(one, advice=None if one.advice is None else replace(one.advice, recommended=one.advice.own))
        for one in found.metrics
    )
    kept = replace(found, metrics=metrics, stages=tuple(replace(one, recommended=one.own) for one in found.stages))
    data = yaml.safe_load(kept.to_yaml(NAMES))
    assert data.keys() == {"agent", "stable", "canary", "traffic"}
    stated = yaml.safe_load(kept.to_yaml(NAMES + "traffic: {conversations_per_hour: 5, stable: {error_rate: 0.5}}\n"))
    assert stated["traffic"] == {"conversations_per_hour": 5, "stable": {"error_rate": 0.5}}


def test_stages_of_a_preset_are_written_out_when_one_must_last_longer(found: Calibration) -> None:
    plan = parse_config(NAMES).plan
    first = found.stages[0]
    stages = tuple(
        replace(first, name=stage.name, own=stage.duration, recommended=stage.duration + HOUR * (stage.weight == 0.5))
        for stage in PRESETS["standard"].stages
    )
    metrics = tuple(
        replace(
            one, advice=replace(one.advice, metric="task_completion_rate", own=0.02, recommended=0.075, criterion=0.075)
        )
        for one in found.metrics
        if one.advice is not None
    )[:1]
    text = replace(found, plan=plan, stages=stages, metrics=metrics).to_yaml(NAMES)
    tuned = parse_config(text).plan
    assert [(one.name, one.weight, one.checks, one.min_conversations) for one in tuned.stages] == [
        (one.name, one.weight, one.checks, one.min_conversations) for one in plan.stages
    ]
    assert tuned.stages[2].duration == 25 * HOUR
    # The margin that promotion asks for is loosened, and the criterion with it: it must not be tighter.
    assert tuned.promotion[0].margin == 0.075
    assert {one.metric: one.margin for one in tuned.criteria}["task_completion_rate"] == 0.075


def test_a_margin_of_ones_own_metric_is_put_where_it_is_declared(found: Calibration) -> None:
    own = NAMES + "metrics:\n  - name: cost   # dollars\n    kind: mean\n    worse: up\n    rollback_margin: 0.2\n"
    metrics = tuple(
        replace(one, advice=replace(one.advice, metric="cost", own=0.2, recommended=0.3, reason="seen"))
        for one in found.metrics
        if one.advice is not None
    )[:1]
    text = replace(found, plan=parse_config(own).plan, metrics=metrics).to_yaml(own)
    assert "- name: cost   # dollars" in text
    assert next(one.margin for one in parse_config(text).plan.criteria if one.metric == "cost") == 0.3


def test_without_a_file_it_is_the_recommended_part_of_one(found: Calibration) -> None:
    plan = parse_config(NAMES + found.to_yaml()).plan
    assert [stage.name for stage in plan.stages] == ["low", "half", "all"]
    assert [stage.duration for stage in plan.stages] == [one.recommended for one in found.stages]
    assert plan.alpha == found.alpha.recommended
