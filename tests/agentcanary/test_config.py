from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from agentcanary.config import (
    Apprise,
    Config,
    Extractor,
    Log,
    Place,
    Privacy,
    Remote,
    SpanMode,
    Traffic,
    Webhook,
    load_config,
    parse_config,
)
from agentcanary.config.section import Section
from agentcanary.config.sections import FileSection
from agentcanary.durations import format_duration, parse_duration
from agentcanary.freeze import FreezeWindow
from agentcanary.manifests import Mesh, MeshApi, MeshMode
from agentcanary.plan import DAY, HOUR, MINUTE, Advance, Criterion, OnFail, OnInconclusive, Pinned, plan_from_dict
from agentcanary.protocols import ErrorRule
from agentcanary_analysis.metrics import Direction, Kind, Metric

CASES = Path(__file__).parent / "cases"
NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"


def parsed(more: str = "") -> Config:
    return parse_config(NAMES + more, "canary.yaml")


def test_the_articles_pipeline_loads_unchanged() -> None:
    config = load_config(CASES / "article.yaml")
    stages = config.plan.stages
    assert [(s.name, s.weight, s.duration, s.min_conversations, s.auto_rollback) for s in stages] == [
        ("initial", 0.05, 30 * MINUTE, 50, True),
        ("low_traffic", 0.15, 60 * MINUTE, 200, True),
        ("medium_traffic", 0.50, 120 * MINUTE, 1000, True),
        ("full_rollout", 1.0, 0.0, 0, False),
    ]
    assert [[(c.metric, c.limit) for c in s.checks] for s in stages] == [
        [("error_rate", 0.10), ("safety_violations", 0)],
        [("error_rate", 0.05), ("safety_violations", 0), ("p95_latency", 0.30)],
        [("error_rate", 0.03), ("task_completion_rate", 0.02), ("safety_violations", 0)],
        [],
    ]
    assert config.preset is None
    assert config.file == CASES / "article.yaml"


def test_the_articles_thresholds_are_the_defaults() -> None:
    # The article: should_rollback's and should_promote's default values.
    plan = parsed().plan
    assert plan.criteria == (
        Criterion(metric="error_rate", margin=0.10),
        Criterion(metric="task_completion_rate", margin=0.05),
        Criterion(metric="p95_latency", margin=0.50),
    )
    assert plan.promotion == (Criterion(metric="task_completion_rate", margin=0.02),)
    assert plan.max_safety_violations == 0
    stage = parsed("canary_stages: [{name: a, weight: 0.5}, {name: b, weight: 1}]").plan.stages[0]
    assert (stage.duration, stage.min_conversations) == (30 * MINUTE, 100)


def test_a_stage_at_weight_1_takes_no_minimums_from_promotion() -> None:
    stages = parsed("canary_stages: [{name: zero, weight: 0}, {name: full, weight: 1}]").plan.stages
    assert [(stage.duration, stage.min_conversations) for stage in stages] == [(30 * MINUTE, 0), (0.0, 0)]


def test_two_names_are_enough() -> None:
    config = parse_config("agent: support\nstable: support-v1", "canary.yaml")
    assert config.canary is None
    assert config.preset == "standard"
    assert config.plan == parse_config("agent: support\nstable: v\npreset: standard").plan
    assert (config.sticky, config.sticky_by, config.controller) == (True, "conversation", True)
    assert (config.look_every, config.stale_after, config.conversation.idle_after) == (10.0, 10.0, 30 * MINUTE)
    assert config.notify == (Log(),)
    assert config.security.trust_header is False
    assert config.conversation.id_from == (
        Extractor(Place.HEADER, "x-conversation-id"),
        Extractor(Place.JSON, "conversation_id"),
        Extractor(Place.JSON, "session_id"),
        Extractor(Place.JSON, "thread_id"),
        Extractor(Place.SIGNED_COOKIE, "agentcanary"),
    )
    assert (config.conversation.max_body_bytes, config.conversation.max_id_length) == (1_048_576, 256)


