"""The application of ``bench_load_wrk.py``: bare Starlette, or agentcanary on it where ``CANARY_YAML`` names a file."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agentcanary import Canary, CanaryMiddleware


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


def create() -> Starlette:
    """The application."""
    file = os.environ.get("CANARY_YAML")
    mounted = [Middleware(CanaryMiddleware, canary=Canary.from_file(file))] if file else []
    return Starlette(routes=[Route("/hello", hello)], middleware=mounted)
