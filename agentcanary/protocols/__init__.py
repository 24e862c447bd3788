"""What protocols say inside of a response whose status is 200: errors, first words, tokens, cost, made ids. Pure."""

from agentcanary.protocols.facts import NOTHING, Facts, Protocol
from agentcanary.protocols.known import PROTOCOLS
from agentcanary.protocols.reading import MAX_KEPT, BodyReader, EventReader, FrameReader, Noticed
from agentcanary.protocols.rules import ErrorRule, protocol_of

__all__ = [
    "MAX_KEPT",
    "NOTHING",
    "PROTOCOLS",
    "BodyReader",
    "ErrorRule",
    "EventReader",
    "Facts",
    "FrameReader",
    "Noticed",
    "Protocol",
    "protocol_of",
]
