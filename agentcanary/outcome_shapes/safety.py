"""Hits of classifiers: OpenAI moderation, guardrail tripwires. Pure.

A classifier suspects; it does not confirm. Its hits are unconfirmed safety violations: an ordinary proportion for a
metric that reads them, and no stop, until a person confirms one.

Source:
    OpenAI: the moderation object (platform.openai.com/docs/api-reference/moderations). OpenAI Agents SDK:
    ``GuardrailFunctionOutput`` (openai.github.io/openai-agents-python/guardrails).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentcanary.outcome_shapes.naming import conversation_of, id_of
from agentcanary.outcome_shapes.reading import MAX_ID, MAX_NAME, Reported, ShapeError, mapping, optional, prose
from agentcanary.outcomes import SAFETY_VIOLATION, Judge


def openai_moderation(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A moderation response: one outcome a result, labelled with its highest category.

    >>> result = {"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}}
    >>> next(openai_moderation({"conversation_id": "c-1", "id": "modr-1", "results": [result]})).label
    'violence'
    """
    results = item.get("results")
    if not isinstance(results, list) or not results:
        raise ShapeError("results is missing; send the moderation response as it came, and conversation_id beside it")
    conversation = conversation_of(item)
    response = optional(item, "id", limit=MAX_ID)
    for place, found in enumerate(results):
        result = mapping(found, f"results[{place}]")
        flagged = result.get("flagged")
        if not isinstance(flagged, bool):
            raise ShapeError(f"results[{place}].flagged must be true or false")
        yield Reported(
            conversation_id=conversation,
            name=SAFETY_VIOLATION,
            value=float(flagged),
            id=id_of("openai-moderation", response, str(place)),
            label=_highest(result) if flagged else None,
            kind=Judge.LLM,
            turn_id=optional(item, "turn_id", limit=MAX_ID),
            confirmed=False,
        )


def guardrail(item: Mapping[str, Any]) -> Iterator[Reported]:
    """What a guardrail found: ``tripwire_triggered``, by itself or under ``output`` beside the guardrail's name."""
    output = mapping(item.get("output", item), "output")
    triggered = output.get("tripwire_triggered")
    if not isinstance(triggered, bool):
        raise ShapeError("tripwire_triggered must be true or false; send the guardrail's output")
    of = item.get("guardrail")
    name = optional(of if isinstance(of, dict) else item, "name", "guardrail_name", limit=MAX_NAME)
    said = output.get("output_info")
    yield Reported(
        conversation_id=conversation_of(item),
        name=SAFETY_VIOLATION,
        value=float(triggered),
        id=id_of("guardrail", optional(item, "id", limit=MAX_ID)),
        label=name if triggered else None,
        kind=Judge.CODE,
        explanation=prose({"said": said}, "said"),
        turn_id=optional(item, "turn_id", limit=MAX_ID),
        confirmed=False,
    )


def _highest(result: Mapping[str, Any]) -> str | None:
    """The flagged category with the highest score."""
    categories, scores = result.get("categories"), result.get("category_scores")
    if not isinstance(categories, dict) or not isinstance(scores, dict):
        return None

    def score(name: str) -> float:
        value = scores.get(name)
        return float(value) if isinstance(value, int | float) else 0.0

    flagged = sorted((name for name, hit in categories.items() if hit is True), key=score)
    return flagged[-1][:MAX_NAME] if flagged and flagged[-1].isprintable() else None
