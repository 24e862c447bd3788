"""The pages as an ASGI application: routes, headers that keep a browser strict, errors as pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentcanary.api import Problem
from agentcanary.dashboard.pages import Pages
from agentcanary.dashboard.source import Source
from agentcanary.errors import AgentCanaryError
from agentcanary.mounted import is_ours

# No script and no style but ours, no frame around it, no form to elsewhere, nothing from elsewhere.
POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def application(source: Source, *, api: Sequence[BaseRoute] = ()) -> Starlette:
    """The pages, to be mounted: ``app.mount("/canary", canary.dashboard())``.

    Args:
        source: What they show and act on.
        api: Routes of the JSON API, which answer beside the pages.
    """
    pages = Pages(source)
    app = Starlette(
        routes=[
            Route("/", pages.rollouts, methods=["GET"]),
            Route("/login", pages.login, methods=["GET", "POST"]),
            Route("/logout", pages.logout, methods=["POST"]),
            Route("/rollout/{rollout}", pages.rollout, methods=["GET"]),
            Route("/rollout/{rollout}/chart/{chart}", pages.chart, methods=["GET"]),
            Route("/rollout/{rollout}/{action}", pages.act, methods=["POST"]),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static"),
            *api,
        ],
        middleware=[Middleware(StrictHeaders)],
        exception_handlers={
            AgentCanaryError: pages.failed,
            HTTPException: pages.failed,
            Problem: pages.failed,
            # What nobody expected is told to the log; the server around us must not show it to whoever asked.
            Exception: pages.failed,
        },
    )
    is_ours(app)
    return app


class StrictHeaders:
    """Puts the strict headers on every answer that has no policy of its own.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def strict(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, strict)
