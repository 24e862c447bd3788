"""Which units the split alone decides, so that nobody has to look for their pins.

Below the lowest weight that a rollout ever had, every worker gave a new unit to the canary in every epoch. What was
given otherwise is an exception, and in steady state there are few: ``Settling`` keeps them all in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from agentcanary.assignment import Buckets, RolloutView
from agentcanary.rollout import Rollout
from agentcanary.store.batch import storable

MAX_EXCEPTIONS = 200_000
# A pin is dated by its request, which may have waited for the store, and a turn is stored a flush later.
OVERLAP = 5.0
# What a journal kept back is stored long after its time: everything is read again this often.
WHOLE_EVERY = 60.0
# A chunk takes some 15 ms of the thread whose polls must also see a safety stop.
ROWS_A_POLL = 5_000


class ExceptionSource(Protocol):
    """Where the units are found that the split does not decide. May return too many, which are then looked up."""

    def exceptions(
        self, agent: str, rollout: str, *, since: float, elsewhere_since: float, limit: int
    ) -> Sequence[str]:
        """Units pinned or recorded otherwise than by the split since then; or begun outside the rollout since then."""

    def live_elsewhere(
        self, agent: str, rollout: str, *, after: str, active_since: float, rows: int
    ) -> tuple[Sequence[str], str | None]:
        """Of the next rows: units with a turn since then that is not the rollout's. And where to go on, or None."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A rollout whose units are the split's below its lowest weight, apart from exceptions.

    What may still be missing among the exceptions, and change its version once: what another worker did otherwise
    less than a poll ago (a fallback, or a weight that this worker has not seen yet); and a conversation from before
    the rollout that was resumed during it by a worker that does not see the rollout.

    Attributes:
        rollout: Id of the rollout.
        exceptions: Digests of the units whose pins must be looked up.
    """

    rollout: str
    exceptions: frozenset[bytes]

    def decides(self, view: RolloutView, unit: str, buckets: Buckets) -> bool:
        """True when the split of this view is what a look-up of the unit would answer.

        Args:
            view: A fresh view, past its hand-over.
            unit: The unit.
            buckets: Where its hash falls.

        >>> view = RolloutView(agent="support", rollout="r-1", weight=0.5, min_weight=0.1, open=True)
        >>> settled = Settled("r-1", frozenset([digest("c-2")]))
        >>> [settled.decides(view, unit, Buckets(share, 0)) for unit, share in [("c-1", 0.05), ("c-2", 0.05)]]
        [True, False]
        >>> settled.decides(view, "c-1", Buckets(0.2, 0))
        False
        """
        return (
            buckets.assignment < view.min_weight
            and view.open
            and view.rollout == self.rollout
            and digest(storable(unit)) not in self.exceptions
        )


class Settling:
    """Loads the exceptions of an agent's rollout, a little at every poll, and tells who is settled.

    Args:
        source: The store.
        agent: Name of the agent.
        tell: Called with what is settled, None for nothing.
        speed: Seconds of the rollout's clock in a real second.
        monotonic: Real seconds that never go back.
        limit: With more exceptions than this nothing is settled, which bounds the memory (20 MiB).
    """

    def __init__(
        self,
        source: ExceptionSource,
        *,
        agent: str,
        tell: Callable[[Settled | None], None],
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.perf_counter,
        limit: int = MAX_EXCEPTIONS,
    ) -> None:
        self._source = source
        self._agent = agent
        self._tell = tell
        self._overlap = OVERLAP * speed
        self._monotonic = monotonic
        self._limit = limit
        self._rollout = ""

    def unsettle(self) -> None:
        """Nothing is settled, for now."""
        self._tell(None)

    def poll(self, rollout: Rollout, now: float) -> None:
        """Load what is new, and tell.

        Args:
            rollout: A rollout past its hand-over: everything that was given before is stored.
            now: Unix time in seconds, read before.

        Raises:
            StoreError: If the store does not answer; nothing is settled then.
        """
        if not _may_settle(rollout):
            self._tell(None)
            return
        try:
            if rollout.id != self._rollout:
                self._begin(rollout, now)
            settled = None if self._too_many else self._load(rollout, now)
        except BaseException:
            self._tell(None)
            raise
        self._tell(settled)

    def _begin(self, rollout: Rollout, now: float) -> None:
        idle_after = rollout.plan.idle_after
        self._units: frozenset[bytes] = frozenset()
        self._too_many = False
        self._loaded_at = self._whole_at = float("-inf")
        # A conversation that began before and is live for so long had a turn in the rollout, which recorded it.
        recorded = now - rollout.weight_changed_at > idle_after + self._overlap
        self._next: str | None = None if recorded else ""
        self._elsewhere_since = max(rollout.weight_changed_at, now - idle_after)
        self._rollout = rollout.id

    def _load(self, rollout: Rollout, now: float) -> Settled | None:
        real = self._monotonic()
        whole = real - self._whole_at >= WHOLE_EVERY
        since = float("-inf") if whole else self._loaded_at - self._overlap
        elsewhere_since = max(self._elsewhere_since, since)
        found = self._source.exceptions(
            self._agent, rollout.id, since=since, elsewhere_since=elsewhere_since, limit=self._limit + 1
        )
        self._add(found)
        self._loaded_at, self._whole_at = now, real if whole else self._whole_at
        if self._next is not None:
            live, self._next = self._source.live_elsewhere(
                self._agent,
                rollout.id,
                after=self._next,
                active_since=rollout.created_at - rollout.plan.idle_after,
                rows=ROWS_A_POLL,
            )
            self._add(live)
        if len(self._units) > self._limit:
            self._units, self._too_many = frozenset(), True
        return None if self._too_many or self._next is not None else Settled(rollout.id, self._units)

    def _add(self, units: Sequence[str]) -> None:
        new = {digest(unit) for unit in units} - self._units
        if new:
            self._units |= new


def digest(unit: str) -> bytes:
    """16 bytes for a unit: smaller than most ids, and of one size, so that no client decides how much memory we take.

    >>> digest("c-1").hex()
    '9d58d3430363985e7a8e033c923d8f19'
    """
    return blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _may_settle(rollout: Rollout) -> bool:
    """True when there are buckets that every epoch gave to the canary."""
    going_on = not rollout.phase.ended and rollout.stopped_at is None
    return going_on and rollout.plan.sticky and bool(rollout.epochs) and min(e.weight for e in rollout.epochs) > 0
