"""The API as an ASGI application."""

from __future__ import annotations

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agentcanary.api.gates import GateRoutes
from agentcanary.api.host import Desk, Host
from agentcanary.api.outcomes import OutcomeRoutes
from agentcanary.api.problems import Problem, problem_of
from agentcanary.api.rollouts import RolloutRoutes
from agentcanary.errors import AgentCanaryError
from agentcanary.mounted import is_ours

log = structlog.get_logger("agentcanary")


def routes(host: Host) -> list[BaseRoute]:
    """The routes of the API, for an application that has more of them.

    Args:
        host: The ``Canary``.
    """
    desk = Desk()
    outcomes, rollouts, gates = OutcomeRoutes(host, desk), RolloutRoutes(host, desk), GateRoutes(host, desk)
    return [
        Route("/outcomes", outcomes.add, methods=["POST"]),
        Route("/outcomes/{outcome:path}/confirmation", outcomes.confirm, methods=["PUT"]),
        Route("/outcomes/{outcome:path}", outcomes.delete, methods=["DELETE"]),
        Route("/gates/argo", gates.argo, methods=["GET"]),
        Route("/gates/flagger/{hook}", gates.flagger, methods=["POST"]),
        Route("/rollouts", rollouts.all, methods=["GET"]),
        Route("/rollouts/{rollout}", rollouts.one, methods=["GET"]),
        Route("/rollouts/{rollout}/{action}", rollouts.act, methods=["POST"]),
    ]


def application(host: Host) -> Starlette:
    """The API alone, to be mounted: ``app.mount("/canary", canary.api())``.

    Args:
        host: The ``Canary``.
    """
    app = Starlette(
        routes=routes(host),
        exception_handlers={
            Problem: _answer,
            AgentCanaryError: _answer,
            HTTPException: _answer,
            # What nobody expected is told to the log; the server around us must not show it to whoever asked.
            Exception: _answer,
        },
    )
    is_ours(app)
    return app


async def _answer(request: Request, error: Exception) -> Response:
    if not isinstance(error, Problem | AgentCanaryError | HTTPException):
        log.error("agentcanary.api_failed", path=request.scope["path"], error_type=type(error).__qualname__)
    return problem_of(error)