def test_every_key_reaches_its_place() -> None:
    config = load_config(CASES / "everything.yaml")
    plan = config.plan
    ramp, full = plan.stages
    assert (ramp.duration, ramp.min_conversations, ramp.advance) == (5400.0, 400, Advance.PROVEN)
    assert ramp.auto_rollback is False
    assert [check.metric for check in ramp.checks] == ["cost", "user_satisfaction", "safety_violations"]
    assert full.duration == 0.0
    assert {c.metric: c.margin for c in plan.criteria} == {
        "error_rate": 0.2,
        "task_completion_rate": 0.1,
        "user_satisfaction": 0.15,
    }
    assert plan.dry_run == (Criterion(metric="cost", margin=0.3),)
    assert plan.on_fail == {"cost": OnFail.WARN}
    assert plan.freeze == (
        FreezeWindow(days=("fri", "sat", "sun")),
        FreezeWindow(start=20 * 60, end=32 * 60, timezone="Europe/Berlin"),
    )
    assert plan_from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert plan.promotion == (Criterion(metric="task_completion_rate", margin=0.04),)
    assert plan.max_safety_violations == 2
    assert plan.pinned == {"safety": Pinned.FINISH, "harm": Pinned.FINISH, "manual": Pinned.SWITCH}
    assert plan.metric("cost") == Metric(
        name="cost",
        kind=Kind.MEAN,
        direction=Direction.UP_IS_WORSE,
        outcome="cost_eur",
        horizon=HOUR,
        floor=0.5,
    )
    assert plan.metric("p50_latency").always_measured
    assert plan.metric("error_rate").early
    assert plan.max_violation_rate == 0.001
    assert plan.metric("p50_latency").quantile == 0.5
    assert {m.name: (m.horizon, m.floor) for m in plan.metrics if m.name != "cost"} == {
        "error_rate": (900.0, 0.01),
        "task_completion_rate": (7200.0, 0.02),
        "p95_latency": (900.0, 0.2),
        "safety_violations": (900.0, 0.0),
        "user_satisfaction": (900.0, 0.0),
        "p50_latency": (900.0, 0.0),
    }
    assert (plan.alpha, plan.alpha_promote, plan.on_inconclusive) == (0.01, 0.02, OnInconclusive.PAUSE)
    assert (plan.max_duration, plan.bake, plan.drain_after, plan.idle_after) == (7 * DAY, 2700.0, 2 * HOUR, HOUR)
    assert (plan.sticky, plan.sticky_by) == (True, "user")
    assert config.conversation.id_from == (
        Extractor(Place.HEADER, "x-session-id"),
        Extractor(Place.PATH, "/threads/{thread_id}/runs"),
        Extractor(Place.QUERY, "chat"),
        Extractor(Place.COOKIE, "chat"),
        Extractor(Place.JSON, "params.message.contextId"),
    )
    assert config.conversation.presets == ("agui", "a2a")
    assert [extractor.named for extractor in config.conversation.turn_from] == [
        ("header", "x-turn-id"),
        ("composite", [("form", "chat"), ("json", "turn")]),
    ]
    assert config.conversation.user_from == (Extractor(Place.HEADER, "x-user-id"),)
    assert (config.responses.protocols, config.responses.measure) == (("agui", "vercel"), False)
    assert config.responses.error_if == (
        ErrorRule(json="result.status", values=("failed", 3, True)),
        ErrorRule(event="crashed"),
    )
    assert (config.conversation.max_body_bytes, config.conversation.max_id_length) == (65_536, 64)
    assert config.conversation.idle_after == HOUR
    assert config.store == "postgresql+psycopg://canary:hunter2@db.example/agents"
    assert config.versions == {
        "support-v2": Remote(url="http://support-canary:8080", connect_timeout=2.0, read_timeout=300.0)
    }
    assert config.kubernetes == Mesh(
        api=MeshApi.GATEWAY_API,
        mode=MeshMode.PROCESS,
        name="support-agent",
        namespace="agents",
        service="support",
        stable_service="support-stable",
        canary_service="support-canary",
        port=8080,
        hosts=("support.example.com",),
        gateways=("public",),
        version_label="track",
    )
    assert config.notify == (
        Log(),
        Webhook("https://hooks.example.com/T0/secret"),
        Apprise("slack://TokenA/TokenB/TokenC", ("rolled_back", "safety_stop"), "{severity}: {message} at {weight}"),
    )
    assert (config.telemetry.span, config.telemetry.privacy) == (SpanMode.OFF, Privacy.HASH)
    assert config.security.trust_header is True
    assert config.security.cookie_secret == "0123456789abcdef0123"
    assert config.traffic == Traffic(conversations_per_hour=400, stable={"error_rate": 0.05, "p95_latency": 4.0})
    assert (config.look_every, config.stale_after, config.controller) == (2.0, 30.0, False)


def test_a_framework_brings_its_places_and_its_protocol() -> None:
    config = parsed("conversation: {preset: [headers, mcp]}")
    assert config.conversation.id_from == ()
    assert config.conversation.presets == ("headers", "mcp")
    assert config.responses.protocols == ("mcp",)


