"""A span of any tracer as one value, and the attributes that are read of it. Pure, standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

# https://opentelemetry.io/docs/specs/semconv/gen-ai/ and the names of OpenInference, OpenLLMetry and Langfuse.
CONVERSATION_IDS = (
    "gen_ai.conversation.id",
    "session.id",
    "langfuse.session.id",
    "traceloop.association.properties.session_id",
    "traceloop.association.properties.conversation_id",
)
USER_IDS = ("user.id", "enduser.id", "langfuse.user.id", "traceloop.association.properties.user_id")
VERSIONS = ("gen_ai.agent.version", "langfuse.version", "service.version")
TURN = "agentcanary.turn"
OUTCOME = "agentcanary.outcome"
EPOCH = "agentcanary.epoch"
WEIGHT = "agentcanary.weight"
ROLLOUT = "agentcanary.rollout"
EXCLUDED = "agentcanary.excluded"
AGENT = "gen_ai.agent.name"
ERROR_TYPE = "error.type"
EVALUATION_EVENT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_VALUE = "gen_ai.evaluation.score.value"


class Evaluation(NamedTuple):
    """What somebody or something said of a conversation or a turn.

    Attributes:
        name: Of the outcome.
        value: The number, or None where only a label was given.
        at: Unix time in seconds, or None.
        conversation: The conversation it names, or None for that of its span.
    """

    name: str
    value: float | None
    at: float | None
    conversation: str | None


class Span(NamedTuple):
    """One span.

    Attributes:
        trace: Id of its trace.
        id: Its id.
        parent: Id of its parent, empty for none.
        name: Its name.
        start: Unix time in seconds.
        end: Unix time in seconds; infinite where it never ended.
        duration: Seconds, to the nanosecond, which the difference of two such times is not.
        error: Its status is an error.
        attributes: Its own and, where it has none of that name, those of its resource.
        evaluations: Its evaluation events.
    """

    trace: str
    id: str
    parent: str
    name: str
    start: float
    end: float
    duration: float
    error: bool
    attributes: Mapping[str, Any]
    evaluations: tuple[Evaluation, ...] = ()

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of these attributes that is there and not empty, as text."""
        for name in names:
            value = self.attributes.get(name)
            if value is not None and value != "":
                return str(value)
        return None


def number_or_none(value: object) -> float | None:
    """A finite number, also from text and from yes and no; None for everything else.

    >>> number_or_none("0.5"), number_or_none(True), number_or_none("good"), number_or_none(float("nan"))
    (0.5, 1.0, None, None)
    """
    if not isinstance(value, (str, int, float)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def evaluation(attributes: Mapping[str, Any], at: float | None) -> Evaluation | None:
    """The evaluation that an event's attributes describe, or None if they name none.

    >>> evaluation({"gen_ai.evaluation.name": "satisfaction", "gen_ai.evaluation.score.value": 4}, 10.0).value
    4.0
    """
    name = attributes.get(EVALUATION_NAME)
    if not name:
        return None
    conversation = attributes.get(CONVERSATION_IDS[0])
    value = number_or_none(attributes.get(EVALUATION_VALUE))
    return Evaluation(str(name), value, at, None if conversation is None else str(conversation))
