"""What the middleware adds to a request, beside opentelemetry-instrumentation-asgi, in process.

Run: ``python benchmarks/bench_middleware.py``. Prints tables and writes ``benchmarks/results/middleware.json``. The
application, the rollout and the recorder are those of ``perf_gate_app.py``; every request has its own conversation.
Also: finding the id in a header and in a JSON body of 3 kB (contracts: 3 and 8 µs).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

import uvloop
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from agentcanary.conversation import finder
from benchmarks.interleaved import keep, measure, report
from benchmarks.perf_gate_app import factory

ROUNDS = 31
IDS = [(b"x-conversation-id", b"conversation-%08x" % (number * 2654435761 % 2**32)) for number in range(50_000)]
REST = [(b"host", b"127.0.0.1"), (b"user-agent", b"bench"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip")]


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def stream(_: Request) -> Response:
    async def events() -> Any:
        for _number in range(20):
            yield b'data: {"token": "hello"}\n\n'

    return StreamingResponse(events(), media_type="text/event-stream")


def bare() -> Starlette:
    return Starlette(routes=[Route("/hello", hello), Route("/stream", stream)])


def requests(loop: asyncio.AbstractEventLoop, app: Any, path: str) -> Callable[[int], None]:
    """A function that makes so many requests, each of another conversation."""
    ids = itertools.cycle(IDS)
    scope: dict[str, Any] = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1"}
    scope |= {"method": "GET", "scheme": "http", "root_path": "", "path": path, "raw_path": path.encode()}
    scope |= {"query_string": b"", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9)}

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        return

    async def run(count: int) -> None:
        for _ in range(count):
            await app({**scope, "headers": [next(ids), *REST], "state": {}}, receive, send)

    return lambda count: loop.run_until_complete(run(count))


def searches(loop: asyncio.AbstractEventLoop) -> dict[str, Callable[[int], None]]:
    """Finding the conversation id, the read of the body included."""
    places = finder()
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 96}] * 22, "conversation_id": "c-1"}).encode()
    json_scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [*REST, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
    }
    header_scope = {"type": "http", "method": "POST", "path": "/", "headers": [*REST, IDS[0]]}
    message = {"type": "http.request", "body": body, "more_body": False}

    async def receive() -> Any:
        return message

    async def in_body(count: int) -> None:
        for _ in range(count):
            await places.search(json_scope, receive)

    def in_header(count: int) -> None:
        for _ in range(count):
            places.first(header_scope)

    def parse(count: int) -> None:
        for _ in range(count):
            json.loads(body)

    return {
        "json.loads alone": parse,
        f"in a JSON body of {len(body)} bytes": lambda count: loop.run_until_complete(in_body(count)),
        "in a header": in_header,
    }


def main() -> None:
    """Measure, print, keep."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    reports = []
    for path, count in (("/hello", 400), ("/stream", 60)):
        sampled, unsampled = TracerProvider(), TracerProvider(sampler=ALWAYS_OFF)
        apps = {
            "starlette": bare(),
            "agentcanary, no tracing": factory(bare()),
            "agentcanary, unsampled": factory(bare(), unsampled),
            "agentcanary, sampled": factory(bare(), sampled),
            "opentelemetry-instrumentation-asgi, sampled": OpenTelemetryMiddleware(
                bare(), tracer_provider=TracerProvider(), exclude_spans=["send", "receive"]
            ),
        }
        found = measure({name: requests(loop, app, path) for name, app in apps.items()}, count=count, rounds=ROUNDS)
        packages = ("starlette", "opentelemetry-sdk", "opentelemetry-instrumentation-asgi", "uvloop")
        reports.append(report(f"GET {path}", found, base="starlette", count=count, packages=packages))
    found = measure(searches(loop), count=2000, rounds=ROUNDS)
    reports.append(report("finding the id", found, base="json.loads alone", count=2000, packages=()))
    keep("middleware", *reports)


if __name__ == "__main__":
    main()
