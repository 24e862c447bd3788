"""What responses say, through the middleware: errors within a 200, made ids, repeated turns, measured outcomes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentcanary.aliases import AliasKeeper
from agentcanary.conversation import finder
from agentcanary.middleware import CanaryMiddleware
from agentcanary.outcomes import Outcome, TurnOutcome
from agentcanary.protocols import ErrorRule, protocol_of
from agentcanary.telemetry import Telemetry
from agentcanary.watching import Watching

if TYPE_CHECKING:
    from tests.agentcanary.conftest import Exchange, FakeHost

MakeScope = Callable[..., dict[str, Any]]
JSON, SSE = (b"content-type", b"application/json"), (b"content-type", b"text/event-stream; charset=utf-8")
OK, ERROR, ABORTED = TurnOutcome.OK, TurnOutcome.ERROR, TurnOutcome.ABORTED


def use(host: FakeHost, *presets: str, **more: Any) -> None:
    host.finder = finder([], presets=presets, every=True)
    host.watching = Watching(presets, **more)


def sse(*events: dict[str, Any]) -> list[bytes]:
    return [f"data: {json.dumps(event)}\n\n".encode() for event in events]


def answers(*chunks: bytes, status: int = 200, headers: tuple[Any, ...] = (SSE,)) -> Any:
    """An application that sends these chunks."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for chunk in chunks[:-1]:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": chunks[-1], "more_body": False})

    return app


class Client:
    """Calls an application behind the middleware, as clients of a framework do."""

    def __init__(self, host: FakeHost, scope: MakeScope, exchange: Callable[..., Exchange]) -> None:
        self.host = host
        self._scope = scope
        self._exchange = exchange

    async def post(self, app: Any, body: object, *headers: tuple[bytes, bytes], path: str = "/chat") -> Exchange:
        content = json.dumps(body).encode()
        talk = self._exchange({"type": "http.request", "body": content, "more_body": False}, disconnects=True)
        request = self._scope(None, JSON, *headers, method="POST", path=path)
        await CanaryMiddleware(app, canary=self.host)(request, talk.receive, talk.send)
        return talk

    def call(self, app: Any, body: object, *headers: tuple[bytes, bytes], path: str = "/chat") -> Exchange:
        return asyncio.run(self.post(app, body, *headers, path=path))


@pytest.fixture
def client(host: FakeHost, scope: MakeScope, exchange: Callable[..., Exchange]) -> Client:
    return Client(host, scope, exchange)


def outcomes(host: FakeHost) -> dict[str, float | None]:
    return {record.name: record.value for record in host.records if isinstance(record, Outcome)}


RUN = {"threadId": "t-1", "runId": "r-1"}
FAILED = sse({"type": "RUN_STARTED"}, {"type": "RUN_ERROR", "message": "no", "code": "quota"})
FINE = sse({"type": "TEXT_MESSAGE_CONTENT", "delta": "Hi"}, {"type": "RUN_FINISHED"})


