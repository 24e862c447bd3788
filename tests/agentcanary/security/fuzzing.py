"""Coverage-guided fuzzing with atheris: ``python fuzzing.py TARGET RUNS``. Ends with an error at a crash.

A target takes any bytes and may raise only what its function documents.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

MODULES = (
    "agentcanary.config",
    "agentcanary.config.yaml_lines",
    "agentcanary.conversation",
    "agentcanary.outcome_shapes",
    "agentcanary.security",
    "agentcanary_analysis.spans",
    "agentcanary_analysis.span_values",
)
DONE = b"every input was tried\n"
SECRET = "0123456789abcdef"


def configuration(data: bytes) -> None:
    """Any text is a configuration or a list of mistakes."""
    from agentcanary.config import parse_config
    from agentcanary.errors import ConfigError

    with suppress(ConfigError):
        parse_config(data.decode("utf-8", "replace"))


def cookie(data: bytes) -> None:
    """No cookie is believed that we did not sign."""
    from agentcanary.conversation import SignedCookie, UnusableIdError

    with suppress(UnusableIdError):
        found = SignedCookie(SECRET)({"headers": [(b"cookie", data), (b"cookie", b"agentcanary=" + data)]})
        if found is not None:
            raise AssertionError(f"believed {data!r}")


def request(data: bytes) -> None:
    """Any request has a usable id or a problem; nothing else comes out of the extractors."""
    from agentcanary.conversation import Problem, finder

    head, _, body = data.partition(b"\n")
    places = [
        ("header", "x-conversation-id"),
        ("query", "session"),
        ("path", "/threads/{thread}"),
        ("cookie", "chat"),
        ("json", "params.message.contextId"),
    ]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/threads/" + head.decode("utf-8", "replace"),
        "query_string": head,
        "headers": [(b"x-conversation-id", head), (b"cookie", head), (b"content-type", b"application/json")],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def search() -> None:
        # Each place by itself, so that the first one does not hide the others.
        for place in places:
            found = await finder([place]).search(scope, receive)
            if found.error is not None or found.problem is Problem.EXTRACTOR_FAILED:
                raise AssertionError(f"{place} failed at {data!r}: {found.error!r}")

    asyncio.run(search())


def outcomes(data: bytes) -> None:
    """Any JSON is outcomes, or is refused, in every shape."""
    from agentcanary.outcome_shapes import SHAPES, ShapeError, outcomes_in

    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    for shape in SHAPES:
        with suppress(ShapeError):
            outcomes_in(body, shape=shape, headers={"ce-specversion": "1.0"})


def forcing(data: bytes) -> None:
    """No header forces an arm that we did not sign."""
    from agentcanary.security import Forcing

    scope = {"headers": [(b"x-canary", data), (b"cookie", b"x-canary=" + data)], "client": ("10.0.0.1", 1)}
    if Forcing("support", secret=SECRET).forced(scope, now=0.0) is not None:
        raise AssertionError(f"believed {data!r}")


def spans(data: bytes) -> None:
    """Any file is spans or is refused."""
    from agentcanary_analysis.spans import read_spans

    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(data)
        file.flush()
        with suppress(ValueError):  # TableError is one
            read_spans(Path(file.name))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (configuration, cookie, request, outcomes, forcing, spans)
}


def main(name: str, runs: int) -> None:
    """Fuzz one target with so many inputs: a number and not a time, so that a slow machine tries as much."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports():
        for module in MODULES:
            importlib.import_module(module)
    tried = 0

    def counted(data: bytes) -> None:
        nonlocal tried
        tried += 1
        TARGETS[name](data)
        if tried == runs:
            # Said at once: the fuzzer ends the process without flushing anything.
            os.write(2, DONE)

    with tempfile.TemporaryDirectory() as corpus:
        seeds = {"spans": b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0","spanId":"0"}]}]}]}'}
        (Path(corpus) / "seed").write_bytes(seeds.get(name, b'{"conversation_id": "c-1", "name": "n", "value": 1}'))
        atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=2000", "-verbosity=0", corpus], counted)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
