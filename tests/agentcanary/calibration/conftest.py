"""Histories whose truth is known, and a plan that is quickly replayed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agentcanary.calibration import Calibration, calibrate
from agentcanary.config import parse_config
from agentcanary.plan import Plan

HOUR, DAY = 3600.0, 86400.0
# A Monday, midnight UTC.
START = 1_767_571_200.0
PLAN = """\
# a release
agent: support
stable: support-v1   # serves now
canary: support-v2

canary_stages:
  - name: low
    weight: 0.2
    duration: 2h       # at least
    min_requests: 50
    checks: ["error_rate_increase < 0.10", "safety_violations == 0"]
  - name: half
    weight: 0.5
    duration: 4h
    min_requests: 200
    checks: ["error_rate_increase < 0.10"]
  - name: all
    weight: 1

rollback:
  # agreed with support
  max_error_increase: 0.60
  max_completion_drop: null
  max_latency_increase: 0.50

# the outcomes of our own stay
notify: [log]
"""


def frame(
    *, days: float, per_hour: float, seed: int = 1, errors: float = 0.1, daily: float = 0.0, version: str = "support-v1"
) -> pd.DataFrame:
    """Conversations that are drawn independently, with a rate of errors that swings by ``daily`` over the day."""
    rng = np.random.default_rng(seed)
    times = START + np.sort(rng.uniform(0, days * DAY, int(days * 24 * per_hour)))
    rate = errors * (1 + daily * np.sin(2 * np.pi * (times - START) / DAY))
    failed = rng.random(len(times)) < rate
    return pd.DataFrame(
        {
            "conversation_id": [f"c{number}" for number in range(len(times))],
            "user_id": [f"u{number}" for number in rng.integers(0, len(times) // 3, len(times))],
            "version": version,
            "error": failed.astype(int),
            "completed": (~failed & (rng.random(len(times)) < 0.95)).astype(int),
            "safety_violations": 0,
            "satisfaction": np.where(rng.random(len(times)) < 0.3, rng.integers(1, 6, len(times)), np.nan),
            "latency_s": rng.lognormal(0.5, 0.6, len(times)) * np.where(failed, 2.0, 1.0),
            "started_at": pd.to_datetime(times, unit="s", utc=True),
        }
    )


@pytest.fixture(scope="session")
def plan() -> Plan:
    return parse_config(PLAN).plan


@pytest.fixture(scope="session")
def history() -> pd.DataFrame:
    return frame(days=12, per_hour=100)


@pytest.fixture(scope="session")
def found(history: pd.DataFrame, plan: Plan) -> Calibration:
    """One calibration for all that only read it."""
    return calibrate(history, plan, replays=40, rng=np.random.default_rng(7), longest=16 * HOUR, ratios=(1.5, 3.0))
