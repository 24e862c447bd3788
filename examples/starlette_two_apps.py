"""Two whole ASGI applications, one a version, in one process. A gateway names the conversation in a header.

Run ``python examples/starlette_two_apps.py``, then ``curl localhost:8000/hello -H 'x-session-id: s-1'``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agentcanary import Canary, CanaryMiddleware
from agentcanary.config import parse_config

CONFIG = """
agent: greeter
stable: greeter-v1
canary: greeter-v2
conversation: {preset: headers}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {pinned: {manual: switch}}
"""


def greeter(version: str) -> Starlette:
    """An application with a lifespan and a state of its own."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
        yield {"model": f"model of {version}"}

    async def hello(request: Request) -> JSONResponse:
        return JSONResponse({"version": version, "model": request.state.model})

    return Starlette(routes=[Route("/hello", hello)], lifespan=lifespan)


canary = Canary(parse_config(CONFIG))
versions = {name: greeter(name) for name in ("greeter-v1", "greeter-v2")}
app = Starlette(middleware=[Middleware(CanaryMiddleware, canary=canary, versions=versions)])

if __name__ == "__main__":
    uvicorn.run(app, port=8000)
