"""Did conversations keep their version? Counted from what users saw, not from what we stored. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentcanary.demo.turns import SeenTurn
from agentcanary.snapshot import HANDOVER

# Real seconds within which every worker follows a rollback; until then two of them may disagree.
EVERY_WORKER_KNOWS = HANDOVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Stickiness:
    """Conversations of at least two turns, by what became of their version.

    Attributes:
        conversations: All of them.
        kept: Served by one version from the first turn to the last.
        across_a_change: Of those that kept it, the ones that lived while the weight changed.
        moved: Taken from the canary to stable by a rollback.
        broken: Everything else; there must be none. Ids.
        both_workers: Conversations that were served by more than one worker process.
    """

    conversations: int = 0
    kept: int = 0
    across_a_change: int = 0
    moved: int = 0
    broken: tuple[str, ...] = ()
    both_workers: int = 0

    @property
    def share(self) -> float | None:
        """Share that kept its version, of those that no rollback moved; None when there are none."""
        of = self.conversations - self.moved
        return self.kept / of if of else None

    def __add__(self, other: Stickiness) -> Stickiness:
        """Both together."""
        return Stickiness(
            conversations=self.conversations + other.conversations,
            kept=self.kept + other.kept,
            across_a_change=self.across_a_change + other.across_a_change,
            moved=self.moved + other.moved,
            broken=self.broken + other.broken,
            both_workers=self.both_workers + other.both_workers,
        )


def stickiness(
    turns: Iterable[SeenTurn], *, stable: str, weight_changes: Sequence[float], taken_back_at: float | None
) -> Stickiness:
    """How the conversations of one rollout fared.

    Args:
        turns: What their users saw; a turn whose response does not say who served it counts for nothing.
        stable: Name of the stable version.
        weight_changes: Real Unix times at which the weight changed.
        taken_back_at: Real Unix time from which the canary's conversations are served by stable, or None.

    >>> first = SeenTurn(scenario="a", conversation="1", turn=1, sent_at=1.0, started_at=1.0, version="v1")
    >>> second = SeenTurn(scenario="a", conversation="1", turn=2, sent_at=3.0, started_at=3.0, version="v1")
    >>> stickiness([first, second], stable="v1", weight_changes=[2.0], taken_back_at=None).across_a_change
    1
    """
    by_conversation: defaultdict[str, list[SeenTurn]] = defaultdict(list)
    for turn in turns:
        if turn.version:
            by_conversation[turn.conversation].append(turn)
    kept = across = moved = both = 0
    broken = []
    several = {name: sorted(found, key=_order) for name, found in by_conversation.items() if len(found) > 1}
    for name, found in several.items():
        both += len({turn.worker for turn in found}) > 1
        if len({turn.version for turn in found}) == 1:
            kept += 1
            across += any(found[0].started_at < at < found[-1].started_at for at in weight_changes)
        elif taken_back_at is not None and _moved(found, stable, taken_back_at):
            moved += 1
        else:
            broken.append(name)
    return Stickiness(
        conversations=len(several),
        kept=kept,
        across_a_change=across,
        moved=moved,
        broken=tuple(sorted(broken)),
        both_workers=both,
    )


def _order(turn: SeenTurn) -> int:
    return turn.turn


def _moved(turns: Sequence[SeenTurn], stable: str, taken_back_at: float) -> bool:
    """True when the canary had it until it was taken back, and stable from when every worker knew of that."""
    before = {turn.version for turn in turns if turn.started_at < taken_back_at}
    after = {turn.version for turn in turns if turn.started_at >= taken_back_at + EVERY_WORKER_KNOWS}
    return stable not in before and after <= {stable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How fast a safety violation stopped a canary. All times are real.

    Attributes:
        violation_at: Unix time at which the agent reported it.
        last_canary_turn_at: Unix time at which the last turn on the canary began.
        after: Turns on the canary that began after the violation.
    """

    violation_at: float
    last_canary_turn_at: float
    after: int

    @property
    def seconds(self) -> float:
        """From the violation to the beginning of the last turn on the canary; 0 when none began after it."""
        return max(0.0, self.last_canary_turn_at - self.violation_at)


def stop_of(turns: Iterable[SeenTurn], canary: str) -> Stop | None:
    """How fast the first violation stopped the canary; None when there was none."""
    found = list(turns)
    violations = [turn.violation_at for turn in found if turn.violation_at is not None]
    if not violations:
        return None
    began = [turn.started_at for turn in found if turn.version == canary]
    first = min(violations)
    return Stop(violation_at=first, last_canary_turn_at=max(began), after=sum(at > first for at in began))
