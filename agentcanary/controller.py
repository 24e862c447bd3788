"""The controller: load, ask, decide, save, tell. It decides nothing by itself; ``state_machine.advance`` does.

Any worker may hold the lease; exactly one acts. Every change is stored with its effects before anything is told, so
that whoever takes over after a crash goes on where it stopped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import structlog

from agentcanary.clock import Clock
from agentcanary.config import Retention
from agentcanary.courier import Courier, Lane
from agentcanary.effects.delivery import deliver
from agentcanary.effects.notifications import Notifier
from agentcanary.errors import ConflictError
from agentcanary.housekeeping import EVERY, tidy_up
from agentcanary.looking import counted_metrics, findings_of
from agentcanary.plan import Plan
from agentcanary.rollout import Audit, EffectKind, Phase, Rollout, Transition, Verdict
from agentcanary.security import new_salt
from agentcanary.state_machine import Drain, Look, advance, new_rollout, should_start
from agentcanary.store import DEAD_AFTER, Store
from agentcanary.transitions import CONTROLLER
from agentcanary_analysis.aggregates import Aggregates, Arm

log = structlog.get_logger("agentcanary")

LEASE = 15.0
KEEP_LOOK_EVERY = 60.0
# Real seconds that the end of a worker waits for a delivery under way.
_FAREWELL = 2.0


class Controller:
    """Moves the rollout of one agent.

    Args:
        store: The store.
        agent: Name of the agent.
        stable: The configured stable version.
        canary: The configured canary version, if there is one.
        plan: The configured plan: that of a rollout which starts; a running one keeps its own.
        clock: The time of rollouts.
        owner: Who holds the lease: different for each worker.
        notify: Tells people.
        on_verdict: Called with the verdict of each look.
        set_weight: Sets a weight outside of agentcanary, in a mesh; None where there is none.
        retention: How long what is stored is kept.
    """

    def __init__(
        self,
        store: Store,
        *,
        agent: str,
        stable: str,
        canary: str | None,
        plan: Plan,
        clock: Clock,
        owner: str,
        notify: Notifier,
        on_verdict: Callable[[str], None] = lambda _: None,
        set_weight: Callable[[float], None] | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._store = store
        self._agent = agent
        self._stable = stable
        self._canary = canary
        self._plan = plan
        self._clock = clock
        self._owner = owner
        self._notify = notify
        self._on_verdict = on_verdict
        self._set_weight = set_weight
        self._retention = retention or Retention()
        self._kept: tuple[tuple[str, Verdict], float] | None = None
        self._holds = False

    def tick(self) -> Transition | None:
        """One look, and the delivery of what it caused; see ``look``."""
        transition = self.look()
        for kind in EffectKind:
            self.deliver(kind)
        return transition

    def look(self) -> Transition | None:
        """One look; None when another worker holds the lease or there is nothing to look at.

        Raises:
            StoreError: If the store cannot be reached; nothing was decided then.
        """
        now = self._clock()
        fence = self._store.acquire(self._agent, self._owner, now, ttl=LEASE * self._clock.speed)
        self._holds = fence is not None
        if fence is None:
            return None
        rollout = self._store.current(self._agent)
        if should_start(self._store.rollouts(self._agent), stable=self._stable, canary=self._canary):
            rollout = self._start(now)
        return None if rollout is None else self._look(rollout, now, fence)

    def deliver(self, kind: EffectKind) -> None:
        """Try every effect of a kind that is due, if the last look found that this worker holds the lease."""
        if self._holds:
            lane = Lane(self._store, kind)
            deliver(lane, self._notify, agent=self._agent, now=self._clock(), set_weight=self._set_weight)

    def tidy(self) -> None:
        """Delete what is older than it has to be, if the last look found that this worker holds the lease."""
        if self._holds:
            tidy_up(self._store, self._retention, self._clock())

    def release(self) -> None:
        """Give the lease back, so that another worker need not wait for it to run out."""
        self._holds = False
        self._store.release(self._agent, self._owner)

    def _start(self, now: float) -> Rollout:
        if self._canary is None:
            raise ValueError("a rollout needs a canary version")
        rollout = new_rollout(self._agent, self._stable, self._canary, self._plan, now=now, new_salt=new_salt())
        reason = f"{self._stable} → {self._canary} has no rollout yet"
        created = Audit(at=now, actor=CONTROLLER, action="create", reason=reason, before="", after="pending")
        self._store.start(rollout, created)
        log.info("agentcanary.rollout_created", agent=self._agent, rollout=rollout.id, canary=self._canary)
        return rollout

    def _look(self, rollout: Rollout, now: float, fence: int) -> Transition | None:
        look = None
        if rollout.phase.ended:
            if rollout.drained_at is not None:
                return None
            transition = advance(rollout, Drain(live=self._live(rollout, now)), now=now)
        else:
            aggregates = self._counted(rollout, now)
            findings = findings_of(rollout, aggregates, anytime=False)
            transition = advance(rollout, Look(findings=findings, degraded=self._degraded(now)), now=now)
            self._on_verdict(transition.verdict.value)
            look = self._kept_look(transition, rollout, aggregates, now)
        if look is not None or transition.rollout != rollout:
            self._store.save(transition, expected_revision=rollout.revision, now=now, look=look, fence=fence)
        if transition.audit is not None:
            log.info(
                "agentcanary.rollout_changed",
                agent=self._agent,
                rollout=rollout.id,
                action=transition.audit.action,
                phase=transition.rollout.phase.value,
                stage=transition.rollout.current_stage.name,
                weight=transition.rollout.weight,
                reason=transition.audit.reason,
            )
        return transition

    def _counted(self, rollout: Rollout, now: float) -> Aggregates:
        until = self._store.watermark(self._agent, now, dead_after=DEAD_AFTER * self._clock.speed)
        self._store.count(rollout, counted_metrics(rollout.plan), until)
        return self._store.aggregates(rollout)

    def _degraded(self, now: float) -> tuple[str, ...]:
        """What goes wrong in live workers, by name; requests without a conversation id are none of our failures."""
        since = now - DEAD_AFTER * self._clock.speed
        live = [worker for worker in self._store.workers(self._agent) if worker.heartbeat_at >= since]
        kinds = {kind for worker in live for kind, times in worker.degraded.items() if times and ":" not in kind}
        return tuple(sorted(kinds))

    def _live(self, rollout: Rollout, now: float) -> int:
        """Live conversations of the version left behind."""
        arm = Arm.STABLE if rollout.phase is Phase.PROMOTED else Arm.CANARY
        idle_after = rollout.plan.idle_after
        return self._store.live_conversations(self._agent, rollout.id, arm, now=now, idle_after=idle_after)

    def _kept_look(
        self, transition: Transition, rollout: Rollout, aggregates: Aggregates, now: float
    ) -> dict[str, Any] | None:
        """The evidence at this look, if it is worth keeping: something changed, or the last one is a minute old."""
        told = (transition.rollout.id, transition.verdict)
        if self._kept is not None and self._kept[0] == told and now - self._kept[1] < KEEP_LOOK_EVERY:
            return None
        self._kept = (told, now)
        # People read a kept look, so it has the intervals that a decision does not need.
        return {"reasons": list(transition.reasons), "findings": asdict(findings_of(rollout, aggregates))}


class ControlThread:
    """Lets a controller look every now and then, in a thread of its own. A failed look is logged, and comes again.

    Every kind of effect is delivered by a thread of its own: a receiver that hangs delays neither a look nor a weight.

    Args:
        controller: The controller.
        every: Real seconds between two looks.
        on_failure: Called with ``controller`` and the error at each failed look.
    """

    def __init__(
        self, controller: Controller, *, every: float, on_failure: Callable[[str, BaseException | None], None]
    ) -> None:
        self._controller = controller
        self._every = every
        self._on_failure = on_failure
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._couriers: list[Courier] = []
        self._pid = 0

    def start(self) -> None:
        """Start, unless this process already has."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._ended = threading.Event()
        self._couriers = [Courier(kind, self._controller.deliver, self._on_failure) for kind in EffectKind]
        self._thread = threading.Thread(target=self._run, name="agentcanary-controller", daemon=True)
        self._thread.start()
        # Of its own, because deleting may take longer than a look may wait.
        threading.Thread(target=self._tidy, args=(self._ended,), name="agentcanary-housekeeping", daemon=True).start()

    def stop(self) -> None:
        """End after the look under way, and give the lease back."""
        self._ended.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(timeout=10.0)
            for courier in self._couriers:
                courier.wait(_FAREWELL)
        self._thread, self._pid = None, 0

    def _run(self) -> None:
        while True:
            self._safely(self._controller.look)
            for courier in self._couriers:
                courier.go()
            if self._ended.wait(self._every):
                break
        self._safely(self._controller.release)

    def _tidy(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY):
            self._safely(self._controller.tidy)

    def _safely(self, step: Callable[[], object]) -> None:
        try:
            step()
        except ConflictError:
            return  # Somebody else changed the rollout meanwhile: the next look sees it. Nothing was decided.
        except Exception as error:  # noqa: BLE001 (whatever failed, the next look may succeed, and nothing was decided)
            self._on_failure("controller", error)
