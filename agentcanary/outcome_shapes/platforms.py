"""Scores of observability platforms: Langfuse, Phoenix, Braintrust, LangSmith, MLflow. Pure.

Source:
    Langfuse: Scores, data model and API (langfuse.com/docs/evaluation). Phoenix: Capture feedback, fields of an
    annotation (arize.com/docs/phoenix). Braintrust: Score and log events (braintrust.dev/docs). LangSmith: Feedback
    data format (docs.langchain.com/langsmith/feedback-data-format). MLflow: ``mlflow.entities.assessment``,
    ``Assessment.to_dictionary`` (mlflow.org/docs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentcanary.outcome_shapes.naming import conversation_of, id_of
from agentcanary.outcome_shapes.reading import (
    MAX_EXPLANATION,
    MAX_ID,
    MAX_NAME,
    Reported,
    ShapeError,
    judge,
    mapping,
    number,
    optional,
    prose,
    text,
)
from agentcanary.outcomes import Judge

_LANGFUSE = {"annotation": Judge.HUMAN, "eval": Judge.LLM, "api": Judge.CODE}
_PHOENIX = {"human": Judge.HUMAN, "llm": Judge.LLM, "code": Judge.CODE}
_LANGSMITH = {
    "app": Judge.HUMAN,
    "api": Judge.CODE,
    "model": Judge.LLM,
    "evaluator": Judge.LLM,
    "auto_eval": Judge.LLM,
}
_MLFLOW = {"human": Judge.HUMAN, "llm_judge": Judge.LLM, "ai_judge": Judge.LLM, "code": Judge.CODE}
_WORDS = {"yes": 1.0, "no": 0.0}


def langfuse(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A Langfuse score: numeric, boolean, or categorical with ``stringValue``.

    >>> next(langfuse({"id": "s", "sessionId": "c-1", "name": "helpful", "value": 0.5, "source": "EVAL"})).kind
    <Judge.LLM: 'LLM'>
    """
    value, label = item.get("value"), optional(item, "stringValue", limit=MAX_EXPLANATION)
    if isinstance(value, str):
        value, label = None, optional(item, "value", limit=MAX_EXPLANATION)
    yield Reported(
        conversation_id=conversation_of(item, "sessionId"),
        name=text(item, "name", limit=MAX_NAME),
        value=number(value, "value"),
        id=id_of("langfuse", optional(item, "id", limit=MAX_ID)),
        label=_short(label),
        kind=judge(item.get("source"), "source", _LANGFUSE, Judge.CODE),
        explanation=prose(item, "comment"),
        turn_id=optional(item, "traceId", limit=MAX_ID),
    )


def phoenix(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A Phoenix annotation of a span, a trace or a session; or the ``data`` of a request that sends many."""
    sent = item.get("data")
    for one in sent if isinstance(sent, list) else [item]:
        yield _annotation(mapping(one, "data"))


def _annotation(item: Mapping[str, Any]) -> Reported:
    result = mapping(item.get("result"), "result")
    about = optional(item, "span_id", "trace_id", "session_id", limit=MAX_ID)
    name, identifier = text(item, "name", limit=MAX_NAME), optional(item, "identifier", limit=MAX_ID)
    # The server's id where there is one; else what Phoenix itself updates by.
    own = id_of("phoenix", optional(item, "id", limit=MAX_ID)) or id_of("phoenix", about, name, identifier)
    return Reported(
        conversation_id=conversation_of(item, "session_id"),
        name=name,
        value=number(result.get("score"), "result.score"),
        id=own,
        label=_short(optional(result, "label", limit=MAX_EXPLANATION)),
        kind=judge(item.get("annotator_kind"), "annotator_kind", _PHOENIX, Judge.HUMAN),
        explanation=prose(result, "explanation"),
        turn_id=about,
    )


def braintrust(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A Braintrust log event with ``scores`` by name, or a single score; null is a scorer that skipped.

    >>> [found.value for found in braintrust({"conversation_id": "c", "id": "1", "scores": {"Factuality": None}})]
    [None]
    """
    conversation = conversation_of(item)
    event = optional(item, "id", limit=MAX_ID)
    scores = item.get("scores")
    if scores is None:
        if "score" not in item:
            raise ShapeError("scores is missing; send a log event with scores, or a score with name and score")
        scores = {text(item, "name", limit=MAX_NAME): item["score"]}
    for name, value in mapping(scores, "scores").items():
        score = number(value, f"scores.{name}"[:80])
        yield Reported(
            conversation_id=conversation,
            name=text({"name": name}, "name", limit=MAX_NAME),
            value=score,
            id=id_of("braintrust", event, name),
            label="skipped" if score is None else None,
            turn_id=optional(item, "root_span_id", "span_id", limit=MAX_ID),
        )


def langsmith(item: Mapping[str, Any]) -> Iterator[Reported]:
    """A LangSmith feedback. Its ``session_id`` is a project, never a conversation."""
    source = item.get("feedback_source")
    kind = source.get("type") if isinstance(source, dict) else None
    value, score = item.get("value"), item.get("score")
    if score is None and isinstance(value, bool | int | float):
        score = value
    label = value if isinstance(value, str) else None
    without_project = {key: found for key, found in item.items() if key != "session_id"}
    yield Reported(
        conversation_id=conversation_of(
            without_project, metadata=("metadata", "extra", "extra.metadata", "feedback_source.metadata")
        ),
        name=text(item, "key", limit=MAX_NAME),
        value=number(score, "score"),
        id=id_of("langsmith", optional(item, "id", limit=MAX_ID)),
        label=_short(label),
        kind=judge(kind, "feedback_source.type", _LANGSMITH, Judge.CODE),
        explanation=prose(item, "comment"),
        turn_id=optional(item, "run_id", "trace_id", limit=MAX_ID),
    )


def mlflow(item: Mapping[str, Any]) -> Iterator[Reported]:
    """An MLflow feedback; a judge that failed (``error``) gave none."""
    if item.get("expectation") is not None:
        raise ShapeError("an MLflow expectation says what is right, not how it went; send feedback")
    feedback = item.get("feedback")
    stated = mapping(feedback, "feedback").get("value") if feedback is not None else item.get("value")
    failed = item.get("error") or (isinstance(feedback, dict) and feedback.get("error"))
    value: object = None if failed else stated
    label: str | None = "failed to judge" if failed else None
    if isinstance(value, str):
        # The words of MLflow's own judges; any other word is a category.
        label = value
        value = _WORDS.get(value.lower())
    source = item.get("source")
    kind = source.get("source_type") if isinstance(source, dict) else None
    yield Reported(
        conversation_id=conversation_of(item),
        name=text(item, "assessment_name", "name", limit=MAX_NAME),
        value=number(value, "feedback.value"),
        id=id_of("mlflow", optional(item, "assessment_id", limit=MAX_ID)),
        label=_short(label),
        kind=judge(kind, "source.source_type", _MLFLOW, Judge.CODE),
        explanation=prose(item, "rationale"),
        turn_id=optional(item, "trace_id", limit=MAX_ID),
    )


def _short(label: str | None) -> str | None:
    return None if label is None else label.strip()[:MAX_NAME] or None
