from __future__ import annotations

import json
from typing import Any

import pytest

from agentcanary.plan import (
    DAY,
    DEFAULT_CRITERIA,
    DEFAULT_PROMOTION,
    HOUR,
    Advance,
    Criterion,
    Pinned,
    Plan,
    Stage,
    plan_from_dict,
)
from agentcanary.presets import PRESETS
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.metrics import BUILT_IN, Direction, Kind, Metric

FULL = Stage(name="full", weight=1.0, duration=0.0)
RAMP = Stage(
    name="ramp",
    weight=0.1,
    duration=600.0,
    min_conversations=50,
    checks=(parse_check("error_rate_increase < 0.10"),),
    auto_rollback=False,
    advance=Advance.PROVEN,
)


def test_a_plan_survives_its_stored_form() -> None:
    cost = Metric(name="cost", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="cost", horizon=60.0)
    plan = Plan(
        stages=(RAMP, FULL),
        criteria=(*DEFAULT_CRITERIA, Criterion(metric="cost", margin=0.3)),
        promotion=DEFAULT_PROMOTION,
        metrics=(*BUILT_IN, cost),
        max_duration=DAY,
        pinned={"safety": Pinned.FINISH, "harm": Pinned.SWITCH, "manual": Pinned.SWITCH},
        sticky_by="user",
    )
    assert plan_from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, "at least one stage"),
        ({"stages": (FULL, RAMP)}, "must not fall"),
        ({"stages": (RAMP,)}, "the last stage must have weight 1, got 0.1"),
        ({"alpha": 1.0}, "alpha must be between 0 and 0.5"),
        ({"alpha_promote": 0.0}, "alpha must be between 0 and 0.5"),
        ({"criteria": (Criterion(metric="cost", margin=0.1),)}, "'cost', which it does not define"),
        ({"promotion": (Criterion(metric="error_rate", margin=0.2),)}, "got 0.2 against 0.1"),
        ({"promotion": (Criterion(metric="user_satisfaction", margin=0.2),)}, "got 0.2 against None"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_an_impossible_plan_is_refused(changes: dict[str, Any], message: str) -> None:
    possible: dict[str, Any] = {"stages": (RAMP, FULL), "criteria": DEFAULT_CRITERIA}
    Plan(**possible)
    with pytest.raises(ValueError, match=message):
        Plan(**{**possible, **changes})


@pytest.mark.parametrize("weight", [-0.1, 1.1, 5.0, float("nan")])
def test_a_weight_is_a_share(weight: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        Stage(name="a", weight=weight, duration=0.0)


def test_a_stage_lasts_no_negative_time() -> None:
    with pytest.raises(ValueError, match="duration and min_conversations of 0 or more"):
        Stage(name="a", weight=0.5, duration=float("nan"))


def test_the_margin_to_prove_is_the_promotion_margin_where_there_is_one() -> None:
    plan = Plan(stages=(RAMP, FULL), criteria=DEFAULT_CRITERIA, promotion=DEFAULT_PROMOTION)
    errors, completion, _ = plan.criteria
    assert plan.boundary(plan.to_prove(completion)).at(0.85) == pytest.approx(0.98 * 0.85 - 0.005)
    assert plan.boundary(completion).at(0.85) == pytest.approx(0.95 * 0.85 - 0.005)
    assert plan.to_prove(errors) == errors


# The article: "at least 4-6 hours at low traffic, and ideally 24 hours at medium traffic …
# Safety-critical agents should run canaries for a full week."
def hours_between(preset: str, low: float, high: float) -> float:
    return sum(stage.duration for stage in PRESETS[preset].stages if low < stage.weight <= high) / HOUR


def test_the_standard_preset_follows_the_articles_advice() -> None:
    assert 4 <= hours_between("standard", 0, 0.2) <= 6
    assert hours_between("standard", 0.2, 0.5) == 24


def test_the_conservative_preset_is_slower_at_every_level_than_standard() -> None:
    for low, high in ((0.0, 0.2), (0.2, 0.5)):
        assert hours_between("conservative", low, high) > hours_between("standard", low, high)
    assert PRESETS["conservative"].stages[0].weight < PRESETS["standard"].stages[0].weight


def test_the_safety_critical_preset_runs_for_a_full_week() -> None:
    assert PRESETS["safety_critical"].hours == 7 * 24


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_a_plan_that_watches_safety_in_every_stage_of_its_ramp(name: str) -> None:
    plan = Plan(stages=PRESETS[name].stages, criteria=DEFAULT_CRITERIA)
    for stage in plan.stages[:-1]:
        assert "safety_violations" in {check.metric for check in stage.checks}
    assert plan.stages[-1].weight == 1


def test_the_standard_preset_needs_nothing_that_the_middleware_does_not_see() -> None:
    names = {check.metric for stage in PRESETS["standard"].stages for check in stage.checks}
    assert all(metric.always_measured for metric in BUILT_IN if metric.name in names)
