"""What went wrong with us while requests were served all the same: counted, and logged at most once a minute a kind."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import structlog

log = structlog.get_logger("agentcanary")

LOG_EVERY = 60.0

# Every kind, and what it means for people; ``no_conversation_id:PROBLEM`` is explained by its beginning.
KINDS = {
    "alias_lookup": "nobody said in time which conversation an id of the server's is: stable served the turn",
    "alias_write": "an id that the server made could not be stored: it is kept here, and stored when that is possible",
    "assignment": "an assignment failed: the request was served by stable",
    "controller": "a look failed: it comes again",
    "delivery": "messages or weights could not be delivered, or a receiver hangs",
    "dispatch": "a request could not be given to its version: stable served it",
    "extractor": "the conversation id could not be looked for",
    "no_conversation_id": "requests without a usable conversation id: served by stable, in no statistic",
    "openfeature": "a flag could not be answered: the default was given",
    "openfeature_track": "an outcome that came as a tracking event could not be recorded",
    "pin_lookup": "a pin was not found in time: the turn was served by stable",
    "pin_write": "a pin could not be written: the new conversation stays on stable",
    "record": "a turn could not be recorded",
    "recorder": "a pass of the recorder failed: it comes again",
    "recorder_dropped": "records are lost: neither the store nor the disk took them",
    "recorder_journal": "the journal on the local disk could not be written or read",
    "recorder_overload": "records went to the journal, because the recorder does not keep up",
    "recorder_refused": "records that no store takes were left out",
    "recorder_store": "the store took nothing: records wait in the journal",
    "response": "what a response says could not be read: the turn is counted by its status",
    "secrets": "the secrets that all workers share could not be read",
    "settling": "pins are looked up that need not be",
    "snapshot": "the rollout could not be read: what is known goes on, new conversations go to stable after a while",
    "span_tap": "an outcome in a span could not be recorded",
    "start": "the start failed: it is tried again at the next request",
    "stop": "the end failed: what was recorded is in the store or in the journal",
    "telemetry": "a span or a metric could not be emitted",
    "version": "a version could not serve: stable did",
}


def meaning(kind: str) -> str:
    """What a kind means, for people.

    >>> meaning("pin_write")
    'a pin could not be written: the new conversation stays on stable'
    >>> meaning("no_conversation_id:absent") == meaning("no_conversation_id")
    True
    """
    return KINDS.get(kind.partition(":")[0], "see the log")


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
