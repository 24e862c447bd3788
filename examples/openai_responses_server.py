"""A server shaped like OpenAI's Responses API. The server makes the ids: each response names the one before it.

Run ``python examples/openai_responses_server.py``, then talk to it with the openai client, or with the Agents SDK::

    client = OpenAI(base_url="http://localhost:8000/v1", api_key="none")
    first = client.responses.create(model="support", input="Hi")
    client.responses.create(model="support", input="And?", previous_response_id=first.id)
"""

from __future__ import annotations

import time
import uuid
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config

CONFIG = """
agent: support
stable: support-v1
canary: support-v2
conversation: {preset: openai-responses}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
rollback: {pinned: {manual: switch}}
"""

canary = Canary(parse_config(CONFIG))
app = FastAPI()
app.add_middleware(CanaryMiddleware, canary=canary)


@app.post("/v1/responses")
async def respond(body: dict[str, Any], version: str = Depends(current_version)) -> dict[str, Any]:
    """One response; ``status: failed`` makes the turn an error, although the HTTP status is 200."""
    content = [{"type": "output_text", "text": f"Answered by {version}", "annotations": []}]
    message = {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": "completed"}
    failed = body["input"] == "fail"
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "model": body["model"],
        "status": "failed" if failed else "completed",
        "error": {"code": "server_error", "message": "no model"} if failed else None,
        "output": [] if failed else [{**message, "content": content}],
        "usage": {"input_tokens": 8, "output_tokens": 3, "total_tokens": 11},
    }


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
