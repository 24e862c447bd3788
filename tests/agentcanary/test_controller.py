"""The controller on a real store: it starts, advances, promotes, rolls back, hands over and tells, and decides nothing
without the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

import pytest

from agentcanary.assignment import RolloutView, assign, bucket
from agentcanary.controller import Controller, ControlThread
from agentcanary.effects.events import Notification
from agentcanary.errors import ConflictError, StoreError
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.plan import Criterion, Plan, Stage
from agentcanary.rollout import Phase, Rollout, Transition, view_of
from agentcanary.state_machine import Action, ActionKind, advance
from agentcanary.store import Store, Worker
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.metrics import BUILT_IN, ERROR_RATE

PLAN = Plan(
    stages=(
        Stage(
            name="tenth",
            weight=0.1,
            duration=600,
            min_conversations=20,
            checks=(parse_check("error_rate_increase < 0.10"), parse_check("safety_violations == 0")),
        ),
        Stage(name="half", weight=0.5, duration=600, min_conversations=100),
        Stage(name="full", weight=1.0, duration=0),
    ),
    criteria=(Criterion(metric=ERROR_RATE.name, margin=0.10),),
    metrics=tuple(replace(metric, horizon=60.0) for metric in BUILT_IN),
    bake=300.0,
    idle_after=300.0,
)


@dataclass
class Clock:
    now: float = 1_000_000.0
    speed: float = 1.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Inbox:
    told: list[Notification] = field(default_factory=list)
    broken: bool = False

    def __call__(self, told: Notification) -> None:
        if self.broken:
            raise OSError("nobody listens")
        self.told.append(told)

    @property
    def events(self) -> list[str]:
        return [told.event for told in self.told]


@dataclass
class Agent:
    """An agent under traffic: conversations of one turn, assigned as a worker would."""

    store: Store
    clock: Clock
    errors: Callable[[Arm], float]
    begun: int = 0

    def talk(self, conversations: int, seconds: float) -> None:
        """Hold conversations over a stretch of time."""
        records: list[Record] = []
        view = view_of("support", self.store.current("support"), stable="v1", canary="v2", handover=2.0)
        for _ in range(conversations):
            self.clock.now += seconds / conversations
            records += self._conversation(view)
        self.store.apply(f"batch-{self.begun}", records)

    def _conversation(self, view: RolloutView) -> Iterator[Record]:
        now = self.clock.now
        unit = f"conversation-{self.begun}"
        self.begun += 1
        assignment = assign(view, unit, bucket(view.salt, unit), now=now, fresh=True)
        luck = int.from_bytes(blake2b(unit.encode(), digest_size=7).digest(), "big") / 2**56
        outcome = TurnOutcome.ERROR if luck < self.errors(assignment.arm) else TurnOutcome.OK
        yield TurnStarted(unit, assignment, now)
        yield TurnEnded(unit, assignment, now, now + 1.0, 0.5 + luck, 0.1, outcome)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def controller(
    store: Store, clock: Clock, inbox: Inbox, *, owner: str = "one", plan: Plan = PLAN, canary: str | None = "v2"
) -> Controller:
    return Controller(
        store, agent="support", stable="v1", canary=canary, plan=plan, clock=clock, owner=owner, notify=inbox
    )


def current(store: Store) -> Rollout:
    rollout = store.current("support")
    assert rollout is not None
    return rollout


def run(control: Controller, agent: Agent, *, looks: int, conversations: int = 200, seconds: float = 120.0) -> Rollout:
    """Traffic and looks until the rollout ends or the looks are used up."""
    control.tick()
    for _ in range(looks):
        agent.talk(conversations, seconds)
        control.tick()
        if current(agent.store).phase.ended:
            break
    return current(agent.store)


def test_the_first_tick_starts_the_configured_rollout(store: Store, clock: Clock, inbox: Inbox) -> None:
    transition = controller(store, clock, inbox).tick()
    assert transition is not None
    assert (transition.rollout.phase, transition.rollout.weight) == (Phase.PROGRESSING, 0.1)
    assert current(store) == transition.rollout
    assert inbox.events == ["started", "stage_entered"]
    assert [entry.action for entry in store.audit(transition.rollout.id)] == ["create", "start"]


def test_without_a_canary_nothing_starts(store: Store, clock: Clock, inbox: Inbox) -> None:
    assert controller(store, clock, inbox, canary=None).tick() is None
    assert store.current("support") is None


def test_a_better_canary_is_promoted_through_all_stages(store: Store, clock: Clock, inbox: Inbox) -> None:
    agent = Agent(store, clock, lambda arm: 0.05 if arm is Arm.CANARY else 0.20)
    rollout = run(controller(store, clock, inbox), agent, looks=40)
    assert rollout.phase is Phase.PROMOTED
    assert [epoch.stage for epoch in rollout.epochs] == sorted(epoch.stage for epoch in rollout.epochs)
    assert inbox.events == ["started", "stage_entered", "stage_entered", "stage_entered", "promoted"]


def test_a_canary_with_three_times_the_errors_is_rolled_back(store: Store, clock: Clock, inbox: Inbox) -> None:
    agent = Agent(store, clock, lambda arm: 0.30 if arm is Arm.CANARY else 0.10)
    rollout = run(controller(store, clock, inbox), agent, looks=40)
    assert (rollout.phase, rollout.cause, rollout.weight) == (Phase.ROLLED_BACK, "harm", 0.0)
    assert "error_rate" in rollout.reason
    assert inbox.events[-1] == "rolled_back"


def test_the_same_version_again_is_not_rolled_back(store: Store, clock: Clock, inbox: Inbox) -> None:
    agent = Agent(store, clock, lambda _: 0.10)
    assert run(controller(store, clock, inbox), agent, looks=15).phase is not Phase.ROLLED_BACK


def test_one_safety_violation_of_the_canary_is_enough(store: Store, clock: Clock, inbox: Inbox) -> None:
    control = controller(store, clock, inbox)
    agent = Agent(store, clock, lambda _: 0.05)
    run(control, agent, looks=1)
    rollout = current(store)
    victim = next(
        unit
        for unit in (f"conversation-{number}" for number in range(agent.begun))
        if (pin := store.pin("support", rollout.id, unit, now=0, idle_after=0)) and pin.arm is Arm.CANARY
    )
    violation = Outcome(
        id="o-1", agent="support", conversation_id=victim, name="safety_violation", value=1.0, at=clock.now
    )
    store.apply("violation", [violation])
    assert current(store).stopped_at is not None
    control.tick()
    assert (current(store).phase, current(store).cause) == (Phase.ROLLED_BACK, "safety")
    assert inbox.told[-1].severity == "critical"


def test_a_rolled_back_canary_is_never_started_again_by_itself(store: Store, clock: Clock, inbox: Inbox) -> None:
    control = controller(store, clock, inbox)
    control.tick()
    action = Action(kind=ActionKind.ROLLBACK, actor="ada", reason="not today")
    transition = advance(current(store), action, now=clock.now)
    store.save(transition, expected_revision=current(store).revision, now=clock.now)
    for _ in range(5):
        clock.now += 100_000
        control.tick()
    assert len(store.rollouts("support")) == 1
    assert current(store).drained_at is not None


def test_exactly_one_controller_acts_and_another_takes_over(store: Store, clock: Clock, inbox: Inbox) -> None:
    first, second = controller(store, clock, inbox), controller(store, clock, inbox, owner="two")
    assert first.tick() is not None
    assert second.tick() is None
    clock.now += 60.0
    assert second.tick() is not None
    assert first.tick() is None
    second.release()
    assert first.tick() is not None


def test_a_controller_that_lost_its_lease_saves_nothing(
    store: Store, clock: Clock, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = controller(store, clock, inbox), controller(store, clock, inbox, owner="two")
    first.tick()
    clock.now += 60.0
    real = store.acquire("support", "one", clock.now, 10.0)
    clock.now += 60.0
    second.tick()
    before = current(store)
    monkeypatch.setattr(store, "acquire", lambda *args, **kwargs: real)
    clock.now += 10.0
    with pytest.raises(ConflictError):
        first.tick()
    assert current(store) == before


def test_a_restarted_process_goes_on_where_it_stopped(store: Store, clock: Clock, inbox: Inbox) -> None:
    controller(store, clock, inbox).tick()
    begun = current(store)
    clock.now += 400.0
    Agent(store, clock, lambda _: 0.0).talk(400, 1.0)
    clock.now += 70.0
    again = controller(store, clock, inbox, owner="another process")
    held = again.tick()
    assert held is not None
    assert held.reasons[0] == "stage tenth lasts 2m10s more"
    assert current(store).stage_started_at == begun.stage_started_at
    clock.now += 130.0
    advanced = again.tick()
    assert advanced is not None
    assert advanced.rollout.current_stage.name == "half"


def test_counting_waits_for_a_worker_that_has_not_flushed(store: Store, clock: Clock, inbox: Inbox) -> None:
    control = controller(store, clock, inbox)
    control.tick()
    agent = Agent(store, clock, lambda _: 0.0)
    agent.talk(400, 100.0)
    stuck_since = clock.now - 100.0
    clock.now += 600.0
    worker = Worker(
        id="w",
        agent="support",
        started_at=stuck_since,
        reachable_since=stuck_since,
        heartbeat_at=clock.now,
        flushed_until=stuck_since,
    )
    store.heartbeat(worker)
    held = control.tick()
    assert held is not None
    assert "needs 20 more counted canary conversations" in held.reasons[0]
    store.heartbeat(replace(worker, flushed_until=clock.now))
    advanced = control.tick()
    assert advanced is not None
    assert advanced.rollout.stage == 1


def test_people_hear_once_of_what_goes_wrong_in_a_live_worker(store: Store, clock: Clock, inbox: Inbox) -> None:
    def beat(name: str, **degraded: int) -> None:
        at = clock.now
        store.heartbeat(
            Worker(
                id=name,
                agent="support",
                started_at=at,
                reachable_since=at,
                heartbeat_at=at,
                flushed_until=at,
                degraded={"no_conversation_id:absent": 7} | degraded,
            )
        )

    one = controller(store, clock, inbox)
    beat("dead", telemetry=3)
    clock.now += 3600.0
    for _ in range(4):
        clock.now += 1.0
        beat("live", pin_lookup=2, recorder_store=0)
        one.tick()
    told = [message for message in inbox.told if message.event == "degraded"]
    assert [message.message for message in told] == [
        "support: agentcanary is degraded in a worker: pin_lookup; requests are served, and status shows more"
    ]


def test_a_message_that_cannot_be_sent_delays_nothing_and_is_sent_later(
    store: Store, clock: Clock, inbox: Inbox
) -> None:
    inbox.broken = True
    control = controller(store, clock, inbox)
    transition = control.tick()
    assert transition is not None
    assert transition.rollout.weight == 0.1
    inbox.broken = False
    control.tick()
    assert inbox.events == []
    clock.now += 5.0
    control.tick()
    assert inbox.events == ["started", "stage_entered"]
    clock.now += 1_000.0
    control.tick()
    assert len({told.id for told in inbox.told}) == len(inbox.told) == 2


def test_without_the_store_nothing_is_decided(
    store: Store, clock: Clock, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = controller(store, clock, inbox)
    control.tick()
    before = current(store)
    clock.now += 1e6

    def broken(*args: object, **kwargs: object) -> Transition:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "count", broken)
    with pytest.raises(StoreError, match="disk is full"):
        control.tick()
    assert current(store) == before


def test_looks_are_kept_once_a_minute_and_whenever_something_changes(store: Store, clock: Clock, inbox: Inbox) -> None:
    control = controller(store, clock, inbox)
    for _ in range(20):
        control.tick()
        clock.now += 10.0
    looks = store.looks(current(store).id)
    assert [round(look.at - 1_000_000.0) for look in looks] == [0, 10, 70, 130, 190]
    assert "findings" in looks[0].look


def test_a_kept_look_has_the_intervals_that_hold_at_all_looks(store: Store, clock: Clock, inbox: Inbox) -> None:
    run(controller(store, clock, inbox), Agent(store, clock, lambda _: 0.10), looks=3)
    evidence = store.looks(current(store).id)[-1].look["findings"]["evidence"]
    errors = next(one for one in evidence if one["metric"] == "error_rate")
    assert errors["anytime"]["low"] < 0 < errors["anytime"]["high"]


def test_the_thread_goes_on_after_a_failed_look_and_counts_no_conflict(store: Store, clock: Clock) -> None:
    seen: list[str] = []
    enough = threading.Event()

    class Scripted(Controller):
        def look(self) -> Transition | None:
            seen.append("look")
            if len(seen) == 1:
                raise ConflictError("an operator was faster")
            if len(seen) == 2:
                raise StoreError("the disk is full")
            enough.set()
            return None

    failures: list[str] = []
    scripted = Scripted(
        store, agent="support", stable="v1", canary=None, plan=PLAN, clock=clock, owner="one", notify=Inbox()
    )
    thread = ControlThread(scripted, every=0.01, on_failure=lambda kind, error: failures.append(f"{kind}: {error}"))
    thread.start()
    assert enough.wait(10.0)
    thread.stop()
    assert failures == ["controller: the disk is full"]
