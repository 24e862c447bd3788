"""What went wrong with us while requests were served all the same: counted, and logged at most once a minute a kind."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

log = structlog.get_logger("agentcanary")

LOG_EVERY = 60.0


class Degraded:
    """Counts failures by kind.

    Args:
        agent: Name of the agent.
        count: Called with the kind at every failure: the OpenTelemetry counter.
        monotonic: Real seconds that never go back.
    """

    def __init__(
        self,
        agent: str,
        *,
        count: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._count = count
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._total: Counter[str] = Counter()

    def __call__(self, kind: str, error: BaseException | None = None) -> None:
        """Note one failure. Raises nothing: whoever calls this is already handling one.

        Args:
            kind: A constant name, such as ``pin_lookup``.
            error: What was raised.
        """
        with self._lock:
            self._total[kind] += 1
            total = self._total[kind]
            now = self._monotonic()
            due = now - self._logged.get(kind, float("-inf")) >= LOG_EVERY
            if due:
                self._logged[kind] = now
        try:
            self._count(kind)
            if due:
                log.warning(
                    "agentcanary.degraded",
                    agent=self._agent,
                    kind=kind,
                    total=total,
                    error_type=None if error is None else type(error).__qualname__,
                    error=None if error is None else str(error),
                )
        except Exception:  # noqa: BLE001 (a broken logger or exporter must not become the request's failure)
            return

    @property
    def totals(self) -> dict[str, int]:
        """Failures so far, by kind."""
        with self._lock:
            return dict(self._total)
