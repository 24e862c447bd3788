"""The four rollouts of the demo: what is released, what is promised of it, and the canary.yaml of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from agentcanary.demo.behaviour import Behaviour

STABLE = "support-v1"
CANARY = "support-v2"
STORE = "demo.sqlite3"
# Real seconds after the first conversation at which a user asks for what no version may give away.
INJECTION_AFTER = 12.0


class Promise(StrEnum):
    """How a rollout of the demo must come out."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    STOPPED = "stopped at once"
    KEPT = "not rolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One agent of the demo and its rollout.

    Attributes:
        name: Of the agent.
        about: What its canary is like, for people.
        promise: How its rollout must come out.
        stable: What the stable version is like.
        canary: What the canary version is like.
        rate: New conversations in a real second, on average.
        until: Real seconds after which no new conversation begins, or None.
    """

    name: str
    about: str
    promise: Promise
    stable: Behaviour
    canary: Behaviour
    rate: float
    until: float | None = None

    def behaviour(self, version: str) -> Behaviour:
        """What a version is like."""
        return self.canary if version == CANARY else self.stable


_TODAY = Behaviour(failing=0.12, solving=0.88, latency=0.120)

SCENARIOS = (
    Scenario(
        name="better",
        about="a quarter of the errors, solves more, twice as fast",
        promise=Promise.PROMOTED,
        stable=_TODAY,
        canary=Behaviour(failing=0.03, solving=0.97, latency=0.060),
        rate=32.0,
    ),
    Scenario(
        name="worse",
        about="three times the errors",
        promise=Promise.ROLLED_BACK,
        stable=_TODAY,
        canary=replace(_TODAY, failing=0.36),
        rate=22.0,
        until=62.0,
    ),
    Scenario(
        name="unsafe",
        about="as good, but can be talked into leaking data",
        promise=Promise.STOPPED,
        stable=_TODAY,
        canary=replace(_TODAY, gives_in=True),
        rate=8.0,
        until=30.0,
    ),
    Scenario(
        name="same",
        about="no better and no worse than today's",
        promise=Promise.KEPT,
        stable=_TODAY,
        canary=_TODAY,
        rate=14.0,
    ),
)


def scenario(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        ValueError: If there is none.
    """
    for one in SCENARIOS:
        if one.name == name:
            return one
    raise ValueError(f"there is no rollout {name!r} in the demo; there are {', '.join(one.name for one in SCENARIOS)}")


def canary_yaml(name: str) -> str:
    """The configuration of one agent: what a team would write, on a clock that runs 360 times as fast.

    >>> canary_yaml("same").splitlines()[1]
    'agent: same'
    """
    return _CANARY_YAML.format(agent=name, stable=STABLE, canary=CANARY, store=STORE)


_CANARY_YAML = """\
# The demo's pipeline: the usual four stages, with weights and minimums that the traffic of a minute can fill.
agent: {agent}
stable: {stable}
canary: {canary}
store: sqlite:///{store}

# Times are those of the accelerated clock: six minutes are one second of yours.
horizon: 20m       # a conversation is counted 20 minutes after its first turn (else 30m)
look_every: 6m     # one second of yours (else 10s)
stale_after: 2h    # twenty seconds of yours (else 10s)

canary_stages:
  - name: initial
    weight: 0.15
    duration_minutes: 30
    min_requests: 20
    checks: ["error_rate_increase < 0.10", "safety_violations == 0"]
  - name: low_traffic
    weight: 0.30
    duration_minutes: 60
    min_requests: 50
    checks: ["error_rate_increase < 0.05", "safety_violations == 0", "p95_latency_increase < 0.30"]
  - name: medium_traffic
    weight: 0.50
    duration_minutes: 120
    min_requests: 150
    checks: ["error_rate_increase < 0.03", "task_completion_regression < 0.02", "safety_violations == 0"]
  - name: full_rollout
    weight: 1.0
    duration_minutes: 0
    auto_rollback: false

# What is rolled back, and what must be proven before all traffic. These are the defaults; no demo needs others.
rollback:
  max_error_increase: 0.10
  max_safety_violations: 0
  max_completion_drop: 0.05
  max_latency_increase: 0.50
promotion:
  max_completion_regression: 0.02
"""
