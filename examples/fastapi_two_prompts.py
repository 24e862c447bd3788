"""A FastAPI agent with two prompts: the version decides which one answers. The id stands in the body.

Run ``python examples/fastapi_two_prompts.py``, then::

    curl -s localhost:8000/chat -H 'content-type: application/json' \
         -d '{"conversation_id": "c-1", "message": "Where is my order?"}'
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config

PROMPTS = {"support-v1": "Answer briefly.", "support-v2": "Answer step by step."}
CONFIG = """
agent: support
stable: support-v1
canary: support-v2
responses: {error_if: [{event: failed}]}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {pinned: {manual: switch}}
"""

canary = Canary(parse_config(CONFIG))
app = FastAPI()
app.add_middleware(CanaryMiddleware, canary=canary)


@app.post("/chat")
async def chat(body: dict[str, str], version: str = Depends(current_version)) -> dict[str, str]:
    """One turn; here a language model would answer."""
    return {"version": version, "reply": f"({PROMPTS[version]}) You said: {body['message']}"}


@app.post("/stream")
async def stream(body: dict[str, str], version: str = Depends(current_version)) -> StreamingResponse:
    """One turn, word by word. What goes wrong half-way is told by an event, long after the status 200."""

    async def words() -> AsyncIterator[str]:
        for word in f"{version} {body['message']}".split():
            yield f"data: {word}\n\n"
        if body["message"] == "fail":
            yield "event: failed\ndata: the model hung up\n\n"

    return StreamingResponse(words(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
