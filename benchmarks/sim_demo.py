"""How often the demo's rollouts come out as promised, by simulation of its plan, its traffic and its time.

The demo's salts are random, so its rollouts differ from run to run. What a real run adds to a simulated one is time:
a conversation is counted at its horizon, a worker's heartbeat and the controller's look come up to a second late
each, and a new weight holds from the end of its hand-over; that is taken off the time that a rollout has.
"""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

import numpy as np

from agentcanary.config import parse_config
from agentcanary.demo.behaviour import Behaviour
from agentcanary.demo.scenarios import SCENARIOS, Promise, Scenario, canary_yaml
from agentcanary.demo.timing import SPEED
from agentcanary.simulate import Effect, End, Truth, simulate

RUNS = 4000
SEED = 20_260_301
RESULT = Path(__file__).parent / "results" / "sim_demo.json"
# Real seconds: of the whole demo but its start; per stage the horizon, hand-over, heartbeat and look.
LASTS = 82.0
STAGE_COSTS = 1200.0 / SPEED + 2.3 + 2.4
# Quantile of a standard normal variable at 0.95.
Q95 = 1.6448536
# Real seconds that the machine adds to every answer.
OVERHEAD = 0.02


def truth(one: Scenario) -> Truth:
    """What the scenario's two versions are like."""

    def latency(of: Behaviour) -> float:
        return float(of.latency * np.exp(Q95 * of.spread) + OVERHEAD)

    def solved(of: Behaviour) -> float:
        return (1 - of.failing) * of.solving

    stable, canary = one.stable, one.canary
    return Truth(
        effects={
            "error_rate": Effect(stable=stable.failing, canary=canary.failing),
            "task_completion_rate": Effect(stable=solved(stable), canary=solved(canary)),
            "p95_latency": Effect(stable=latency(stable), canary=latency(canary), spread=stable.spread),
        }
    )


def main() -> None:
    """Simulate, print and keep."""
    rng = np.random.default_rng(SEED)
    rows = []
    for one in SCENARIOS:
        if one.promise is Promise.STOPPED:
            continue
        plan = parse_config(canary_yaml(one.name)).plan
        stages = len(plan.stages) - 1 if one.promise is not Promise.ROLLED_BACK else 2
        seconds = min(LASTS, one.until or LASTS) - stages * STAGE_COSTS
        found = simulate(
            plan,
            truth(one),
            runs=RUNS,
            rng=rng,
            look_every=round(one.rate),
            max_conversations=round(one.rate * seconds),
            conversations_per_hour=one.rate * 3600 / SPEED,
        )
        shares = {end.value: found.share(end) for end in End}
        kept = {
            Promise.PROMOTED: shares["promoted"],
            Promise.ROLLED_BACK: shares["rolled_back"],
            Promise.KEPT: 1 - shares["rolled_back"],
        }[one.promise]
        rows.append({"rollout": one.name, "promised": one.promise.value, "as_promised": kept, "ends": shares})
        print(f"{one.name:8} {one.promise.value:16} {kept:.2%}   {shares}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runs": RUNS,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(result | {"seed": SEED}, indent=2) + "\n")


if __name__ == "__main__":
    main()
