"""The protocols of the frameworks: which of their messages say that a turn failed, and what it cost. Pure.

An error is what the protocol calls one, although the HTTP status is 200. What a client asked wrongly (JSON-RPC's
method not found, with which MCP clients probe a server) is none of the agent's.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentcanary.protocols.facts import NOTHING, Facts, Protocol, code, count, member

_METHOD_NOT_FOUND = -32601
_A2A_FAILED = {
    "TASK_STATE_FAILED": "TASK_STATE_FAILED",
    "failed": "TASK_STATE_FAILED",
    "TASK_STATE_REJECTED": "TASK_STATE_REJECTED",
    "rejected": "TASK_STATE_REJECTED",
}
_A2A_CANCELED = frozenset({"TASK_STATE_CANCELED", "canceled"})
_A2A_CARRIERS = ((), ("task",), ("statusUpdate",))


def _agui(_: str, data: object) -> Facts:
    # https://docs.ag-ui.com/concepts/events: RUN_ERROR, RUN_FINISHED with its outcome and usage, TEXT_MESSAGE_CONTENT
    kind = member(data, "type")
    if kind in ("TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CHUNK"):
        return Facts(words=bool(member(data, "delta")))
    if kind not in ("RUN_ERROR", "RUN_FINISHED"):
        return NOTHING
    usage = member(data, "usage")
    entries = usage if isinstance(usage, list) else []
    return Facts(
        error=code(member(data, "code"), default="RUN_ERROR") if kind == "RUN_ERROR" else None,
        aborted=member(data, "outcome", "type") == "cancelled",
        input_tokens=_total(entries, "inputTokens"),
        output_tokens=_total(entries, "outputTokens"),
    )


def _total(entries: list[object], name: str) -> float | None:
    counts = [found for entry in entries if (found := count(member(entry, name))) is not None]
    return sum(counts) if counts else None


def _vercel(_: str, data: object) -> Facts:
    # https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol, the data stream protocol; usage is what teams put into the
    # metadata of a message, https://ai-sdk.dev/docs/ai-sdk-ui/message-metadata
    kind = member(data, "type")
    if kind == "text-delta":
        return Facts(words=bool(member(data, "delta")))
    if kind == "error":
        return Facts(error="error")
    if kind == "abort":
        return Facts(aborted=True)
    if kind not in ("finish", "message-metadata"):
        return NOTHING
    metadata = member(data, "messageMetadata")
    usage = member(metadata, "usage") or member(metadata, "totalUsage")
    return Facts(
        error="error" if member(data, "finishReason") == "error" else None,
        input_tokens=count(member(usage, "inputTokens")),
        output_tokens=count(member(usage, "outputTokens")),
        cost=count(member(metadata, "cost")),
    )


def _json_rpc_error(data: object) -> object:
    error = member(data, "error")
    return error if isinstance(error, Mapping) and member(data, "jsonrpc") == "2.0" else None


def _a2a(_: str, data: object) -> Facts:
    # https://a2a-protocol.org/latest/specification/: JSON-RPC errors, states of tasks; REST answers without ``result``
    error = _json_rpc_error(data)
    if error is not None:
        return Facts(error=code(member(error, "code"), default="error"))
    result = member(data, "result")
    result = data if result is None else result
    for carrier in _A2A_CARRIERS:
        state = member(result, *carrier, "status", "state")
        if isinstance(state, str) and state in _A2A_FAILED:
            return Facts(error=_A2A_FAILED[state])
        if state in _A2A_CANCELED:
            return Facts(aborted=True)
    parts = (
        member(result, "artifactUpdate", "artifact", "parts"),
        member(result, "artifact", "parts"),
        member(result, "message", "parts"),
        member(result, "task", "artifacts"),
        member(result, "artifacts"),
        member(result, "parts"),
    )
    return Facts(words=any(parts))


def _mcp(_: str, data: object) -> Facts:
    # https://modelcontextprotocol.io/specification/2025-11-25/server/tools, error handling
    error = _json_rpc_error(data)
    if error is not None:
        found = member(error, "code")
        return NOTHING if found == _METHOD_NOT_FOUND else Facts(error=code(found, default="error"))
    if member(data, "result", "isError") is True:
        return Facts(error="isError")
    return Facts(words=bool(member(data, "result", "content")))


def _openai_responses(_: str, data: object) -> Facts:
    # https://platform.openai.com/docs/api-reference/responses-streaming and …/responses/object
    kind = member(data, "type")
    if kind == "response.output_text.delta":
        return Facts(words=bool(member(data, "delta")))
    if kind == "error":
        return Facts(error=code(member(data, "code"), member(data, "error", "code"), default="error"))
    response = member(data, "response") if kind is not None else data
    status, error = member(response, "status"), member(response, "error")
    failed = status == "failed" or bool(error)
    usage = member(response, "usage")
    return Facts(
        error=code(member(error, "code"), member(error, "type"), default="failed") if failed else None,
        aborted=status == "cancelled",
        words=kind is None and bool(member(response, "output")),
        input_tokens=count(member(usage, "input_tokens")),
        output_tokens=count(member(usage, "output_tokens")),
        cost=count(member(usage, "cost")),
    )


def _openai_chat(_: str, data: object) -> Facts:
    # https://platform.openai.com/docs/api-reference/chat-streaming; gateways report a failed call as an error in the
    # stream, and its price as usage.cost (https://openrouter.ai/docs/use-cases/usage-accounting)
    error = member(data, "error")
    if error:
        return Facts(error=code(member(error, "code"), member(error, "type"), default="error"))
    choices, usage = member(data, "choices"), member(data, "usage")
    spoken = any(
        member(choice, "delta", "content") or member(choice, "message", "content")
        for choice in (choices if isinstance(choices, list) else ())
    )
    return Facts(
        words=spoken,
        input_tokens=count(member(usage, "prompt_tokens")),
        output_tokens=count(member(usage, "completion_tokens")),
        cost=count(member(usage, "cost")),
    )


def _chatkit(_: str, data: object) -> Facts:
    # https://github.com/openai/chatkit-python, chatkit/types.py: ErrorEvent, ThreadItemUpdatedEvent
    kind = member(data, "type")
    if kind == "error":
        return Facts(error=code(member(data, "code"), default="error"))
    return Facts(words=kind == "thread.item.updated" and bool(member(data, "update", "delta")))


def _langgraph(event: str, data: object) -> Facts:
    # https://docs.langchain.com/langsmith/streaming: the event ``error``; ``__error__`` in what /runs/wait returns
    failed = data if event == "error" else member(data, "__error__")
    if failed or event == "error":
        return Facts(error=code(member(failed, "error"), default="error"))
    return Facts(words=event.startswith("messages"))


def _adk(_: str, data: object) -> Facts:
    # https://google.github.io/adk-docs/events/: errorCode, usageMetadata; /run answers with a list of events
    facts = NOTHING
    for event in data if isinstance(data, list) else [data]:
        failed = member(event, "errorCode") or member(event, "error_code") or member(event, "error")
        usage = member(event, "usageMetadata")
        facts = facts.then(
            Facts(
                error=code(failed, default="error") if failed else None,
                words=bool(member(event, "content", "parts")) and member(event, "author") != "user",
                input_tokens=count(member(usage, "promptTokenCount")),
                output_tokens=count(member(usage, "candidatesTokenCount")),
            )
        )
    return facts


def _agno(_: str, data: object) -> Facts:
    # https://docs.agno.com/basics/agents/running-agents, events; a run without streaming has a status
    kind, status = member(data, "event"), member(data, "status")
    if kind in ("RunError", "TeamRunError", "WorkflowError") or status == "ERROR":
        return Facts(error=code(member(data, "error_type"), default="RunError"))
    metrics = member(data, "metrics")
    return Facts(
        aborted=kind in ("RunCancelled", "TeamRunCancelled", "WorkflowCancelled") or status == "CANCELLED",
        words=kind in ("RunContent", "TeamRunContent") and bool(member(data, "content")),
        input_tokens=count(member(metrics, "input_tokens")),
        output_tokens=count(member(metrics, "output_tokens")),
        cost=count(member(metrics, "cost")),
    )


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="agui", read=_agui, markers=("RUN_ERROR", "RUN_FINISHED"), words=("TEXT_MESSAGE_C",)),
        Protocol(
            name="vercel",
            read=_vercel,
            markers=('"error"', '"abort"', '"finish"', '"message-metadata"'),
            words=('"text-delta"',),
        ),
        Protocol(
            name="a2a",
            read=_a2a,
            markers=('"error"', "_FAILED", "_REJECTED", "_CANCELED", '"failed"', '"rejected"', '"canceled"'),
            words=('"parts"',),
        ),
        Protocol(name="mcp", read=_mcp, markers=('"isError"', '"error"'), words=('"content"',)),
        Protocol(
            name="openai-responses",
            read=_openai_responses,
            markers=('"error"', '"usage"'),
            words=("response.output_text.delta", '"output"'),
        ),
        Protocol(name="openai-chat", read=_openai_chat, markers=('"error"', '"usage"'), words=('"content"',)),
        Protocol(name="chatkit", read=_chatkit, markers=('"error"',), words=("text_delta",)),
        Protocol(name="langgraph", read=_langgraph, markers=("error",), words=("messages",)),
        Protocol(name="adk", read=_adk, markers=("rror", "usageMetadata"), words=('"parts"',)),
        Protocol(
            name="agno",
            read=_agno,
            markers=("RunError", '"ERROR"', "WorkflowError", "Cancelled", "CANCELLED", "Completed", '"metrics"'),
            words=("RunContent",),
        ),
    )
}
"""Of each preset, the protocol of its responses. ``headers`` has none."""
