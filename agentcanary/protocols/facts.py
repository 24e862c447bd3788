"""What a response says about its turn. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Facts(NamedTuple):
    """What an event, a body or a frame says.

    Attributes:
        error: A protocol's code for a turn that failed, or None.
        aborted: True when the turn was given up because the client wanted so.
        words: True when it has words of the answer, not only the protocol's own.
        input_tokens: Tokens that the turn read so far, or None.
        output_tokens: Tokens that it wrote so far, or None.
        cost: What it cost so far, in the unit of whoever states it, or None.
    """

    error: str | None = None
    aborted: bool = False
    words: bool = False
    input_tokens: float | None = None
    output_tokens: float | None = None
    cost: float | None = None

    def then(self, later: Facts) -> Facts:
        """Both: the first error stays, the latest counts hold.

        >>> Facts(error="x").then(Facts(error="y", output_tokens=7.0))
        Facts(error='x', aborted=False, words=False, input_tokens=None, output_tokens=7.0, cost=None)
        """
        return Facts(
            self.error or later.error,
            self.aborted or later.aborted,
            self.words or later.words,
            self.input_tokens if later.input_tokens is None else later.input_tokens,
            self.output_tokens if later.output_tokens is None else later.output_tokens,
            self.cost if later.cost is None else later.cost,
        )


NOTHING = Facts()


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How to read the responses of a protocol.

    Attributes:
        name: As in a configuration.
        read: What a JSON document says: a whole body, the data of an event with the event's name, or a frame.
        markers: A document that holds none of these texts says nothing but perhaps words, and is not parsed.
        words: A document that holds none of these has no words of an answer.
    """

    name: str
    read: Callable[[str, object], Facts]
    markers: tuple[str, ...]
    words: tuple[str, ...] = ()


def member(value: object, *keys: str) -> object:
    """What stands under some keys, one in the other; None where one is missing.

    >>> member({"result": {"status": {"state": "failed"}}}, "result", "status", "state")
    'failed'
    """
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def code(*candidates: object, default: str) -> str:
    """The first that can be an error's code: a short text or an integer.

    >>> code(None, "", -32603, default="error")
    '-32603'
    """
    for value in candidates:
        if isinstance(value, str) and value:
            return value[:100]
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return default


def count(value: object) -> float | None:
    """A number of tokens, or a cost; None for anything that is none.

    >>> count(12), count(-1), count("12")
    (12.0, None, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    return None
