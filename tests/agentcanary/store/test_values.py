from __future__ import annotations

import math
from dataclasses import replace

import pytest

from agentcanary.store import turn_log
from agentcanary.store.turn_log import ABORTED, ENTRY_LENGTH, ERROR, FULL, OK
from agentcanary.store.values import Conversation, Reported, Value, refuse_uncountable, value_of
from agentcanary_analysis.metrics import (
    ERROR_RATE,
    P95_LATENCY,
    SAFETY_VIOLATIONS,
    TASK_COMPLETION_RATE,
    USER_SATISFACTION,
    Direction,
    Kind,
    Metric,
)

ABORTED_RATE = replace(ERROR_RATE, name="aborted_rate", outcome="turn.aborted")
FIRST_BYTE = replace(P95_LATENCY, name="first_byte", outcome="turn.time_to_first_byte")
MEAN_LATENCY = replace(P95_LATENCY, name="mean_latency", kind=Kind.MEAN, quantile=None)
ERRORS_PER_TURN = replace(ERROR_RATE, name="errors_per_turn", kind=Kind.RATIO)
SECONDS_PER_TURN = replace(ERROR_RATE, name="seconds_per_turn", kind=Kind.RATIO, outcome="turn.latency")
COST = Metric(name="cost", kind=Kind.RATIO, direction=Direction.UP_IS_WORSE, outcome="cost")
TOKENS = replace(P95_LATENCY, name="tokens", outcome="tokens", always_measured=False)
HITS = replace(SAFETY_VIOLATIONS, name="hits", kind=Kind.PROPORTION)


def turns(*entries: tuple[float, float, int], first_byte: float = 0.5) -> Conversation:
    """A conversation that began at 0, from (start, end, code)."""
    packed = b"".join(turn_log.pack(start, end, end - start, first_byte, code) for start, end, code in entries)
    return Conversation(min(start for start, _, _ in entries), turn_log.to_text(packed), 0, 0, 0)


def told(*reported: tuple[str, float | None, float], confirmed: bool = True) -> Conversation:
    outcomes = [Reported(name, value, at, confirmed) for name, value, at in reported]
    return turns((0.0, 1.0, OK))._replace(reported=outcomes)


