"""What finding a conversation costs, and what reading a stream costs a chunk, in process.

Run: ``PYTHONPATH=. python benchmarks/bench_conversation.py``. Prints two tables and writes
``benchmarks/results/conversation.json``. Contracts: 3 µs from a header, a path or a query, 8 µs from a JSON body of
3 kB, with its read; 1 µs a chunk of a stream whose responses are watched, and no span a chunk. The peers are what an
application would do by itself: ``json.loads`` of the body, and splitting a chunk into lines and parsing its data.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from agentcanary.conversation import PRESETS, Found, finder
from agentcanary.observe import HttpTurn
from agentcanary.protocols import PROTOCOLS, EventReader
from agentcanary.watching import Watch, Watching
from benchmarks.interleaved import keep, measure, report

ROUNDS = 31
REST = [
    (b"host", b"127.0.0.1"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64)"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"accept-language", b"en"),
    (b"origin", b"http://127.0.0.1"),
]
TURNS = [{"id": f"m-{n}", "role": "user", "content": "Where is my order? It should be here by now."} for n in range(34)]
BODIES = {
    "agui: threadId, as JavaScript writes it": ("agui", {"threadId": "t-1", "runId": "r-1", "messages": TURNS}, True),
    "agui: threadId, as Python writes it": ("agui", {"threadId": "t-1", "runId": "r-1", "messages": TURNS}, False),
    "vercel: id, which each message has too": ("vercel", {"id": "c-1", "messages": TURNS}, True),
    "a2a: params.message.contextId": (
        "a2a",
        {"jsonrpc": "2.0", "method": "SendMessage", "params": {"message": {"contextId": "x-1", "parts": TURNS}}},
        True,
    ),
    "three keys of the default places": (None, {"messages": TURNS, "thread_id": "t-1"}, True),
}


def places(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[int], None]]:
    """Finding an id, by place."""
    largest = json.dumps({"messages": TURNS, "thread_id": "t-1"}, separators=(",", ":")).encode()

    def parse(count: int) -> None:
        for _ in range(count):
            json.loads(largest)

    found: dict[str, Callable[[int], None]] = {f"json.loads of {len(largest)} bytes": parse}
    head: dict[str, tuple[str, str, dict[str, object]]] = {
        "header, first place": ("header", "x-conversation-id", {}),
        "path, first place": ("path", "/threads/{thread_id}/runs", {"path": "/threads/t-1/runs/stream"}),
        "query, first place": ("query", "session", {"query_string": b"stream=1&session=s-1"}),
    }
    for name, (place, key, more) in head.items():
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", **more}
        scope["headers"] = [*REST, (b"x-conversation-id", b"c-1")]
        found[name] = _firsts(finder([(place, key)]).first, scope)
    session = {"type": "http", "method": "POST", "path": "/mcp", "headers": [*REST, (b"mcp-session-id", b"s-1")]}
    found["header of a preset: mcp"] = _searches(loop, finder([], presets=["mcp"]), session, b"")
    for name, (preset, document, compact) in BODIES.items():
        body = json.dumps(document, separators=(",", ":") if compact else None).encode()
        headers = [*REST, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        found[name] = _searches(loop, finder([], presets=[preset]) if preset else finder(), scope, body)
    return found


def _firsts(first: Callable[[Any], str | None], scope: Any) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            first(scope)

    assert first(scope)
    return run


def _searches(loop: asyncio.AbstractEventLoop, places: Any, scope: Any, body: bytes) -> Callable[[int], None]:
    message = {"type": "http.request", "body": body, "more_body": False}

    async def receive() -> Any:
        return message

    async def run(count: int) -> None:
        for _ in range(count):
            found = await places.search(scope, receive)
        assert found.unit

    return lambda count: loop.run_until_complete(run(count))


class _Sink:
    """What a turn and a watch need of a canary."""

    telemetry: Any = None
    clock: Any = staticmethod(lambda: 0.0)
    pseudonym = None
    finder = finder()

    def put(self, record: object) -> None:
        """Take nothing."""

    def degraded(self, kind: str, error: BaseException | None = None) -> None:
        """Fail: nothing may go wrong here."""
        raise RuntimeError(kind) from error

    async def bind(self, names: Any, unit: str) -> None:
        """Make no alias."""


class _Assigned:
    """A turn's assignment, as far as a watch asks."""

    unit = "c-1"
    agent = "support"


def chunks(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[int], None]]:
    """One chunk of a stream in the middle of an answer."""
    delta = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m-1", "delta": " a few words"}
    chunk = f"data: {json.dumps(delta)}\n\n".encode()
    message = {"type": "http.response.body", "body": chunk, "more_body": True}
    reader = EventReader([PROTOCOLS["agui"]])
    reader.feed(chunk)
    sink: Any = _Sink()
    assignment: Any = _Assigned()

    async def server(_: Any) -> None:
        return

    def new_turn() -> Any:
        return HttpTurn(sink, assignment, 0.0, 0.0, server, server)  # type: ignore[arg-type] # nobody receives

    plain, turn = new_turn(), new_turn()
    found = Found(None, "absent", server, preset=PRESETS["agui"])  # type: ignore[arg-type] # as above
    watch = Watch(Watching(["agui"]), sink, sink, turn, found)
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}

    async def begin() -> None:
        await plain.send(head)
        await watch.send(head)
        await watch.send(message)

    loop.run_until_complete(begin())

    def parse(count: int) -> None:
        for _ in range(count):
            for line in chunk.splitlines():
                if line.startswith(b"data: "):
                    json.loads(line[6:])

    def feed(count: int) -> None:
        for _ in range(count):
            reader.feed(chunk)

    def passes(send: Any) -> Callable[[int], None]:
        async def run(count: int) -> None:
            for _ in range(count):
                await send(message)

        return lambda count: loop.run_until_complete(run(count))

    return {
        "splitlines and json.loads": parse,
        "EventReader.feed": feed,
        "a turn's send, not watched": passes(plain.send),
        "a turn's send, watched": passes(watch.send),
    }


def main() -> None:
    """Measure, print, keep."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    variants = places(loop)
    base = next(iter(variants))
    found = measure(variants, count=1000, rounds=ROUNDS)
    first = report("finding a conversation id", found, base=base, count=1000, packages=("msgspec",))
    found = measure(chunks(loop), count=5000, rounds=ROUNDS)
    second = report("one chunk of a stream", found, base="splitlines and json.loads", count=5000, packages=())
    keep("conversation", first, second)


if __name__ == "__main__":
    main()
