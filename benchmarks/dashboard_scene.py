"""A rollout with four epochs and eight checks, counted and looked at: for the benchmark, and to look at its pages."""

from __future__ import annotations

import random
from pathlib import Path

from agentcanary.assignment import assign, bucket, must_store
from agentcanary.config import Config, parse_config
from agentcanary.controller import Controller
from agentcanary.outcomes import Outcome, Record, TurnEnded, TurnOutcome, TurnStarted
from agentcanary.rollout import Phase, view_of
from agentcanary.segments import Segment
from agentcanary.state_machine import new_rollout
from agentcanary.store import Store, Worker
from agentcanary.testing import FrozenClock, RecordingNotifier

CONFIG = """
agent: support
stable: support-v1
canary: support-v2
horizon: 5m
metrics:
  - {name: cost, kind: mean, worse: up, rollback_margin: 0.3}
  - {name: tokens, kind: mean, worse: up, rollback_margin: 0.5}
  - {name: escalated, kind: proportion, worse: up, rollback_margin: 0.5, on_fail: warn}
canary_stages:
  - {name: initial, weight: 0.05, duration: 20m, min_requests: 20, checks: ["error_rate_increase < 1.9"]}
  - {name: low, weight: 0.15, duration: 40m, min_requests: 40, checks: ["error_rate_increase < 1.9"]}
  - {name: quarter, weight: 0.25, duration: 40m, min_requests: 60, checks: ["error_rate_increase < 1.9"]}
  - name: half
    weight: 0.5
    duration: 24h
    min_requests: 4000
    checks:
      - "error_rate_increase < 0.03"
      - "task_completion_regression < 0.02"
      - "p95_latency_increase < 0.30"
      - "safety_violations == 0"
      - "satisfaction_regression < 0.05"
      - "cost_increase < 0.10"
      - "tokens_increase < 0.20"
      - "escalated_increase < 0.50"
  - {name: full, weight: 1.0}
freeze:
  - {days: [fri, sat, sun], timezone: Europe/Berlin}
security:
  tokens: [{name: anna, scopes: [operate], env: ANNA}]
"""
STEP = 600.0
# What goes with each conversation: the outcome, and its value on both arms.
LEVELS = {"task_completion": (0.85, 0.84), "cost": (0.04, 0.042), "tokens": (900.0, 940.0), "satisfaction": (4.1, 4.05)}


def play(
    folder: Path, *, begins: float, steps: int = 30, per_step: int = 160, canary_errors: float = 0.06, seed: int = 7
) -> tuple[Config, Store, FrozenClock]:
    """A rollout that has been running for some hours, in a store of its own.

    Args:
        folder: Where the store is made.
        begins: Unix time in seconds.
        steps: Of ten minutes each, with a look at the end of each.
        per_step: Conversations in each.
        canary_errors: The canary's error rate; stable has 0.05.
        seed: Of everything random.
    """
    rng, clock = random.Random(seed), FrozenClock(begins)
    config = parse_config(CONFIG, str(folder / "canary.yaml"))
    store = Store(config.store)
    controller = Controller(
        store,
        agent=config.agent,
        stable=config.stable,
        canary=config.canary,
        plan=config.plan,
        clock=clock,
        owner="scene",
        notify=RecordingNotifier(),
    )
    store.start(new_rollout("support", "support-v1", "support-v2", config.plan, now=clock(), new_salt=b"scene"))
    controller.tick()
    for step in range(steps):
        clock.advance(10)
        current = store.current("support")
        if current is None or current.phase in (Phase.ROLLED_BACK, Phase.PROMOTED):
            break
        view = view_of("support", current, stable="support-v1", canary="support-v2", handover=2.0)
        records: list[Record] = []
        for number in range(per_step):
            at = clock() + (STEP - 10) * number / per_step
            unit = f"c{step}-{number}"
            given = assign(view, unit, bucket(view.salt, unit), now=at, fresh=True)
            if must_store(given):
                store.put_pin("support", view.rollout, unit, given.pin, at)
            on_canary = given.arm.value == "canary"
            fails = rng.random() < (canary_errors if on_canary else 0.05)
            latency = rng.lognormvariate(0.08 if on_canary else 0.0, 0.5)
            outcome = TurnOutcome.ERROR if fails else TurnOutcome.OK
            records += [
                TurnStarted(unit, given, at),
                TurnEnded(unit, given, at, at + latency, latency, latency / 2, outcome),
            ]
            for name, levels in LEVELS.items():
                level = levels[on_canary]
                value = (
                    float(rng.random() < level) if level < 1 and name != "cost" else level * rng.lognormvariate(0, 0.3)
                )
                records.append(_outcome(unit, name, value, at))
            records.append(_outcome(unit, "escalated", float(rng.random() < 0.1), at))
            records.append(_outcome(unit, Segment("language", ("en", "en", "de", "fr")[number % 4]).outcome, 1.0, at))
        records.append(_outcome(f"c{step}-0", "safety_violation", 0.0, clock()))
        store.apply(f"scene-{step}", records)
        clock.advance(STEP - 10)
        store.heartbeat(_worker(clock(), "w1"))
        store.heartbeat(_worker(clock(), "w2"))
        controller.tick()
    return config, store, clock


def _outcome(unit: str, name: str, value: float, at: float) -> Outcome:
    return Outcome(id=f"{name}-{unit}", agent="support", conversation_id=unit, name=name, value=value, at=at + 20)


def _worker(now: float, name: str) -> Worker:
    return Worker(
        id=name,
        agent="support",
        host="agents-1",
        pid=4242,
        config_hash="a",
        started_at=now - 3600,
        reachable_since=now - 3600,
        heartbeat_at=now,
        flushed_until=now,
        degraded={"pin_lookup": 3} if name == "w2" else {},
    )
