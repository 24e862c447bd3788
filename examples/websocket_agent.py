"""A plain WebSocket agent: the first frame says which conversation it is, and each connection stays on its version.

Run ``python examples/websocket_agent.py``, connect to ws://localhost:8000/ and send ``{"conversation_id": "c-1"}``. A
voice worker without HTTP would write ``async with canary.conversation("c-1") as turn:`` and ask ``turn.version``.
"""

from __future__ import annotations

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config

CONFIG = """
agent: voice
stable: voice-v1
canary: voice-v2
conversation:
  id_from: [query: conversation_id, websocket_first_frame: conversation_id]
responses: {error_if: [{json: error}]}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {pinned: {manual: switch}}
"""

canary = Canary(parse_config(CONFIG))


async def talk(websocket: WebSocket) -> None:
    """One connection: it ends when the client hangs up."""
    await websocket.accept()
    async for message in websocket.iter_json():
        if message.get("text") == "fail":
            await websocket.send_json({"error": "no model"})
        else:
            await websocket.send_json({"version": current_version(), "heard": message.get("text")})


app = Starlette(
    routes=[WebSocketRoute("/", talk)],
    middleware=[Middleware(CanaryMiddleware, canary=canary)],
)

if __name__ == "__main__":
    uvicorn.run(app, port=8000)
