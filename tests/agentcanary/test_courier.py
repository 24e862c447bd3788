"""A delivery that hangs or fails delays no look and no other kind of effect, and is told."""

from __future__ import annotations

import threading
from collections.abc import Callable

from agentcanary.courier import STUCK_AFTER, Courier, Lane
from agentcanary.rollout import Effect, EffectKind, Rollout
from agentcanary.store import Pending


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def courier(deliver: Callable[[EffectKind], None], watch: Watch | None = None) -> tuple[Courier, list[str]]:
    told: list[str] = []
    failed = told.append
    made = Courier(
        EffectKind.NOTIFY,
        deliver,
        lambda kind, error: failed(f"{kind}: {error}"),
        monotonic=watch or Watch(),
    )
    return made, told


def test_a_receiver_that_hangs_is_told_after_a_minute_and_asked_once() -> None:
    watch, hanging, begun = Watch(), threading.Event(), threading.Semaphore(0)

    def deliver(_kind: EffectKind) -> None:
        begun.release()
        assert hanging.wait(10.0)

    one, told = courier(deliver, watch)
    one.go()
    assert begun.acquire(timeout=10.0)
    for seconds in (1.0, STUCK_AFTER - 1.0, STUCK_AFTER + 1.0):
        watch.now = seconds
        one.go()
    assert told == ["delivery: a delivery (notify) does not end"]
    assert not begun.acquire(blocking=False)
    hanging.set()
    one.wait(10.0)
    one.go()
    assert begun.acquire(timeout=10.0)


def test_a_delivery_that_fails_is_told_and_comes_again() -> None:
    asked: list[EffectKind] = []

    def deliver(kind: EffectKind) -> None:
        asked.append(kind)
        raise OSError("the store is away")

    one, told = courier(deliver)
    for _ in range(2):
        one.go()
        one.wait(10.0)
    assert asked == [EffectKind.NOTIFY, EffectKind.NOTIFY]
    assert told == ["delivery: the store is away"] * 2


def test_a_lane_holds_the_effects_of_one_kind() -> None:
    class Outbox:
        noted: list[str] = []  # noqa: RUF012 (of this test)

        def due(self, now: float, agent: str | None = None) -> list[Pending]:
            return [
                Pending(
                    id=str(number),
                    agent=agent or "",
                    rollout="r-1",
                    effect=Effect(kind=kind, event="started", message=""),
                    created_at=now,
                    attempts=0,
                    error="",
                )
                for number, kind in enumerate(EffectKind)
            ]

        def done(self, effect_id: str, now: float) -> None:
            self.noted.append(f"done {effect_id} {now:g}")

        def failed(self, effect_id: str, error: str, next_attempt: float) -> None:
            self.noted.append(f"failed {effect_id} {error} {next_attempt:g}")

        def rollouts(self, agent: str | None = None) -> list[Rollout]:
            return []

    outbox = Outbox()
    lane = Lane(outbox, EffectKind.NOTIFY)
    assert {pending.effect.kind for pending in lane.due(1.0, "support")} == {EffectKind.NOTIFY}
    lane.done("1", 2.0)
    lane.failed("1", "no answer", 3.0)
    assert outbox.noted == ["done 1 2", "failed 1 no answer 3"]
    assert lane.rollouts("support") == []
