"""What ``status`` says: values from a rollout, findings and counts, and the lines made from them."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from agentcanary.cli.exit_codes import ExitCode, gate
from agentcanary.cli.status_view import change_key, change_line, status_lines
from agentcanary.looking import findings_of
from agentcanary.plan import DEFAULT_CRITERIA, DEFAULT_PROMOTION, Plan, Stage
from agentcanary.rollout import Phase, Rollout
from agentcanary.state_machine import Action, ActionKind, Drain, Look, advance, new_rollout
from agentcanary.status.advice import next_steps
from agentcanary.status.evidence_data import e_data
from agentcanary.status.situation import Situation
from agentcanary.status.status_data import status_data
from agentcanary.store import Worker
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Safety, Tally
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.verdict import Findings

T0 = 1_750_000_000.0
CHECKS = tuple(parse_check(text) for text in ("error_rate_increase < 0.10", "safety_violations == 0"))
PLAN = Plan(
    stages=(
        Stage(name="initial", weight=0.05, duration=1800, min_conversations=100, checks=CHECKS),
        Stage(name="half", weight=0.5, duration=3600, min_conversations=1000, checks=CHECKS),
        Stage(name="full", weight=1.0, duration=0, min_conversations=77),
    ),
    criteria=DEFAULT_CRITERIA,
    promotion=DEFAULT_PROMOTION,
)


def fresh(plan: Plan = PLAN) -> Rollout:
    return new_rollout("support", "v1", "v2", plan, now=T0, new_salt=b"salt")


def running(plan: Plan = PLAN) -> Rollout:
    return advance(fresh(plan), Look(findings=Findings()), now=T0).rollout


def counted(
    *,
    errors: tuple[int, int] = (3, 47),
    completed: tuple[int, int] | None = (42, 800),
    units: tuple[int, int] = (50, 950),
) -> Aggregates:
    """Counts of (canary, stable) in epoch 0."""
    tallies: dict[Cell, dict[int, Tally]] = {}
    for arm, n, k in zip((Arm.CANARY, Arm.STABLE), units, errors, strict=True):
        tallies[Cell("error_rate", 0, arm)] = {0: Tally(n, n, k, k)}
    if completed is not None:
        for arm, n, k in zip((Arm.CANARY, Arm.STABLE), units, completed, strict=True):
            tallies[Cell("task_completion_rate", 0, arm)] = {0: Tally(n, n, k, k)}
    assigned = {(0, Arm.CANARY): units[0] + 2, (0, Arm.STABLE): units[1] + 48}
    return Aggregates(
        epochs=running().epochs,
        tallies=tallies,
        assigned=assigned,
        excluded={"handover": 2, "forced": 1},
        safety=Safety(reports=9),
    )


def worker(**changed: object) -> Worker:
    base = Worker(
        id="w1", agent="support", config_hash="a", started_at=T0, reachable_since=T0, heartbeat_at=T0, flushed_until=T0
    )
    return replace(base, **changed)  # type: ignore[arg-type] # fields of a worker


def seen(
    rollout: Rollout | None = None, aggregates: Aggregates | None = None, *, after: float = 900.0, **more: object
) -> Situation:
    rollout = running() if rollout is None else rollout
    aggregates = counted() if aggregates is None else aggregates
    return Situation(
        rollout=rollout,
        findings=findings_of(rollout, aggregates),
        aggregates=aggregates,
        now=T0 + after,
        **more,  # type: ignore[arg-type] # fields of a situation
    )


def text_of(situation: Situation, *, width: int = 200) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    for line in status_lines(status_data(situation)):
        console.print(line)
    return out.getvalue()


def test_the_answer_is_json_and_has_no_salt() -> None:
    written = json.dumps(status_data(seen()), allow_nan=False)
    assert json.loads(written)["agent"] == "support"
    assert b"salt".hex() not in written
    assert "salt" not in json.loads(written)["rollout"]


def test_the_stage_tells_time_and_conversations_that_are_left() -> None:
    stage = status_data(seen(after=900))["stage"]
    assert (stage["name"], stage["number"], stage["of"]) == ("initial", 1, 3)
    assert (stage["elapsed"], stage["duration"], stage["remaining"]) == (900, 1800, 900)
    assert (stage["conversations"], stage["min_conversations"]) == (50, 100)
    assert "15m elapsed, 15m left; 50 of 100 conversations counted, 50 more needed" in text_of(seen(after=900))


def test_a_stage_past_its_duration_has_nothing_left() -> None:
    data = status_data(seen(after=4000))
    assert data["stage"]["remaining"] == 0
    assert "left" not in change_line(data)


def test_at_weight_1_it_bakes_and_waits_for_no_conversations() -> None:
    data = status_data(seen())
    assert data["stages"][2]["duration"] == PLAN.bake
    assert data["stages"][2]["min_conversations"] == 0


def test_a_check_shows_both_arms_interval_test_and_e_values_against_their_boundaries() -> None:
    (check, safety) = status_data(seen())["checks"]
    assert check["check"] == "error_rate_increase < 0.10"
    assert check["stable"] == {"n": 950, "observed": 950, "events": 47, "value": pytest.approx(47 / 950)}
    assert check["canary"] == {"n": 50, "observed": 50, "events": 3, "value": pytest.approx(0.06)}
    assert check["relative_change"] == pytest.approx(0.06 / (47 / 950) - 1)
    assert check["interval"]["low"] < check["relative_change"] < check["interval"]["high"]
    assert check["boundary"]["at"] == pytest.approx(1.1 * 47 / 950 + 0.005)
    # One check alone has the whole of alpha; three criteria together need three times as much of one of them.
    assert check["evidence"]["harm"]["needed"] == pytest.approx(20)
    assert check["evidence"]["safe"]["needed"] == pytest.approx(20)
    assert status_data(seen())["criteria"][0]["evidence"]["harm"]["needed"] == pytest.approx(60)
    assert safety["status"] == "safe"
    assert safety["evidence"] is None
    text = text_of(seen())
    assert "stable 4.9 % (47 of 950)   canary 6.0 % (3 of 50)   change +21 %" in text
    assert f"p = {check['test']['p_value']:.3g} (score test" in text
    assert "judged against at most 5.9 %" in text


def test_a_restart_is_held_against_its_share_of_the_budgets() -> None:
    criterion = status_data(seen(replace(running(), attempt=3)))["criteria"][0]
    # The second restart has alpha / 6, and three criteria share it.
    assert criterion["evidence"]["harm"]["needed"] == pytest.approx(3 * 6 / 0.05)
    assert criterion["evidence"]["safe"]["needed"] == pytest.approx(6 / 0.05)


def test_needs_are_told_in_hours_at_the_present_rate() -> None:
    situation = seen(after=1800)
    data = status_data(situation)
    # 1,050 conversations were assigned within half an hour.
    assert data["conversations"]["per_hour"] == pytest.approx(2100)
    line = next(line for line in data["criteria"] if line["needs"] is not None)
    assert line["needs_hours"] == pytest.approx(line["needs"] / 2100)
    assert f"about {line['needs']:,} more conversations, " in text_of(situation)
    assert "at the present rate" in text_of(situation)


def test_without_conversations_there_is_no_rate_rather_than_zero() -> None:
    data = status_data(seen(aggregates=Aggregates(epochs=running().epochs)))
    assert data["conversations"]["per_hour"] is None
    assert all(line["needs_hours"] is None for line in data["criteria"])


def test_no_data_is_said_and_no_number_is_made_up_for_it() -> None:
    situation = seen(aggregates=Aggregates(epochs=running().epochs))
    data = status_data(situation)
    latency = next(line for line in data["criteria"] if line["metric"] == "p95_latency")
    assert (latency["status"], latency["stable"]["value"], latency["test"]) == ("no_data", None, None)
    assert "p = " not in text_of(situation)
    assert "no data: no counted conversation of canary and stable has a value yet" in text_of(situation)


def test_a_turn_that_never_ended_is_no_number_in_json() -> None:
    bins = {Cell("p95_latency", 0, arm): {10**6: 300} for arm in Arm}
    data = status_data(seen(aggregates=replace(counted(), histograms=bins)))
    latency = next(line for line in data["criteria"] if line["metric"] == "p95_latency")
    assert latency["canary"]["value"] == "inf"
    assert json.dumps(data, allow_nan=False)


def test_an_e_value_larger_than_any_float_is_told_by_its_logarithm() -> None:
    found = e_data(2000.0, math.log(20))
    assert (found["e"], found["log_e"]) == ("inf", 2000.0)
    assert found["needed"] == pytest.approx(20)


def test_every_reason_that_holds_it_is_shown_and_the_next_step_too() -> None:
    data = status_data(seen(after=900, workers=[worker()]))
    assert data["verdict"] == "hold"
    assert data["reasons"] == [
        "stage initial lasts 15m more",
        "stage initial needs 50 more counted canary conversations",
    ]
    assert data["next"] == ["Nothing to do: it goes on by itself. agentcanary watch follows it."]


def test_harm_is_seen_before_the_controller_acts_on_it() -> None:
    data = status_data(seen(aggregates=counted(errors=(45, 47))))
    assert data["verdict"] == "hold"
    assert data["next_look"]["verdict"] == "rollback"
    assert data["criteria"][0]["status"] == "harmed"
    assert "The next look decides: rollback" in text_of(seen(aggregates=counted(errors=(45, 47))))


def test_a_rollback_for_harm_warns_that_its_estimates_exaggerate() -> None:
    aggregates = counted(errors=(45, 47))
    rolled_back = advance(running(), Look(findings=findings_of(running(), aggregates)), now=T0 + 900).rollout
    data = status_data(seen(rolled_back, aggregates))
    assert (data["verdict"], data["reasons"]) == ("rollback", ["harm is proven: error_rate"])
    assert any("exaggerate" in warning for warning in data["warnings"])
    assert data["stage"]["remaining"] is None


def test_an_ended_rollout_needs_nothing_more() -> None:
    promoted = advance(running(), Action(kind=ActionKind.PROMOTE, actor="anna", reason="fine"), now=T0 + 900).rollout
    data = status_data(seen(promoted))
    assert all(line["needs"] is None and "about" not in line["reason"] for line in data["criteria"] + data["checks"])


def test_the_sample_ratio_shows_the_split_of_every_weight() -> None:
    ratio = status_data(seen())["sample_ratio"]
    assert ratio["split"] == [{"weight": 0.05, "stable": 998, "canary": 52}]
    assert not ratio["alarm"]
    assert "as asked for, the canary has 52 of 1,050 where 0.05 is asked for" in text_of(seen())


def test_a_wrong_split_alarms_and_says_what_to_do() -> None:
    wrong = replace(counted(), assigned={(0, Arm.CANARY): 200, (0, Arm.STABLE): 998})
    data = status_data(seen(aggregates=wrong))
    assert data["sample_ratio"]["alarm"]
    assert any("split is off" in step for step in data["next"])
    assert "Split: off, the canary has 200 of 1,198 where 0.05 is asked for" in text_of(seen(aggregates=wrong))


def test_excluded_conversations_are_shown_by_reason() -> None:
    assert status_data(seen())["conversations"]["excluded"] == {"forced": 1, "handover": 2}
    assert "Excluded: 1 forced, 2 handover" in text_of(seen())


def test_degraded_modes_of_the_workers_are_added_up() -> None:
    situation = seen(
        workers=[worker(degraded={"pin_lookup": 2}), worker(id="w2", degraded={"pin_lookup": 3, "snapshot": 1})]
    )
    assert status_data(situation)["workers"] == {
        "alive": 2,
        "configurations": 1,
        "degraded": {"pin_lookup": 5, "snapshot": 1},
    }
    shown = text_of(situation)
    assert ": 2 alive\n" in shown
    assert "degraded: pin_lookup 5 (a pin was not found in time" in shown
    assert "degraded: snapshot 1 (the rollout could not be read" in shown


def test_of_workers_that_are_gone_it_does_not_say_that_they_were_never_degraded() -> None:
    assert "1 alive; degraded: never since they started" in text_of(seen(workers=[worker(degraded={})]))
    gone = text_of(seen(workers=[]))
    assert ": 0 alive\n" in gone
    assert "degraded: never" not in gone


def test_workers_of_different_configurations_are_a_warning() -> None:
    data = status_data(seen(workers=[worker(), worker(id="w2", config_hash="b")]))
    assert "2 workers run 2 different configurations; is one being deployed?" in data["warnings"]


def test_a_clock_that_is_behind_is_a_warning_and_no_negative_time() -> None:
    data = status_data(seen(after=-7200))
    assert data["stage"]["elapsed"] == 0
    assert any("2h in the future" in warning for warning in data["warnings"])


def test_messages_that_could_not_be_delivered_are_a_warning() -> None:
    situation = seen(undelivered=["started, 3 attempts: connection refused"])
    assert "Warning: not delivered yet: started, 3 attempts: connection refused" in text_of(situation)


def test_a_safety_stop_is_the_first_thing_that_is_said() -> None:
    stopped = replace(running(), stopped_at=T0 + 60, stop_reason="violation o1")
    data = status_data(seen(stopped))
    assert (data["verdict"], data["reasons"]) == ("rollback", ["violation o1"])
    assert text_of(seen(stopped)).splitlines()[2] == "STOPPED 2025-06-15 15:07:40 UTC: violation o1"


def acted(kind: ActionKind, rollout: Rollout) -> Rollout:
    return advance(rollout, Action(kind=kind, actor="anna", reason="r"), now=T0 + 60).rollout


STATES = {
    "pending": (fresh(), ExitCode.HOLD, "controller's next look starts it"),
    "progressing": (running(), ExitCode.HOLD, "No worker has reported lately"),
    "paused": (acted(ActionKind.PAUSE, running()), ExitCode.HOLD, "agentcanary resume --reason TEXT"),
    "paused for harm": (
        replace(acted(ActionKind.PAUSE, running()), paused_for="harm"),
        ExitCode.HOLD,
        "resume --reason TEXT goes on in spite of it",
    ),
    "inconclusive": (
        replace(acted(ActionKind.PAUSE, running()), paused_for="inconclusive"),
        ExitCode.HOLD,
        "gives it more time",
    ),
    "stopped": (
        replace(running(), stopped_at=T0, stop_reason="o1"),
        ExitCode.ROLLBACK,
        "next look makes it a rollback",
    ),
    "rolled back": (acted(ActionKind.ROLLBACK, running()), ExitCode.ROLLBACK, "agentcanary restart --reason TEXT"),
    "promoted": (acted(ActionKind.PROMOTE, running()), ExitCode.DONE, "undoes the promotion"),
    "drained": (
        advance(acted(ActionKind.PROMOTE, running()), Drain(live=0), now=T0 + 90).rollout,
        ExitCode.DONE,
        "Write stable: v2 into canary.yaml",
    ),
}


def test_with_no_live_conversation_left_a_promotion_can_be_undone_until_the_next_look() -> None:
    promoted = acted(ActionKind.PROMOTE, running())
    steps = status_data(seen(promoted, replace(counted(), epochs=promoted.epochs), live=0))["next"]
    assert any("No live conversation is left on v1. Until the controller's next look" in step for step in steps), steps


@pytest.mark.parametrize(("rollout", "code", "advice"), STATES.values(), ids=STATES)
def test_each_state_has_an_exit_code_and_says_what_to_do_next(rollout: Rollout, code: ExitCode, advice: str) -> None:
    assert gate(rollout) is code
    live = 3 if rollout.phase.ended and rollout.drained_at is None else None
    data = status_data(seen(rollout, replace(counted(), epochs=rollout.epochs), live=live))
    assert any(advice in step for step in data["next"]), data["next"]
    assert text_of(seen(rollout, replace(counted(), epochs=rollout.epochs), live=live))


def test_an_outcome_that_nobody_records_is_named_with_the_call_that_records_it() -> None:
    check = parse_check("task_completion_regression < 0.02")
    plan = replace(PLAN, stages=(replace(PLAN.stages[0], checks=(check,)), *PLAN.stages[1:]))
    rollout = running(plan)
    findings = findings_of(rollout, counted(completed=None))
    transition = advance(rollout, Look(findings=findings), now=T0 + 4000)
    steps = list(next_steps(rollout, transition, findings, live=None, workers=1))
    assert any('canary.record(conversation_id, "task_completion", 1)' in step for step in steps)


def test_a_line_is_worth_printing_when_something_happened_not_when_time_passed() -> None:
    one, later = status_data(seen(after=900)), status_data(seen(after=905))
    assert one["stage"]["elapsed"] != later["stage"]["elapsed"]
    assert change_key(one) == change_key(later)
    paused = status_data(seen(acted(ActionKind.PAUSE, running())))
    assert change_key(paused) != change_key(one)
    assert Phase.PAUSED.value in change_line(paused)


def test_on_a_narrow_terminal_numbers_stay_in_one_piece() -> None:
    text = text_of(seen(), width=72)
    assert all(len(line) <= 72 for line in text.splitlines())
    assert any(line.strip().startswith("judged against at most 5.9 %") for line in text.splitlines())
