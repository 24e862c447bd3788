"""A LangGraph graph a version, behind FastAPI. The server makes the thread; later turns carry it in the path.

Run it, then ``curl -X POST localhost:8000/threads``, and POST ``{"message": "Hi"}`` to ``/threads/THREAD/runs``.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config

CONFIG = """
agent: support
stable: support-v1
canary: support-v2
conversation: {preset: langgraph}
canary_stages:
  - {name: half, weight: 0.5, duration: 30m, min_requests: 200, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1}
"""
memory = InMemorySaver()


def graph_of(version: str) -> Any:
    """A graph of one step, compiled when its version is first served; all versions share the memory of threads."""
    reply = {"messages": [("ai", f"Answered by {version}")]}
    graph = StateGraph(MessagesState).add_node("answer", lambda _: reply).add_edge(START, "answer")
    return graph.compile(checkpointer=memory)


canary = Canary(parse_config(CONFIG))
for name in ("support-v1", "support-v2"):
    canary.registry.register(name, partial(graph_of, name))
app = FastAPI()
app.add_middleware(CanaryMiddleware, canary=canary)


@app.post("/threads")
async def create() -> dict[str, str]:
    """A new thread: its version is chosen here."""
    return {"thread_id": uuid.uuid4().hex}


@app.post("/threads/{thread_id}/runs")
async def run(thread_id: str, body: dict[str, str]) -> dict[str, str]:
    """One run of the thread, by the graph of its version."""
    graph, config = await canary.registry.get(current_version()), {"configurable": {"thread_id": thread_id}}
    return {"reply": (await graph.ainvoke({"messages": [("user", body["message"])]}, config))["messages"][-1].content}


if __name__ == "__main__":
    uvicorn.run(app, port=8000)
