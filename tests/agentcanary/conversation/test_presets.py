"""Each preset against requests and responses that the framework's own models and clients build.

ADK and Agno are too large to install for that (or ask for other releases of what is here): their requests stand as
their sources write them.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any, ClassVar

import httpx2
import pytest
from a2a.compat.v0_3 import types as a2a_0_3
from a2a.types import GetTaskRequest, Message, SendMessageRequest
from ag_ui.core import RunAgentInput, UserMessage
from google.protobuf.json_format import MessageToDict
from langgraph_sdk import get_sync_client
from mcp.client.streamable_http import MCP_SESSION_ID
from openai import OpenAI
from pydantic_ai.ui.vercel_ai.request_types import RegenerateMessage, SubmitMessage, TextUIPart, UIMessage

from agentcanary.conversation import PRESETS, Found, finder
from agentcanary.protocols import PROTOCOLS

# chatkit's own widgets are deprecated by chatkit.
with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
    from chatkit import types as chatkit

JSON = {"content-type": "application/json"}


def find(
    preset: str,
    body: bytes | str | dict[str, Any] = b"",
    *,
    path: str = "/",
    method: str = "POST",
    headers: dict[str, str] = JSON,
    query: bytes = b"",
    kind: str = "http",
) -> Found:
    """What a preset finds in a request."""
    content = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "method": method, "path": path, "query_string": query, "headers": named}

    async def receive() -> Any:
        return {"type": "http.request", "body": content, "more_body": False}

    return asyncio.run(finder([], presets=[preset]).search(scope, receive))


def sent(request: Any) -> dict[str, Any]:
    """The arguments of ``find`` for a request that a client sent."""
    return {
        "body": request.content,
        "path": request.url.path,
        "method": request.method,
        "headers": dict(request.headers.items()),
    }


def test_every_preset_has_its_protocol_but_the_one_that_is_none() -> None:
    assert set(PRESETS) - set(PROTOCOLS) == {"headers"}
    assert set(PROTOCOLS) <= set(PRESETS)


class TestAgui:
    def test_the_thread_is_the_conversation_and_the_run_the_turn(self) -> None:
        run = RunAgentInput(thread_id="t-1", run_id="r-1", messages=[UserMessage(id="m-1", content="Hi")])
        found = find("agui", run.model_dump_json(by_alias=True))
        assert (found.unit, found.turn, found.begins) == ("t-1", "r-1", False)


class TestVercel:
    MESSAGE = UIMessage(id="m-1", role="user", parts=[TextUIPart(text="Hi")])

    def test_the_chat_is_the_conversation(self) -> None:
        chat = SubmitMessage(id="c-1", messages=[self.MESSAGE])
        found = find("vercel", chat.model_dump_json(by_alias=True))
        assert (found.unit, found.stated) == ("c-1", (("regeneration", 0.0),))

    def test_a_regenerated_message_says_that_the_answer_was_not_good(self) -> None:
        chat = RegenerateMessage(trigger="regenerate-message", id="c-1", messages=[self.MESSAGE], message_id="m-1")
        assert find("vercel", chat.model_dump_json(by_alias=True)).stated == (("regeneration", 1.0),)


def rpc(method: str, params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


class TestA2A:
    @pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
    def test_the_context_is_the_conversation(self, method: str) -> None:
        request = SendMessageRequest(message=Message(message_id="m-1", context_id="x-1", task_id="task-1"))
        found = find("a2a", rpc(method, MessageToDict(request)))
        assert (found.unit, found.turn) == ("x-1", "m-1")

    def test_over_rest_the_message_is_the_body(self) -> None:
        request = SendMessageRequest(message=Message(message_id="m-1", context_id="x-1"))
        assert find("a2a", MessageToDict(request), path="/v1/message:send").unit == "x-1"

    @pytest.mark.parametrize(
        ("body", "path"),
        [
            (rpc("SendMessage", MessageToDict(SendMessageRequest(message=Message(message_id="m")))), "/"),
            (MessageToDict(SendMessageRequest(message=Message(message_id="m"))), "/message:stream"),
        ],
        ids=["JSON-RPC", "REST"],
    )
    def test_a_message_without_a_context_begins_a_conversation(self, body: dict[str, Any], path: str) -> None:
        assert find("a2a", body, path=path).begins

    def test_a_message_of_0_3_is_understood(self) -> None:
        message = a2a_0_3.Message(message_id="m-1", context_id="x-1", role=a2a_0_3.Role.user, parts=[])
        request = a2a_0_3.SendMessageRequest(id=1, params=a2a_0_3.MessageSendParams(message=message))
        assert find("a2a", request.model_dump_json(by_alias=True)).unit == "x-1"

    def test_a_task_that_is_asked_for_belongs_to_its_conversation(self) -> None:
        assert find("a2a", rpc("GetTask", MessageToDict(GetTaskRequest(id="task-1")))).unit == "task-1"
        assert find("a2a", method="GET", path="/v1/tasks/task-1:subscribe").unit == "task-1"

    def test_a_question_about_the_agent_begins_nothing(self) -> None:
        assert not find("a2a", rpc("GetExtendedAgentCard", {})).begins


class TestMcp:
    def test_the_session_is_the_conversation(self) -> None:
        assert find("mcp", rpc("tools/list", {}), headers={**JSON, MCP_SESSION_ID: "s-1"}).unit == "s-1"

    def test_only_initialize_begins_one(self) -> None:
        assert find("mcp", rpc("initialize", {})).begins
        assert not find("mcp", rpc("tools/list", {})).begins
        assert not find("mcp", method="GET").begins


class Captured:
    """Keeps the requests of a client, and answers each with an empty object."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(200, json={})


