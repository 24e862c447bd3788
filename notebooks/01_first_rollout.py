# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A bad version goes out. What happens?
#
# `support-v2` passed its tests, and it fails four times as often as `support-v1` when real people talk to it. This
# notebook releases it as a canary, in this very process: a small ASGI application with the middleware, a few hundred
# conversations, a clock that runs 1,800 times as fast. The question: **is it taken back before it has met many people,
# and does anybody change the version in the middle of a conversation?**

# %%
import asyncio
import logging
import random
import tempfile
import time
from pathlib import Path

import httpx
import pandas as pd
import structlog
from IPython.display import display
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import agentcanary
from agentcanary import AcceleratedClock, Canary, CanaryMiddleware, current_version

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # no log lines in between
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The plan
#
# Two stages before the whole traffic. Everything that is not said has a default: errors may rise by 10 % and half a
# point, tasks solved may fall by 5 %, one confirmed safety violation is one too many.

# %%
STORE = f"sqlite:///{folder}/canary.sqlite3"
PLAN = """
agent: support
stable: support-v1
canary: support-v2
look_every: 5m
stale_after: 10h
conversation: {idle_after: 6h}
canary_stages:
  - name: few
    weight: 0.2
    duration: 2h
    min_requests: 100
    checks: ["error_rate_increase < 0.10"]
  - name: half
    weight: 0.5
    duration: 4h
    min_requests: 500
    checks: ["error_rate_increase < 0.05"]
  - name: all
    weight: 1.0
    duration: 0s
"""
_ = (folder / "canary.yaml").write_text(f"{PLAN}store: {STORE}\n")

# %% [markdown]
# ## The application
#
# One line mounts the middleware, one line asks which version is to serve. The language model is a coin: v1 fails in
# 5 % of its turns, v2 in 20 %, and it takes about 20 ms.

# %%
FAILING = {"support-v1": 0.05, "support-v2": 0.20}
coin = random.Random(7)
clock = AcceleratedClock(origin=time.time(), speed=1800.0)
canary = Canary.from_file(folder / "canary.yaml", clock=clock)


async def chat(request: Request) -> JSONResponse:
    version = current_version()
    await asyncio.sleep(coin.lognormvariate(-4.0, 0.4))
    if coin.random() < FAILING[version]:
        return JSONResponse({"error": "the model could not be reached", "version": version}, status_code=500)
    return JSONResponse({"reply": "It is on its way.", "version": version})


app = Starlette(routes=[Route("/chat", chat, methods=["POST"])])
app.add_middleware(CanaryMiddleware, canary=canary)

# %% [markdown]
# ## The people
#
# Each conversation has three turns with pauses between them, so that many are live whenever something changes. New ones
# keep coming until the rollout has ended.

# %%
said = []


async def conversation(client: httpx.AsyncClient, name: str) -> None:
    for turn in range(3):
        body = {"conversation_id": name, "message": "Where is my parcel?"}
        answer = await client.post("/chat", json=body)
        said.append({"conversation": name, "turn": turn, "at": clock(), **answer.json()})
        await asyncio.sleep(coin.uniform(0.1, 0.4))


async def people(client: httpx.AsyncClient, *, most: int = 3000) -> None:
    talking = set()
    for number in range(0, most, 4):
        talking |= {asyncio.create_task(conversation(client, f"c{number + one}")) for one in range(4)}
        await asyncio.sleep(0.05)
        view, _ = canary.view()
        if view.taken_back:
            break
    await asyncio.gather(*talking)


await canary.start()
while not canary.view()[0].open:  # the rollout starts by itself, a moment later
    await asyncio.sleep(0.02)
async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://agent") as client:
    await people(client)
await canary.stop()
print(f"{len(said):,} turns of {len({one['conversation'] for one in said}):,} conversations")

# %% [markdown]
# ## What came of it
#
# The report is read from the store, as `agentcanary report` would on a server.

# %%
report = agentcanary.report(STORE, clock=clock)
report

# %% [markdown]
# The evidence at every look. It is an e-value: it may be looked at as often as one likes, and a harmless version
# reaches the line in less than one rollout of twenty. Below it what the rollout did: the weight of the canary.

# %%
charts = report.plots(width=480).charts
display(charts[0], charts[-1])

# %% [markdown]
# ## Who met it, and who was moved?
#
# A conversation stays where it began. Only when the version is taken back, those that are still live on it go back to
# stable, with their next turn.

# %%
turns = pd.DataFrame(said)
taken_back_at = report.course.until
versions = turns.groupby("conversation")["version"].nunique()
moved = turns[turns["conversation"].isin(versions.index[versions > 1])]
back_and_forth = moved.sort_values(["conversation", "turn"]).groupby("conversation")["version"].agg(list)

first = turns[turns["turn"] == 0]
met = first["version"].eq("support-v2").mean()
moved_to_canary = sum("support-v2" in after[1:] and after[0] == "support-v1" for after in back_and_forth)
early = moved.sort_values("turn").groupby("conversation").last()["at"].lt(taken_back_at).sum()
hours = (taken_back_at - report.course.began_at) / 3600
print(f"taken back after {hours:.1f} hours on the rollout's clock")
print(f"{met:.0%} of the conversations met the bad version")
print(f"{len(back_and_forth)} live conversations went back to stable when it was taken back, {early} before")
print(f"{moved_to_canary} were moved from stable to the canary")