class TestErrorsInsideAStatusOf200:
    @pytest.mark.parametrize(
        ("app", "expected"),
        [
            (answers(*FINE), (OK, None)),
            (answers(*FAILED), (ERROR, "quota")),
            (answers(*FAILED, *FINE), (ERROR, "quota")),
            (answers(b"".join(FAILED)), (ERROR, "quota")),
            (answers(*sse({"type": "RUN_FINISHED", "outcome": {"type": "cancelled"}})), (ABORTED, None)),
            (answers(b'{"type": "RUN_ERROR"}', headers=(JSON,)), (ERROR, "RUN_ERROR")),
            (answers(*FAILED, status=400), (OK, None)),
            (answers(*FAILED, headers=((b"content-type", b"text/plain"),)), (OK, None)),
            (answers(*FAILED, headers=(SSE, (b"content-encoding", b"gzip"))), (OK, None)),
        ],
        ids=[
            "fine", "error event", "error, then words", "one chunk", "cancelled", "JSON", "a status that says so",
            "another type", "compressed",
        ],
    )  # fmt: skip
    def test_a_turn_ends_as(self, client: Client, app: Any, expected: tuple[TurnOutcome, str | None]) -> None:
        use(client.host, "agui")
        talk = client.call(app, RUN)
        (ended,) = client.host.ended
        assert (ended.outcome, ended.error_type) == expected
        assert client.host.kinds == []
        assert talk.body

    def test_every_chunk_is_passed_on_as_it_came(self, client: Client) -> None:
        use(client.host, "agui")
        chunks = [*FAILED, b"data: {\n", b"\n", b"", b"\xff\xfe\n\n"]
        talk = client.call(answers(*chunks), RUN)
        assert [message["body"] for message in talk.sent[1:]] == chunks

    def test_a_rule_of_the_team_makes_an_error(self, client: Client) -> None:
        client.host.finder = finder(every=True)
        client.host.watching = Watching(own=protocol_of([ErrorRule(json="status", values=("failed",))]))
        client.call(answers(b'{"status": "failed"}', headers=(JSON,)), {"conversation_id": "c-1"})
        (ended,) = client.host.ended
        assert (ended.assignment.unit, ended.outcome, ended.error_type) == ("c-1", ERROR, "failed")

    def test_a_rule_holds_without_stickiness_too(self, client: Client) -> None:
        use(client.host, "agui")
        client.host.shown = replace(client.host.shown, sticky=False)
        client.call(answers(*FAILED), RUN)
        (ended,) = client.host.ended
        assert ended.outcome is ERROR
        assert ended.assignment.unit != "t-1"

    def test_frames_of_a_websocket_are_read(self, host: FakeHost, scope: MakeScope, exchange: Any) -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": '{"type": "TEXT_MESSAGE_CONTENT", "delta": "Hi"}'})
            await send({"type": "websocket.send", "text": '{"type": "RUN_ERROR"}'})
            await send({"type": "websocket.close"})

        host.finder = finder(every=True)
        host.watching = Watching(["agui"])
        talk = exchange()
        asyncio.run(CanaryMiddleware(app, canary=host)({**scope(), "type": "websocket"}, talk.receive, talk.send))
        (ended,) = host.ended
        assert (ended.outcome, ended.error_type) == (ERROR, "RUN_ERROR")
        assert "time_to_first_token" in outcomes(host)


class TestMeasuredOutcomes:
    USED = sse(
        {"type": "RUN_STARTED"},
        {"type": "TEXT_MESSAGE_CONTENT", "delta": "Hi"},
        {"type": "RUN_FINISHED", "usage": [{"inputTokens": 10, "outputTokens": 2}]},
    )

    def test_first_token_and_tokens_are_recorded_about_the_turn(self, client: Client) -> None:
        use(client.host, "agui")
        client.call(answers(*self.USED), RUN)
        found = outcomes(client.host)
        assert 0 < (found.pop("time_to_first_token") or 0) < 60
        assert found == {"input_tokens": 10.0, "output_tokens": 2.0}
        (ended,) = client.host.ended
        assert {(r.conversation_id, r.turn_id) for r in client.host.records if isinstance(r, Outcome)} == {
            ("t-1", ended.turn_id)
        }

    def test_nothing_is_recorded_where_that_is_switched_off(self, client: Client) -> None:
        use(client.host, "agui", measures=False)
        client.call(answers(*self.USED), RUN)
        assert outcomes(client.host) == {}

    def test_one_span_shows_them_and_no_chunk_has_its_own(self, client: Client) -> None:
        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        use(client.host, "agui")
        client.host.telemetry = Telemetry("support", tracer_provider=provider)
        client.call(answers(*self.USED), RUN)
        (span,) = spans.get_finished_spans()
        assert span.attributes is not None
        assert span.attributes["gen_ai.usage.input_tokens"] == 10
        assert "agentcanary.time_to_first_token" in span.attributes

    def test_a_regenerated_message_is_an_outcome(self, client: Client) -> None:
        use(client.host, "vercel")
        client.call(answers(*FINE), {"id": "c-1", "trigger": "submit-message"})
        assert outcomes(client.host)["regeneration"] == 0.0
        client.call(answers(*FINE), {"id": "c-1", "trigger": "regenerate-message", "messageId": "m-1"})
        assert outcomes(client.host)["regeneration"] == 1.0


