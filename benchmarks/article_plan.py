"""The source article's pipeline as a plan, and what its simulations share: two processes, where results come from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from agentcanary.plan import DEFAULT_CRITERIA, Criterion, Plan, Stage
from agentcanary.simulate import End, OperatingCharacteristics, Truth, simulate
from agentcanary_analysis.checks import parse_check

_PARTS = 2


def _stage(name: str, weight: float, minutes: float, least: int, *checks: str) -> Stage:
    return Stage(
        name=name,
        weight=weight,
        duration=60 * minutes,
        min_conversations=least,
        checks=tuple(parse_check(check) for check in checks),
    )


_SAFE = "safety_violations == 0"
_FULL = Stage(name="full_rollout", weight=1.0, duration=0.0, auto_rollback=False)

WHOLE = Plan(
    stages=(
        _stage("initial", 0.05, 30, 50, "error_rate_increase < 0.10", _SAFE),
        _stage("low_traffic", 0.15, 60, 200, "error_rate_increase < 0.05", _SAFE, "p95_latency_increase < 0.30"),
        _stage(
            "medium_traffic", 0.5, 120, 1000, "error_rate_increase < 0.03", "task_completion_regression < 0.02", _SAFE
        ),
        _FULL,
    ),
    criteria=(*DEFAULT_CRITERIA, Criterion(metric="user_satisfaction", margin=0.05)),
)
"""The article's stages, checks and rollback criteria, with satisfaction as a fourth criterion."""


def _without_latency(stage: Stage) -> Stage:
    return replace(stage, checks=tuple(check for check in stage.checks if check.metric != "p95_latency"))


ERRORS_AND_COMPLETION = Plan(
    stages=tuple(_without_latency(stage) for stage in WHOLE.stages),
    criteria=tuple(one for one in WHOLE.criteria if one.metric in ("error_rate", "task_completion_rate")),
)
"""The same, judging errors and completion only."""


def run(plan: Plan, truth: Truth, *, runs: int, seed: int, processes: int = _PARTS) -> OperatingCharacteristics:
    """``simulate`` in two parts, each with its own stream of one seed: the same result in one process or in two."""
    seeds = np.random.SeedSequence(seed).spawn(_PARTS)
    sizes = [runs // _PARTS + (part < runs % _PARTS) for part in range(_PARTS)]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(_part, [plan] * _PARTS, [truth] * _PARTS, sizes, seeds))
    return OperatingCharacteristics(
        ends=tuple(end for part in parts for end in part.ends),
        conversations=tuple(size for part in parts for size in part.conversations),
        stages=tuple(stage for part in parts for stage in part.stages),
        causes=tuple(cause for part in parts for cause in part.causes),
    )


def _part(plan: Plan, truth: Truth, runs: int, seed: np.random.SeedSequence) -> OperatingCharacteristics:
    return simulate(plan, truth, runs=runs, rng=np.random.default_rng(seed))


def row_of(name: str, found: OperatingCharacteristics) -> dict[str, Any]:
    """What is kept of one row."""
    return {
        "canary": name,
        "runs": found.runs,
        **{end.value: found.share(end) for end in End},
        "median_conversations": {end.value: found.median_conversations(end) for end in (End.PROMOTED, End.ROLLED_BACK)},
        "safety_stops": found.causes.count("safety"),
    }


def provenance(packages: Sequence[str] = ("numpy", "scipy")) -> dict[str, Any]:
    """Where a result comes from."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "commit": commit,
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }
