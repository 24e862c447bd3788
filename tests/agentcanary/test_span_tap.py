"""The span tap, fed by the real SDK: evaluations and tool errors become outcomes, and nothing is counted twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode, Tracer

from agentcanary import Canary, Outcome
from agentcanary.config import parse_config
from agentcanary.outcome_shapes import Reported
from agentcanary.outcomes import Judge
from agentcanary.span_tap import SpanTap

YAML = "agent: support\nstable: v1\ncontroller: false\n"


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def canary(tmp_path: Path, provider: TracerProvider) -> Iterator[Canary]:
    made = Canary(parse_config(YAML, filename=str(tmp_path / "canary.yaml")), notifiers=[], tracer_provider=provider)
    provider.add_span_processor(SpanTap(made))
    yield made
    made.stop_blocking()


@pytest.fixture
def tracer(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("somebody else's instrumentation")


def outcomes(canary: Canary, conversation: str) -> list[Outcome]:
    assert canary.recorder.flush_and_wait(5.0)
    known = canary.store.conversation("support", conversation)
    return [] if known is None else list(known.outcomes)


def test_an_evaluation_event_is_an_outcome(canary: Canary, tracer: Tracer) -> None:
    with tracer.start_as_current_span("chat", attributes={"gen_ai.conversation.id": "c-1"}) as span:
        span.add_event(
            "gen_ai.evaluation.result",
            {
                "gen_ai.evaluation.name": "Relevance",
                "gen_ai.evaluation.score.value": 0.4,
                "gen_ai.evaluation.score.label": "not_relevant",
                "gen_ai.evaluation.explanation": "It wandered",
            },
        )
        span.add_event("something else", {"gen_ai.evaluation.name": "no"})
    (outcome,) = outcomes(canary, "c-1")
    assert (outcome.name, outcome.value, outcome.label) == ("Relevance", 0.4, "not_relevant")
    assert (outcome.kind, outcome.explanation) == (Judge.LLM, "It wandered")
    context = span.get_span_context()
    assert outcome.id == f"span:{context.trace_id:032x}:{context.span_id:016x}:0"


def test_a_score_that_is_a_word_only_is_missing_and_no_zero(canary: Canary, tracer: Tracer) -> None:
    with tracer.start_as_current_span("chat", attributes={"gen_ai.conversation.id": "c-1"}) as span:
        told = {"gen_ai.evaluation.name": "Tone", "gen_ai.evaluation.score.label": "fine"}
        span.add_event("gen_ai.evaluation.result", told)
    assert [(found.value, found.label) for found in outcomes(canary, "c-1")] == [(None, "fine")]


def test_tools_are_counted_whether_they_failed_or_not(canary: Canary, tracer: Tracer) -> None:
    about = {"gen_ai.operation.name": "execute_tool", "gen_ai.conversation.id": "c-1"}
    with tracer.start_as_current_span("execute_tool search", attributes={**about, "gen_ai.tool.name": "search"}):
        pass
    failing = {**about, "gen_ai.tool.name": "refund", "error.type": "TimeoutError"}
    with tracer.start_as_current_span("execute_tool refund", attributes=failing) as span:
        span.set_status(Status(StatusCode.ERROR))
    found = {found.label: (found.value, found.explanation) for found in outcomes(canary, "c-1")}
    assert found == {"search": (0.0, None), "refund": (1.0, "TimeoutError")}


def test_the_running_turn_says_which_conversation_it_is(canary: Canary, tracer: Tracer) -> None:
    with canary.conversation("c-2"), tracer.start_as_current_span("judge") as span:
        span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "Relevance"})
    assert len(outcomes(canary, "c-2")) == 1


def test_a_span_that_ends_on_another_thread_belongs_to_the_turn_of_its_trace(canary: Canary, tracer: Tracer) -> None:
    with canary.conversation("c-3"):
        span = tracer.start_span("judge")
    span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "Relevance"})
    thread = threading.Thread(target=span.end)
    thread.start()
    thread.join()
    assert len(outcomes(canary, "c-3")) == 1


def test_what_was_recorded_directly_is_not_counted_again(canary: Canary) -> None:
    with canary.conversation("c-4"):
        canary.record("c-4", "satisfaction", 4, id="rating")
    assert [found.id for found in outcomes(canary, "c-4")] == ["rating"]


def test_a_violation_that_only_a_span_tells_of_is_not_confirmed(canary: Canary, tracer: Tracer) -> None:
    with tracer.start_as_current_span("judge", attributes={"gen_ai.conversation.id": "c-5"}) as span:
        span.add_event(
            "gen_ai.evaluation.result",
            {"gen_ai.evaluation.name": "safety_violation", "gen_ai.evaluation.score.value": 1.0},
        )
    assert [found.confirmed for found in outcomes(canary, "c-5")] == [False]


def test_a_span_of_nobodys_conversation_is_left_alone(canary: Canary, tracer: Tracer) -> None:
    with tracer.start_as_current_span("judge") as span:
        span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "Relevance"})
    assert canary.recorder.counters["queue"] == 0
    assert canary.degraded.totals == {}


def test_whatever_goes_wrong_the_span_ends(provider: TracerProvider) -> None:
    class Broken:
        agent = "support"

        def __init__(self) -> None:
            self.failures: list[str] = []

        def take(self, reported: Reported, *, shown: bool = True) -> None:
            raise RuntimeError("a bug")

        def degraded(self, kind: str, error: BaseException | None = None) -> None:
            self.failures.append(kind)

    broken = Broken()
    provider.add_span_processor(SpanTap(broken))
    with provider.get_tracer("x").start_as_current_span("judge", attributes={"gen_ai.conversation.id": "c"}) as span:
        span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "Relevance"})
    assert broken.failures == ["span_tap"]
