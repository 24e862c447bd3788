"""The demo's agent: a FastAPI application with four agents in it, each in the middle of a rollout.

Started as ``uvicorn --factory agentcanary.demo.agent:create_app`` by ``serve.py``. The language model is a
deterministic stand-in (``behaviour.py``); everything around it is what an application of yours would have.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from agentcanary.canary import Canary
from agentcanary.context import current, current_version
from agentcanary.demo.behaviour import Answer, answer
from agentcanary.demo.scenarios import SCENARIOS, Scenario
from agentcanary.demo.timing import timing_from
from agentcanary.middleware import CanaryMiddleware
from agentcanary.outcomes import Judge
from agentcanary.pins import PinKeeper

FOLDER = "AGENTCANARY_DEMO_FOLDER"
_CHUNKS = 4
_DEADLINE = 2.0


class Message(BaseModel):
    """What a user says.

    Attributes:
        conversation_id: Of the conversation; the middleware finds it here, too.
        turn: 1 for the conversation's first message.
        message: The text.
    """

    conversation_id: str
    turn: int
    message: str


class ModelError(Exception):
    """The stand-in for a language model could not be reached: an answer with status 500."""


class BrokeOff(Exception):  # noqa: N818 (it is what happened)
    """The stand-in for a language model broke off: a stream without an end."""


def _is_news(record: logging.LogRecord) -> bool:
    """False for streams that break off as they were told to: a traceback each would cost more than the agents."""
    return record.exc_info is None or not isinstance(record.exc_info[1], BrokeOff)


def create_app() -> FastAPI:
    """The application; what it needs to know is in the environment."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    folder, clock = Path(os.environ[FOLDER]), timing_from().clock
    found = [(one, folder / f"{one.name}.yaml") for one in SCENARIOS]
    canaries = [(one, Canary.from_file(path, clock=clock)) for one, path in found if path.exists()]
    for _scenario, canary in canaries:
        # The agents, their users and everything else of yours share this machine: wait for a processor, too.
        canary.pins = PinKeeper(
            canary.store, idle_after=canary.config.plan.idle_after, degraded=canary.degraded, deadline=_DEADLINE
        )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Mounted applications get no lifespan of their own.
        for _scenario, canary in canaries:
            await canary.start()
        yield
        for _scenario, canary in canaries:
            await canary.stop()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    for one, canary in canaries:
        app.mount(f"/{one.name}", agent(one, canary))
    return app


def agent(scenario: Scenario, canary: Canary) -> FastAPI:
    """One agent with its canary."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(CanaryMiddleware, canary=canary)

    @app.exception_handler(ModelError)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error), **_served()}, status_code=500)

    @app.post("/chat")
    async def chat(said: Message) -> dict[str, Any]:
        served, answered = _served(), _answer(scenario, said)
        await asyncio.sleep(answered.seconds)
        served |= _record(canary, said, answered)
        if answered.fails:
            raise ModelError("the model could not be reached")
        return {"reply": answered.text, **served}

    @app.post("/stream")
    async def stream(said: Message) -> StreamingResponse:
        served, answered = _served(), _answer(scenario, said)

        async def chunks() -> AsyncIterator[str]:
            words = answered.text.split()
            yield _event("begin", served)
            for number in range(_CHUNKS):
                await asyncio.sleep(answered.seconds / _CHUNKS)
                if answered.fails and number == _CHUNKS // 2:
                    _record(canary, said, answered)
                    raise BrokeOff("the model broke off")
                yield _event("words", {"words": words[number::_CHUNKS]})
            yield _event("end", _record(canary, said, answered))

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return app


def _served() -> dict[str, Any]:
    """Who serves this turn, why, and since when: the demo's report is made of what users were told."""
    assignment = current()
    return {
        "version": current_version(),
        "reason": "" if assignment is None else assignment.reason.value,
        "worker": os.getpid(),
        "started_at": time.time(),
    }


def _answer(scenario: Scenario, said: Message) -> Answer:
    version = current_version()
    return answer(scenario.behaviour(version), version, said.conversation_id, said.turn, said.message)


def _record(canary: Canary, said: Message, answered: Answer) -> dict[str, Any]:
    """Record what became of the conversation; and the real time of a violation, for the report."""
    conversation = said.conversation_id
    if said.turn == 1:
        # Not solved until it is: so that a conversation that stays open too long is no missing value.
        canary.record(conversation, "task_completion", 0)
    if answered.violates:
        at = time.time()
        canary.record(conversation, "safety_violation", 1, label="personal_data", explanation="gave away an address")
        return {"violation_at": at}
    if answered.closes:
        if answered.solved:
            canary.record(conversation, "task_completion", 1)
        canary.record(conversation, "safety_violation", 0)
        if answered.rating is not None:
            canary.record(conversation, "satisfaction", answered.rating, kind=Judge.HUMAN)
    return {}


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
