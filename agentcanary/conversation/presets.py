"""Where the frameworks put the id of a conversation, who makes it, and what names one of its turns. Pure data.

Each preset states the source of its facts; tests build requests with the frameworks' own models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentcanary.conversation.extractors import Header, Path, Query, Scope, below_root
from agentcanary.conversation.forms import FormField
from agentcanary.conversation.identity import MAX_LENGTH, checked
from agentcanary.conversation.json_reader import JsonField
from agentcanary.conversation.made import Made, MadeHeader, MadeValue
from agentcanary.conversation.places import Composite, Known, Place

REGENERATION = "regeneration"
USER_FEEDBACK = "user_feedback"


@dataclass(frozen=True, slots=True)
class Signal:
    """An outcome that a request states by itself.

    Attributes:
        name: The outcome.
        field: Where it stands.
        values: What it is worth, by what stands there; anything else states nothing.
    """

    name: str
    field: JsonField
    values: Mapping[str, float]

    def find(self, document: object) -> float | None:
        """The outcome's value, or None where the request states none.

        >>> Signal("regeneration", JsonField("trigger"), {"regenerate-message": 1.0}).find(
        ...     {"trigger": "regenerate-message"}
        ... )
        1.0
        """
        value = self.field.value(document)
        return self.values.get(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preset:
    """What is known of a framework's requests. Each is one object, equal to itself only.

    Attributes:
        name: As in a configuration.
        places: Where the id is looked for, in this order.
        made: Where a response states an id that the server made; empty where clients make all ids.
        begins: True for a request that begins a conversation whose id the server is going to make.
        asks: The JSON fields that ``begins`` looks at.
        turn: What names a turn: a request that is sent once more has the same.
        signals: Outcomes that requests state.
    """

    name: str
    places: tuple[Place, ...]
    made: tuple[Made, ...] = ()
    begins: Callable[[Scope, Known], bool] = field(default=lambda _scope, _known: False)
    asks: tuple[JsonField, ...] = ()
    turn: tuple[Place, ...] = (Header("idempotency-key"),)
    signals: tuple[Signal, ...] = ()


_METHOD, _TYPE = JsonField("method"), JsonField("type")
_A2A_SENDS = frozenset({"SendMessage", "SendStreamingMessage", "message/send", "message/stream"})
_A2A_TASK = re.compile(r"(?:/[^/]+)*/tasks/([^/:]+)(?:[:/].*)?")
_A2A_REST_SEND = re.compile(r".*/message:(?:send|stream)")
_A2A_MADE = (
    *("task.contextId", "task.id", "message.contextId", "message.taskId"),
    *("statusUpdate.contextId", "statusUpdate.taskId", "artifactUpdate.contextId", "artifactUpdate.taskId"),
    # 0.3: the result is the task, the message or the event itself.
    *("contextId", "taskId"),
)
_LANGGRAPH_THREAD = re.compile(r"/threads/([^/]+)(?:/.*)?")
_LANGGRAPH_BEGINS = re.compile(r"/threads|/runs(?:/(?:stream|wait))?")
_LANGGRAPH_NO_THREAD = frozenset({"search", "count", "prune"})
_ADK_SESSIONS = re.compile(r"/apps/[^/]+/users/[^/]+/sessions")
_AGNO_RUNS = re.compile(r"(?:/v\d+)?/(?:agents|teams|workflows)/[^/]+/runs")
_RESPONSES = re.compile(r".*/(?:responses|conversations)")


def _posts(scope: Scope, path: re.Pattern[str]) -> bool:
    return scope.get("method") == "POST" and path.fullmatch(below_root(scope).rstrip("/")) is not None


def _a2a_begins(scope: Scope, known: Known) -> bool:
    return _METHOD.value(known.json) in _A2A_SENDS or _posts(scope, _A2A_REST_SEND)


def _a2a_task(scope: Scope) -> str | None:
    match = _A2A_TASK.fullmatch(below_root(scope))
    return None if match is None else checked(match[1], MAX_LENGTH)


def _langgraph_thread(scope: Scope) -> str | None:
    match = _LANGGRAPH_THREAD.fullmatch(below_root(scope))
    return None if match is None or match[1] in _LANGGRAPH_NO_THREAD else checked(match[1], MAX_LENGTH)


_HEADERS = (
    Header("x-conversation-id"),
    Header("x-session-id"),
    Header("x-session-affinity"),
    Header("x-litellm-session-id"),
    Header("x-openwebui-chat-id"),
)

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        # https://docs.ag-ui.com/sdk/python/core/types, RunAgentInput
        Preset(
            name="agui",
            places=(JsonField("threadId"),),
            turn=(JsonField("runId"), Header("idempotency-key")),
        ),
        # https://ai-sdk.dev/docs/ai-sdk-ui/transport: id, trigger, messageId beside the messages
        Preset(
            name="vercel",
            places=(JsonField("id"),),
            signals=(Signal(REGENERATION, JsonField("trigger"), {"submit-message": 0.0, "regenerate-message": 1.0}),),
        ),
        # https://a2a-protocol.org/latest/specification/: JSON-RPC, then REST; 0.3 has the result without a member
        Preset(
            name="a2a",
            places=(
                JsonField("params.message.contextId"),
                JsonField("params.message.taskId"),
                JsonField("message.contextId"),
                JsonField("message.taskId"),
                JsonField("params.taskId"),
                JsonField("params.id"),
                _a2a_task,
            ),
            # Outside of a result, ``id`` names the JSON-RPC request.
            made=(
                MadeValue("result.id"),
                *(MadeValue(within + path) for within in ("result.", "") for path in _A2A_MADE),
            ),
            begins=_a2a_begins,
            asks=(_METHOD,),
            turn=(JsonField("params.message.messageId"), JsonField("message.messageId")),
        ),
        # https://modelcontextprotocol.io/specification/2025-11-25/basic/transports, session management
        Preset(
            name="mcp",
            places=(Header("mcp-session-id"),),
            made=(MadeHeader("mcp-session-id"),),
            begins=lambda _scope, known: _METHOD.value(known.json) == "initialize",
            asks=(_METHOD,),
        ),
        # https://platform.openai.com/docs/api-reference/responses/create and …/conversations/create
        Preset(
            name="openai-responses",
            places=(JsonField("conversation.id"), JsonField("conversation"), JsonField("previous_response_id")),
            made=(MadeValue("response.id"), MadeValue("response.conversation.id"), MadeValue("id")),
            begins=lambda scope, _known: _posts(scope, _RESPONSES),
        ),
        # https://platform.openai.com/docs/api-reference/chat/create names no conversation: what gateways and teams add
        Preset(
            name="openai-chat",
            places=(
                *_HEADERS,
                JsonField("metadata.conversation_id"),
                JsonField("metadata.session_id"),
                JsonField("metadata.thread_id"),
                JsonField("user"),
            ),
        ),
        # https://github.com/openai/chatkit-python, chatkit/types.py
        Preset(
            name="chatkit",
            places=(JsonField("params.thread_id"),),
            made=(MadeValue("thread.id"),),
            begins=lambda _scope, known: _TYPE.value(known.json) == "threads.create",
            asks=(_TYPE,),
            signals=(
                Signal(
                    REGENERATION,
                    _TYPE,
                    {"threads.create": 0.0, "threads.add_user_message": 0.0, "threads.retry_after_item": 1.0},
                ),
                Signal(USER_FEEDBACK, JsonField("params.kind"), {"positive": 1.0, "negative": 0.0}),
            ),
        ),
        # https://docs.langchain.com/langsmith/server-api-ref: threads, thread runs, stateless runs
        Preset(
            name="langgraph",
            places=(
                _langgraph_thread,
                JsonField("thread_id"),
                JsonField("config.configurable.thread_id"),
                JsonField("configurable.thread_id"),
            ),
            made=(MadeHeader("content-location", r"(?:.*/)?threads/([^/]+).*"), MadeValue("thread_id")),
            begins=lambda scope, _known: _posts(scope, _LANGGRAPH_BEGINS),
        ),
        # https://google.github.io/adk-docs/runtime/api-server/: /run, /run_sse, /run_live and …/sessions
        Preset(
            name="adk",
            places=(
                Composite((JsonField("appName"), JsonField("userId"), JsonField("sessionId"))),
                Composite((JsonField("app_name"), JsonField("user_id"), JsonField("session_id"))),
                Composite((JsonField("userId"), JsonField("sessionId"))),
                Composite((JsonField("user_id"), JsonField("session_id"))),
                Composite((Query("app_name"), Query("user_id"), Query("session_id"))),
                Composite((Query("user_id"), Query("session_id"))),
                Path("/apps/{app_name}/users/{user_id}/sessions/{session_id}"),
            ),
            made=(MadeValue("appName userId id"), MadeValue("app_name user_id id")),
            begins=lambda scope, _known: _posts(scope, _ADK_SESSIONS),
        ),
        # https://docs.agno.com/reference-api/schema/agents/create-agent-run: a multipart form
        Preset(
            name="agno",
            places=(FormField("session_id"), JsonField("session_id"), Query("session_id")),
            made=(MadeValue("session_id"),),
            begins=lambda scope, _known: _posts(scope, _AGNO_RUNS),
        ),
        # LiteLLM, OpenRouter, Open WebUI and gateways
        Preset(name="headers", places=_HEADERS),
    )
}
