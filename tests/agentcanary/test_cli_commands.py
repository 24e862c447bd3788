"""Every command on a real SQLite store, filled through the store's own interface and moved by the real controller."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentcanary.assignment import Reason, assign, bucket, force, must_store
from agentcanary.cli import app
from agentcanary.cli.seat import seat
from agentcanary.config import Config, load_config
from agentcanary.controller import Controller
from agentcanary.errors import ConflictError, StoreError, TransitionError
from agentcanary.operating import decide
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.rollout import Phase, Rollout, Transition, view_of
from agentcanary.state_machine import Action, ActionKind, advance, new_rollout
from agentcanary.store import Store, Worker
from agentcanary.testing import FrozenClock, RecordingNotifier
from agentcanary_analysis.aggregates import Arm

NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"
STAGES = """
horizon: 5m
canary_stages:
  - name: initial
    weight: 0.2
    duration: 40m
    min_requests: 50
    checks: ["error_rate_increase < 0.10", "safety_violations == 0"]
  - {name: half, weight: 0.5, duration: 1h, min_requests: 300, checks: ["task_completion_regression < 0.02"]}
  - {name: full, weight: 1.0, duration: 0s}
"""
HOUR = 3600.0


@dataclass
class Place:
    """A folder with a configuration and a store, and a past that can be played into it."""

    folder: Path
    config: Config
    store: Store
    clock: FrozenClock
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    batches: int = 0

    @property
    def rollout(self) -> Rollout:
        found = self.store.current("support")
        assert found is not None
        return found

    def controller(self) -> Controller:
        return Controller(
            self.store,
            agent="support",
            stable=self.config.stable,
            canary=self.config.canary,
            plan=self.config.plan,
            clock=self.clock,
            owner="test",
            notify=RecordingNotifier(),
        )

    def start(self) -> None:
        rollout = new_rollout(
            "support", "support-v1", "support-v2", self.config.plan, now=self.clock(), new_salt=b"salt"
        )
        self.store.start(rollout)
        self.controller().tick()
        self.clock.advance(10)

    def serve(
        self, conversations: int, *, minutes: float = 30.0, errors: float = 0.05, canary_errors: float = 0.05
    ) -> None:
        """Conversations of one turn, spread over some minutes, each with its outcome; then one look."""
        view = view_of("support", self.rollout, stable="support-v1", canary="support-v2", handover=2.0)
        records: list[Record] = []
        for number in range(conversations):
            at = self.clock() + minutes * 60 * number / conversations
            unit = f"c{self.batches}-{number}"
            given = assign(view, unit, bucket(view.salt, unit), now=at, fresh=True)
            if must_store(given):
                self.store.put_pin("support", view.rollout, unit, given.pin, at)
            fails = self.rng.random() < (canary_errors if given.arm is Arm.CANARY else errors)
            outcome = TurnOutcome.ERROR if fails else TurnOutcome.OK
            latency = self.rng.lognormvariate(0.0, 0.5)
            records += [
                TurnStarted(unit, given, at),
                TurnEnded(unit, given, at, at + latency, latency, latency / 2, outcome),
                outcome_of(unit, "task_completion", float(self.rng.random() < 0.85), at + 20),
            ]
        self.apply(records)
        self.clock.advance(minutes * 60)
        self.beat()
        self.controller().tick()

    def apply(self, records: list[Record]) -> None:
        self.batches += 1
        self.store.apply(f"batch-{self.batches}", records)

    def beat(self, *, at: float | None = None, **changed: object) -> None:
        now = self.clock() if at is None else at
        worker = Worker(
            id="w1",
            agent="support",
            host="h1",
            pid=1,
            config_hash="a",
            started_at=now - HOUR,
            reachable_since=now - HOUR,
            heartbeat_at=now,
            flushed_until=now,
        )
        self.store.heartbeat(replace(worker, **changed))  # type: ignore[arg-type] # fields of a worker


def outcome_of(unit: str, name: str, value: float | None, at: float, **details: str) -> Outcome:
    return Outcome(
        id=f"{name}-{unit}",
        agent="support",
        conversation_id=unit,
        name=name,
        value=value,
        at=at,
        **details,  # type: ignore[arg-type] # texts of an outcome
    )


def place_in(folder: Path, now: float) -> Place:
    (folder / "canary.yaml").write_text(NAMES + STAGES)
    config = load_config(folder / "canary.yaml")
    return Place(folder, config, Store(config.store), FrozenClock(now))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AGENTCANARY_DISABLED", raising=False)
    made = place_in(tmp_path, time.time() - HOUR)
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """An hour ago a rollout began; half an hour of it was served."""
    made = place_in(tmp_path_factory.mktemp("played"), time.time() - HOUR)
    made.start()
    made.serve(600)
    made.store.close()
    return made


@pytest.fixture
def running(place: Place, played: Place) -> Place:
    shutil.copytree(played.folder / ".agentcanary", place.folder / ".agentcanary")
    place.clock.advance(played.clock() - place.clock())
    place.batches = played.batches
    return place


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def data_of(*arguments: str) -> dict[str, Any]:
    found = json.loads(run(*arguments, "--json").stdout)
    assert isinstance(found, dict)
    return found


# status


def test_status_shows_a_running_rollout_and_exits_with_11(running: Place) -> None:
    done = run("status")
    assert done.exit_code == 11, done.output
    assert done.stdout.startswith("support: support-v1 → support-v2   progressing, stage 1 of 3 initial, weight 0.2\n")
    for part in ("HOLD: ", "error_rate_increase < 0.10", "safety_violations == 0", "harm E = ", "proven at 20", "Next"):
        assert part in done.stdout


def test_status_as_json_is_data_only_and_agrees_with_the_text(running: Place) -> None:
    data = data_of("status")
    assert (data["agent"], data["verdict"]) == ("support", "hold")
    check = data["checks"][0]
    text = run("status").stdout
    assert f"({check['canary']['events']:,} of {check['canary']['observed']:,})" in text
    assert f"p = {check['test']['p_value']:.3g}" in text


def test_status_needs_no_exit_code_to_be_read(running: Place) -> None:
    assert run("status", "--no-exit-code").exit_code == 0


def test_status_of_a_harmful_canary_exits_with_10(place: Place) -> None:
    place.start()
    place.serve(1500, canary_errors=0.30)
    assert place.rollout.phase is Phase.ROLLED_BACK
    done = run("status")
    assert done.exit_code == 10, done.output
    assert "ROLLBACK: harm is proven: error_rate" in done.stdout
    assert data_of("status")["verdict"] == "rollback"


def test_status_of_a_promoted_canary_exits_with_0(running: Place) -> None:
    assert run("promote", "--reason", "it is fine").exit_code == 0
    done = run("status")
    assert done.exit_code == 0, done.output
    assert "PROMOTE: it is fine" in done.stdout


def test_status_of_a_stopped_canary_exits_with_10_before_the_controller_looked(running: Place) -> None:
    canary = next(unit for unit, arm in arms(running) if arm is Arm.CANARY)
    running.apply([outcome_of(canary, "safety_violation", 1.0, running.clock())])
    done = run("status")
    assert done.exit_code == 10, done.output
    assert "STOPPED" in done.stdout
    assert "next look makes it a rollback" in done.stdout


def test_status_finds_an_earlier_rollout_by_its_id(running: Place) -> None:
    first = running.rollout.id
    run("rollback", "--reason", "again")
    run("restart", "--reason", "again", "--during-drain")
    assert running.rollout.id != first
    assert data_of("status", first)["verdict"] == "rollback"
    unknown = run("status", "support-nothere")
    assert unknown.exit_code == 1
    assert "rollout 'support-nothere' is not in sqlite:///" in unknown.stderr
    assert "agentcanary rollouts lists those that are" in unknown.stderr


def test_status_tells_that_the_file_was_edited(running: Place) -> None:
    (running.folder / "canary.yaml").write_text(NAMES + STAGES.replace("min_requests: 50", "min_requests: 60"))
    assert "the plan in canary.yaml was changed since" in run("status").stdout
    (running.folder / "canary.yaml").write_text(NAMES.replace("v2", "v3") + STAGES)
    assert "canary.yaml names support-v1 → support-v3" in run("status").stdout


def test_an_unedited_file_is_no_difference(running: Place) -> None:
    assert not [text for text in data_of("status")["warnings"] if "canary.yaml" in text]


def test_a_reading_command_makes_no_store(place: Place) -> None:
    for command in (["status"], ["rollouts"], ["explain", "c1"], ["watch"], ["pause", "--reason", "r"]):
        done = run(*command)
        assert done.exit_code == 1, done.output
        assert "there is no such file yet" in done.stderr
    assert not (place.folder / ".agentcanary").exists()


def test_an_agent_without_a_rollout_is_told_from_those_that_have_one(running: Place) -> None:
    done = run("status", "--agent", "billing")
    assert done.exit_code == 1
    assert "agent 'billing' has no rollout in sqlite:///" in done.stderr
    assert "the store knows support: choose one with --agent" in done.stderr


def test_mistakes_in_the_file_are_told_without_a_traceback(place: Place) -> None:
    (place.folder / "canary.yaml").write_text(NAMES + "alpa: 0.05\nalpha: 5\n")
    done = run("status")
    assert done.exit_code == 2
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["canary.yaml:4", "canary.yaml:5"]
    assert done.stdout == ""


def test_a_store_that_is_none_is_told_without_a_traceback(place: Place) -> None:
    file = Path(place.config.store.removeprefix("sqlite:///"))
    file.parent.mkdir()
    file.write_text("this is not a database, only a text that somebody wrote here")
    done = run("status")
    assert done.exit_code == 1
    assert "the file is not a database; move it away to start afresh" in done.stderr


# watch


def test_watch_ends_after_its_time_and_prints_a_line_only_when_something_changes(running: Place) -> None:
    done = run("watch", "--for", "0.5", "--every", "0.1")
    assert done.exit_code == 11, done.output
    (line,) = done.stdout.splitlines()
    assert "progressing  stage initial  weight 0.2" in line


def test_watch_prints_objects_until_the_rollout_ends(running: Place) -> None:
    def end() -> None:
        time.sleep(0.6)
        pause = Action(kind=ActionKind.PAUSE, actor="a", reason="r")
        save(running, advance(running.rollout, pause, now=running.clock()))
        time.sleep(0.6)
        rollback = Action(kind=ActionKind.ROLLBACK, actor="a", reason="r")
        save(running, advance(running.rollout, rollback, now=running.clock()))

    other = threading.Thread(target=end)
    other.start()
    done = run("watch", "--json", "--every", "0.1", "--for", "20")
    other.join()
    assert done.exit_code == 10, done.output
    phases = [json.loads(line)["rollout"]["phase"] for line in done.stdout.splitlines()]
    assert phases == ["progressing", "paused", "rolled_back"]


def save(place: Place, transition: Transition) -> None:
    place.store.save(transition, expected_revision=place.rollout.revision, now=place.clock())


def test_control_c_leaves_a_watch_with_the_state_that_it_saw(running: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agentcanary.cli.watch.time.sleep", interrupted)
    done = run("watch")
    assert done.exit_code == 11, done.output
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == "left\n"


def test_watch_goes_on_when_the_store_cannot_be_read_for_a_while(
    running: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    real = Store.rollout

    def sometimes(store: Store, rollout: str) -> Rollout:
        nonlocal reads
        reads += 1
        if reads in (2, 3):
            raise StoreError("the disk reports an error")
        return real(store, rollout)

    monkeypatch.setattr(Store, "rollout", sometimes)
    done = run("watch", "--for", "1", "--every", "0.1")
    assert done.exit_code == 11, done.output
    assert done.stderr == "agentcanary: the disk reports an error; trying again\n"
    assert reads > 4
    assert len(done.stdout.splitlines()) == 2, "what holds is said again after the store is back"


# rollouts


def test_rollouts_lists_all_of_them_the_newest_first(running: Place) -> None:
    run("rollback", "--reason", "once more")
    run("restart", "--reason", "once more", "--during-drain")
    lines = run("rollouts").stdout.splitlines()
    assert [line.split()[2:6] for line in lines[1:]] == [
        ["support-v1", "→", "support-v2", "2"],
        ["support-v1", "→", "support-v2", "1"],
    ]
    data = json.loads(run("rollouts", "--json").stdout)
    assert [(one["attempt"], one["phase"], one["cause"]) for one in data] == [
        (2, "pending", ""),
        (1, "rolled_back", "manual"),
    ]
    assert all("salt" not in one for one in data)


def test_rollouts_of_an_agent_that_has_none(running: Place) -> None:
    done = run("rollouts", "--agent", "billing")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "No rollout of agent 'billing'" in done.stderr
    assert json.loads(run("rollouts", "--agent", "billing", "--json").stdout) == []


# actions


def test_every_action_needs_a_reason(place: Place) -> None:
    for command in ("start", "advance", "promote", "pause", "resume", "rollback", "restart"):
        for arguments in ([command], [command, "--reason", "  "]):
            done = run(*arguments)
            assert done.exit_code == 2, done.output
            assert f"agentcanary {command}: say why, for the audit log" in done.stderr


def test_pause_and_resume_are_kept_with_actor_and_reason(running: Place) -> None:
    paused = run("pause", "--reason", "a spike", "--actor", "anna")
    assert paused.exit_code == 0, paused.output
    assert "now     paused, stage initial, weight 0.2" in paused.stdout
    assert "agentcanary resume goes on" in paused.stdout
    assert running.rollout.phase is Phase.PAUSED
    resumed = run("resume", "--reason", "it was nothing")
    assert resumed.exit_code == 0, resumed.output
    entries = running.store.audit(running.rollout.id)[-2:]
    assert [(entry.actor == "anna", entry.action, entry.reason) for entry in entries] == [
        (True, "pause", "a spike"),
        (False, "resume", "it was nothing"),
    ]
    assert "@" in entries[1].actor


def test_advance_takes_one_step_and_says_what_follows(running: Place) -> None:
    done = run("advance", "--reason", "enough")
    assert done.exit_code == 0, done.output
    assert "before  progressing, stage initial, weight 0.2" in done.stdout
    assert "now     progressing, stage half, weight 0.5" in done.stdout
    assert "those under way keep their version" in done.stdout
    assert running.rollout.stage == 1


def test_rollback_says_what_becomes_of_conversations_under_way(running: Place) -> None:
    done = run("rollback", "--reason", "not today")
    assert done.exit_code == 0, done.output
    assert "those under way on support-v2 end there (rollback.pinned.manual: finish)" in done.stdout
    assert (running.rollout.phase, running.rollout.weight) == (Phase.ROLLED_BACK, 0.0)


def test_rollback_undoes_a_promotion_that_still_drains(running: Place) -> None:
    assert "Until then agentcanary rollback undoes it" in run("promote", "--reason", "fine").stdout
    assert run("rollback", "--reason", "not fine").exit_code == 0
    assert running.rollout.phase is Phase.ROLLED_BACK


def test_an_action_that_the_phase_does_not_allow_is_refused_in_words(running: Place) -> None:
    done = run("resume", "--reason", "why not")
    assert done.exit_code == 1
    assert "cannot resume rollout support-" in done.stderr
    assert "it is not paused, nor held for invalid data" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_live_worker_an_action_says_so(running: Place) -> None:
    assert "No worker has reported lately" in run("pause", "--reason", "r").stdout
    running.beat(at=time.time())
    assert "1 live worker follows within a second" in run("resume", "--reason", "r").stdout


class Meddling(Store):
    """A store in which somebody else acts just before each of the first saves."""

    meddle: Callable[[], None]
    times = 1

    def save(self, transition: Transition, **arguments: Any) -> Rollout:
        if self.times:
            self.times -= 1
            self.meddle()
        return super().save(transition, **arguments)


def meddling(place: Place, kind: ActionKind, *, times: int = 1) -> Meddling:
    store = Meddling(place.config.store)
    store.times = times

    def meddle() -> None:
        now = place.rollout
        action = Action(kind=kind, actor="somebody", reason="meanwhile")
        if kind is ActionKind.PAUSE and now.phase is Phase.PAUSED:
            action = replace(action, kind=ActionKind.RESUME)
        save(place, advance(now, action, now=place.clock()))

    store.meddle = meddle
    return store


def test_an_action_is_decided_again_when_somebody_else_was_first(running: Place) -> None:
    with seat(Path("canary.yaml")) as at:
        action = Action(kind=ActionKind.ROLLBACK, actor="anna", reason="now")
        before, transition = decide(meddling(running, ActionKind.PAUSE), at.current(), action, clock=at.clock)
    assert (before.phase, transition.rollout.phase) == (Phase.PAUSED, Phase.ROLLED_BACK)
    assert running.rollout.phase is Phase.ROLLED_BACK
    assert [entry.action for entry in running.store.audit(running.rollout.id)][-2:] == ["pause", "rollback"]


def test_an_advance_never_takes_a_second_step_because_somebody_else_took_the_first(running: Place) -> None:
    with seat(Path("canary.yaml")) as at:
        action = Action(kind=ActionKind.ADVANCE, actor="anna", reason="next")
        with pytest.raises(TransitionError, match=r"it was progressing in stage initial, now .* in stage half"):
            decide(meddling(running, ActionKind.ADVANCE), at.current(), action, clock=at.clock)
    assert running.rollout.stage == 1


def test_an_action_gives_up_after_three_conflicts(running: Place) -> None:
    with seat(Path("canary.yaml")) as at:
        store = meddling(running, ActionKind.PAUSE, times=9)
        with pytest.raises(ConflictError, match="was changed by others 3 times during this rollback; nothing was done"):
            decide(store, at.current(), Action(kind=ActionKind.ROLLBACK, actor="anna", reason="now"), clock=at.clock)
    assert store.times == 6
    assert not running.rollout.phase.ended


# start and restart


def test_start_makes_a_store_and_a_rollout_that_waits_for_a_look(place: Place) -> None:
    done = run("start", "--reason", "tests passed", "--actor", "anna")
    assert done.exit_code == 0, done.output
    assert "The controller's next look starts stage initial at weight 0.2" in done.stdout
    assert place.rollout.phase is Phase.PENDING
    assert place.rollout.plan == place.config.plan
    (entry,) = place.store.audit(place.rollout.id)
    assert (entry.actor, entry.action, entry.reason) == ("anna", "create", "tests passed")
    assert run("status").exit_code == 11


def test_start_refuses_beside_a_running_rollout_and_after_one_of_the_same_versions(running: Place) -> None:
    beside = run("start", "--reason", "r")
    assert beside.exit_code == 1
    assert "which is progressing; roll it back or promote it first" in beside.stderr
    run("rollback", "--reason", "bad answers")
    again = run("start", "--reason", "r")
    assert again.exit_code == 1
    assert "which is rolled_back (bad answers)" in again.stderr
    assert "agentcanary restart --reason TEXT" in again.stderr


def test_start_refuses_a_file_without_a_canary_or_about_another_agent(place: Place) -> None:
    assert "is about the agent 'support', not 'billing'" in run("start", "--reason", "r", "--agent", "billing").stderr
    (place.folder / "canary.yaml").write_text("agent: support\nstable: support-v1\n")
    done = run("start", "--reason", "r")
    assert done.exit_code == 2
    assert "canary.yaml: names no canary, so there is nothing to roll out" in done.stderr
    assert not (place.folder / ".agentcanary").exists()


def test_a_new_rollout_waits_for_conversations_that_it_would_move(running: Place) -> None:
    running.clock.advance(time.time() - running.clock())
    running.serve(20, minutes=0.1)
    run("promote", "--reason", "fine")
    (running.folder / "canary.yaml").write_text("agent: support\nstable: support-v2\ncanary: support-v3\n" + STAGES)
    refused = run("start", "--reason", "r")
    assert refused.exit_code == 1, refused.output
    assert "end on support-v1; a new rollout would move them to support-v2" in refused.stderr
    assert run("start", "--reason", "r", "--during-drain").exit_code == 0
    assert (running.rollout.stable, running.rollout.canary) == ("support-v2", "support-v3")


def test_restart_takes_the_files_plan_a_new_salt_and_a_share_of_the_budgets(running: Place) -> None:
    first = running.rollout
    run("rollback", "--reason", "bad answers")
    (running.folder / "canary.yaml").write_text(NAMES + STAGES.replace("min_requests: 50", "min_requests: 60"))
    done = run("restart", "--reason", "prompt mended")
    assert done.exit_code == 0, done.output
    again = running.rollout
    assert (again.attempt, again.phase, again.plan.stages[0].min_conversations) == (2, Phase.PENDING, 60)
    assert again.salt != first.salt
    assert "Attempt 2 has its own share of the budgets: α = 0.025" in done.stdout
    assert [entry.action for entry in running.store.audit(again.id)] == ["restart"]


def test_restart_of_a_running_or_unknown_pair_is_refused(running: Place) -> None:
    assert "roll it back or promote it first" in run("restart", "--reason", "r").stderr
    (running.folder / "canary.yaml").write_text(NAMES.replace("v2", "v3") + STAGES)
    unknown = run("restart", "--reason", "r")
    assert unknown.exit_code == 1
    assert "support-v1 → support-v3 of agent 'support' never had a rollout" in unknown.stderr


# explain


def arms(place: Place) -> Iterator[tuple[str, Arm]]:
    for number in range(600):
        known = place.store.conversation("support", f"c0-{number}")
        if known is not None and known.parts:
            yield known.unit, known.parts[0].arm


def test_explain_tells_arm_epoch_bucket_turns_outcomes_and_what_it_counts_for(running: Place) -> None:
    unit = next(unit for unit, arm in arms(running) if arm is Arm.CANARY)
    data = data_of("explain", unit)
    (part,) = data["parts"]
    assert (part["arm"], part["version"], part["epoch"], part["stage"]) == ("canary", "support-v2", 0, "initial")
    assert part["bucket"] == bucket(b"salt", unit).assignment < part["weight"] == 0.2
    assert part["pin"] == "recorded"
    assert [turn["outcome"] for turn in part["turn_log"]] in (["ok"], ["error"])
    values = {line["metric"]: line["value"] for line in part["counts"]}
    assert values["error_rate"] == float(part["errors"])
    (outcome,) = data["outcomes"]
    assert (outcome["name"], outcome["value"]) == ("task_completion", values["task_completion_rate"])
    text = run("explain", unit).stdout
    assert f"why: its bucket {part['bucket']:.4f} lies below the weight 0.2 of epoch 0" in text
    assert "A turn now would be served by support-v2: it keeps its version." in text


def test_explain_says_why_a_conversation_is_in_no_statistic(running: Place) -> None:
    view = view_of("support", running.rollout, stable="support-v1", canary="support-v2", handover=2.0)
    at = running.clock()
    given = force(view, "tester", Arm.CANARY, bucket(view.salt, "tester"))
    running.apply([TurnStarted("t1", given, at)])
    data = data_of("explain", "tester")
    (part,) = data["parts"]
    assert (part["excluded"], part["counts"], part["open"]) == (Reason.FORCED, [], 1)
    assert [turn["outcome"] for turn in part["turn_log"]] == ["open"]
    text = run("explain", "tester").stdout
    assert "why: a tester's header put it there" in text
    assert "In no statistic: forced" in text
    assert "No outcome was recorded for it." in text


def test_explain_says_when_a_young_conversation_is_going_to_count(running: Place) -> None:
    at = time.time() - 60
    view = view_of("support", running.rollout, stable="support-v1", canary="support-v2", handover=2.0)
    given = assign(view, "young", bucket(view.salt, "young"), now=at, fresh=True)
    running.apply([TurnStarted("t1", given, at), TurnEnded("t1", given, at, at + 1, 1.0, None, TurnOutcome.OK)])
    text = run("explain", "young").stdout
    assert "error_rate" in text
    assert "not yet" in text
    assert "of age in 3m" in text


def test_explain_of_an_unknown_conversation_says_where_it_would_go(running: Place) -> None:
    done = run("explain", "nobody")
    assert done.exit_code == 1
    assert "conversation 'nobody' of agent 'support' is not in sqlite:///" in done.stderr
    version = "support-v2" if bucket(b"salt", "nobody").assignment < 0.2 else "support-v1"
    assert f"A turn now would be served by {version}: a new conversation" in done.stderr


# controller


def test_the_controller_starts_what_the_file_names_and_ends_with_its_time(place: Place) -> None:
    done = run("controller", "--for", "0.5")
    assert done.exit_code == 0, done.output
    assert place.rollout.phase is Phase.PROGRESSING
    assert "support: looking every 10 s at sqlite:///" in done.stderr
    assert place.store.acquire("support", "somebody else", time.time(), ttl=15) is not None


# doctor


def test_doctor_finds_a_healthy_installation_healthy(running: Place) -> None:
    running.clock.advance(time.time() - running.clock())
    running.controller().tick()
    done = run("doctor")
    assert done.exit_code == 0, done.output
    for name in ("configuration", "disk", "journals", "store", "rollout", "controller", "notifications"):
        assert any(line.startswith("ok ") and name in line for line in done.stdout.splitlines()), done.stdout
    found = json.loads(run("doctor", "--json").stdout)
    assert {check["state"] for check in found} <= {"ok", "warn"}


def test_doctor_fails_when_nobody_looks(running: Place) -> None:
    done = run("doctor")
    assert done.exit_code == 1, done.output
    assert re.search("nobody has looked at the evidence since (29|30)m", done.stdout), done.stdout
    assert "→ start the application: its workers look" in done.stdout


def test_doctor_tells_about_workers_of_another_configuration_and_what_went_wrong_in_them(running: Place) -> None:
    running.beat(at=time.time(), degraded={"pin_lookup": 12})
    text = run("doctor").stdout
    assert "the live workers run another configuration than this file" in text
    assert "pin_lookup 12 times" in text


def test_doctor_without_a_store_or_with_mistakes(place: Place) -> None:
    done = run("doctor")
    assert done.exit_code == 1
    assert "→ start the application once: it makes the store" in done.stdout
    (place.folder / "canary.yaml").write_text("agent: support\n")
    mistakes = run("doctor", "--json")
    assert mistakes.exit_code == 2
    assert json.loads(mistakes.stdout)[0]["state"] == "fail"


def test_doctor_finds_journals_that_wait(running: Place) -> None:
    folder = Path(running.config.store.removeprefix("sqlite:///") + ".journals")
    folder.mkdir(exist_ok=True)
    waiting = folder / "w1.000001.journal"
    waiting.write_bytes(b"x" * 1234)
    os.utime(waiting, (time.time() - 7200,) * 2)
    assert "1,234 bytes have waited to be stored for 2h" in run("doctor").stdout


# as a program


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from agentcanary.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from agentcanary.cli import app;"
        "done = CliRunner().invoke(app, ['--help']); assert done.exit_code == 0, done.output;"
        "print([name for name in ('numpy', 'scipy', 'pandas', 'sqlalchemy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_exit_codes_are_told_by_help() -> None:
    wide = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["status", "--help"]).output
    assert "0 promoted, 10 rolled back or stopped, 11 not decided yet" in wide


def test_in_a_pipe_there_are_no_colours_and_any_encoding_will_do(running: Place) -> None:
    done = program("status", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 11, done.stderr
    assert "\x1b" not in done.stdout
    assert "support: support-v1 ? support-v2" in done.stdout
    assert "Traceback" not in done.stderr


def test_log_lines_go_to_standard_error_and_sigterm_ends_the_controller(place: Place) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from agentcanary.cli import main; main()", "controller", "--for", "50"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    first = child.stderr.readline()
    assert "looking every 10 s" in first
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert out == ""
    assert "agentcanary.rollout_created" in err
    assert "the lease is given back" in err
