"""Delivering effects beside the looks: one thread a kind, so that a receiver that hangs delays nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from agentcanary.effects.delivery import Outbox
from agentcanary.rollout import EffectKind, Rollout
from agentcanary.store import Pending

# Real seconds after which a delivery that has not ended is counted as a failure, at every look.
STUCK_AFTER = 60.0


class Lane:
    """The effects of one kind in an outbox.

    Args:
        outbox: All of them.
        kind: Which.
    """

    def __init__(self, outbox: Outbox, kind: EffectKind) -> None:
        self._outbox = outbox
        self._kind = kind
        self.done = outbox.done
        self.failed = outbox.failed

    def due(self, now: float, agent: str | None = None) -> list[Pending]:
        """See ``Outbox``."""
        return [pending for pending in self._outbox.due(now, agent) if pending.effect.kind is self._kind]

    def rollouts(self, agent: str | None = None) -> Sequence[Rollout]:
        """See ``Outbox``."""
        return self._outbox.rollouts(agent)


class Courier:
    """Runs one delivery at a time, in a thread that lives as long as it takes.

    Args:
        kind: What it delivers.
        deliver: Delivers everything of a kind that is due.
        on_failure: Called with ``delivery`` when that fails, or has not ended for a minute.
        monotonic: Real seconds that never go back.
    """

    def __init__(
        self,
        kind: EffectKind,
        deliver: Callable[[EffectKind], None],
        on_failure: Callable[[str, BaseException | None], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._deliver = deliver
        self._on_failure = on_failure
        self._monotonic = monotonic
        self._thread: threading.Thread | None = None
        self._since = 0.0

    def go(self) -> None:
        """Begin a delivery unless one is under way. Returns at once."""
        if self._thread is not None and self._thread.is_alive():
            if self._monotonic() - self._since > STUCK_AFTER:
                self._on_failure("delivery", TimeoutError(f"a delivery ({self._kind.value}) does not end"))
            return
        self._since = self._monotonic()
        self._thread = threading.Thread(target=self._run, name=f"agentcanary-{self._kind.value}", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the delivery under way, at most so many real seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._deliver(self._kind)
        except Exception as error:  # noqa: BLE001 (the store may be away; what is due comes again at the next look)
            self._on_failure("delivery", error)
