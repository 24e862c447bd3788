"""Every example over a real socket: conversations keep their version, and a promotion or a rollback changes the rest.

The clients are the frameworks' own. The clock runs faster, so that the hand-over after a weight change is short.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from mcp.client import Client as McpClient
from openai import OpenAI

from agentcanary import Canary
from agentcanary.clock import AcceleratedClock
from agentcanary.operating import decide
from agentcanary.state_machine import Action, ActionKind

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SPEED = 20.0
PATIENCE = 30.0


class Running:
    """An example under uvicorn, on a thread of its own."""

    def __init__(self, name: str) -> None:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.canary: Canary = module.canary
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(module.app, host="127.0.0.1", port=self.port, log_level="error", ws="websockets-sansio")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.port}"
        self.until(self._splits)

    def _splits(self) -> bool:
        view = self.canary.view()[0]
        return view.open and self.canary.clock() >= view.handover_until

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.02)

    def act(self, kind: ActionKind) -> None:
        """Promote or roll back, as an operator does, and wait until this process knows."""
        rollout = self.canary.store.current(self.canary.agent)
        assert rollout is not None
        decide(self.canary.store, rollout, Action(kind=kind, actor="a test", reason="to see"), clock=self.canary.clock)
        self.until(lambda: not self.canary.view()[0].open)

    def recorded(self, unit: str) -> Any:
        """What the store knows of a conversation, once everything is stored."""
        assert self.canary.recorder.flush_and_wait(PATIENCE)
        return self.canary.store.conversation(self.canary.agent, unit)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Running]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agentcanary.canary.SystemClock", lambda: AcceleratedClock(origin=time.time(), speed=SPEED))
    started: list[Running] = []

    def start(name: str) -> Running:
        started.append(Running(name))
        return started[-1]

    yield start
    for example in started:
        example.stop()


def both(talk: Callable[[int], str], name: str = "support") -> tuple[int, int]:
    """Begin conversations until each version has one; the numbers of one on stable and one on the canary."""
    served: dict[str, int] = {}
    for number in range(60):
        version = talk(number)
        assert talk(number) == version, "the second turn left its version"
        served.setdefault(version, number)
        if len(served) == 2:
            break
    return served[f"{name}-v1"], served[f"{name}-v2"]


def test_every_example_is_short_enough_to_be_read() -> None:
    long = {path.name: n for path in EXAMPLES.glob("*.py") if (n := len(path.read_text().splitlines())) > 60}
    assert long == {}


def test_fastapi_with_two_prompts(run: Callable[[str], Running]) -> None:
    example = run("fastapi_two_prompts")
    with httpx.Client(base_url=example.url) as http:

        def talk(number: int, message: str = "Hi") -> str:
            body = {"conversation_id": f"c-{number}", "message": message}
            return str(http.post("/chat", json=body).raise_for_status().json()["version"])

        stable, canary = both(talk)
        failed = {"conversation_id": f"c-{canary}", "message": "fail"}
        assert http.post("/stream", json=failed).status_code == 200
        assert example.recorded(f"c-{canary}").parts[0].errors == 1
        example.act(ActionKind.PROMOTE)
        assert (talk(stable), talk(canary), talk(1000)) == ("support-v1", "support-v2", "support-v2")


@pytest.mark.slow
def test_starlette_with_two_applications(run: Callable[[str], Running]) -> None:
    example = run("starlette_two_apps")
    with httpx.Client(base_url=example.url) as http:

        def talk(number: int) -> str:
            answer = http.get("/hello", headers={"x-session-id": f"s-{number}"}).raise_for_status().json()
            assert answer["model"] == f"model of {answer['version']}"
            return str(answer["version"])

        stable, canary = both(talk, "greeter")
        example.act(ActionKind.ROLLBACK)
        assert {talk(stable), talk(canary), talk(1000)} == {"greeter-v1"}


@pytest.mark.slow
def test_pydantic_ai_behind_agui(run: Callable[[str], Running]) -> None:
    from ag_ui.core import RunAgentInput, UserMessage

    example = run("pydantic_ai_agui")
    with httpx.Client(base_url=example.url) as http:
        runs = iter(range(10_000))

        def talk(number: int) -> str:
            message = UserMessage(id="m-1", content="Hi")
            asked = RunAgentInput(
                thread_id=f"t-{number}",
                run_id=f"r-{next(runs)}",
                messages=[message],
                state={},
                tools=[],
                context=[],
                forwarded_props={},
            )
            answer = http.post(
                "/",
                content=asked.model_dump_json(by_alias=True),
                headers={"content-type": "application/json", "accept": "text/event-stream"},
            ).raise_for_status()
            events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
            said = "".join(event.get("delta", "") for event in events if event["type"].startswith("TEXT_MESSAGE"))
            return said.removeprefix("Answered by ")

        stable, canary = both(talk)
        names = {outcome.name for outcome in example.recorded(f"t-{stable}").outcomes}
        assert "time_to_first_token" in names
        example.act(ActionKind.ROLLBACK)
        assert {talk(stable), talk(canary), talk(1000)} == {"support-v1"}


@pytest.mark.slow
def test_a_langgraph_graph_behind_fastapi(run: Callable[[str], Running]) -> None:
    example = run("langgraph_fastapi")
    threads: dict[int, str] = {}
    with httpx.Client(base_url=example.url) as http:

        def talk(number: int) -> str:
            if number not in threads:
                threads[number] = http.post("/threads").raise_for_status().json()["thread_id"]
            answer = http.post(f"/threads/{threads[number]}/runs", json={"message": "Hi"}).raise_for_status()
            return str(answer.json()["reply"]).removeprefix("Answered by ")

        stable, canary = both(talk)
        known = example.recorded(threads[canary])
        assert (known.unit.startswith("n-"), known.parts[0].turns) == (True, 3)
        example.act(ActionKind.PROMOTE)
        assert (talk(stable), talk(canary), talk(1000)) == ("support-v1", "support-v2", "support-v2")


def test_a_server_shaped_like_the_responses_api(run: Callable[[str], Running]) -> None:
    example = run("openai_responses_server")
    client = OpenAI(base_url=f"{example.url}/v1", api_key="none")
    latest: dict[int, str] = {}

    def talk(number: int, say: str = "Hi") -> str:
        previous = {"previous_response_id": latest[number]} if number in latest else {}
        response: Any = client.responses.create(model="support", input=say, **previous)  # type: ignore[call-overload] # as SDK users write it
        latest[number] = response.id
        return str(response.output_text).removeprefix("Answered by ")

    stable, canary = both(talk)
    talk(canary, "fail")
    known = example.recorded(latest[canary])
    assert (known.parts[0].turns, known.parts[0].errors) == (3, 1)
    assert sum(outcome.value for outcome in known.outcomes if outcome.name == "output_tokens") == 9
    example.act(ActionKind.ROLLBACK)
    assert {talk(stable), talk(canary), talk(1000)} == {"support-v1"}
    client.close()


@pytest.mark.slow
def test_an_mcp_server(run: Callable[[str], Running]) -> None:
    example = run("mcp_server")

    async def talk() -> None:
        async with AsyncExitStack() as stack:
            sessions: dict[str, McpClient] = {}

            async def lookup(client: McpClient, order: str = "A-1") -> str:
                result = await client.call_tool("lookup", {"order": order})
                return str(result.content[0].text).rpartition(" ")[2]  # type: ignore[union-attr] # a text

            for _ in range(60):
                client = await stack.enter_async_context(McpClient(f"{example.url}/mcp", mode="legacy"))
                version = await lookup(client)
                assert await lookup(client) == version
                sessions.setdefault(version, client)
                if len(sessions) == 2:
                    break
            assert set(sessions) == {"tools-v1", "tools-v2"}
            await lookup(sessions["tools-v2"], "")
            await asyncio.to_thread(example.act, ActionKind.ROLLBACK)
            assert [await lookup(client) for client in sessions.values()] == ["tools-v1"] * 2

    asyncio.run(talk())


def test_a_plain_websocket_agent(run: Callable[[str], Running]) -> None:
    example = run("websocket_agent")
    address = f"ws://127.0.0.1:{example.port}/"

    async def ask(connection: Any, **message: str) -> dict[str, Any]:
        await connection.send(json.dumps(message))
        answer: dict[str, Any] = json.loads(await connection.recv())
        return answer

    async def hello(number: int) -> str:
        async with websockets.connect(address) as connection:
            return str((await ask(connection, conversation_id=f"c-{number}"))["version"])

    async def long_session(number: int, meanwhile: Callable[[], Awaitable[None]]) -> list[str]:
        async with websockets.connect(f"{address}?conversation_id=c-{number}") as connection:
            first = await ask(connection, text="Hi")
            await meanwhile()
            later = await ask(connection, text="Still there?")
            await ask(connection, text="fail")
            return [first["version"], later["version"]]

    stable, canary = both(lambda number: asyncio.run(hello(number)), "voice")

    async def promote() -> None:
        await asyncio.to_thread(example.act, ActionKind.PROMOTE)

    assert asyncio.run(long_session(stable, promote)) == ["voice-v1", "voice-v1"]
    assert example.recorded(f"c-{stable}").parts[0].errors == 1
    assert [asyncio.run(hello(number)) for number in (stable, canary, 1000)] == ["voice-v1", "voice-v2", "voice-v2"]