class TestOpenAI:
    @pytest.fixture
    def captured(self) -> Captured:
        return Captured()

    @pytest.fixture
    def client(self, captured: Captured) -> OpenAI:
        http = httpx2.Client(transport=httpx2.MockTransport(captured))
        return OpenAI(api_key="none", base_url="http://agent/v1", http_client=http)

    def test_a_response_names_its_conversation_or_the_response_before(self, client: OpenAI, captured: Captured) -> None:
        client.responses.create(model="m", input="hi")
        client.responses.create(model="m", input="hi", conversation="conv_1")
        client.responses.create(model="m", input="hi", conversation={"id": "conv_2"})
        client.responses.create(model="m", input="hi", previous_response_id="resp_1")
        first, *later = [find("openai-responses", **sent(request)) for request in captured.requests]
        assert first.begins
        assert [found.unit for found in later] == ["conv_1", "conv_2", "resp_1"]

    def test_a_conversation_may_be_made_before(self, client: OpenAI, captured: Captured) -> None:
        client.conversations.create()
        assert find("openai-responses", **sent(captured.requests[0])).begins

    def test_a_chat_completion_names_it_in_its_metadata_or_a_header(self, client: OpenAI, captured: Captured) -> None:
        messages: Any = [{"role": "user", "content": "hi"}]
        client.chat.completions.create(model="m", messages=messages)
        client.chat.completions.create(model="m", messages=messages, metadata={"conversation_id": "c-1"})
        client.chat.completions.create(model="m", messages=messages, user="u-1")
        client.chat.completions.create(model="m", messages=messages, extra_headers={"X-LiteLLM-Session-Id": "s-1"})
        units = [find("openai-chat", **sent(request)).unit for request in captured.requests]
        assert units == [None, "c-1", "u-1", "s-1"]


class TestChatKit:
    INPUT = chatkit.UserMessageInput(content=[], attachments=[], inference_options=chatkit.InferenceOptions())

    def test_a_new_thread_begins_a_conversation(self) -> None:
        request = chatkit.ThreadsCreateReq(params=chatkit.ThreadCreateParams(input=self.INPUT))
        found = find("chatkit", request.model_dump_json())
        assert (found.begins, found.stated) == (True, (("regeneration", 0.0),))

    def test_the_thread_is_the_conversation(self) -> None:
        params = chatkit.ThreadAddUserMessageParams(input=self.INPUT, thread_id="thr_1")
        assert find("chatkit", chatkit.ThreadsAddUserMessageReq(params=params).model_dump_json()).unit == "thr_1"

    def test_a_retry_and_thumbs_are_outcomes(self) -> None:
        retry = chatkit.ThreadRetryAfterItemParams(thread_id="thr_1", item_id="i-1")
        found = find("chatkit", chatkit.ThreadsRetryAfterItemReq(params=retry).model_dump_json())
        assert (found.unit, found.stated) == ("thr_1", (("regeneration", 1.0),))
        thumbs = chatkit.ItemFeedbackParams(thread_id="thr_1", item_ids=["i-1"], kind="negative")
        found = find("chatkit", chatkit.ItemsFeedbackReq(params=thumbs).model_dump_json())
        assert (found.unit, found.stated) == ("thr_1", (("user_feedback", 0.0),))