class TestATurnThatIsSentOnceMore:
    def test_it_counts_once(self, client: Client) -> None:
        use(client.host, "agui")
        for _ in range(3):
            talk = client.call(answers(*FINE), RUN)
            assert talk.body == b"".join(FINE)
        assert len(client.host.started) == 1
        client.call(answers(*FINE), {**RUN, "runId": "r-2"})
        client.call(answers(*FINE), {**RUN, "threadId": "t-2"})
        assert len(client.host.started) == 3

    def test_its_outcomes_are_the_same_not_others(self, client: Client) -> None:
        use(client.host, "agui")
        for _ in range(2):
            client.call(answers(*FINE), RUN)
        ids = [record.id for record in client.host.records if isinstance(record, Outcome)]
        assert len(ids) == 2
        assert len(set(ids)) == 1

    def test_one_that_fails_the_second_time_counts_as_an_error_once(self, client: Client) -> None:
        use(client.host, "agui")
        for chunks in (FINE, FAILED, FAILED, FINE):
            client.call(answers(*chunks), RUN)
        assert [ended.outcome for ended in client.host.ended] == [OK, ERROR]

    def test_an_error_stands_although_the_second_attempt_went_well(self, client: Client) -> None:
        use(client.host, "agui")
        for chunks in (FAILED, FINE, FAILED):
            client.call(answers(*chunks), RUN)
        assert [ended.outcome for ended in client.host.ended] == [ERROR]


RESPONSE = sse({"type": "response.created", "response": {"id": "resp_1", "error": None}}, {"type": "x"})


