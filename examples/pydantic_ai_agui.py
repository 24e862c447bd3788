"""A pydantic-ai agent a version, behind AG-UI. A failed run ends its stream with RUN_ERROR, and counts as an error.

Run ``python examples/pydantic_ai_agui.py`` and point an AG-UI client, such as CopilotKit, at http://localhost:8000/.
"""

from __future__ import annotations

from functools import partial

import uvicorn
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config

CONFIG = """
agent: support
stable: support-v1
canary: support-v2
conversation: {preset: agui}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {pinned: {manual: switch}}
"""

canary = Canary(parse_config(CONFIG))


def agent_of(version: str) -> Agent:
    """An agent, built when its version is first served. Its model needs no key and answers with its version."""
    return Agent(TestModel(custom_output_text=f"Answered by {version}"))


for name in ("support-v1", "support-v2"):
    canary.registry.register(name, partial(agent_of, name))


async def run(request: Request) -> Response:
    """One run of the agent that serves the conversation's version."""
    agent = await canary.registry.get(current_version())
    return await AGUIAdapter.dispatch_request(request, agent=agent)


app = Starlette(
    routes=[Route("/", run, methods=["POST"])],
    middleware=[Middleware(CanaryMiddleware, canary=canary)],
)

if __name__ == "__main__":
    uvicorn.run(app, port=8000)