class TestLangGraph:
    def requests(self) -> list[Any]:
        import httpx

        seen: list[Any] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, json={})

        client = get_sync_client(url="http://agent", api_key=None)
        client.http.client._transport = httpx.MockTransport(answer)
        client.threads.create()
        client.runs.wait("t-1", "agent", input={})
        client.runs.wait(None, "agent", input={})
        client.threads.get_state("t-1")
        client.threads.search()
        return seen

    def test_the_thread_of_the_path_is_the_conversation(self) -> None:
        create, run, stateless, state, search = [find("langgraph", **sent(request)) for request in self.requests()]
        assert [create.begins, stateless.begins, search.begins] == [True, True, False]
        assert [run.unit, state.unit, search.unit] == ["t-1", "t-1", None]

    def test_a_graph_behind_an_application_of_ones_own_has_it_in_the_body(self) -> None:
        assert find("langgraph", {"thread_id": "t-1", "input": "hi"}).unit == "t-1"
        assert find("langgraph", {"config": {"configurable": {"thread_id": "t-1"}}}).unit == "t-1"


# google-adk 2.13, google/adk/cli/api_server.py: RunAgentRequest has camel-case aliases and takes both.
class TestAdk:
    @pytest.mark.parametrize(
        "body",
        [
            {"appName": "a", "userId": "u", "sessionId": "s", "newMessage": {"parts": [{"text": "hi"}]}},
            {"app_name": "a", "user_id": "u", "session_id": "s"},
        ],
        ids=["camel", "snake"],
    )
    def test_application_user_and_session_make_the_key(self, body: dict[str, Any]) -> None:
        assert find("adk", body, path="/run_sse").unit == "a\x1fu\x1fs"

    def test_paths_and_queries_give_the_same_key(self) -> None:
        assert find("adk", path="/apps/a/users/u/sessions/s", method="GET").unit == "a\x1fu\x1fs"
        query = b"app_name=a&user_id=u&session_id=s"
        assert find("adk", path="/run_live", query=query, kind="websocket").unit == "a\x1fu\x1fs"

    def test_two_users_with_one_session_id_are_two_conversations(self) -> None:
        one, other = (find("adk", {"userId": user, "sessionId": "s"}).unit for user in "ab")
        assert one != other

    def test_a_session_that_the_server_makes_begins_a_conversation(self) -> None:
        assert find("adk", {}, path="/apps/a/users/u/sessions").begins


# agno 3.1, agno/os/routers/agents/router.py: create_agent_run takes Form fields, session_id among them.
class TestAgno:
    BOUNDARY: ClassVar = {"content-type": "multipart/form-data; boundary=x"}

    def form(self, **fields: str) -> bytes:
        parts = [
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
        ]
        return "".join([*parts, "--x--\r\n"]).encode()

    def test_the_session_is_the_conversation(self) -> None:
        body = self.form(message="hi", stream="true", session_id="s-1")
        assert find("agno", body, path="/agents/support/runs", headers=self.BOUNDARY).unit == "s-1"

    def test_a_run_without_a_session_begins_one(self) -> None:
        found = find("agno", self.form(message="hi"), path="/agents/support/runs", headers=self.BOUNDARY)
        assert found.begins


@pytest.mark.parametrize(
    "name",
    ["X-Conversation-Id", "X-Session-Id", "X-Session-Affinity", "x-litellm-session-id", "X-OpenWebUI-Chat-Id"],
)
def test_gateways_name_it_in_a_header(name: str) -> None:
    assert find("headers", headers={name: "c-1"}).unit == "c-1"
