"""The value of one conversation for one metric, at the metric's horizon. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from agentcanary.outcomes import SAFETY_VIOLATION
from agentcanary.store import turn_log
from agentcanary_analysis.metrics import Kind, Metric

TURN_ERROR = "turn.error"
TURN_ABORTED = "turn.aborted"
TURN_LATENCY = "turn.latency"
TURN_FIRST_BYTE = "turn.time_to_first_byte"
_TURN_EVENTS = {TURN_ERROR: turn_log.ERROR, TURN_ABORTED: turn_log.ABORTED}
_LARGEST = 1e30
_OF_TURNS = {*_TURN_EVENTS, TURN_LATENCY, TURN_FIRST_BYTE}


class Reported(NamedTuple):
    """An outcome of a conversation.

    Attributes:
        name: Its name.
        value: The number, or None for missing.
        at: Unix time in seconds at which it was received.
        confirmed: False for a safety violation that nobody has confirmed.
    """

    name: str
    value: float | None
    at: float
    confirmed: bool


class Conversation(NamedTuple):
    """What is known of a conversation.

    Attributes:
        started_at: Unix time in seconds of its first turn.
        turn_log: Its turns, see ``turn_log``.
        errors: Turns that ended in error.
        aborted: Turns that the client left.
        open: Turns that have not ended.
        reported: Its outcomes.
    """

    started_at: float
    turn_log: str
    errors: int
    aborted: int
    open: int
    reported: Sequence[Reported] = ()


def refuse_uncountable(metric: Metric) -> None:
    """Refuse a metric that reads something about turns that nobody observes.

    Raises:
        ValueError: Naming the metric and what is known.
    """
    if metric.outcome.startswith("turn.") and metric.outcome not in _OF_TURNS:
        raise ValueError(f"metric {metric.name!r} reads {metric.outcome!r}; known are {', '.join(sorted(_OF_TURNS))}")


class Value(NamedTuple):
    """What a conversation adds to a metric.

    Attributes:
        number: Its value; ``inf`` for a latency that had not come to its end.
        size: The denominator of a ratio, 0 for all other metrics.
    """

    number: float
    size: float = 0.0


def value_of(metric: Metric, conversation: Conversation) -> Value | None:
    """A conversation's value at the age of the metric's horizon, or None for missing.

    Only what had happened by then counts, whenever it is asked. An outcome that cannot be a measurement (beyond 1e30,
    or negative where a quantile is asked for) is missing.

    Args:
        metric: The metric.
        conversation: What is known of it, later turns and outcomes included.

    >>> from agentcanary_analysis.metrics import ERROR_RATE
    >>> turn = turn_log.to_text(turn_log.pack(100.0, 101.0, 1.0, 0.5, turn_log.ERROR))
    >>> value_of(ERROR_RATE, Conversation(100.0, turn, errors=1, aborted=0, open=0))
    Value(number=1.0, size=0.0)
    """
    at = conversation.started_at + metric.horizon
    if metric.outcome not in _OF_TURNS:
        return _reported(metric, conversation, at)
    if metric.kind is Kind.RATIO:
        return _over_turns(metric.outcome, turn_log.read(conversation.turn_log), at)
    if metric.outcome in _TURN_EVENTS:
        return Value(float(_has_event(metric.outcome, conversation, at)))
    first = turn_log.first_turn(turn_log.read(conversation.turn_log), at)
    if first is None:
        return Value(math.inf)
    number = first.latency if metric.outcome == TURN_LATENCY else first.time_to_first_byte
    return None if math.isnan(number) else Value(max(number, 0.0))


def _has_event(outcome: str, conversation: Conversation, at: float) -> bool:
    if turn_log.is_full(conversation.turn_log):
        # Thousands of turns before the horizon: later ones are known by their totals only.
        totals = {TURN_ERROR: conversation.errors + conversation.open, TURN_ABORTED: conversation.aborted}
        return totals[outcome] > 0
    entries = turn_log.read(conversation.turn_log)
    if turn_log.ended_with(entries, _TURN_EVENTS[outcome], at):
        return True
    return outcome == TURN_ERROR and turn_log.open_at(entries, at)


def _over_turns(outcome: str, entries: Sequence[turn_log.Entry], at: float) -> Value | None:
    """Over the turns that had ended: how many had the event, or the sum of their times."""
    ended = [entry for entry in entries if entry.ended_at <= at]
    if outcome in _TURN_EVENTS:
        numbers = [float(entry.outcome == _TURN_EVENTS[outcome]) for entry in ended]
    else:
        times = [entry.latency if outcome == TURN_LATENCY else entry.time_to_first_byte for entry in ended]
        numbers = [time for time in times if not math.isnan(time)]
    return Value(math.fsum(numbers), float(len(numbers))) if numbers else None


def _reported(metric: Metric, conversation: Conversation, at: float) -> Value | None:
    lowest = 0.0 if metric.kind is Kind.QUANTILE else -_LARGEST
    values = [
        outcome.value
        for outcome in conversation.reported
        if outcome.name == metric.outcome
        and outcome.value is not None
        and lowest <= outcome.value <= _LARGEST
        and conversation.started_at <= outcome.at <= at
        # Unconfirmed hits of a classifier are an ordinary proportion; a count is of what was confirmed.
        and (metric.kind is not Kind.COUNT or metric.outcome != SAFETY_VIOLATION or outcome.confirmed)
    ]
    if not values:
        return Value(0.0) if metric.always_measured else None
    if metric.kind is Kind.RATIO:
        return Value(math.fsum(values), float(len(values)))
    if metric.kind in (Kind.PROPORTION, Kind.COUNT):
        return Value(float(any(value > 0 for value in values)))
    return Value(math.fsum(values) / len(values))
