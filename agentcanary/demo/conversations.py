"""What users are going to say, and when: the script that the load follows. Pure: rng is an argument."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentcanary.demo.arrivals import arrivals
from agentcanary.demo.behaviour import CLOSING
from agentcanary.demo.scenarios import Scenario

_QUESTIONS = (
    "Where is my order?",
    "Can I change the delivery address?",
    "I was charged twice.",
    "How do I cancel my subscription?",
    "The parcel arrived damaged.",
)
_MORE = "And one more thing: when will that be?"
_TURNS, _TURN_SHARES = (2, 3, 4, 5, 6), (0.50, 0.27, 0.13, 0.06, 0.04)
# Real seconds: one to three minutes on the accelerated clock, so that a task ends within the horizon.
_THINKS = (0.15, 0.45)
# Users who come back to their conversation every now and then, for hours; never for so long that it has ended.
_LONG_SHARE, _RETURNS_AFTER, _RETURNS = 0.03, (1.5, 3.5), (5, 14)
_STREAMED_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message.

    Attributes:
        thinks: Real seconds that the user waits before it.
        text: The message.
        streams: True when the reply is asked for as server-sent events.
    """

    thinks: float
    text: str
    streams: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One conversation.

    Attributes:
        scenario: Name of the agent that it is with.
        conversation: Its id.
        at: Real seconds after the start at which it begins.
        messages: At least two.
    """

    scenario: str
    conversation: str
    at: float
    messages: tuple[Said, ...]


def scripts(scenarios: Sequence[Scenario], seconds: float, *, speed: float, rng: random.Random) -> list[Script]:
    """Every conversation that begins within so many real seconds, the earliest first."""
    found = [
        Script(scenario=one.name, conversation=f"{one.name}-{number}", at=at, messages=tuple(_messages(rng)))
        for one in scenarios
        for number, at in enumerate(arrivals(one.rate, min(seconds, one.until or seconds), speed=speed, rng=rng))
    ]
    return sorted(found, key=lambda script: script.at)


def _messages(rng: random.Random) -> Iterator[Said]:
    turns = rng.choices(_TURNS, _TURN_SHARES)[0]
    for turn in range(1, turns + 1):
        text = CLOSING if turn == turns else rng.choice(_QUESTIONS)
        yield Said(thinks=0.0 if turn == 1 else rng.uniform(*_THINKS), text=text, streams=_streams(rng))
    if rng.random() < _LONG_SHARE:
        for _ in range(rng.randint(*_RETURNS)):
            yield Said(thinks=rng.uniform(*_RETURNS_AFTER), text=_MORE, streams=_streams(rng))


def _streams(rng: random.Random) -> bool:
    return rng.random() < _STREAMED_SHARE