class TestIdsThatTheServerMakes:
    def worker(self, client: Client) -> FakeHost:
        """Another process that shares the stores of ``client``'s host, and remembers nothing."""
        host = client.host
        other = type(host)(host.clock, host.store)
        other.aliases = AliasKeeper(
            host.aliases._store, agent="support", clock=host.clock, degraded=other.degraded, deadline=5.0
        )
        return other

    @pytest.mark.parametrize(
        ("preset", "path", "first", "response", "second"),
        [
            (
                "openai-responses",
                "/v1/responses",
                {"input": "hi"},
                answers(*RESPONSE),
                ({"previous_response_id": "resp_1"}, ()),
            ),
            (
                "openai-responses",
                "/v1/responses",
                {"input": "hi"},
                answers(b'{"id": "resp_1", "output": []}', headers=(JSON,)),
                ({"previous_response_id": "resp_1"}, ()),
            ),
            (
                "mcp",
                "/mcp",
                {"jsonrpc": "2.0", "id": 1, "method": "initialize"},
                answers(b"{}", headers=(JSON, (b"mcp-session-id", b"s-1"))),
                ({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, ((b"mcp-session-id", b"s-1"),)),
            ),
            (
                "a2a",
                "/",
                {"jsonrpc": "2.0", "method": "SendMessage", "params": {"message": {"messageId": "m"}}},
                answers(b'{"result": {"task": {"id": "task-1", "contextId": "x-1"}}}', headers=(JSON,)),
                ({"jsonrpc": "2.0", "method": "GetTask", "params": {"id": "task-1"}}, ()),
            ),
            (
                "chatkit",
                "/chatkit",
                {"type": "threads.create", "params": {}},
                answers(*sse({"type": "thread.created", "thread": {"id": "thr_1"}})),
                ({"type": "threads.add_user_message", "params": {"thread_id": "thr_1"}}, ()),
            ),
        ],
        ids=["responses, streamed", "responses", "mcp", "a2a", "chatkit"],
    )
    def test_the_second_turn_follows_the_first_in_another_worker_at_any_weight(
        self, client: Client, preset: str, path: str, first: object, response: Any, second: tuple[object, Any]
    ) -> None:
        use(client.host, preset)
        other = self.worker(client)
        use(other, preset)
        client.call(response, first, path=path)
        (began,) = client.host.ended
        assert began.assignment.unit.startswith("n-")
        body, headers = second
        try:
            Client(other, client._scope, client._exchange).call(answers(b"x"), body, *headers, path=path)
        finally:
            other.aliases.close()
            other.pins.close()
        (followed,) = other.ended
        assert followed.assignment.unit == began.assignment.unit
        assert followed.assignment.version == began.assignment.version

    def test_a_made_id_is_stored_before_the_client_sees_it(self, client: Client) -> None:
        use(client.host, "openai-responses")
        seen: list[dict[str, str]] = []
        store = client.host.aliases._store

        class Watcher:
            def __init__(self, talk: Exchange) -> None:
                self.talk = talk

            async def send(self, message: Any) -> None:
                if b"resp_1" in message.get("body", b""):
                    seen.append(dict(store.units))  # type: ignore[attr-defined] # the fake of conftest.py
                await self.talk.send(message)

        async def run() -> None:
            talk = client._exchange({"type": "http.request", "body": b"{}", "more_body": False})
            request = client._scope(None, JSON, method="POST", path="/v1/responses")
            await CanaryMiddleware(answers(*RESPONSE), canary=client.host)(request, talk.receive, Watcher(talk).send)

        asyncio.run(run())
        (ended,) = client.host.ended
        assert seen == [{"resp_1": ended.assignment.unit}]

    def test_a_chain_of_responses_is_one_conversation(self, client: Client) -> None:
        use(client.host, "openai-responses")
        previous = None
        for number in range(5):
            body = {"input": "hi"} if previous is None else {"input": "hi", "previous_response_id": previous}
            previous = f"resp_{number}"
            app = answers(json.dumps({"id": previous}).encode(), headers=(JSON,))
            client.call(app, body, path="/v1/responses")
        assert len({ended.assignment.unit for ended in client.host.ended}) == 1

    def test_an_id_that_nobody_knows_is_its_own_conversation(self, client: Client) -> None:
        use(client.host, "openai-responses")
        client.call(answers(b"x"), {"previous_response_id": "resp_9"})
        assert client.host.ended[0].assignment.unit == "resp_9"

    def test_with_a_store_that_does_not_answer_stable_gets_the_request_as_it_was_sent(self, client: Client) -> None:
        use(client.host, "openai-responses")
        client.host.aliases._store.failing = OSError("down")  # type: ignore[attr-defined] # the fake of conftest.py
        received: list[Any] = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            received.append(await receive())
            await answers(b"x")(_scope, receive, send)

        client.call(app, {"previous_response_id": "resp_1"})
        (ended,) = client.host.ended
        assert (ended.assignment.version, ended.assignment.reason) == ("support-v1", "fallback")
        assert received[0]["body"] == b'{"previous_response_id": "resp_1"}'
        assert client.host.kinds == ["alias_lookup"]

    def test_without_stickiness_there_is_nothing_to_follow(self, client: Client) -> None:
        use(client.host, "openai-responses")
        client.host.shown = replace(client.host.shown, sticky=False)
        client.call(answers(*RESPONSE), {"input": "hi"}, path="/v1/responses")
        assert client.host.aliases._store.units == {}  # type: ignore[attr-defined] # the fake of conftest.py

    def test_several_frameworks_do_not_share_their_ids(self, client: Client) -> None:
        use(client.host, "agui", "openai-responses")
        client.call(answers(b"x"), {"threadId": "same"})
        client.call(answers(b"x"), {"previous_response_id": "same"})
        assert [ended.assignment.unit for ended in client.host.ended] == ["agui:same", "openai-responses:same"]

    def test_pseudonyms_stand_for_made_ids_too(self, client: Client) -> None:
        use(client.host, "openai-responses")
        client.host.pseudonym = lambda unit: f"hidden-{unit[::-1]}"
        client.call(answers(*RESPONSE), {"input": "hi"}, path="/v1/responses")
        client.call(answers(b"x"), {"previous_response_id": "resp_1"}, path="/v1/responses")
        first, second = (ended.assignment.unit for ended in client.host.ended)
        assert first == second
        assert first.startswith("hidden-")
        assert list(client.host.aliases._store.units) == ["hidden-1_pser"]  # type: ignore[attr-defined] # as above
