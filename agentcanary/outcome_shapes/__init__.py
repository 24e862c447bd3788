"""JSON as others send it → outcomes. Pure.

One function a sender: ours (and CloudEvents around any of them), observability platforms, judges, moderation and
guardrails, thumbs of chat front ends. ``SHAPES`` holds them by name; ``outcomes_in`` reads with one of them.
"""

from __future__ import annotations

from agentcanary.outcome_shapes.envelope import BINARY_PREFIX, unwrapped
from agentcanary.outcome_shapes.reading import Reader, Refused, Reported, ShapeError
from agentcanary.outcome_shapes.shapes import SHAPES, outcomes_in

__all__ = [
    "BINARY_PREFIX",
    "SHAPES",
    "Reader",
    "Refused",
    "Reported",
    "ShapeError",
    "outcomes_in",
    "unwrapped",
]
