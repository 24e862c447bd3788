"""Each protocol against events and bodies that the framework's own models build; ADK's and Agno's stand as written."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from a2a.types import (
    Artifact,
    Part,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from ag_ui import core as agui
from ag_ui.encoder import EventEncoder
from google.protobuf.json_format import MessageToDict
from mcp import types as mcp
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice, ChoiceDelta
from openai.types.responses import Response, ResponseErrorEvent, ResponseTextDeltaEvent
from pydantic_ai.ui.vercel_ai import response_types as vercel

from agentcanary.conversation import PRESETS
from agentcanary.protocols import NOTHING, PROTOCOLS, BodyReader, EventReader, Facts

# chatkit's own widgets are deprecated by chatkit.
with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from chatkit import types as chatkit


def event(document: str | dict[str, Any], name: str = "") -> bytes:
    data = document if isinstance(document, str) else json.dumps(document)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def read(protocol: str, *chunks: bytes) -> tuple[Facts, tuple[str, ...]]:
    """What a stream says, and the ids that it makes."""
    reader = EventReader([PROTOCOLS[protocol]], PRESETS[protocol].made)
    facts, made = NOTHING, tuple[str, ...]()
    for chunk in chunks:
        noticed = reader.feed(chunk)
        if noticed is not None:
            facts, made = facts.then(noticed.facts), made + noticed.made
    return facts, made


def body(protocol: str, document: str | dict[str, Any] | list[Any]) -> tuple[Facts, tuple[str, ...]]:
    text = document if isinstance(document, str) else json.dumps(document)
    noticed = BodyReader([PROTOCOLS[protocol]], PRESETS[protocol].made).feed(text.encode(), last=True)
    return (NOTHING, ()) if noticed is None else noticed


def test_agui() -> None:
    encode = EventEncoder().encode
    started = encode(agui.RunStartedEvent(thread_id="t", run_id="r")).encode()
    words = encode(agui.TextMessageContentEvent(message_id="m", delta="Hi")).encode()
    usage = [agui.TokenUsage(model="a", input_tokens=10, output_tokens=2), agui.TokenUsage(model="b", input_tokens=5)]
    finished = encode(agui.RunFinishedEvent(thread_id="t", run_id="r", usage=usage)).encode()
    failed = encode(agui.RunErrorEvent(message="no", code="quota")).encode()
    nameless = encode(agui.RunErrorEvent(message="no")).encode()
    assert read("agui", started)[0] == NOTHING
    assert read("agui", started, words, finished)[0] == Facts(words=True, input_tokens=15.0, output_tokens=2.0)
    assert read("agui", started, failed)[0] == Facts("quota")
    assert read("agui", nameless)[0] == Facts("RUN_ERROR")


def test_vercel() -> None:
    def chunk(part: vercel.BaseChunk) -> bytes:
        return event(part.encode(6))

    words = chunk(vercel.TextDeltaChunk(id="1", delta="Hi"))
    used = {"usage": {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10}}
    finished = chunk(vercel.FinishChunk(finish_reason="stop", message_metadata=used))
    assert read("vercel", words, finished, event("[DONE]"))[0] == Facts(words=True, input_tokens=7.0, output_tokens=3.0)
    assert read("vercel", chunk(vercel.ErrorChunk(error_text="no")))[0] == Facts("error")
    assert read("vercel", chunk(vercel.FinishChunk(finish_reason="error")))[0] == Facts("error")
    assert read("vercel", chunk(vercel.AbortChunk()))[0] == Facts(aborted=True)
    assert read("vercel", chunk(vercel.ToolOutputErrorChunk(tool_call_id="t", error_text="no")))[0] == NOTHING


@pytest.mark.parametrize("wrapped", [True, False], ids=["JSON-RPC", "REST"])
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TaskState.TASK_STATE_COMPLETED, NOTHING),
        (TaskState.TASK_STATE_FAILED, Facts("TASK_STATE_FAILED")),
        (TaskState.TASK_STATE_REJECTED, Facts("TASK_STATE_REJECTED")),
        (TaskState.TASK_STATE_CANCELED, Facts(aborted=True)),
        (TaskState.TASK_STATE_INPUT_REQUIRED, NOTHING),
    ],
    ids=["completed", "failed", "rejected", "canceled", "input required"],
)
def test_a2a(state: TaskState, expected: Facts, wrapped: bool) -> None:
    def frame(part: StreamResponse) -> dict[str, Any]:
        result = MessageToDict(part)
        return {"jsonrpc": "2.0", "id": 1, "result": result} if wrapped else result

    status = TaskStatus(state=state)
    task = frame(StreamResponse(task=Task(id="task-1", context_id="x-1", status=status)))
    update = TaskStatusUpdateEvent(task_id="task-1", context_id="x-1", status=status)
    facts, made = read("a2a", event(frame(StreamResponse(status_update=update))))
    assert (facts, set(made)) == (expected, {"x-1", "task-1"})
    facts, made = body("a2a", task)
    assert (facts, set(made)) == (expected, {"x-1", "task-1"})


def test_a2a_words_and_errors() -> None:
    artifact = Artifact(artifact_id="a", parts=[Part(text="Hi")])
    part = StreamResponse(artifact_update=TaskArtifactUpdateEvent(task_id="t", context_id="x", artifact=artifact))
    assert read("a2a", event({"jsonrpc": "2.0", "id": 1, "result": MessageToDict(part)}))[0] == Facts(words=True)
    failed = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no"}}
    assert body("a2a", failed) == read("a2a", event(failed)) == (Facts("-32603"), ())
    old = {"jsonrpc": "2.0", "id": 1, "result": {"kind": "task", "id": "t", "contextId": "x", "status": {}}}
    old["result"]["status"] = {"state": "failed"}  # type: ignore[index] # a task of 0.3
    facts, made = body("a2a", old)
    assert (facts, set(made)) == (Facts("TASK_STATE_FAILED"), {"t", "x"})


def test_mcp() -> None:
    def answer(*, is_error: bool) -> dict[str, Any]:
        result = mcp.CallToolResult(content=[mcp.TextContent(type="text", text="x")], is_error=is_error)
        return {"jsonrpc": "2.0", "id": 1, "result": json.loads(result.model_dump_json(by_alias=True))}

    assert read("mcp", event(answer(is_error=True), "message"))[0] == Facts("isError")
    assert body("mcp", answer(is_error=False))[0] == Facts(words=True)
    assert body("mcp", {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602}})[0] == Facts("-32602")
    assert body("mcp", {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601}})[0] == NOTHING


def response(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = Response.model_construct(
        id="resp_1", created_at=0, model="m", object="response", output=[], tools=[], **more
    ).model_dump(mode="json", warnings=False)
    return made


def test_openai_responses() -> None:
    created = event({"type": "response.created", "response": response(status="in_progress")}, "response.created")
    where = {"content_index": 0, "output_index": 0, "sequence_number": 2}
    words = ResponseTextDeltaEvent(
        type="response.output_text.delta", delta="Hi", item_id="i", logprobs=[], **where
    ).model_dump_json()
    usage = {"input_tokens": 10, "output_tokens": 2}
    done = event({"type": "response.completed", "response": response(status="completed", usage=usage)})
    failed = response(status="failed", error={"code": "server_error", "message": "no"})
    error = ResponseErrorEvent(type="error", code="rate_limit_exceeded", message="no", sequence_number=1)
    facts, made = read("openai-responses", created, event(words), done)
    assert (facts, made) == (Facts(words=True, input_tokens=10.0, output_tokens=2.0), ("resp_1",))
    assert read("openai-responses", created, event({"type": "response.failed", "response": failed})) == (
        Facts("server_error"),
        ("resp_1",),
    )
    assert read("openai-responses", event(error.model_dump_json(), "error"))[0] == Facts("rate_limit_exceeded")
    assert body("openai-responses", failed) == (Facts("server_error"), ("resp_1",))
    assert body("openai-responses", response(status="completed", error=None, usage=usage))[0] == Facts(
        input_tokens=10.0, output_tokens=2.0
    )


def test_openai_chat() -> None:
    def chunk(**more: Any) -> bytes:
        made = ChatCompletionChunk.model_construct(
            id="c", object="chat.completion.chunk", **{"choices": [], "usage": None, **more}
        )
        return event(made.model_dump_json(warnings=False))

    words = chunk(choices=[Choice(index=0, delta=ChoiceDelta(content="Hi"))])
    silent = chunk(choices=[Choice(index=0, delta=ChoiceDelta(role="assistant", content=""))])
    used = chunk(usage=CompletionUsage(prompt_tokens=9, completion_tokens=4, total_tokens=13))
    assert read("openai-chat", silent)[0] == NOTHING
    assert read("openai-chat", silent, words, used, event("[DONE]"))[0] == Facts(
        words=True, input_tokens=9.0, output_tokens=4.0
    )
    assert read("openai-chat", event({"error": {"code": 502, "message": "no"}}))[0] == Facts("502")
    assert body("openai-chat", {"choices": [], "usage": {"prompt_tokens": 1, "cost": 0.25}})[0] == Facts(
        input_tokens=1.0, cost=0.25
    )


def test_chatkit() -> None:
    error = chatkit.ErrorEvent(code="custom", message="no")
    assert read("chatkit", event(error.model_dump_json()))[0] == Facts("custom")
    words = chatkit.ThreadItemUpdatedEvent(
        item_id="i", update=chatkit.AssistantMessageContentPartTextDelta(content_index=0, delta="Hi")
    )
    assert read("chatkit", event(words.model_dump_json()))[0] == Facts(words=True)
    thread = {"id": "thr_1", "created_at": "2026-01-01T00:00:00", "status": {"type": "active"}}
    created = {"type": "thread.created", "thread": thread}
    chatkit.ThreadCreatedEvent.model_validate({**created, "thread": {**thread, "items": {"data": []}}})
    assert read("chatkit", event(created)) == (NOTHING, ("thr_1",))


# https://docs.langchain.com/langsmith/streaming
def test_langgraph() -> None:
    assert read("langgraph", event({"error": "ValueError", "message": "no"}, "error"))[0] == Facts("ValueError")
    assert read("langgraph", event("gone", "error"))[0] == Facts("error")
    assert read("langgraph", event([{"content": "Hi"}, {}], "messages/partial"))[0] == Facts(words=True)  # type: ignore[arg-type] # a list is JSON too
    assert body("langgraph", {"__error__": {"error": "ValueError", "message": "no"}})[0] == Facts("ValueError")
    assert body("langgraph", {"thread_id": "t-1"}) == (NOTHING, ("t-1",))


# google-adk 2.13, google/adk/events/event.py and models/llm_response.py: camel-case aliases, None left out
def test_adk() -> None:
    words = {"author": "support", "content": {"parts": [{"text": "Hi"}]}, "id": "e-1"}
    used = {**words, "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 3}}
    failed = {"author": "support", "errorCode": "MALFORMED_FUNCTION_CALL", "errorMessage": "no"}
    assert read("adk", event(words), event(used))[0] == Facts(words=True, input_tokens=8.0, output_tokens=3.0)
    assert body("adk", [words, failed])[0] == Facts("MALFORMED_FUNCTION_CALL", words=True)
    assert read("adk", event({"error": "no"}))[0] == Facts("no")
    assert body("adk", {"id": "s", "appName": "a", "userId": "u", "events": []})[1] == ("a\x1fu\x1fs",)


# agno 3.1, agno/run/agent.py: RunContentEvent, RunCompletedEvent, RunErrorEvent, RunCancelledEvent
def test_agno() -> None:
    words = {"event": "RunContent", "content": "Hi", "session_id": "s-1"}
    done = {"event": "RunCompleted", "metrics": {"input_tokens": 8, "output_tokens": 3, "cost": 0.5}}
    assert read("agno", event(words, "RunContent"), event(done, "RunCompleted")) == (
        Facts(words=True, input_tokens=8.0, output_tokens=3.0, cost=0.5),
        ("s-1",),
    )
    failed = {"event": "RunError", "content": "no", "error_type": "ModelProviderError"}
    assert read("agno", event(failed, "RunError"))[0] == Facts("ModelProviderError")
    assert read("agno", event({"event": "RunCancelled"}))[0] == Facts(aborted=True)
    assert body("agno", {"session_id": "s-1", "status": "ERROR", "content": "no"}) == (Facts("RunError"), ("s-1",))
