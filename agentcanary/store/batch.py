"""Records → the rows that a batch adds to the store, one for each conversation. Pure.

The rows are plain values, so that a journal can hold them as they are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from agentcanary.assignment import Assignment, Reason
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnStarted
from agentcanary.store import turn_log
from agentcanary_analysis.aggregates import Arm


class ConversationRow(NamedTuple):
    """The columns of the table ``conversations``."""

    agent: str
    unit: str
    rollout: str
    arm: str
    epoch: int
    version: str
    bucket: int
    excluded: str | None
    cohort_at: float
    on_canary: int
    started_at: float
    last_turn_at: float
    turns: int
    open: int
    errors: int
    aborted: int
    turn_log: str


class OutcomeRow(NamedTuple):
    """The columns of the table ``outcomes``."""

    agent: str
    id: str
    unit: str
    name: str
    value: float | None
    label: str | None
    kind: str
    explanation: str | None
    turn_id: str | None
    confirmed: int
    at: float
    corrected_at: float


class NamelessRow(NamedTuple):
    """Turns without a conversation: they are in no statistic, and are counted by their reason."""

    rollout: str
    arm: str
    excluded: str
    turns: int


class Batch(NamedTuple):
    """What is added to the store at once."""

    conversations: list[ConversationRow]
    outcomes: list[OutcomeRow]
    nameless: list[NamelessRow]


def storable(text: str) -> str:
    r"""A text that every database can hold: NUL and lone surrogates are replaced.

    >>> storable("a\x00b")
    'a?b'
    """
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "?").encode("utf-8", "replace").decode("utf-8")


def coalesce(records: Iterable[Record]) -> Batch:
    """The rows of some records, whose order does not matter.

    A turn that starts and ends among them is one entry of its conversation's log. The earliest turn of a conversation
    decides what the first writer decides.
    """
    begun: dict[str, TurnStarted] = {}
    ended: list[TurnEnded] = []
    outcomes: dict[tuple[str, str], OutcomeRow] = {}
    for record in records:
        if type(record) is TurnStarted:
            begun[record[0]] = record
        elif type(record) is TurnEnded:
            ended.append(record)
        elif type(record) is Outcome:
            _add_outcome(outcomes, record)
    found: dict[tuple[str, str, str], ConversationRow] = {}
    pack, nan = turn_log.pack, math.nan
    for turn_id, assignment, started_at, ended_at, latency, first_byte, outcome, _ in ended:
        code = turn_log.ERROR if outcome == "error" else turn_log.ABORTED if outcome == "aborted" else turn_log.OK
        begins = 1 if begun.pop(turn_id, None) is not None else 0
        entry = pack(
            started_at,
            ended_at,
            latency,
            nan if first_byte is None else first_byte,
            code if begins else code + turn_log.LATER,
        )
        _add_turn(found, assignment, started_at, ended_at, begins, begins - 1, outcome, entry)
    for _, assignment, started_at in begun.values():
        _add_turn(
            found, assignment, started_at, started_at, 1, 1, "", pack(started_at, nan, nan, nan, turn_log.STARTED)
        )
    nameless: Counter[tuple[str, str, str]] = Counter()
    for key in [key for key in found if not key[1]]:
        row = found.pop(key)
        nameless[row.rollout, row.arm, row.excluded or ""] += row.turns
    return Batch(
        list(found.values()), list(outcomes.values()), [NamelessRow(*key, turns) for key, turns in nameless.items()]
    )


def merge(one: ConversationRow, other: ConversationRow) -> ConversationRow:
    """What two rows of one conversation add up to; the one with the earlier turn decides what only one can decide."""
    first, second = (one, other) if one.started_at <= other.started_at else (other, one)
    return first._replace(
        on_canary=max(one.on_canary, other.on_canary),
        last_turn_at=max(one.last_turn_at, other.last_turn_at),
        turns=one.turns + other.turns,
        open=one.open + other.open,
        errors=one.errors + other.errors,
        aborted=one.aborted + other.aborted,
        turn_log=first.turn_log + second.turn_log,
    )


_new_row = tuple.__new__


def _add_turn(
    found: dict[tuple[str, str, str], ConversationRow],
    assignment: Assignment,
    started_at: float,
    ended_at: float,
    turns: int,
    still_open: int,
    outcome: str,
    entry: bytes,
) -> None:
    view, unit, arm, version, reason, epoch, buckets, excluded, _ = assignment
    if not unit.isascii() or "\x00" in unit:
        unit = storable(unit)
    # As ``Assignment.rollout``, which would cost a call for each turn.
    rollout = "" if reason is Reason.NO_ROLLOUT else view.rollout
    key = (view.agent, unit, rollout)
    row = _new_row(
        ConversationRow,
        (
            view.agent,
            unit,
            rollout,
            "canary" if arm is Arm.CANARY else "stable",
            epoch,
            version,
            buckets[1],
            excluded,
            started_at,
            1 if version == view.canary and version != view.stable else 0,
            started_at,
            ended_at if ended_at > started_at else started_at,
            turns,
            still_open,
            1 if outcome == "error" else 0,
            1 if outcome == "aborted" else 0,
            turn_log.to_text(entry),
        ),
    )
    known = found.get(key)
    found[key] = row if known is None else merge(known, row)


def _add_outcome(outcomes: dict[tuple[str, str], OutcomeRow], outcome: Outcome) -> None:
    row = OutcomeRow(
        agent=storable(outcome.agent),
        id=storable(outcome.id),
        unit=storable(outcome.conversation_id),
        name=storable(outcome.name),
        value=None if outcome.value is None else float(outcome.value),
        label=_optional(outcome.label),
        kind=str(outcome.kind),
        explanation=_optional(outcome.explanation),
        turn_id=_optional(outcome.turn_id),
        confirmed=int(outcome.confirmed),
        at=outcome.at,
        corrected_at=outcome.at,
    )
    known = outcomes.get((row.agent, row.id))
    if known is not None:
        row = (row if row.corrected_at > known.corrected_at else known)._replace(at=min(row.at, known.at))
    outcomes[row.agent, row.id] = row


def _optional(text: str | None) -> str | None:
    return None if text is None else storable(text)
