"""What ``doctor`` finds wrong, from values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentcanary.cli.checkup import (
    Check,
    State,
    controller_check,
    identity_checks,
    outbox_check,
    outcomes_checks,
    workers_checks,
)
from agentcanary.cli.explanation import turns_of
from agentcanary.config import Config, parse_config
from agentcanary.rollout import Effect, EffectKind, Rollout
from agentcanary.state_machine import Action, ActionKind, Look, advance, new_rollout
from agentcanary.status.drift import differences
from agentcanary.store import Pending, Worker, turn_log
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Safety, Tally
from agentcanary_analysis.verdict import Findings

T0 = 1_750_000_000.0
NAMES = "agent: support\nstable: v1\ncanary: v2\n"
NAN = float("nan")


def config_of(text: str = NAMES) -> Config:
    return parse_config(text)


def running(config: Config | None = None) -> Rollout:
    config = config or config_of()
    rollout = new_rollout("support", "v1", "v2", config.plan, now=T0, new_salt=b"salt")
    return advance(rollout, Look(findings=Findings()), now=T0).rollout


def ended(kind: ActionKind, rollout: Rollout) -> Rollout:
    return advance(rollout, Action(kind=kind, actor="a", reason="r"), now=T0 + 60).rollout


def worker(name: str = "w1", *, heard: float = 0.0, **changed: object) -> Worker:
    base = Worker(
        id=name,
        agent="support",
        host="h1",
        config_hash="a",
        started_at=T0 - 600,
        reachable_since=T0 - 600,
        heartbeat_at=T0 + heard,
        flushed_until=T0 + heard,
    )
    return replace(base, **changed)  # type: ignore[arg-type] # fields of a worker


def checked(*workers: Worker, config_hash: str = "a") -> dict[str, Check]:
    return {check.name: check for check in workers_checks(workers, now=T0, dead_after=30.0, config_hash=config_hash)}


def test_live_workers_of_one_configuration_are_fine() -> None:
    found = checked(worker(), worker("w2", host="h2"))
    assert {check.state for check in found.values()} == {State.OK}
    assert found["workers"].said == "2 alive on 2 machines"


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ((), "none is alive: none ever reported"),
        ((worker(heard=-90),), "none is alive: the last heartbeat came 1m30s ago"),
    ],
    ids=["never", "dead"],
)
def test_no_live_worker_is_a_warning(workers: tuple[Worker, ...], said: str) -> None:
    found = checked(*workers)["workers"]
    assert (found.state, found.said) == (State.WARN, said)
    assert found.remedy


BAD_WORKERS = {
    "dead workers": ((worker(), worker("w2", heard=-90)), State.WARN, "1 ended without saying so"),
    "configurations": ((worker(), worker("w2", config_hash="b")), State.WARN, "run 2 different configurations"),
    "clocks": ((worker(heard=7.0),), State.FAIL, "a worker's heartbeat lies 7s in the future"),
    "recording": ((worker(flushed_until=T0 - 60),), State.WARN, "up to 1m ago only"),
    "degraded": (
        (worker(degraded={"snapshot": 1}), worker("w2", degraded={"snapshot": 2})),
        State.WARN,
        "snapshot 3 times",
    ),
}


@pytest.mark.parametrize("name", BAD_WORKERS)
def test_what_is_wrong_with_workers_is_said_with_a_remedy(name: str) -> None:
    workers, state, said = BAD_WORKERS[name]
    found = checked(*workers)[name]
    assert found.state is state
    assert said in found.said
    assert found.remedy


def test_workers_that_run_another_file_are_a_warning() -> None:
    assert "another configuration than this file" in checked(worker(), config_hash="b")["configurations"].said


@pytest.mark.parametrize(
    ("last", "now", "in_workers", "state", "remedy"),
    [
        (T0, T0 + 60, True, State.OK, ""),
        (None, T0 + 60, True, State.OK, ""),
        (None, T0 + 600, True, State.FAIL, "start the application"),
        (T0, T0 + 600, False, State.FAIL, "run agentcanary controller"),
    ],
    ids=["looked", "new", "never", "controller: false"],
)
def test_somebody_must_look_at_a_running_rollout(
    last: float | None, now: float, in_workers: bool, state: State, remedy: str
) -> None:
    found = controller_check(running(), last, now=now, kept_every=90.0, in_workers=in_workers)
    assert found.state is state
    assert remedy in found.remedy


def test_nobody_needs_to_look_at_an_ended_rollout() -> None:
    rollout = ended(ActionKind.PROMOTE, running())
    assert controller_check(rollout, None, now=T0 + 1e6, kept_every=90.0, in_workers=True).state is State.OK


def test_messages_are_a_warning_once_one_has_failed() -> None:
    effect = Effect(kind=EffectKind.NOTIFY, event="started", message="m")
    waiting = Pending(id="e", agent="support", rollout="r", effect=effect, created_at=T0, attempts=0, error="")
    assert outbox_check([waiting], now=T0 + 60).state is State.OK
    failed = outbox_check([replace(waiting, attempts=2, error="connection refused")], now=T0 + 60)
    assert (failed.state, failed.said) == (
        State.WARN,
        "1 could not be delivered, the oldest from 1m ago: connection refused",
    )


def counted(
    *, observed: int = 100, units: int = 100, reports: int = 1, nameless: int = 0, stale: int = 0
) -> Aggregates:
    tally = Tally(units, observed, observed / 2, observed / 2)
    return Aggregates(
        epochs=running().epochs,
        tallies={Cell("task_completion_rate", 0, arm): {0: tally} for arm in Arm},
        assigned={(0, Arm.STABLE): 950, (0, Arm.CANARY): 50},
        excluded={"no_conversation_id": nameless, "stale_snapshot": stale},
        safety=Safety(reports=reports),
    )


CHECKED = NAMES + (
    "canary_stages:\n"
    "  - {name: half, weight: 0.5, duration: 1h, checks: [task_completion_regression < 0.02, safety_violations == 0]}\n"
    "  - {name: full, weight: 1.0, duration: 0s}\n"
)


def outcomes(aggregates: Aggregates, text: str = CHECKED) -> dict[str, Check]:
    return {check.name: check for check in outcomes_checks(running(config_of(text)), aggregates)}


def test_outcomes_that_arrive_are_fine() -> None:
    found = outcomes(counted())
    assert found["task_completion_rate"] == Check(
        "task_completion_rate", State.OK, "a value in 100% of 200 conversations"
    )
    assert "safety_violations" not in found
    assert "p95_latency" not in found, "what the middleware observes needs nobody to report it"


def test_an_outcome_that_a_check_needs_and_nobody_records_fails_with_the_call_that_records_it() -> None:
    found = outcomes(counted(observed=0))["task_completion_rate"]
    assert found.state is State.FAIL
    assert "so the rollout will hold" in found.said
    assert 'canary.record(conversation_id, "task_completion", VALUE) within 30m' in found.remedy


def test_an_outcome_that_no_check_needs_is_only_a_warning() -> None:
    found = outcomes(
        counted(observed=0), NAMES + CHECKED.removeprefix(NAMES).replace("task_completion_regression < 0.02, ", "")
    )
    assert found["task_completion_rate"].state is State.WARN
    assert "its criterion does not count" in found["task_completion_rate"].said


def test_an_outcome_that_is_often_missing_is_a_warning() -> None:
    found = outcomes(counted(observed=60))["task_completion_rate"]
    assert (found.state, found.said.partition(":")[0]) == (State.WARN, "no value in 40% of 200 conversations")


def test_too_few_conversations_tell_nothing_about_outcomes() -> None:
    assert "task_completion_rate" not in outcomes(counted(units=10, observed=0))


def test_nobody_watching_over_safety_is_a_warning() -> None:
    assert "nobody may be watching" in outcomes(counted(reports=0))["safety_violations"].said


def test_turns_without_an_id_are_a_warning_when_they_are_many() -> None:
    (few,) = identity_checks(counted(nameless=20))
    assert (few.state, few.said) == (State.OK, "1,000 conversations in the split, 20 turns without a usable id")
    (many,) = identity_checks(counted(nameless=400))
    assert many.state is State.WARN
    assert "conversation.id_from" in many.remedy


def test_conversations_left_out_because_of_the_store_are_a_warning() -> None:
    names = {check.name: check for check in identity_checks(counted(stale=50))}
    assert "50 conversations were left out of it: stale_snapshot" in names["the split"].said


def test_an_unedited_file_differs_in_nothing() -> None:
    assert list(differences(config_of(), running(), "canary.yaml")) == []


DIFFERENCES = {
    "plan": (NAMES + "alpha: 0.01\n", running(), "the plan in canary.yaml was changed since"),
    "pair": (NAMES.replace("v2", "v3"), running(), "names v1 → v3, but this rollout is of v1 → v2"),
    "no canary": ("agent: support\nstable: v1\n", running(), "names v1 and no canary"),
    "old stable": (
        NAMES.replace("v2", "v3"),
        ended(ActionKind.PROMOTE, running()),
        "v2 was promoted last, but canary.yaml names v1 as stable",
    ),
}


@pytest.mark.parametrize(("text", "rollout", "said"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_a_file_that_differs_from_the_rollout_is_said(text: str, rollout: Rollout, said: str) -> None:
    (found,) = differences(config_of(text), rollout, "canary.yaml")
    assert said in found


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NAMES, ActionKind.PROMOTE),
        (NAMES.replace("v1", "v2").replace("canary: v2", "canary: v3"), ActionKind.PROMOTE),
        (NAMES.replace("v2", "v3"), ActionKind.ROLLBACK),
        ("agent: billing\nstable: v1\n", ActionKind.ROLLBACK),
    ],
    ids=["promoted", "next rollout", "mended after a rollback", "another agent"],
)
def test_what_follows_an_ended_rollout_is_no_difference(text: str, kind: ActionKind) -> None:
    assert list(differences(config_of(text), ended(kind, running()), "canary.yaml")) == []


def test_a_turn_that_was_stored_at_its_start_and_its_end_is_one() -> None:
    log = (
        turn_log.Entry(10.0, NAN, NAN, NAN, turn_log.STARTED),
        turn_log.Entry(20.0, 21.0, 1.0, 0.5, turn_log.OK),
        turn_log.Entry(30.0, NAN, NAN, NAN, turn_log.STARTED),
        turn_log.Entry(10.0, 14.0, 4.0, NAN, turn_log.ERROR + turn_log.LATER),
    )
    turns = list(turns_of(log))
    assert [(turn["started_at"], turn["outcome"], turn["latency"]) for turn in turns] == [
        (10.0, "error", 4.0),
        (20.0, "ok", 1.0),
        (30.0, "open", None),
    ]
    assert [turn["time_to_first_byte"] for turn in turns] == [None, 0.5, None]
