"""The immutable view that the request path reads, kept up to date by a thread of its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from agentcanary.assignment import RolloutView
from agentcanary.clock import Clock
from agentcanary.errors import AgentCanaryError
from agentcanary.rollout import Rollout, view_of
from agentcanary.settled import Settling
from agentcanary.store.workers import DEAD_AFTER
from agentcanary_analysis.aggregates import Arm

POLL_EVERY = 0.25
HANDOVER = 2.0
_CONFIRMATION = 10.0
# Until a pin of the hand-over, whose request began at its very end, is certainly written.
_PINNED_WITHIN = 1.0


class RolloutSource(Protocol):
    """Where rollouts are read from."""

    def revision(self, agent: str) -> tuple[object, ...] | None:
        """Something small that differs whenever the agent's newest rollout does; None without a rollout."""

    def current(self, agent: str) -> Rollout | None:
        """The agent's newest rollout."""

    def watermark(self, agent: str, now: float, *, dead_after: float) -> float:
        """The Unix time up to which every living worker has stored everything that it recorded."""


class SnapshotKeeper:
    """Holds the view of one agent.

    ``view`` is replaced whole, so that reading it needs no lock. A failed poll keeps the last view; once that is
    older than ``stale_after`` it is no longer ``fresh``, and new units go to stable.

    Args:
        source: The store.
        agent: Name of the agent.
        stable: The stable version that the configuration names.
        canary: The canary version that it names, if it does.
        clock: The time of rollouts.
        stale_after: Real seconds.
        poll_every: Real seconds between two polls.
        on_failure: Called with ``snapshot`` or ``settling`` and the error whenever a poll fails.
        settling: Loads which units need no look-up, at every poll past the hand-over; None to look up all.
        deployed: The arm that this Deployment is, where a mesh draws each request.
        monotonic: Real seconds that never go back.

    Attributes:
        view: What the request path sees.
        fresh_until: Until when it is fresh, by ``monotonic``.
        rollout: The agent's newest rollout, as of the last poll.
    """

    def __init__(
        self,
        source: RolloutSource,
        *,
        agent: str,
        stable: str,
        canary: str | None,
        clock: Clock,
        stale_after: float = 10.0,
        poll_every: float = POLL_EVERY,
        on_failure: Callable[[str, BaseException | None], None] = lambda _kind, _error: None,
        settling: Settling | None = None,
        deployed: Arm | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._source = source
        self._agent = agent
        self._stable = stable
        self._canary = canary
        self._clock = clock
        self._handover = HANDOVER * clock.speed
        self._deployed = deployed
        self._dead_after = DEAD_AFTER * clock.speed
        self._behind_everybody: float | None = None
        self._settling = settling
        self._stale_after = stale_after
        self._poll_every = poll_every
        self._on_failure = on_failure
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._seen: tuple[object, ...] | None = None
        self.fresh_until = float("-inf")
        self._stopped: tuple[str, float] | None = None
        self.rollout: Rollout | None = None
        self.view: RolloutView = self._view_of(None)

    def _view_of(self, rollout: Rollout | None) -> RolloutView:
        return view_of(
            self._agent,
            rollout,
            stable=self._stable,
            canary=self._canary,
            handover=self._handover,
            deployed=self._deployed,
        )

    @property
    def fresh(self) -> bool:
        """False when the last successful poll is older than ``stale_after``."""
        return self._monotonic() < self.fresh_until

    def start(self) -> None:
        """Start polling, unless this process already does. Returns at once."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"agentcanary-snapshot-{self._agent}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop polling; waits for a poll under way."""
        self._ended.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(timeout=5.0)
        self._thread, self._pid = None, 0

    def poll(self) -> bool:
        """One poll: True when the store answered."""
        try:
            seen = self._source.revision(self._agent)
            rollout = self.rollout if seen == self._seen else self._source.current(self._agent)
            behind = self._behind(rollout)
        except AgentCanaryError as error:
            self._on_failure("snapshot", error)
            return False
        with self._lock:
            self.fresh_until = self._monotonic() + self._stale_after
            if seen != self._seen or self._stopped is not None:
                self._show(rollout)
            self._seen, self.rollout = seen, rollout
            if behind:
                # Until the poll after the next one: it will have been asked again by then.
                until = self._clock() + 2 * self._poll_every * self._clock.speed
                self.view = replace(self.view, handover_until=max(self.view.handover_until, until))
        self._settle(rollout)
        return True

    def _behind(self, rollout: Rollout | None) -> bool:
        """True while the last change of the weight is not known to be behind everybody.

        A worker gave its units by the old weight until it saw the new one, and a backlog may keep them from the
        store for longer than a hand-over lasts. Until they are there, nobody can know that they are on stable.
        """
        if rollout is None or rollout.phase.ended or rollout.weight_changed_at == self._behind_everybody:
            return False
        everybody_saw_it = rollout.weight_changed_at + self._handover / 2
        if self._source.watermark(self._agent, self._clock(), dead_after=self._dead_after) < everybody_saw_it:
            return rollout.weight > 0
        self._behind_everybody = rollout.weight_changed_at
        return False

    def _settle(self, rollout: Rollout | None) -> None:
        """Load what needs no look-up, once nothing that was given by another weight can still be on its way."""
        if self._settling is None:
            return
        now, view = self._clock(), self.view
        over = now >= view.handover_until + _PINNED_WITHIN * self._clock.speed
        if rollout is None or not (view.open and over and rollout.weight_changed_at == self._behind_everybody):
            self._settling.unsettle()
            return
        try:
            self._settling.poll(rollout, now)
        except AgentCanaryError as error:
            # Pins are looked up as before; that the view is fresh does not depend on it.
            self._on_failure("settling", error)

    def stop_canary(self) -> None:
        """Take the canary back in this worker at once, until the store says what becomes of the rollout.

        The store confirms a safety stop when the violation is recorded. Where it answers for ten seconds that the
        rollout goes on, the violation did not concern it, and its word holds again.
        """
        with self._lock:
            self._stopped = (self.view.rollout, self._monotonic())
            self.view = _taken_back(self.view)

    def _show(self, rollout: Rollout | None) -> None:
        view = view_of(
            self._agent,
            rollout,
            stable=self._stable,
            canary=self._canary,
            handover=self._handover,
            deployed=self._deployed,
        )
        if self._stopped is not None:
            stopped_rollout, since = self._stopped
            if view.rollout == stopped_rollout and view.open and self._monotonic() - since < _CONFIRMATION:
                view = _taken_back(view)
            else:
                self._stopped = None
        self.view = view

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except Exception as error:  # noqa: BLE001 (the thread must outlive every bug of ours)
                self._on_failure("snapshot", error)
            if self._ended.wait(self._poll_every):
                return


def _taken_back(view: RolloutView) -> RolloutView:
    return replace(view, open=False, taken_back=True, canary=view.stable, weight=0.0)