def test_the_case_with_every_key_has_every_key() -> None:
    text = (CASES / "everything.yaml").read_text(encoding="utf-8")
    sections: list[type[Section]] = [FileSection, *Section.__subclasses__()]
    missing = [
        f"{section.__name__}.{name}"
        for section in sections
        for name in section.model_fields
        if f"{name}:" not in text and f"{name}_minutes:" not in text
    ]
    assert missing == []


def test_no_secret_shows_when_a_configuration_is_printed() -> None:
    shown = repr(load_config(CASES / "everything.yaml"))
    for secret in ("hunter2", "0123456789abcdef0123", "T0"):
        assert secret not in shown


def test_what_a_file_states_wins_over_its_preset() -> None:
    config = parsed("preset: safety_critical\nbake: 1h\nalpha_promote: 0.2\n")
    assert (config.plan.bake, config.plan.alpha_promote, config.preset) == (HOUR, 0.2, "safety_critical")
    staged = parsed("preset: safety_critical\ncanary_stages: [{name: full, weight: 1}]")
    assert ([stage.name for stage in staged.plan.stages], staged.plan.bake) == (["full"], DAY)


def test_a_promotion_margin_that_nobody_stated_stays_within_the_rollback_margin() -> None:
    plan = parsed("rollback: {max_completion_drop: 0.01}").plan
    assert plan.promotion == (Criterion(metric="task_completion_rate", margin=0.01),)


def test_null_takes_a_metric_out_of_the_criteria() -> None:
    plan = parsed("rollback: {max_completion_drop: null}").plan
    assert [criterion.metric for criterion in plan.criteria] == ["error_rate", "p95_latency"]
    assert plan.promotion == ()


def test_one_floor_holds_for_every_proportion() -> None:
    plan = parsed(
        "rollback: {floor: 0.02}\n"
        "metrics: [{name: refusal, kind: proportion, worse: up}, {name: leak, kind: proportion, worse: up, floor: 0}]"
    ).plan
    assert {metric.name: metric.floor for metric in plan.metrics} == {
        "error_rate": 0.02,
        "task_completion_rate": 0.02,
        "p95_latency": 0.0,
        "safety_violations": 0.0,
        "user_satisfaction": 0.0,
        "refusal": 0.02,
        "leak": 0.0,
    }


@pytest.mark.parametrize(
    ("worse", "check"), [("up", "refusal_increase < 0.2"), ("down", "refusal_regression < 0.2")], ids=["up", "down"]
)
def test_a_declared_metric_can_be_checked(worse: str, check: str) -> None:
    stages = f"canary_stages: [{{name: a, weight: 0.1, checks: ['{check}']}}, {{name: b, weight: 1}}]"
    plan = parsed(f"metrics: [{{name: refusal, kind: proportion, worse: {worse}}}]\n{stages}").plan
    assert plan.stages[0].checks[0].metric == "refusal"
    assert plan.metric("refusal").outcome == "refusal"


def test_an_sqlite_store_is_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_text(NAMES)
    assert load_config(file).store == f"sqlite:///{tmp_path}/.agentcanary/support.sqlite3"
    file.write_text(NAMES + "store: sqlite:///data/my.sqlite3")
    assert load_config(str(file)).store == f"sqlite:///{tmp_path}/data/my.sqlite3"
    file.write_text(NAMES + "store: sqlite:////var/lib/my.sqlite3")
    assert load_config(file).store == "sqlite:////var/lib/my.sqlite3"


def test_the_folder_of_an_sqlite_store_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100%20?#ä b"
    folder.mkdir()
    (folder / "canary.yaml").write_text(NAMES)
    assert make_url(load_config(folder / "canary.yaml").store).database == f"{folder}/.agentcanary/support.sqlite3"


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "canary.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + NAMES.encode())
    assert load_config(file).agent == "support"


def test_a_version_that_looks_like_a_date_is_text() -> None:
    assert parse_config("agent: a\nstable: 2026-05-01\ncanary: 2026-06-01").canary == "2026-06-01"


def test_aliases_may_repeat_values() -> None:
    stages = "[{name: a, weight: 0.1, checks: &same [safety_violations == 0]}, {name: b, weight: 1, checks: *same}]"
    first, second = parsed(f"canary_stages: {stages}").plan.stages
    assert first.checks == second.checks


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("90s", 90), ("30m", 1800), ("1h30m", 5400), ("6h", 21600), ("1.5d", 129600)]
)
def test_durations_are_written_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "30 m", "-5m", "5m1h", "1e3s", "5M", "٣m", "367d", "9" * 50 + "s"])
def test_a_duration_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


def test_naming_the_configuration_types_loads_neither_pydantic_nor_yaml() -> None:
    code = (
        "import sys, agentcanary.config; print([m for m in ('pydantic', 'yaml', 'httpx', 'typer') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
