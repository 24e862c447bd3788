"""Spans and metrics: with the SDK's exporters in memory, under FastAPI's own tracing, and without any tracing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    feature_flag_attributes,
    gen_ai_attributes,
)
from opentelemetry.trace import SpanKind, StatusCode

from agentcanary import telemetry as names
from agentcanary.assignment import Reason, RolloutView, bucket, on_stable
from agentcanary.degraded import Degraded
from agentcanary.middleware import CanaryMiddleware
from agentcanary.outcomes import Outcome
from agentcanary.telemetry import Telemetry

if TYPE_CHECKING:
    from tests.agentcanary.conftest import Exchange, FakeHost, Receive, Send

MakeScope = Callable[..., dict[str, Any]]
MakeExchange = Callable[..., "Exchange"]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    yield exporter
    exporter.shutdown()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(spans))
    yield made
    made.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def meters(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    made = MeterProvider([reader], shutdown_on_exit=False)
    yield made
    made.shutdown()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def points(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """The data points of each metric by its name."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def answers(_: Any, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


async def fails(_: Any, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})


def call(host: FakeHost, scope: dict[str, Any], talk: Exchange, app: Any = answers) -> None:
    asyncio.run(CanaryMiddleware(app, canary=host)(scope, talk.receive, talk.send))


def test_the_names_are_those_of_the_semantic_conventions() -> None:
    assert names.CONVERSATION_ID == gen_ai_attributes.GEN_AI_CONVERSATION_ID
    assert names.AGENT_NAME == gen_ai_attributes.GEN_AI_AGENT_NAME
    # Newer than the package's constants: gen-ai conventions, "agent spans".
    assert names.AGENT_VERSION == "gen_ai.agent.version"
    assert names.FLAG_KEY == feature_flag_attributes.FEATURE_FLAG_KEY
    assert names.FLAG_VARIANT == feature_flag_attributes.FEATURE_FLAG_RESULT_VARIANT
    assert names.FLAG_REASON == feature_flag_attributes.FEATURE_FLAG_RESULT_REASON
    assert names.FLAG_PROVIDER == feature_flag_attributes.FEATURE_FLAG_PROVIDER_NAME
    assert names.FLAG_VERSION == feature_flag_attributes.FEATURE_FLAG_VERSION
    assert names.ERROR_TYPE == error_attributes.ERROR_TYPE
    allowed = {value.value for value in feature_flag_attributes.FeatureFlagResultReasonValues}
    assert set(names.FLAG_REASONS) == set(Reason)
    assert set(names.FLAG_REASONS.values()) <= allowed


