"""Pins: one look-up a process, a deadline, the first writer, and what is remembered."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import uvloop

from agentcanary.assignment import Assignment, Pin, Reason, RolloutView, bucket
from agentcanary.errors import StoreError
from agentcanary.pins import PinKeeper
from agentcanary.seen import Recent, Seen
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FakeHost, PinStore

VIEW = RolloutView(
    agent="support",
    rollout="r-1",
    salt=b"a salt",
    stable="v1",
    canary="v2",
    epoch=0,
    weight=1.0,
    max_weight=1.0,
    open=True,
)

HANDOVER = replace(VIEW, handover_until=99.0, previous_epoch=-1)


def resolve(keeper: PinKeeper, unit: str, view: RolloutView = VIEW, *, fresh: bool = True) -> Assignment:
    return asyncio.run(keeper.resolve(view, unit, bucket(view.salt, unit), now=10.0, fresh=fresh))


class TestResolving:
    def test_a_new_unit_that_every_worker_gives_to_the_canary_waits_for_no_write(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        made = resolve(host.pins, "c-1")
        assert (made.arm, made.reason, made.first) == (Arm.CANARY, Reason.SPLIT, True)
        assert (pin_store.reads, pin_store.writes) == (["c-1"], [])

    def test_one_that_another_worker_could_give_to_the_canary_is_pinned_before_it_is_served(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        made = resolve(host.pins, "c-1", HANDOVER)
        assert (made.arm, made.excluded) == (Arm.STABLE, "handover")
        assert pin_store.pins["support", "r-1", "c-1"] == Pin(Arm.STABLE, -1, "handover")

    def test_two_workers_that_disagree_follow_the_first_writer(self, host: FakeHost, pin_store: PinStore) -> None:
        late = PinKeeper(pin_store, idle_after=1800.0, degraded=host.degraded)
        first = resolve(host.pins, "c-1", HANDOVER)
        second = resolve(late, "c-1")
        late.close()
        assert first.version == second.version == "v1"
        assert (second.reason, second.excluded) == (Reason.PINNED, "handover")

    def test_a_race_for_the_same_unit_has_one_winner(self, host: FakeHost, pin_store: PinStore) -> None:
        barrier = threading.Barrier(2)

        class Racing(type(pin_store)):  # type: ignore[misc] # the class of a fixture
            def pin(self, *args: object, **kwargs: object) -> None:
                barrier.wait(5.0)

        store = Racing()
        keepers = [PinKeeper(store, idle_after=1800.0, degraded=host.degraded, deadline=5.0) for _ in range(2)]
        views = [HANDOVER, replace(HANDOVER, previous_epoch=0, previous_weight=0.0)]

        async def race() -> list[Assignment]:
            return await asyncio.gather(
                *(
                    keeper.resolve(view, "c-1", bucket(view.salt, "c-1"), now=10.0, fresh=True)
                    for keeper, view in zip(keepers, views, strict=True)
                )
            )

        one, two = asyncio.run(race())
        for keeper in keepers:
            keeper.close()
        assert one.excluded == two.excluded
        assert {one.reason, two.reason} >= {Reason.PINNED}

    def test_one_that_began_before_the_rollout_stays_on_stable(self, host: FakeHost, pin_store: PinStore) -> None:
        pin_store.pins["support", "r-1", "c-1"] = Pin(Arm.STABLE, -1, "began_before")
        made = resolve(host.pins, "c-1")
        assert (made.version, made.excluded) == ("v1", "began_before")
        assert pin_store.writes == []

    def test_without_an_event_loop_it_answers_the_same(self, host: FakeHost) -> None:
        made = host.pins.resolve_blocking(VIEW, "c-1", bucket(VIEW.salt, "c-1"), now=10.0, fresh=True)
        assert made == resolve(PinKeeper(host.store, idle_after=1.0, degraded=host.degraded), "c-1")._replace(
            reason=Reason.SPLIT, first=True
        )

    def test_after_a_promotion_a_new_unit_is_asked_for_once_and_not_pinned(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        promoted = replace(VIEW, open=False, new_units=Arm.CANARY)
        made = resolve(host.pins, "c-1", promoted)
        assert (made.version, made.reason) == ("v2", Reason.NO_ROLLOUT)
        assert pin_store.writes == []
        assert host.pins.known(promoted, "c-1", bucket(VIEW.salt, "c-1")) == made
        assert host.pins.known(VIEW, "c-1", bucket(VIEW.salt, "c-1")) is None, "an open rollout asks again"


class TestFailing:
    def test_a_store_that_cannot_be_read_serves_stable_and_is_asked_again(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        pin_store.failing_reads = StoreError("locked")
        made = resolve(host.pins, "c-1")
        assert (made.version, made.arm, made.excluded) == ("v1", Arm.CANARY, None)
        pin_store.failing_reads = None
        pin_store.pins["support", "r-1", "c-1"] = Pin(Arm.CANARY, 0)
        assert resolve(host.pins, "c-1").version == "v2", "it had a pin: one turn only was stable's"
        assert host.kinds == ["pin_lookup"]

    def test_a_store_that_cannot_be_written_does_not_keep_a_new_unit_from_the_canary(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        pin_store.failing_writes = StoreError("disk full")
        assert resolve(host.pins, "c-1").version == "v2"
        assert host.kinds == []

    def test_a_new_unit_whose_pin_must_be_written_and_cannot_be_stays_where_it_was_served(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        pin_store.failing_writes = StoreError("disk full")
        view = replace(HANDOVER, previous_epoch=0, previous_weight=0.0)
        made = resolve(host.pins, "c-1", view)
        assert (made.version, made.arm, made.reason, made.excluded) == ("v1", Arm.STABLE, Reason.FALLBACK, None)
        later = host.pins.known(VIEW, "c-1", bucket(VIEW.salt, "c-1"))
        assert later is not None
        assert (later.version, later.arm) == ("v1", Arm.STABLE)
        assert host.kinds == ["pin_write"]

    def test_any_exception_of_a_driver_is_a_failed_look_up(self, host: FakeHost, pin_store: PinStore) -> None:
        pin_store.failing_reads = MemoryError()
        assert resolve(host.pins, "c-1").reason is Reason.FALLBACK

    def test_a_store_that_hangs_costs_a_request_its_deadline_and_no_more(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        pin_store.gate = threading.Event()
        keeper = PinKeeper(pin_store, idle_after=1800.0, degraded=host.degraded, deadline=0.01)

        async def run() -> tuple[list[Assignment], float]:
            loop = asyncio.get_running_loop()
            began = loop.time()
            made = await asyncio.gather(
                *(keeper.resolve(VIEW, f"c-{n}", bucket(VIEW.salt, f"c-{n}"), now=1.0, fresh=True) for n in range(50))
            )
            return made, loop.time() - began

        made, took = asyncio.run(run())
        assert {one.reason for one in made} == {Reason.FALLBACK}
        assert took < 2.0
        assert host.kinds == ["pin_lookup"] * 50
        pin_store.gate.set()
        keeper.close()
        # Two were with the store when their time was up; they are pinned to where they were served. Nobody waited
        # for the others any more.
        assert set(pin_store.reads) == {"c-0", "c-1"}
        assert {pin.fallback for pin in pin_store.pins.values()} == {True}

    def test_what_is_pinned_late_agrees_with_what_was_served(self, host: FakeHost, pin_store: PinStore) -> None:
        pin_store.gate = threading.Event()
        keeper = PinKeeper(pin_store, idle_after=1800.0, degraded=host.degraded, deadline=0.01)
        served = resolve(keeper, "c-1")
        pin_store.gate.set()
        keeper.close()
        later = resolve(keeper, "c-1") if keeper.known(VIEW, "c-1", bucket(VIEW.salt, "c-1")) is None else served
        keeper.close()
        assert (later.version, later.arm) == (served.version, served.arm) == ("v1", Arm.CANARY)

    @pytest.mark.parametrize(
        "new_event_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    @pytest.mark.parametrize("pinned", [False, True], ids=["new", "pinned"])
    def test_an_answer_that_came_in_time_counts_however_late_the_event_loop_sees_it(
        self,
        host: FakeHost,
        pin_store: PinStore,
        new_event_loop: Callable[[], asyncio.AbstractEventLoop],
        pinned: bool,
    ) -> None:
        if pinned:
            pin_store.pins["support", "r-1", "c-1"] = Pin(Arm.CANARY, 0)
        keeper = PinKeeper(pin_store, idle_after=1800.0, degraded=host.degraded, deadline=0.01)

        async def run() -> Assignment:
            asked = asyncio.ensure_future(keeper.resolve(VIEW, "c-1", bucket(VIEW.salt, "c-1"), now=10.0, fresh=True))
            await asyncio.sleep(0)
            # The agent's own work keeps the loop from noticing: of the two that are due now, uvloop runs timers first.
            while keeper.known(VIEW, "c-1", bucket(VIEW.salt, "c-1")) is None:
                time.sleep(0.001)
            time.sleep(0.03)
            return await asked

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            made = runner.run(run())
        keeper.close()
        assert made.version == "v2"
        assert host.kinds == []

    def test_too_many_that_wait_are_not_queued(
        self, host: FakeHost, pin_store: PinStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentcanary.pins.MAX_WAITING", 0)
        assert resolve(host.pins, "c-1").reason is Reason.FALLBACK
        assert pin_store.reads == []

    def test_with_a_stale_snapshot_a_new_unit_is_stables_and_in_no_statistic(self, host: FakeHost) -> None:
        made = resolve(host.pins, "c-1", fresh=False)
        assert (made.version, made.excluded) == ("v1", "stale_snapshot")

    def test_it_can_be_closed_and_used_again(self, host: FakeHost, pin_store: PinStore) -> None:
        resolve(host.pins, "c-1")
        host.pins.close()
        host.pins.close()
        resolve(host.pins, "c-2")
        assert pin_store.reads == ["c-1", "c-2"]


class TestRemembering:
    def test_pins_of_another_rollout_are_forgotten(self, host: FakeHost) -> None:
        resolve(host.pins, "c-1")
        other = replace(VIEW, rollout="r-2")
        assert host.pins.known(other, "c-1", bucket(VIEW.salt, "c-1")) is None
        resolve(host.pins, "c-2", other)
        assert host.pins.known(VIEW, "c-1", bucket(VIEW.salt, "c-1")) is None

    def test_the_many_pins_of_stable_do_not_push_out_those_of_the_canary(
        self, host: FakeHost, pin_store: PinStore
    ) -> None:
        keeper = PinKeeper(pin_store, idle_after=1800.0, degraded=host.degraded, capacity=10)
        pin_store.pins["support", "r-1", "canary"] = Pin(Arm.CANARY, 0)
        resolve(keeper, "canary")
        for number in range(200):
            pin_store.pins["support", "r-1", f"c-{number}"] = Pin(Arm.STABLE, 0)
            resolve(keeper, f"c-{number}")
        keeper.close()
        assert keeper.known(VIEW, "canary", bucket(VIEW.salt, "canary")) is not None
        assert keeper.known(VIEW, "c-0", bucket(VIEW.salt, "c-0")) is None

    @pytest.mark.slow
    def test_a_million_pins_take_less_than_64_mebibytes(self, host: FakeHost) -> None:
        keeper = PinKeeper(host.store, idle_after=1800.0, degraded=host.degraded)
        gc.collect()
        tracemalloc.start()
        for number in range(1_000_000):
            keeper._remember(VIEW, f"conversation-{number}", Pin(Arm.CANARY if number % 2 else Arm.STABLE, 0))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 10 * 2**20 < size < 64 * 2**20, f"{size / 2**20:.1f} MiB on {sys.platform}"


class TestRecent:
    def test_the_latest_are_known_and_never_more_than_twice_the_capacity(self) -> None:
        recent: Recent[int] = Recent(10)
        for number in range(1000):
            recent.put(b"%d" % number, number)
            assert len(recent) <= 20
        assert [recent.get(b"%d" % number) for number in range(991, 1000)] == list(range(991, 1000))

    def test_what_is_used_stays(self) -> None:
        recent: Recent[str] = Recent(10)
        recent.put(b"used", "value")
        for number in range(1000):
            recent.put(b"%d" % number, "x")
            assert recent.get(b"used") == "value"

    def test_a_capacity_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="got 0"):
            Recent(0)

    def test_strings_are_new_once(self) -> None:
        seen = Seen(10)
        assert [seen.add("a"), seen.add("a"), seen.add("b")] == [True, False, True]
        for number in range(100):
            seen.add(str(number))
        assert seen.add("a") is True, "forgotten"
