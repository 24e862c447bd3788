"""The agent that the end-to-end tests talk to: a FastAPI app as a team would write it, with streaming and a socket."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from agentcanary import Canary, CanaryMiddleware, current_version

canary = Canary.from_file(os.environ["CANARY_YAML"])
app = FastAPI()
app.add_middleware(CanaryMiddleware, canary=canary, exclude=["/health"])


@app.get("/health")
async def health() -> dict[str, object]:
    """Which worker answers, and what it knows. It blocks its worker, so that another one takes the next request."""
    time.sleep(0.02)  # see above
    view = canary.view()[0]
    return {"pid": os.getpid(), "open": view.open, "handed_over": canary.clock() >= view.handover_until}


@app.post("/chat")
async def chat(body: dict[str, str], version: str = Depends(current_version)) -> dict[str, object]:
    """One turn."""
    if body["message"] == "fail":
        raise RuntimeError("the model is away")
    if body["message"] == "harm":
        canary.record(body["conversation_id"], "safety_violation", 1)
    return {"version": version, "pid": os.getpid(), "at": time.time()}


@app.post("/stream")
async def stream(body: dict[str, str], version: str = Depends(current_version)) -> StreamingResponse:
    """One turn, word by word."""

    async def words() -> AsyncIterator[str]:
        for number in range(int(body["message"])):
            yield f"data: {version} {number}\n\n"
            await asyncio.sleep(0.02)

    return StreamingResponse(words(), media_type="text/event-stream")


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    """One connection, one turn."""
    await websocket.accept()
    await websocket.receive_text()
    await websocket.send_text(current_version())
    await websocket.close()