class TestSpans:
    def test_a_turn_is_one_span_with_all_that_is_known_of_it(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", tracer_provider=provider)
        call(host, scope("c-1"), exchange())
        (span,) = spans.get_finished_spans()
        (ended,) = host.ended
        share = bucket(host.shown.salt, "c-1").assignment
        arm = "canary" if share < 0.5 else "stable"
        assert (span.name, span.kind, span.parent) == ("agentcanary.turn", SpanKind.INTERNAL, None)
        assert attributes(span) == {
            "gen_ai.conversation.id": "c-1",
            "gen_ai.agent.name": "support",
            "gen_ai.agent.version": "support-v2" if arm == "canary" else "support-v1",
            "feature_flag.key": "support",
            "feature_flag.result.variant": arm,
            "feature_flag.result.reason": "split",
            "feature_flag.provider.name": "agentcanary",
            "feature_flag.version": "3",
            "agentcanary.rollout": "r-1",
            "agentcanary.epoch": 0,
            "agentcanary.stage": "initial",
            "agentcanary.weight": 0.5,
            "agentcanary.bucket": share,
            "agentcanary.turn": ended.turn_id,
            "agentcanary.outcome": "ok",
            "agentcanary.time_to_first_byte": ended.time_to_first_byte,
        }
        (event,) = span.events
        assert event.name == "feature_flag.evaluation"
        assert dict(event.attributes or {})["feature_flag.result.variant"] == arm
        assert span.status.status_code is StatusCode.UNSET

    def test_the_evaluation_is_an_event_of_the_first_turn_only(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", tracer_provider=provider)
        for _ in range(3):
            for unit in ("c-1", "c-2", "c-3", "c-4"):
                call(host, scope(unit), exchange())
        assert [len(span.events) for span in spans.get_finished_spans()] == [1] * 4 + [0] * 8

    def test_an_error_has_its_type_and_status(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", tracer_provider=provider)
        call(host, scope("c-1"), exchange(), fails)
        (span,) = spans.get_finished_spans()
        assert attributes(span)["error.type"] == "503"
        assert attributes(span)["agentcanary.outcome"] == "error"
        assert span.status.status_code is StatusCode.ERROR

    def test_what_is_in_no_statistic_says_why(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", tracer_provider=provider)
        call(host, scope(None), exchange())
        host.fresh = False
        call(host, scope("c-1"), exchange())
        without, stale = map(attributes, spans.get_finished_spans())
        assert without["agentcanary.excluded"] == "no_conversation_id"
        assert "gen_ai.conversation.id" not in without
        assert (stale["agentcanary.excluded"], stale["feature_flag.result.reason"]) == ("stale_snapshot", "stale")

    def test_the_agents_own_spans_are_its_children_and_nothing_stays_attached(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        async def app(asgi: Any, receive: Receive, send: Send) -> None:
            with provider.get_tracer("agent").start_as_current_span("invoke_agent"):
                await answers(asgi, receive, send)

        host.telemetry = Telemetry("support", tracer_provider=provider)
        call(host, scope("c-1"), exchange(), app)
        # The turn ends with the last chunk, before the agent's span does.
        turn, inner = spans.get_finished_spans()
        assert (turn.name, inner.name) == ("agentcanary.turn", "invoke_agent")
        assert inner.parent is not None
        assert turn.context is not None
        assert inner.parent.span_id == turn.context.span_id
        assert trace.get_current_span() is trace.INVALID_SPAN

    def test_a_stream_is_one_span_however_many_chunks_it_has(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        async def streams(_: Any, __: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _number in range(50):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        host.telemetry = Telemetry("support", tracer_provider=provider)
        call(host, scope("c-1"), exchange(), streams)
        assert len(spans.get_finished_spans()) == 1

    def test_a_trace_that_is_not_sampled_stays_so_below(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange, spans: InMemorySpanExporter
    ) -> None:
        off = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
        off.add_span_processor(SimpleSpanProcessor(spans))
        seen: list[trace.Span] = []

        async def app(asgi: Any, receive: Receive, send: Send) -> None:
            seen.append(trace.get_current_span())
            await answers(asgi, receive, send)

        host.telemetry = Telemetry("support", tracer_provider=off)
        call(host, scope("c-1"), exchange(), app)
        assert spans.get_finished_spans() == ()
        assert seen[0].get_span_context().is_valid
        assert not seen[0].get_span_context().trace_flags.sampled

    def test_ids_are_shown_hashed_where_that_is_asked_for(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", tracer_provider=provider, shown_id=lambda unit: f"hash of {len(unit)}")
        call(host, scope("c-secret"), exchange())
        (span,) = spans.get_finished_spans()
        assert attributes(span)["gen_ai.conversation.id"] == "hash of 8"
        assert "c-secret" not in span.to_json()

    def test_annotate_puts_the_same_on_the_current_span_and_makes_none(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", span="annotate", tracer_provider=provider)
        with provider.get_tracer("server").start_as_current_span("GET /chat"):
            call(host, scope("c-1"), exchange(), fails)
        (span,) = spans.get_finished_spans()
        assert span.name == "GET /chat"
        assert attributes(span)["agentcanary.outcome"] == "error"
        assert attributes(span)["gen_ai.conversation.id"] == "c-1"
        assert span.status.status_code is StatusCode.UNSET, "the status is the server's to set"

    def test_off_makes_no_span(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", span="off", tracer_provider=provider)
        call(host, scope("c-1"), exchange())
        assert spans.get_finished_spans() == ()

    def test_another_mode_is_refused(self) -> None:
        with pytest.raises(ValueError, match="'spans'"):
            Telemetry("support", span="spans")

    def test_a_broken_span_processor_breaks_no_request(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        class Broken(SimpleSpanProcessor):
            def on_start(self, *_: Any, **__: Any) -> None:
                raise RuntimeError("a bug of a vendor")

        made = TracerProvider(shutdown_on_exit=False)
        made.add_span_processor(Broken(InMemorySpanExporter()))
        host.telemetry = Telemetry("support", tracer_provider=made)
        talk = exchange()
        call(host, scope("c-1"), talk)
        assert talk.body == b"x"
        assert host.kinds == ["telemetry"]

    def test_a_new_view_of_the_rollout_shows_in_the_next_span(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        provider: TracerProvider,
        spans: InMemorySpanExporter,
    ) -> None:
        host.telemetry = Telemetry("support", tracer_provider=provider)
        for view in (host.shown, replace(host.shown, revision=4, weight=1.0, max_weight=1.0)):
            host.shown = view
            call(host, scope("c-1"), exchange())
        first, second = map(attributes, spans.get_finished_spans())
        assert (first["feature_flag.version"], second["feature_flag.version"]) == ("3", "4")
        assert (first["agentcanary.weight"], second["agentcanary.weight"]) == (0.5, 1.0)

    def test_a_provider_that_is_configured_later_is_noticed(
        self, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = Telemetry("support")
        turn = on_stable(RolloutView(agent="support", stable="v1", canary="v2"), "c-1", Reason.NO_ROLLOUT)
        assert made.look(0.0) is False
        assert made.begin(turn) is None
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
        assert made.look_at == 1.0
        assert made.look(1.0) is True
        span = made.begin(turn)
        assert span is not None
        assert span.is_recording()


class TestUnderFastApi:
    def test_the_turn_is_a_child_of_the_server_span_and_not_a_second_one(
        self, host: FakeHost, provider: TracerProvider, spans: InMemorySpanExporter
    ) -> None:
        app = FastAPI(telemetry={"tracer_provider": provider, "metrics": False, "logs": False})
        host.telemetry = Telemetry("support", tracer_provider=provider)
        app.add_middleware(CanaryMiddleware, canary=host)

        @app.get("/chat")
        async def chat() -> StreamingResponse:
            return StreamingResponse(iter(["a", "b"]))

        with TestClient(app) as client:
            assert client.get("/chat", headers={"x-conversation-id": "c-1"}).text == "ab"
        by_name = {span.name: span for span in spans.get_finished_spans()}
        server, turn = by_name["GET /chat"], by_name["agentcanary.turn"]
        assert [span.kind for span in by_name.values()].count(SpanKind.SERVER) == 1
        assert turn.parent is not None
        assert server.context is not None
        assert turn.parent.span_id == server.context.span_id
        assert attributes(server)["http.route"] == "/chat"


class TestMetrics:
    def test_turns_are_measured_by_variant_and_never_by_conversation(
        self,
        host: FakeHost,
        scope: MakeScope,
        exchange: MakeExchange,
        meters: MeterProvider,
        reader: InMemoryMetricReader,
    ) -> None:
        host.telemetry = Telemetry("support", span="off", meter_provider=meters)
        units = [f"c-{number}" for number in range(20)]
        for _ in range(2):
            for unit in units:
                call(host, scope(unit), exchange())
        call(host, scope("c-1"), exchange(), fails)
        measured = points(reader)
        durations = measured["agentcanary.turn.duration"]
        assert sum(point.count for point in durations) == 41
        assert {point.explicit_bounds for point in durations} == {tuple(0.1 * 2**k for k in range(13))}
        assert sorted(dict(point.attributes)["feature_flag.result.variant"] for point in durations)[0] == "canary"
        assert {dict(point.attributes).get("error.type") for point in durations} == {None, "503"}
        assert sum(point.value for point in measured["agentcanary.assignments"]) == 20
        for metric in measured.values():
            for point in metric:
                assert not any(str(value).startswith("c-") for value in dict(point.attributes).values())

    def test_the_other_instruments_count_and_observe(self, meters: MeterProvider, reader: InMemoryMetricReader) -> None:
        made = Telemetry("support", meter_provider=meters)
        made.observe(weight=lambda: 0.15, queue=lambda: 7)
        made.verdict("hold")
        Degraded("support", count=made.degraded)("pin_lookup")
        outcome = Outcome(id="o", agent="support", conversation_id="c-1", name="satisfaction", value=4.0, at=0.0)
        made.outcome(outcome, variant="canary")
        measured = points(reader)
        assert measured["agentcanary.weight"][0].value == 0.15
        assert measured["agentcanary.recorder.queue"][0].value == 7
        assert dict(measured["agentcanary.verdicts"][0].attributes)["agentcanary.verdict"] == "hold"
        assert dict(measured["agentcanary.degraded"][0].attributes)["agentcanary.kind"] == "pin_lookup"
        assert dict(measured["agentcanary.outcomes"][0].attributes) == {
            "gen_ai.agent.name": "support",
            "gen_ai.evaluation.name": "satisfaction",
            "feature_flag.result.variant": "canary",
        }

    def test_an_outcome_is_an_event_of_the_current_span(
        self, provider: TracerProvider, spans: InMemorySpanExporter
    ) -> None:
        made = Telemetry("support", tracer_provider=provider)
        outcome = Outcome(
            id="o", agent="support", conversation_id="c-1", name="safety_violation", value=1.0, at=0.0, label="pii"
        )
        with provider.get_tracer("agent").start_as_current_span("turn"):
            made.outcome(outcome)
        (span,) = spans.get_finished_spans()
        (event,) = span.events
        assert event.name == "gen_ai.evaluation.result"
        assert dict(event.attributes or {}) == {
            "gen_ai.evaluation.name": "safety_violation",
            "gen_ai.evaluation.score.value": 1.0,
            "gen_ai.evaluation.score.label": "pii",
            "gen_ai.conversation.id": "c-1",
            "agentcanary.outcome_id": "o",
        }


class TestDegraded:
    def test_failures_are_counted_and_logged_once_a_minute_a_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines: list[dict[str, Any]] = []

        class Log:
            def warning(self, event: str, **details: Any) -> None:
                lines.append({"event": event, **details})

        monkeypatch.setattr("agentcanary.degraded.log", Log())
        now = [0.0]
        noted: list[str] = []
        made = Degraded("support", count=noted.append, monotonic=lambda: now[0])
        for _ in range(100):
            made("pin_lookup", OSError("disk full"))
        made("record")
        now[0] = 60.0
        made("pin_lookup", OSError("disk full"))
        assert made.totals == {"pin_lookup": 101, "record": 1}
        assert len(noted) == 102
        assert [(line["kind"], line["total"], line["error_type"]) for line in lines] == [
            ("pin_lookup", 1, "OSError"),
            ("record", 1, None),
            ("pin_lookup", 101, "OSError"),
        ]

    def test_a_broken_counter_or_log_raises_nothing(self) -> None:
        def broken(_: str) -> None:
            raise RuntimeError

        made = Degraded("support", count=broken)
        made("pin_lookup")
        assert made.totals == {"pin_lookup": 1}


def test_without_any_tracing_nothing_is_made(host: FakeHost, scope: MakeScope, exchange: MakeExchange) -> None:
    host.telemetry = Telemetry("support")
    host.shown = replace(host.shown, weight=0.0, max_weight=0.0)
    call(host, scope("c-1"), exchange())
    assert host.telemetry.on is False
    assert len(host.ended) == 1
