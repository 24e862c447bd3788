"""Which units need no look-up: never one that was given otherwise."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentcanary.assignment import Assignment, Reason, assign, bucket, needs_pin
from agentcanary.errors import StoreError
from agentcanary.outcomes import TurnStarted
from agentcanary.pins import PinKeeper
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Audit, Phase, Rollout, Transition, Verdict
from agentcanary.settled import OVERLAP, Settled, Settling, digest
from agentcanary.snapshot import SnapshotKeeper
from agentcanary.store import Store
from agentcanary.store.workers import Worker
from agentcanary.testing import FrozenClock
from agentcanary_analysis.aggregates import Arm, Epoch

BEGAN = 1_000_000.0
IDLE_AFTER = 300.0
PLAN = Plan(
    stages=(Stage(name="first", weight=0.1, duration=60), Stage(name="full", weight=1, duration=0)),
    idle_after=IDLE_AFTER,
)


def rollout(*weights: float, name: str = "r-1") -> Rollout:
    return Rollout(
        id=name,
        agent="support",
        stable="v1",
        canary="v2",
        plan=PLAN,
        salt=b"salt of " + name.encode(),
        phase=Phase.PROGRESSING,
        revision=len(weights),
        created_at=BEGAN,
        weight_changed_at=BEGAN,
        epochs=tuple(Epoch(number=number, weight=weight, stage=0) for number, weight in enumerate(weights)),
    )


@dataclass
class FakeSource:
    """Exceptions in a list, conversations from before in pages."""

    found: list[str] = field(default_factory=list)
    pages: dict[str, tuple[list[str], str | None]] = field(default_factory=dict)
    since: list[tuple[float, float]] = field(default_factory=list)
    scanned: list[str] = field(default_factory=list)
    broken: bool = False

    def exceptions(
        self, agent: str, rollout: str, *, since: float, elsewhere_since: float, limit: int
    ) -> Sequence[str]:
        if self.broken:
            raise StoreError("the disk is full")
        self.since.append((since, elsewhere_since))
        return self.found[:limit]

    def live_elsewhere(
        self, agent: str, rollout: str, *, after: str, active_since: float, rows: int
    ) -> tuple[Sequence[str], str | None]:
        self.scanned.append(after)
        assert active_since == BEGAN - IDLE_AFTER
        return self.pages.get(after, ([], None))


class Told:
    """What was told last."""

    settled: Settled | None = None

    def __call__(self, settled: Settled | None) -> None:
        self.settled = settled


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def real() -> list[float]:
    return [100.0]


@pytest.fixture
def settling(source: FakeSource, told: Told, real: list[float]) -> Settling:
    return Settling(source, agent="support", tell=told, monotonic=lambda: real[0], limit=10)


class TestLoading:
    def test_nothing_is_settled_before_all_conversations_from_before_are_known(
        self, settling: Settling, source: FakeSource, told: Told
    ) -> None:
        source.pages = {"": (["c-1"], "c-5"), "c-5": (["c-7"], None)}
        settling.poll(rollout(0.1), BEGAN + 3.0)
        assert told.settled is None
        settling.poll(rollout(0.1), BEGAN + 3.25)
        assert told.settled == Settled("r-1", frozenset(map(digest, ["c-1", "c-7"])))
        settling.poll(rollout(0.1), BEGAN + 3.5)
        assert source.scanned == ["", "c-5"], "once a rollout"

    def test_after_the_first_time_only_what_is_new_is_read_and_all_of_it_once_a_minute(
        self, settling: Settling, source: FakeSource, told: Told, real: list[float]
    ) -> None:
        for seconds in (3.0, 4.0, 63.0):
            real[0] = 100.0 + seconds
            source.found = [f"c-{seconds:g}"]
            settling.poll(rollout(0.1), BEGAN + seconds)
        always = float("-inf")
        assert source.since == [(always, BEGAN), (BEGAN + 3.0 - OVERLAP, BEGAN), (always, BEGAN)]
        assert told.settled == Settled("r-1", frozenset(map(digest, ["c-3", "c-4", "c-63"])))

    def test_when_every_live_conversation_from_before_has_come_again_they_are_not_searched_for(
        self, settling: Settling, source: FakeSource, told: Told
    ) -> None:
        settling.poll(rollout(0.1), BEGAN + IDLE_AFTER + OVERLAP + 1.0)
        assert (source.scanned, told.settled) == ([], Settled("r-1", frozenset()))
        assert source.since == [(float("-inf"), BEGAN + OVERLAP + 1.0)]

    def test_the_next_rollout_begins_from_nothing(self, settling: Settling, source: FakeSource, told: Told) -> None:
        source.found = ["c-1"]
        settling.poll(rollout(0.1), BEGAN + 3.0)
        source.found = []
        settling.poll(rollout(0.1, name="r-2"), BEGAN + 4.0)
        assert told.settled == Settled("r-2", frozenset())
        assert source.scanned == ["", ""]

    @pytest.mark.parametrize("pages", [False, True], ids=["pinned", "began before"])
    def test_with_too_many_exceptions_nothing_is_settled_and_no_more_is_read(
        self, settling: Settling, source: FakeSource, told: Told, pages: bool
    ) -> None:
        many = [f"c-{number}" for number in range(11)]
        source.found, source.pages = ([], {"": (many, None)}) if pages else (many, {})
        settling.poll(rollout(0.1), BEGAN + 3.0)
        assert told.settled is None
        settling.poll(rollout(0.1), BEGAN + 4.0)
        assert (told.settled, len(source.since)) == (None, 1)
        source.found, source.pages = many[:10], {}
        settling.poll(rollout(0.1, name="r-2"), BEGAN + 5.0)
        assert told.settled is not None, "as many as there may be"

    @pytest.mark.parametrize(
        "unsettled",
        [
            rollout(0.1, 0.0, 0.1),
            replace(rollout(0.1), stopped_at=BEGAN),
            replace(rollout(0.1), phase=Phase.PROMOTED),
            replace(rollout(0.1), plan=replace(PLAN, sticky=False)),
            rollout(),
        ],
        ids=["after a pause at weight 0", "stopped", "promoted", "not sticky", "not begun"],
    )
    def test_there_are_rollouts_in_which_nothing_is_ever_settled(
        self, settling: Settling, source: FakeSource, told: Told, unsettled: Rollout
    ) -> None:
        settling.poll(rollout(0.1), BEGAN + 3.0)
        assert told.settled is not None
        settling.poll(unsettled, BEGAN + 4.0)
        assert [told.settled, len(source.since)] == [None, 1]

    def test_when_the_store_does_not_answer_nothing_is_settled_until_it_does(
        self, settling: Settling, source: FakeSource, told: Told
    ) -> None:
        settling.poll(rollout(0.1), BEGAN + 3.0)
        source.broken = True
        with pytest.raises(StoreError, match="disk is full"):
            settling.poll(rollout(0.1), BEGAN + 10.0)
        assert told.settled is None
        source.broken = False
        settling.poll(rollout(0.1), BEGAN + 20.0)
        assert told.settled is not None
        assert source.since[-1][0] == BEGAN + 3.0 - OVERLAP, "from where it was read last"


@dataclass
class CountingStore:
    """The pins of a store, and who asked for them."""

    store: Store
    reads: list[str] = field(default_factory=list)

    def pin(self, agent: str, rollout: str, unit: str, *, now: float, idle_after: float) -> object:
        self.reads.append(unit)
        return self.store.pin(agent, rollout, unit, now=now, idle_after=idle_after)

    def put_pin(self, *args: object) -> object:
        return self.store.put_pin(*args)  # type: ignore[arg-type] # handed on as they came


class Process:
    """One worker: its snapshot, its pins, and its records, which are stored when it is told to."""

    def __init__(self, store: Store, clock: FrozenClock, name: str = "w") -> None:
        self.failures: list[str] = []
        self.store, self.clock, self.name = store, clock, name
        self.counting = CountingStore(store)
        self.pins = PinKeeper(
            self.counting,  # type: ignore[arg-type] # typed loosely above
            idle_after=IDLE_AFTER,
            degraded=lambda kind, _: self.failures.append(kind),
            deadline=10.0,
        )
        self.snapshots = SnapshotKeeper(
            store,
            agent="support",
            stable="v1",
            canary="v2",
            clock=clock,
            on_failure=lambda kind, _error: self.failures.append(kind),
            settling=Settling(store, agent="support", tell=self.pins.settle, monotonic=clock),
            monotonic=clock,
        )
        self.records: list[TurnStarted] = []
        self.batches = 0

    def turn(self, unit: str, *, fresh: bool = True) -> Assignment:
        view, now = self.snapshots.view, self.clock()
        buckets = bucket(view.salt, unit)
        made = self.pins.known(view, unit, buckets)
        if made is None and needs_pin(view, buckets):
            made = self.pins.resolve_blocking(view, unit, buckets, now=now, fresh=fresh)
        if made is None:
            made = assign(view, unit, buckets, now=now, fresh=fresh)
        self.records.append(TurnStarted(f"{self.name}-{self.batches}-{len(self.records)}", made, now))
        return made

    def flush(self) -> None:
        self.batches += 1
        self.store.apply(f"{self.name}:{self.batches}", self.records)
        self.records = []
        self.beat()

    def beat(self) -> None:
        """Say that everything is stored, as it is."""
        now = self.clock()
        self.store.heartbeat(
            Worker(
                id=self.name,
                agent="support",
                started_at=BEGAN - 1000.0,
                reachable_since=BEGAN - 1000.0,
                heartbeat_at=now,
                flushed_until=now,
            )
        )


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock(BEGAN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/canary.sqlite3")
    yield made
    made.close()


@pytest.fixture
def process(store: Store, clock: FrozenClock) -> Iterator[Process]:
    made = Process(store, clock)
    yield made
    made.pins.close()


def later(process: Process, seconds: float) -> None:
    process.clock.advance(seconds)
    process.flush()
    assert process.snapshots.poll()


def units(salt: bytes, low: float, high: float, number: int = 5) -> list[str]:
    """Units whose buckets lie between two weights."""
    names = (f"c-{position}" for position in range(1_000_000))
    return [unit for unit, _ in zip((u for u in names if low <= bucket(salt, u).assignment < high), range(number))]  # noqa: B905 (the first of endlessly many)


BELOW = units(b"salt of r-1", 0.0, 0.1)
BETWEEN = units(b"salt of r-1", 0.1, 0.5)


class TestInTheProcess:
    def test_past_the_hand_over_a_new_unit_below_the_weight_asks_nobody(self, store: Store, process: Process) -> None:
        store.start(rollout(0.1))
        later(process, 4.0)
        made = [process.turn(unit) for unit in BELOW]
        assert {(one.arm, one.version, one.reason, one.first) for one in made} == {
            (Arm.CANARY, "v2", Reason.SPLIT, True)
        }
        assert process.counting.reads == []
        assert process.turn(BELOW[0]).reason is Reason.PINNED, "it is remembered"

    def test_during_the_hand_over_every_unit_below_the_weight_is_looked_up(
        self, store: Store, process: Process
    ) -> None:
        store.start(rollout(0.1))
        later(process, 1.5)
        process.turn(BELOW[0])
        later(process, 1.0)
        process.turn(BELOW[1])
        assert process.counting.reads == BELOW[:2], "a pin of the hand-over may still be on its way"
        later(process, 1.0)
        made = process.turn(BELOW[2])
        assert (made.arm, process.counting.reads) == (Arm.CANARY, BELOW[:2])

    def test_while_a_worker_has_not_stored_what_it_gave_before_everything_is_looked_up(
        self, store: Store, process: Process
    ) -> None:
        store.start(rollout(0.1))
        process.flush()
        process.clock.advance(4.0)
        process.snapshots.poll()
        process.turn(BELOW[0])
        assert process.pins.settled is None
        assert process.counting.reads == BELOW[:1]

    def test_a_unit_of_another_workers_hand_over_follows_its_pin(
        self, store: Store, process: Process, clock: FrozenClock
    ) -> None:
        other = Process(store, clock, "other")
        store.start(rollout(0.1))
        other.snapshots.poll()
        clock.advance(1.0)
        assert other.turn(BELOW[0]).excluded == "handover"
        other.pins.close()
        later(process, 3.0)
        store.leave("other")
        made = process.turn(BELOW[0])
        assert (made.version, made.excluded, process.counting.reads) == ("v1", "handover", BELOW[:1])

    def test_one_that_fell_back_without_a_pin_stays_on_stable(self, store: Store, process: Process) -> None:
        store.start(rollout(0.1))
        later(process, 4.0)
        view = process.snapshots.view
        fallen = assign(view, BELOW[0], bucket(view.salt, BELOW[0]), now=process.clock(), fresh=True)
        fallen = fallen._replace(version="v1", reason=Reason.FALLBACK)
        process.records.append(TurnStarted("t-1", fallen, process.clock()))
        later(process, 0.25)
        made = process.turn(BELOW[0])
        assert (made.arm, made.version, process.counting.reads) == (Arm.CANARY, "v1", BELOW[:1])

    def test_one_that_a_stale_worker_kept_on_stable_stays_there(
        self, store: Store, process: Process, clock: FrozenClock
    ) -> None:
        store.start(rollout(0.1))
        later(process, 4.0)
        other = Process(store, clock, "other")
        other.snapshots.poll()
        assert other.turn(BELOW[0], fresh=False).excluded == "stale_snapshot"
        other.pins.close()
        later(process, 0.25)
        assert process.turn(BELOW[0]).excluded == "stale_snapshot"

    @pytest.mark.parametrize("odd", ["", "\ud800", "\x00", "é"], ids=["plain", "lone surrogate", "NUL", "accent"])
    def test_one_that_began_before_the_rollout_stays_on_stable(self, store: Store, process: Process, odd: str) -> None:
        salt = rollout(0.1).salt
        unit = next(u for u in (f"b-{n}{odd}" for n in range(10_000)) if bucket(salt, u).assignment < 0.1)
        process.snapshots.poll()
        assert process.turn(unit).reason is Reason.NO_ROLLOUT
        process.flush()
        store.start(rollout(0.1))
        later(process, 4.0)
        assert process.pins.settled is not None
        made = process.turn(unit)
        assert (made.version, made.excluded, process.counting.reads) == ("v1", "began_before", [unit])

    def test_one_between_two_weights_is_looked_up(self, store: Store, process: Process) -> None:
        store.start(rollout(0.1, 0.5))
        later(process, 4.0)
        for unit in (*BELOW, *BETWEEN):
            process.turn(unit)
        assert process.counting.reads == BETWEEN

    def test_with_a_stale_snapshot_a_unit_is_looked_up(self, store: Store, process: Process) -> None:
        store.start(rollout(0.1))
        later(process, 4.0)
        assert process.turn(BELOW[0], fresh=False).excluded == "stale_snapshot"
        assert process.counting.reads == BELOW[:1]

    def test_one_that_began_while_this_worker_had_stopped_the_canary_stays_on_stable_when_it_goes_on(
        self, store: Store, process: Process
    ) -> None:
        store.start(rollout(0.1))
        later(process, 4.0)
        process.snapshots.stop_canary()
        assert process.turn(BELOW[0]).reason is Reason.NO_ROLLOUT
        later(process, 1.0)
        assert process.pins.settled is None
        later(process, 10.0)
        later(process, 0.25)
        assert (process.turn(BELOW[1]).version, process.counting.reads) == ("v2", [])
        made = process.turn(BELOW[0])
        assert (made.version, made.excluded, process.counting.reads) == ("v1", "began_before", BELOW[:1])

    def test_a_view_that_is_fresh_does_not_depend_on_what_needs_no_look_up(
        self, store: Store, process: Process, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object, **__: object) -> Sequence[str]:
            raise StoreError("locked")

        store.start(rollout(0.1))
        monkeypatch.setattr(store, "exceptions", broken)
        later(process, 4.0)
        assert (process.snapshots.fresh, process.pins.settled, process.failures) == (True, None, ["settling"])

    def test_without_an_event_loop_or_with_one_the_answer_is_the_same(self, store: Store, process: Process) -> None:
        store.start(rollout(0.1))
        later(process, 4.0)
        view, unit = process.snapshots.view, BELOW[0]
        found = bucket(view.salt, unit)
        now = process.clock()
        blocking = process.pins.resolve_blocking(view, unit, found, now=now, fresh=True)
        assert asyncio.run(process.pins.resolve(view, unit, found, now=now, fresh=True)) == blocking
        assert process.counting.reads == []


WORKERS = 3


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy: making one takes longer than the rest of an example."""
    path = tmp_path_factory.mktemp("empty") / "canary.sqlite3"
    store = Store(f"sqlite:///{path}")
    store.open()
    store.close()
    return path


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_no_live_conversation_changes_its_arm_while_weights_rise(data: st.DataObject, empty_store: Path) -> None:
    """Real snapshots, pins and store; rising weights, pauses, stale and restarted workers, records that come late.

    Between a turn on a stale snapshot and the next of the same unit lies a poll: what happens within one is said in
    the docstring of ``Settled``.
    """
    clock = FrozenClock(BEGAN - 20.0)
    with TemporaryDirectory() as folder:
        shutil.copy(empty_store, f"{folder}/canary.sqlite3")
        store = Store(f"sqlite:///{folder}/canary.sqlite3")
        workers = [Process(store, clock, f"w-{number}") for number in range(WORKERS)]
        try:
            _run(data, store, workers, clock)
        finally:
            for worker in workers:
                worker.pins.close()
            store.close()


