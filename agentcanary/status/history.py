"""The evidence at the looks before: how far each criterion was from harm and from safety, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentcanary.rollout import Rollout
from agentcanary.store import Store

MOST = 100
TOGETHER = ""
"""The name under which all criteria together are kept."""


@dataclass(frozen=True, slots=True)
class Strength:
    """Natural logarithms of the e-values of one criterion at one look.

    Attributes:
        harm: Against "within the boundary".
        safe: Against "beyond the boundary"; None for all criteria together.
    """

    harm: float
    safe: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastLook:
    """The evidence at one look.

    Attributes:
        at: Unix time in seconds.
        verdict: What was decided.
        conversations: Counted canary conversations of the stage that it was in.
        strengths: By metric; ``TOGETHER`` for all criteria together.
    """

    at: float
    verdict: str
    conversations: int
    strengths: Mapping[str, Strength]


@dataclass(frozen=True, slots=True)
class EvidenceHistory:
    """Evenly chosen looks of one rollout. What was read once is not read again: a look never changes.

    Attributes:
        looks: The oldest first.
    """

    looks: tuple[PastLook, ...] = ()
    _known: Mapping[float, PastLook] = field(default_factory=dict, repr=False)

    def read(self, store: Store, rollout: Rollout, *, most: int = MOST) -> EvidenceHistory:
        """The history up to now.

        Args:
            store: The store.
            rollout: Of the same rollout as before.
            most: How many looks at most; the newest is always among them.

        Raises:
            StoreError: If the store cannot be read.
        """
        chosen = evenly(store.look_times(rollout.id), most)
        missing = [at for at in chosen if at not in self._known]
        known = dict(self._known)
        for look in store.looks_at(rollout.id, missing) if missing else ():
            known[look.at] = _past(look.at, look.verdict, look.look)
        kept = {at: known[at] for at in chosen if at in known}
        return EvidenceHistory(tuple(kept.values()), kept)


def evenly(times: Sequence[float], most: int) -> list[float]:
    """Some of many times, the last always; which ones changes as seldom as possible when more are added.

    >>> evenly([1.0, 2.0, 3.0, 4.0, 5.0], 3)
    [1.0, 3.0, 5.0]
    """
    step = 1
    while len(times) > most * step:
        step *= 2
    chosen = list(times[::step])
    if times and chosen[-1] != times[-1]:
        chosen.append(times[-1])
    return chosen


def _past(at: float, verdict: str, look: Mapping[str, Any]) -> PastLook:
    findings = look["findings"]
    strengths = {TOGETHER: Strength(findings["log_e_harm"])}
    for found in findings["evidence"]:
        strengths[found["metric"]] = Strength(found["log_e_harm"], found["log_e_safe"])
    return PastLook(at=at, verdict=verdict, conversations=findings.get("stage_conversations", 0), strengths=strengths)
