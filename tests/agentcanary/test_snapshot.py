"""The view that the request path reads: fresh, stale, stopped."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from agentcanary.clock import SystemClock
from agentcanary.errors import StoreError
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Rollout
from agentcanary.snapshot import SnapshotKeeper
from agentcanary.state_machine import Look, advance, new_rollout
from agentcanary.testing import FrozenClock
from agentcanary_analysis.verdict import Findings

PLAN = Plan(stages=(Stage(name="half", weight=0.5, duration=60), Stage(name="full", weight=1, duration=0)))


def running() -> Rollout:
    rollout = new_rollout("support", "v1", "v2", PLAN, now=0.0, new_salt=b"salt")
    return advance(rollout, Look(findings=Findings()), now=0.0).rollout


@dataclass
class FakeSource:
    rollout: Rollout | None = None
    broken: bool = False
    loads: int = 0
    flushed_until: float = 1e12

    def revision(self, agent: str) -> tuple[object, ...] | None:
        if self.broken:
            raise StoreError("the disk is full")
        return None if self.rollout is None else (self.rollout.id, self.rollout.revision, self.rollout.stopped_at)

    def current(self, agent: str) -> Rollout | None:
        self.loads += 1
        return self.rollout

    def watermark(self, agent: str, now: float, *, dead_after: float) -> float:
        return self.flushed_until


def keeper(source: FakeSource, failures: list[str] | None = None, now: list[float] | None = None) -> SnapshotKeeper:
    return SnapshotKeeper(
        source,
        agent="support",
        stable="v1",
        canary="v2",
        clock=SystemClock(),
        on_failure=lambda kind, _error: None if failures is None else failures.append(kind),
        monotonic=time.monotonic if now is None else lambda: now[0],
    )


def test_before_the_first_poll_stable_serves_and_nothing_is_fresh() -> None:
    kept = keeper(FakeSource(running()))
    assert not kept.fresh
    assert (kept.view.open, kept.view.stable, kept.view.canary) == (False, "v1", "v1")


def test_a_poll_shows_the_rollout_and_reads_it_again_only_when_it_changed() -> None:
    source = FakeSource(running())
    kept = keeper(source)
    assert kept.poll()
    assert kept.poll()
    assert kept.fresh
    assert (kept.view.weight, kept.view.open, source.loads) == (0.5, True, 1)
    assert source.rollout is not None
    source.rollout = advance(source.rollout, Look(findings=Findings(unsafe="violation")), now=1.0).rollout
    kept.poll()
    assert (kept.view.weight, kept.view.open, source.loads) == (0.0, False, 2)


def test_a_failed_poll_keeps_the_view_until_it_is_stale() -> None:
    now = [100.0]
    source, failures = FakeSource(running()), list[str]()
    kept = keeper(source, failures, now)
    kept.poll()
    source.broken = True
    now[0] += 9.0
    assert not kept.poll()
    assert kept.fresh
    assert kept.view.open
    now[0] += 1.0
    assert not kept.fresh
    assert failures == ["snapshot"]


def test_a_stopped_canary_stays_stopped_while_the_store_does_not_know_yet() -> None:
    now = [100.0]
    source = FakeSource(running())
    kept = keeper(source, now=now)
    kept.poll()
    kept.stop_canary()
    assert (kept.view.open, kept.view.canary, kept.view.taken_back) == (False, "v1", True)
    now[0] += 5.0
    kept.poll()
    assert not kept.view.open
    assert source.rollout is not None
    source.rollout = replace(source.rollout, stopped_at=100.0, revision=source.rollout.revision + 1)
    kept.poll()
    assert not kept.view.open


def test_a_stop_that_the_store_does_not_confirm_ends() -> None:
    now = [100.0]
    kept = keeper(FakeSource(running()), now=now)
    kept.poll()
    kept.stop_canary()
    now[0] += 10.0
    kept.poll()
    assert kept.view.open


def test_an_unreachable_store_never_ends_a_stop() -> None:
    now = [100.0]
    source = FakeSource(running())
    kept = keeper(source, now=now)
    kept.poll()
    kept.stop_canary()
    source.broken = True
    now[0] += 1_000.0
    kept.poll()
    assert not kept.view.open


def test_the_thread_polls_and_ends() -> None:
    polled = threading.Event()

    class Source(FakeSource):
        def current(self, agent: str) -> Rollout | None:
            polled.set()
            return super().current(agent)

    kept = keeper(Source(running()))
    kept.start()
    kept.start()
    assert polled.wait(5.0)
    kept.stop()
    assert [thread for thread in threading.enumerate() if thread.name == "agentcanary-snapshot-support"] == []


def test_the_hand_over_lasts_until_everybody_has_stored_what_they_gave_by_the_old_weight() -> None:
    rollout = replace(running(), weight_changed_at=1_000.0)
    source = FakeSource(rollout, flushed_until=1_000.9)
    clock = FrozenClock(1_005.0)
    kept = SnapshotKeeper(source, agent="support", stable="v1", canary="v2", clock=clock, poll_every=0.25)
    for now in (1_005.0, 1_065.0):
        clock.advance(now - clock())
        kept.poll()
        assert kept.view.handover_until == now + 0.5
    source.flushed_until = 1_001.0
    clock.advance(0.25)
    kept.poll()
    assert kept.view.handover_until == 1_065.5


def test_the_thread_outlives_a_bug_in_a_poll() -> None:
    failures: list[str] = []
    again = threading.Event()

    class Broken(FakeSource):
        def revision(self, agent: str) -> tuple[object, ...] | None:
            if failures:
                again.set()
            raise KeyError("a bug of ours")

    kept = keeper(Broken(), failures)
    kept.start()
    assert again.wait(10.0)
    kept.stop()
    assert set(failures) == {"snapshot"}