def _run(data: st.DataObject, store: Store, workers: list[Process], clock: FrozenClock) -> None:
    served: dict[str, tuple[Arm, str]] = {}
    numbers = itertools.count(WORKERS)
    state: Rollout | None = None
    for step in range(data.draw(st.integers(8, 25))):
        clock.advance(data.draw(st.sampled_from([0.1, 0.5, 1.0, 4.0])))
        for worker in workers:
            worker.beat()
            # A worker sees a change up to a second late.
            if state is None or clock() - state.weight_changed_at >= 1.0 or data.draw(st.booleans()):
                worker.snapshots.poll()
        if state is None and step >= 2:
            state = replace(rollout(0.3), created_at=clock(), weight_changed_at=clock())
            store.start(state)
        elif state is not None and clock() - state.weight_changed_at > 3.0 and data.draw(st.integers(0, 3)) == 0:
            state = _next_epoch(data, state, clock())
            changed = Transition(rollout=state, verdict=Verdict.HOLD, reasons=(), audit=_audit(clock()))
            state = store.save(changed, expected_revision=state.revision, now=clock())
        for _ in range(data.draw(st.integers(1, 6))):
            number = data.draw(st.integers(0, WORKERS - 1))
            if data.draw(st.integers(0, 19)) == 0:
                workers[number].flush()
                workers[number].pins.close()
                store.leave(workers[number].name)
                workers[number] = Process(store, clock, f"w-{next(numbers)}")
                workers[number].snapshots.poll()
            fresh = data.draw(st.integers(0, 9)) > 0
            unit = f"c-{data.draw(st.integers(0, 20))}"
            made = workers[number].turn(unit, fresh=fresh)
            assert served.setdefault(unit, (made.arm, made.version)) == (made.arm, made.version), unit
            # The next turn of a unit comes after its last one was stored, a tenth of a second.
            workers[number].flush()
            if not fresh:
                for worker in workers:
                    worker.snapshots.poll()
    assert [worker.failures for worker in workers] == [[]] * WORKERS


def _next_epoch(data: st.DataObject, state: Rollout, now: float) -> Rollout:
    top = max(epoch.weight for epoch in state.epochs)
    paused = state.weight > 0 and data.draw(st.integers(0, 5)) == 0
    weight = 0.0 if paused else data.draw(st.sampled_from([w for w in (0.3, 0.5, 0.8, 1.0) if w >= top]))
    epochs = (*state.epochs, Epoch(number=len(state.epochs), weight=weight, stage=0))
    return replace(state, epochs=epochs, weight_changed_at=now)


def _audit(now: float) -> Audit:
    return Audit(at=now, actor="test", action="weight", reason="", before="", after="")