VALUES = {
    # Every horizon is 1800 s after the first turn, at 0.
    "no error": (ERROR_RATE, turns((0, 2, OK)), Value(0.0)),
    "an error": (ERROR_RATE, turns((0, 2, OK), (5, 6, ERROR)), Value(1.0)),
    "an error at the horizon": (ERROR_RATE, turns((0, 2, OK), (5, 1800, ERROR)), Value(1.0)),
    "an error that ended after the horizon was open at it": (
        ERROR_RATE,
        turns((0, 2, OK), (5, 1801, ERROR)),
        Value(1.0),
    ),
    "an error in a turn after the horizon": (ERROR_RATE, turns((0, 2, OK), (1801, 1802, ERROR)), Value(0.0)),
    "a good turn open at the horizon": (ERROR_RATE, turns((0, 1900, OK)), Value(1.0)),
    "a client that left is no error": (ERROR_RATE, turns((0, 2, ABORTED)), Value(0.0)),
    "a client that left": (ABORTED_RATE, turns((0, 2, ABORTED)), Value(1.0)),
    "an open turn is not left": (ABORTED_RATE, turns((0, 1900, ABORTED)), Value(0.0)),
    "latency of the first turn": (P95_LATENCY, turns((3, 5, OK), (0, 9, OK)), Value(9.0)),
    "the first turn had not ended": (P95_LATENCY, turns((0, 1801, OK), (3, 5, OK)), Value(math.inf)),
    "time to the first byte": (FIRST_BYTE, turns((0, 2, OK)), Value(0.5)),
    "no byte was sent": (FIRST_BYTE, turns((0, 2, ERROR), first_byte=math.nan), None),
    "errors per turn that ended": (
        ERRORS_PER_TURN,
        turns((0, 2, OK), (3, 4, ERROR), (5, 1900, ERROR)),
        Value(1.0, 2.0),
    ),
    "seconds per turn": (SECONDS_PER_TURN, turns((0, 2, OK), (3, 4, ERROR)), Value(3.0, 2.0)),
    "no turn has ended": (SECONDS_PER_TURN, turns((0, 1900, OK)), None),
    "completed": (TASK_COMPLETION_RATE, told(("task_completion", 1.0, 1800)), Value(1.0)),
    "not completed": (TASK_COMPLETION_RATE, told(("task_completion", 0.0, 5)), Value(0.0)),
    "completed at last": (TASK_COMPLETION_RATE, told(("task_completion", 0, 5), ("task_completion", 1, 6)), Value(1.0)),
    "completed too late": (TASK_COMPLETION_RATE, told(("task_completion", 1.0, 1801)), None),
    "reported before it began": (TASK_COMPLETION_RATE, told(("task_completion", 1.0, -1)), None),
    "nothing was reported": (TASK_COMPLETION_RATE, told(), None),
    "the judge gave no value": (TASK_COMPLETION_RATE, told(("task_completion", None, 5)), None),
    "another outcome": (TASK_COMPLETION_RATE, told(("satisfaction", 1.0, 5)), None),
    "the average rating": (USER_SATISFACTION, told(("satisfaction", 5, 5), ("satisfaction", 2, 6)), Value(3.5)),
    "one rating without a value": (
        USER_SATISFACTION,
        told(("satisfaction", 5, 5), ("satisfaction", None, 6)),
        Value(5),
    ),
    "no measurement at all": (USER_SATISFACTION, told(("satisfaction", 1e300, 5)), None),
    "a sum over reports": (COST, told(("cost", 0.25, 5), ("cost", 0.5, 6)), Value(0.75, 2.0)),
    "a quantile of outcomes": (TOKENS, told(("tokens", 100, 5), ("tokens", 300, 6)), Value(200.0)),
    "a quantile has no negative values": (TOKENS, told(("tokens", -1.0, 5)), None),
    "no violation is known to be none": (SAFETY_VIOLATIONS, told(), Value(0.0)),
    "a violation": (SAFETY_VIOLATIONS, told(("safety_violation", 3.0, 5)), Value(1.0)),
    "an unconfirmed one is not counted": (
        SAFETY_VIOLATIONS,
        told(("safety_violation", 1, 5), confirmed=False),
        Value(0.0),
    ),
    "but is an ordinary proportion": (HITS, told(("safety_violation", 1, 5), confirmed=False), Value(1.0)),
    "a mean of latencies": (MEAN_LATENCY, turns((0, 9, OK)), Value(9.0)),
}


@pytest.mark.parametrize(("metric", "conversation", "expected"), VALUES.values(), ids=VALUES)
def test_a_conversation_has_the_value_it_had_at_the_horizon(
    metric: Metric, conversation: Conversation, expected: Value | None
) -> None:
    assert value_of(metric, conversation) == expected


def test_a_full_log_is_decided_by_its_totals() -> None:
    log = turn_log.to_text(turn_log.pack(0.0, 1.0, 1.0, 0.5, OK)) * (FULL // ENTRY_LENGTH)
    assert value_of(ERROR_RATE, Conversation(0.0, log, errors=0, aborted=0, open=0)) == Value(0.0)
    assert value_of(ERROR_RATE, Conversation(0.0, log, errors=1, aborted=0, open=0)) == Value(1.0)
    assert value_of(ERROR_RATE, Conversation(0.0, log, errors=0, aborted=0, open=1)) == Value(1.0)
    assert value_of(ABORTED_RATE, Conversation(0.0, log, errors=1, aborted=0, open=1)) == Value(0.0)


def test_something_about_turns_that_nobody_observes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'tone' reads 'turn.tone'; known are .*turn.latency"):
        refuse_uncountable(replace(ERROR_RATE, name="tone", outcome="turn.tone"))
