"""Freeze windows: when they hold, until when, and what a rollout still does inside one."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary.config import parse_config
from agentcanary.errors import ConfigError, TransitionError
from agentcanary.freeze import DAYS, FreezeWindow, always_frozen, frozen, hours_text, parse_hours
from agentcanary.plan import Criterion, OnInconclusive, Plan, Stage
from agentcanary.rollout import Phase, Rollout, Verdict
from agentcanary.state_machine import Action, ActionKind, Look, advance, new_rollout
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evidence import Evidence, Status
from agentcanary_analysis.metrics import ERROR_RATE, Direction
from agentcanary_analysis.verdict import Findings

FRIDAY = FreezeWindow(days=("fri",))
NIGHT = FreezeWindow(start=20 * 60, end=32 * 60)
BERLIN_NIGHT = replace(NIGHT, timezone="Europe/Berlin")


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


# When, and until when; None where nothing is frozen. 2026-01-02 is a Friday. Berlin's clocks go forward at 02:00 on
# 2026-03-29 and back at 03:00 on 2026-10-25 (IANA time zone database, rule EU).
CASES: dict[str, tuple[list[FreezeWindow], float, float | None]] = {
    "noon on Friday": ([FRIDAY], at("2026-01-02T12:00"), at("2026-01-03T00:00")),
    "the first moment of Friday": ([FRIDAY], at("2026-01-02T00:00"), at("2026-01-03T00:00")),
    "the last second of Thursday": ([FRIDAY], at("2026-01-01T23:59:59"), None),
    "the first moment of Saturday": ([FRIDAY], at("2026-01-03T00:00"), None),
    "before midnight": ([NIGHT], at("2026-01-05T22:00"), at("2026-01-06T08:00")),
    "after midnight": ([NIGHT], at("2026-01-06T03:00"), at("2026-01-06T08:00")),
    "the end of the night": ([NIGHT], at("2026-01-06T08:00"), None),
    "Friday, then its night": ([NIGHT, FRIDAY], at("2026-01-02T09:00"), at("2026-01-03T08:00")),
    "Thursday's night, then Friday, then its night": ([NIGHT, FRIDAY], at("2026-01-01T20:00"), at("2026-01-03T08:00")),
    "a night that begins on Friday only": (
        [replace(NIGHT, days=("fri",))],
        at("2026-01-03T07:59"),
        at("2026-01-03T08:00"),
    ),
    "the morning after Thursday, when only Friday's night is frozen": (
        [replace(NIGHT, days=("fri",))],
        at("2026-01-02T07:59"),
        None,
    ),
    "a night in Berlin, told in UTC": ([BERLIN_NIGHT], at("2026-07-01T18:30"), at("2026-07-02T06:00")),
    "not yet night in Berlin": ([BERLIN_NIGHT], at("2026-07-01T17:30"), None),
    "the short night of spring": (
        [BERLIN_NIGHT],
        at("2026-03-28T20:00", "Europe/Berlin"),
        at("2026-03-28T20:00", "Europe/Berlin") + 11 * 3600,
    ),
    "the long night of autumn": (
        [BERLIN_NIGHT],
        at("2026-10-24T20:00", "Europe/Berlin"),
        at("2026-10-24T20:00", "Europe/Berlin") + 13 * 3600,
    ),
    "an end that comes twice is the second": (
        [FreezeWindow(start=0, end=150, timezone="Europe/Berlin")],
        at("2026-10-25T00:10"),
        at("2026-10-25T01:30"),
    ),
    "no window": ([], at("2026-01-02T12:00"), None),
    "two windows without a gap": ([FreezeWindow(), NIGHT], at("2026-01-02T12:00"), math.inf),
}


@pytest.mark.parametrize(("windows", "now", "until"), CASES.values(), ids=CASES)
def test_until_when_a_moment_is_frozen(windows: list[FreezeWindow], now: float, until: float | None) -> None:
    found = frozen(windows, now)
    assert (None if found is None else found.until) == until


@st.composite
def some_windows(draw: st.DrawFn) -> list[FreezeWindow]:
    def window() -> FreezeWindow:
        start = draw(st.integers(0, 24 * 60 - 1))
        return FreezeWindow(
            days=tuple(draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True))),
            start=start,
            end=start + draw(st.integers(1, 24 * 60)),
            timezone=draw(st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"])),
        )

    return [window() for _ in range(draw(st.integers(1, 3)))]


def holds_on_the_wall(window: FreezeWindow, now: float) -> bool:
    """The definition, from the clock on the wall; right wherever no clock changes."""
    local = datetime.fromtimestamp(now, ZoneInfo(window.timezone))
    minute = local.hour * 60 + local.minute + local.second / 60
    yesterday = local - timedelta(days=1)
    today_holds = DAYS[local.weekday()] in window.days and window.start <= minute < window.end
    return today_holds or (DAYS[yesterday.weekday()] in window.days and minute + 24 * 60 < window.end)


@given(windows=some_windows(), minutes=st.integers(0, 40 * 24 * 60))
def test_a_moment_is_frozen_where_a_window_holds_and_until_none_does(windows: list[FreezeWindow], minutes: int) -> None:
    now = at("2026-05-04T00:00") + 60 * minutes + 7  # no clock changes in May and June
    found = frozen(windows, now)
    assert (found is not None) == any(holds_on_the_wall(window, now) for window in windows)
    if found is None:
        return
    assert holds_on_the_wall(found.window, now)
    if math.isinf(found.until):
        assert always_frozen(windows)
        return
    assert found.until > now
    assert frozen(windows, found.until) is None
    assert frozen(windows, found.until - 1) is not None


@given(windows=some_windows(), hours=st.integers(0, 366 * 24))
def test_what_is_frozen_thaws_at_the_time_that_was_told_also_when_clocks_change(
    windows: list[FreezeWindow], hours: int
) -> None:
    now = at("2026-01-01T00:30") + 3600 * hours
    found = frozen(windows, now)
    if found is None or math.isinf(found.until):
        return
    assert now < found.until
    assert frozen(windows, found.until) is None
    halfway = frozen(windows, (now + found.until) / 2)
    assert halfway is not None
    assert halfway.until == found.until


@given(start=st.integers(0, 24 * 60 - 1), length=st.integers(1, 24 * 60 - 1))
def test_hours_are_read_as_they_are_written(start: int, length: int) -> None:
    assert parse_hours(hours_text(start, start + length)) == (start, start + length)


@pytest.mark.parametrize(
    ("text", "words"),
    {
        "twenty": "two times of a day",
        "20:00": "two times of a day",
        "8:00-20:00": "two times of a day",
        "24:00-08:00": "no such time of day",
        "20:60-08:00": "no such time of day",
        "20:00-25:00": "no such time of day",
        "08:00-08:00": "leave hours out for the whole day",
        "00:00-24:00": "leave hours out for the whole day",
    }.items(),
)
def test_hours_that_cannot_be_read_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_hours(text)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"days": ()}, "days of a freeze window"),
        ({"days": ("fri", "fri")}, "each once"),
        ({"days": ("friday",)}, "days of a freeze window"),
        ({"start": -1}, "lasts at most one"),
        ({"start": 10, "end": 10}, "lasts at most one"),
        ({"start": 10, "end": 1451}, "lasts at most one"),
        ({"timezone": "Mars/Olympus"}, "'Mars/Olympus' is no time zone"),
        ({"timezone": "../etc/passwd"}, "is no time zone"),
        ({"timezone": ""}, "is no time zone"),
    ],
)
def test_a_window_that_cannot_be_is_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FreezeWindow(**changed)  # type: ignore[arg-type] # wrong on purpose


# What stands under ``freeze`` in the file, and the words of the message.
MISTAKES = {
    "a day by its full name": ("[{days: [friday]}]", r"freeze\[0\].days\[0\] must be .*'fri'"),
    "hours that YAML reads as a number": (
        "[{hours: 20:30}]",
        r"freeze\[0\].hours must be two times of a day, got 1230",
    ),
    "hours without an end": ("[{hours: '20:00'}]", r"freeze\[0\].hours must be two times of a day; write"),
    "an unknown time zone": ("[{timezone: Berlin}]", r"freeze\[0\].timezone 'Berlin' is no time zone"),
    "no list": ("{days: [fri]}", "freeze must be a list"),
    "an unknown key": ("[{day: fri}]", "'days'"),
    "no time left": ("[{}]", "freeze leaves no time in the week for a step"),
    "no time left by two windows": (
        "[{hours: '08:00-20:00'}, {hours: '20:00-08:00'}]",
        "freeze leaves no time in the week for a step",
    ),
}


@pytest.mark.parametrize(("text", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_file_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(f"agent: a\nstable: v1\ncanary: v2\nfreeze: {text}")


def test_a_day_that_is_named_twice_is_one_day() -> None:
    config = parse_config("agent: a\nstable: v1\nfreeze: [{days: [fri, fri]}]")
    assert config.plan.freeze == (FRIDAY,)


BOUNDARY = Boundary(ratio=1.1, floor=0.005, direction=Direction.UP_IS_WORSE)
SAFE = Evidence(metric="error_rate", boundary=BOUNDARY, status=Status.SAFE, log_e_harm=0.0, log_e_safe=9.0)
GOOD = Findings(evidence=(SAFE,), stage_conversations=1_000)
PLAN = Plan(
    stages=(
        Stage(name="initial", weight=0.05, duration=1800, min_conversations=50),
        Stage(name="half", weight=0.5, duration=3600, min_conversations=100),
        Stage(name="full", weight=1.0, duration=0),
    ),
    criteria=(Criterion(metric=ERROR_RATE.name, margin=0.10),),
    freeze=(FRIDAY,),
    max_duration=3 * 86400.0,
    on_inconclusive=OnInconclusive.ROLLBACK,
)
THURSDAY = at("2026-01-01T12:00")
ON_FRIDAY = at("2026-01-02T12:00")
SATURDAY = at("2026-01-03T00:00")


def pending(plan: Plan = PLAN) -> Rollout:
    return new_rollout("support", "v1", "v2", plan, now=THURSDAY, new_salt=b"salt")


def begun(plan: Plan = PLAN) -> Rollout:
    return advance(pending(plan), Look(findings=Findings()), now=THURSDAY).rollout


def test_an_earned_step_waits_for_the_end_of_the_window_and_says_until_when() -> None:
    held = advance(begun(), Look(findings=GOOD), now=ON_FRIDAY)
    assert (held.verdict, held.rollout.stage, held.effects) == (Verdict.HOLD, 0, ())
    assert held.reasons == (
        "frozen until Sat 2026-01-03 00:00 UTC (freeze window fri UTC): no step forward; rollbacks always",
    )
    assert advance(held.rollout, Look(findings=GOOD), now=SATURDAY - 1).verdict is Verdict.HOLD
    assert advance(held.rollout, Look(findings=GOOD), now=SATURDAY).rollout.stage == 1


def test_no_rollout_begins_in_a_window() -> None:
    held = advance(pending(), Look(findings=Findings()), now=ON_FRIDAY)
    assert (held.rollout.phase, held.verdict) == (Phase.PENDING, Verdict.HOLD)
    assert "frozen until" in held.reasons[0]
    assert advance(held.rollout, Look(findings=Findings()), now=SATURDAY).rollout.phase is Phase.PROGRESSING


def test_no_rollout_is_promoted_in_a_window() -> None:
    full = begun()
    for now in (THURSDAY + 7200, THURSDAY + 14400):
        full = advance(full, Look(findings=GOOD), now=now).rollout
    assert full.current_stage.name == "full"
    assert advance(full, Look(findings=GOOD), now=ON_FRIDAY).rollout.phase is Phase.PROGRESSING
    assert advance(full, Look(findings=GOOD), now=SATURDAY).rollout.phase is Phase.PROMOTED


STOPS = {
    "a safety stop of a worker": (lambda r: replace(r, stopped_at=ON_FRIDAY, stop_reason="seen"), Findings()),
    "a safety violation": (lambda r: r, Findings(unsafe="1 violation")),
    "proven harm": (lambda r: r, Findings(harmed=("error_rate",))),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_rollback_waits_for_no_window(stop: tuple[object, Findings]) -> None:
    change, findings = stop
    rollout = change(begun())  # type: ignore[operator] # one of the functions above
    assert advance(rollout, Look(findings=findings), now=ON_FRIDAY).rollout.phase is Phase.ROLLED_BACK


def test_a_rollout_that_only_a_window_holds_is_not_undecided() -> None:
    late = THURSDAY + 8 * 86400.0  # a Friday, after the maximum duration
    held = advance(begun(), Look(findings=GOOD), now=late)
    assert held.rollout.phase is Phase.PROGRESSING
    undecided = advance(begun(), Look(findings=replace(GOOD, stage_conversations=3)), now=late)
    assert (undecided.rollout.phase, undecided.rollout.cause) == (Phase.ROLLED_BACK, "inconclusive")


@pytest.mark.parametrize("kind", [ActionKind.ADVANCE, ActionKind.PROMOTE])
def test_an_operator_steps_forward_in_a_window_only_when_it_is_meant(kind: ActionKind) -> None:
    action = Action(kind=kind, actor="ada", reason="because")
    with pytest.raises(TransitionError, match=rf"cannot {kind.value} .* frozen until .* --during-freeze"):
        advance(begun(), action, now=ON_FRIDAY)
    assert advance(begun(), replace(action, during_freeze=True), now=ON_FRIDAY).rollout.weight > 0.05
    assert advance(begun(), action, now=SATURDAY).rollout.weight > 0.05


@pytest.mark.parametrize("kind", [ActionKind.PAUSE, ActionKind.ROLLBACK])
def test_an_operator_may_always_pause_and_roll_back(kind: ActionKind) -> None:
    rollout = advance(begun(), Action(kind=kind, actor="ada", reason="because"), now=ON_FRIDAY).rollout
    assert rollout.phase in (Phase.PAUSED, Phase.ROLLED_BACK)


def test_a_resume_is_a_step_forward_only_where_the_weight_rises() -> None:
    resume = Action(kind=ActionKind.RESUME, actor="ada", reason="because")
    paused = advance(begun(), Action(kind=ActionKind.PAUSE, actor="ada", reason="why"), now=ON_FRIDAY).rollout
    assert advance(paused, resume, now=ON_FRIDAY).rollout.phase is Phase.PROGRESSING
    by_hand = replace(PLAN, stages=(replace(PLAN.stages[0], auto_rollback=False), *PLAN.stages[1:]))
    harmed = advance(begun(by_hand), Look(findings=Findings(harmed=("error_rate",))), now=ON_FRIDAY).rollout
    assert harmed.weight == 0
    with pytest.raises(TransitionError, match="frozen until"):
        advance(harmed, resume, now=ON_FRIDAY)


@given(days=st.lists(st.integers(0, 13), min_size=1, max_size=12).map(sorted), hour=st.integers(0, 23))
def test_the_weight_never_rises_inside_a_window_whatever_is_looked_at_when(days: list[int], hour: int) -> None:
    rollout, weight = pending(), 0.0
    for day in days:
        now = THURSDAY + 86400.0 * day + 3600.0 * hour
        rollout = advance(rollout, Look(findings=GOOD), now=now).rollout
        if datetime.fromtimestamp(now, UTC).weekday() == 4:
            assert rollout.weight <= weight
        weight = rollout.weight
