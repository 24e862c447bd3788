"""Outcomes in the shapes of others, each as its sender documents it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents.guardrail import GuardrailFunctionOutput
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.moderation import Moderation
from openai.types.moderation_create_response import ModerationCreateResponse

from agentcanary.outcome_shapes import SHAPES, Reported, ShapeError, outcomes_in
from agentcanary.outcomes import Judge

MODERATION: dict[str, Any] = {
    "id": "modr-970d",
    "model": "omni-moderation-latest",
    "conversation_id": "c-1",
    "results": [
        {
            "flagged": True,
            "categories": {"harassment": True, "violence": True, "hate": False},
            "category_scores": {"harassment": 0.61, "violence": 0.93, "hate": 0.99},
            "category_applied_input_types": {},
        }
    ],
}

# Each with the fields that its sender's documentation names; the sources are cited in the readers' modules.
SENT: dict[str, tuple[str, dict[str, Any], list[Reported]]] = {
    "langfuse, a judge's number": (
        "langfuse",
        {
            "id": "score-1",
            "traceId": "trace-1",
            "observationId": None,
            "sessionId": "c-1",
            "name": "correctness",
            "value": 0.9,
            "dataType": "NUMERIC",
            "source": "EVAL",
            "comment": "Factually right",
            "metadata": {},
            "timestamp": "2026-01-01T00:00:00Z",
        },
        [Reported("c-1", "correctness", 0.9, "langfuse:score-1", None, Judge.LLM, "Factually right", "trace-1")],
    ),
    "langfuse, a person's category": (
        "langfuse",
        {
            "id": "score-2",
            "traceId": "trace-1",
            "name": "tone",
            "value": None,
            "stringValue": "rude",
            "dataType": "CATEGORICAL",
            "source": "ANNOTATION",
            "metadata": {"session_id": "c-1"},
        },
        [Reported("c-1", "tone", None, "langfuse:score-2", "rude", Judge.HUMAN, None, "trace-1")],
    ),
    "phoenix, what is sent to span_annotations": (
        "phoenix",
        {
            "data": [
                {
                    "span_id": "67f6740bbe1ddc3f",
                    "name": "correctness",
                    "annotator_kind": "HUMAN",
                    "result": {"label": "correct", "score": 0.85, "explanation": "It answered the question"},
                    "metadata": {"conversation_id": "c-1"},
                    "identifier": "user-123",
                }
            ]
        },
        [
            Reported(
                "c-1",
                "correctness",
                0.85,
                "phoenix:67f6740bbe1ddc3f:correctness:user-123",
                "correct",
                Judge.HUMAN,
                "It answered the question",
                "67f6740bbe1ddc3f",
            )
        ],
    ),
    "braintrust, a log event with a scorer that skipped": (
        "braintrust",
        {
            "id": "event-1",
            "root_span_id": "span-1",
            "scores": {"Factuality": 0.6, "Safe": None},
            "metadata": {"thread_id": "c-1"},
        },
        [
            Reported("c-1", "Factuality", 0.6, "braintrust:event-1:Factuality", turn_id="span-1"),
            Reported("c-1", "Safe", None, "braintrust:event-1:Safe", "skipped", turn_id="span-1"),
        ],
    ),
    "langsmith, whose session is a project": (
        "langsmith",
        {
            "id": "3f2a",
            "session_id": "a-project",
            "run_id": "run-1",
            "key": "user_score",
            "score": True,
            "value": None,
            "comment": "thanks",
            "feedback_source": {"type": "app", "metadata": {"thread_id": "c-1"}},
        },
        [Reported("c-1", "user_score", 1.0, "langsmith:3f2a", None, Judge.HUMAN, "thanks", "run-1")],
    ),
    "mlflow, a judge's yes": (
        "mlflow",
        {
            "assessment_id": "a-1",
            "assessment_name": "relevance_to_query",
            "trace_id": "tr-1",
            "source": {"source_type": "LLM_JUDGE", "source_id": "databricks"},
            "feedback": {"value": "yes"},
            "rationale": "It speaks of the question",
            "metadata": {"mlflow.trace.session": "c-1"},
        },
        [
            Reported(
                "c-1",
                "relevance_to_query",
                1.0,
                "mlflow:a-1",
                "yes",
                Judge.LLM,
                "It speaks of the question",
                "tr-1",
            )
        ],
    ),
    "mlflow, a judge that failed": (
        "mlflow",
        {
            "assessment_id": "a-2",
            "name": "relevance_to_query",
            "conversation_id": "c-1",
            "source": {"source_type": "LLM_JUDGE"},
            "feedback": {"value": 1, "error": {"error_code": "RATE_LIMIT"}},
        },
        [Reported("c-1", "relevance_to_query", None, "mlflow:a-2", "failed to judge", Judge.LLM)],
    ),
    "deepeval, one metric measured and one not": (
        "deepeval",
        {
            "name": "test_case_0",
            "success": False,
            "additional_metadata": {"conversation_id": "c-1"},
            "metrics_data": [
                {
                    "name": "Answer Relevancy",
                    "threshold": 0.7,
                    "success": False,
                    "score": 0.4,
                    "reason": "It wandered",
                    "evaluation_model": "gpt-4.1",
                    "error": None,
                },
                {"name": "Bias", "success": False, "score": None, "error": "timeout"},
            ],
        },
        [
            Reported(
                "c-1",
                "Answer Relevancy",
                0.4,
                "deepeval:test_case_0:c-1:Answer Relevancy",
                "failed",
                Judge.LLM,
                "It wandered",
            ),
            Reported("c-1", "Bias", None, "deepeval:test_case_0:c-1:Bias", "failed to judge", Judge.CODE, "timeout"),
        ],
    ),
    "openai moderation": (
        "openai-moderation",
        MODERATION,
        [
            Reported(
                "c-1",
                "safety_violation",
                1.0,
                "openai-moderation:modr-970d:0",
                "violence",
                Judge.LLM,
                confirmed=False,
            )
        ],
    ),
    "a guardrail": (
        "guardrail",
        {
            "conversation_id": "c-1",
            "guardrail": {"name": "no_medical_advice"},
            "output": {"tripwire_triggered": True, "output_info": "asked for a dose"},
        },
        [
            Reported(
                "c-1",
                "safety_violation",
                1.0,
                None,
                "no_medical_advice",
                Judge.CODE,
                "asked for a dose",
                confirmed=False,
            )
        ],
    ),
    "chatkit thumbs": (
        "chatkit",
        {
            "type": "items.feedback",
            "params": {"thread_id": "thr_1", "item_ids": ["msg_1", "msg_2"], "kind": "positive"},
        },
        [
            Reported("thr_1", "user_feedback", 1.0, f"chatkit:thr_1:{item}", None, Judge.HUMAN, None, item)
            for item in ("msg_1", "msg_2")
        ],
    ),
    "chainlit thumbs": (
        "chainlit",
        {"forId": "step-1", "id": "f-1", "threadId": "c-1", "value": 0, "comment": "wrong"},
        [Reported("c-1", "user_feedback", 0.0, "chainlit:f-1", None, Judge.HUMAN, "wrong", "step-1")],
    ),
}


@pytest.mark.parametrize(("shape", "sent", "expected"), SENT.values(), ids=SENT)
def test_what_a_sender_documents_is_read(shape: str, sent: dict[str, Any], expected: list[Reported]) -> None:
    found, refused = outcomes_in(json.loads(json.dumps(sent)), shape=shape)
    assert refused == []
    assert [outcome for _, outcome in found] == expected


def test_every_shape_has_a_case() -> None:
    assert {shape for shape, _, _ in SENT.values()} == set(SHAPES) - {"agentcanary"}


def test_the_moderation_case_is_what_the_openai_client_knows() -> None:
    assert set(MODERATION) - {"conversation_id"} == set(ModerationCreateResponse.model_fields)
    assert set(MODERATION["results"][0]) == set(Moderation.model_fields)


def test_a_guardrail_of_the_agents_sdk_is_read_as_it_is() -> None:
    output = GuardrailFunctionOutput(output_info={"why": "x"}, tripwire_triggered=False)
    sent = {"conversation_id": "c-1", **vars(output)}
    ((_, outcome),), _ = outcomes_in(sent, shape="guardrail")
    assert (outcome.value, outcome.label) == (0.0, None)


@pytest.mark.parametrize("shape", sorted(set(SHAPES) - {"agentcanary"}))
def test_a_record_that_names_no_conversation_says_where_it_was_looked_for(shape: str) -> None:
    sent = next(sent for of, sent, _ in SENT.values() if of == shape)
    without = _without(sent, {"conversation_id", "session_id", "sessionId", "thread_id", "threadId"})
    without = _without(without, {"mlflow.trace.session"})
    found, refused = outcomes_in(without, shape=shape)
    assert found == []
    assert "names no conversation" in refused[0].reason or "thread_id is missing" in refused[0].reason


@pytest.mark.parametrize(
    ("shape", "sent", "said"),
    [
        ("langfuse", {"sessionId": "c", "name": "x", "source": "MAGIC"}, "source must be annotation, api, eval"),
        ("phoenix", {"session_id": "c", "name": "x", "result": None}, "result must be an object, got None"),
        ("braintrust", {"conversation_id": "c"}, "scores is missing"),
        ("langsmith", {"conversation_id": "c", "key": "k", "score": "high"}, "score must be a finite number"),
        ("mlflow", {"conversation_id": "c", "name": "x", "expectation": {"value": 1}}, "an MLflow expectation"),
        ("deepeval", {"conversation_id": "c", "metrics_data": None}, "metrics_data is missing"),
        ("openai-moderation", {"conversation_id": "c", "results": [{"flagged": "yes"}]}, "flagged must be true"),
        ("guardrail", {"conversation_id": "c", "output": {}}, "tripwire_triggered must be"),
        ("chatkit", {"type": "threads.create"}, "type must be 'items.feedback', got 'threads.create'"),
        ("chainlit", {"forId": "s", "threadId": "c", "value": True}, "value must be 0 or 1, got True"),
    ],
)
def test_what_is_none_is_refused_with_the_reason(shape: str, sent: dict[str, Any], said: str) -> None:
    found, refused = outcomes_in(sent, shape=shape)
    assert found == []
    assert said in refused[0].reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(SENT)), st.data())
def test_whatever_is_sent_is_read_or_refused(case: str, data: st.DataObject) -> None:
    shape, sent, _ = SENT[case]
    mutated = json.loads(json.dumps(sent))
    place = mutated
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [value for value in place.values() if isinstance(value, dict) and value]
        if inner:
            place = data.draw(st.sampled_from(inner))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(json_values)
    try:
        found, refused = outcomes_in(mutated, shape=shape)
    except ShapeError:
        return
    assert found or refused
    for _, outcome in found:
        assert outcome.conversation_id.isprintable()
        assert outcome.value is None or abs(outcome.value) < float("inf")


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}
    return [_without(inner, keys) for inner in value] if isinstance(value, list) else value
