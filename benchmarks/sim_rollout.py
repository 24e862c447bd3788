"""What becomes of harmless and harmful canaries under the article's plan, through the real engine and state machine.

Run: ``python benchmarks/sim_rollout.py [RUNS] [--only PART] [--processes 1]``. Prints two tables and writes
``benchmarks/results/sim_rollout.json``.
The first stands beside the reference that the method was specified with; the second judges latency, satisfaction and
safety too. Looks every 200 conversations of both arms, at most 60,000 of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from agentcanary.simulate import Effect, Truth
from benchmarks.article_plan import ERRORS_AND_COMPLETION, WHOLE, provenance, row_of, run

RESULT = Path(__file__).parent / "results" / "sim_rollout.json"
RUNS = 1000
TIMED_RUNS, TIME_LIMIT = 2000, 20.0


class Reference(NamedTuple):
    """Percent of 300 runs (± 3), median conversations to the end; None where the table has none."""

    promoted: int
    rolled_back: int
    conversations: int | None


# The specification's simulation: true canary → factor on errors, on completion, base rate of errors, reference.
ROWS = {
    "the same": (1.0, 1.0, 0.05, Reference(99, 0, 21_000)),
    "errors x 0.8, completion x 1.02": (0.8, 1.02, 0.05, Reference(100, 0, 6_800)),
    "errors x 1.1 (within the boundary)": (1.1, 1.0, 0.05, Reference(42, 0, 37_800)),
    "errors x 1.2 (on the boundary)": (1.2, 1.0, 0.05, Reference(1, 1, None)),
    "errors x 1.5": (1.5, 1.0, 0.05, Reference(0, 97, 16_500)),
    "errors x 2": (2.0, 1.0, 0.05, Reference(0, 100, 4_800)),
    "errors x 3": (3.0, 1.0, 0.05, Reference(0, 100, 2_000)),
    "completion x 0.95": (1.0, 0.95, 0.05, Reference(1, 0, None)),
    "completion x 0.90": (1.0, 0.90, 0.05, Reference(0, 100, 6_200)),
    "completion x 0.85": (1.0, 0.85, 0.05, Reference(0, 100, 3_000)),
    "the same, at 1 % errors": (1.0, 1.0, 0.01, Reference(100, 0, 12_800)),
    "errors x 3, at 1 % errors": (3.0, 1.0, 0.01, Reference(0, 99, 8_400)),
}
# True canary → factor on errors, completion, p95 latency, satisfaction; chance of a violation in a conversation.
WHOLE_ROWS = {
    "the same": (1.0, 1.0, 1.0, 1.0, 0.0),
    "errors x 2": (2.0, 1.0, 1.0, 1.0, 0.0),
    "completion x 0.90": (1.0, 0.9, 1.0, 1.0, 0.0),
    "p95 latency x 1.25 (within the boundary)": (1.0, 1.0, 1.25, 1.0, 0.0),
    "p95 latency x 1.5 (on the boundary)": (1.0, 1.0, 1.5, 1.0, 0.0),
    "p95 latency x 2": (1.0, 1.0, 2.0, 1.0, 0.0),
    "p95 latency x 3": (1.0, 1.0, 3.0, 1.0, 0.0),
    "satisfaction x 0.95 (on the boundary)": (1.0, 1.0, 1.0, 0.95, 0.0),
    "satisfaction x 0.90": (1.0, 1.0, 1.0, 0.90, 0.0),
    "satisfaction x 0.80": (1.0, 1.0, 1.0, 0.80, 0.0),
    "a violation in 1000 conversations": (1.0, 1.0, 1.0, 1.0, 0.001),
}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("runs", type=int, nargs="?", default=RUNS)
    given.add_argument("--processes", type=int, default=2)
    given.add_argument("--only", choices=PARTS, action="append", help="what to renew; the other parts are kept")
    asked = given.parse_args()
    result = json.loads(RESULT.read_text(encoding="utf-8")) if asked.only else {}
    result |= {"look_every": 200, "max_conversations": 60_000, "alpha": 0.05, "alpha_promote": 0.05}
    for part in asked.only or PARTS:
        result[part] = {**provenance(), **PARTS[part](asked.runs, asked.processes)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def reference_table(runs: int, processes: int) -> dict[str, Any]:
    print(f"errors and completion, {runs} runs a row; in brackets the reference (300 runs, so ± 3 points)")
    print(f"{'true canary':36} {'promoted':>14} {'rolled back':>14} {'holding':>8} {'median conversations':>22}")
    rows = []
    for seed, (name, (errors, completion, base, reference)) in enumerate(ROWS.items()):
        effects = {
            "error_rate": Effect(stable=base, canary=base * errors),
            "task_completion_rate": Effect(stable=0.85, canary=0.85 * completion),
        }
        found = run(ERRORS_AND_COMPLETION, Truth(effects=effects), runs=runs, seed=seed, processes=processes)
        row = row_of(name, found)
        row["reference"] = reference._asdict()
        rows.append(row)
        known = f"{reference.conversations:,}" if reference.conversations else "-"
        print(
            f"{name:36} {row['promoted']:7.1%} ({reference.promoted:3d}%) {row['rolled_back']:7.1%} "
            f"({reference.rolled_back:3d}%) {row['holding']:8.1%} {_median(row):>12} ({known})",
            flush=True,
        )
    return {"rows": rows}


def whole_table(runs: int, processes: int) -> dict[str, Any]:
    print(
        "\nerrors, completion, p95 latency (lognormal, spread 0.8), satisfaction (mean 4, spread 1, all rated), safety"
    )
    print(f"{'true canary':42} {'promoted':>9} {'rolled back':>12} {'holding':>8} {'median':>8} {'safety stops':>13}")
    rows = []
    for seed, (name, (errors, completion, latency, satisfaction, violations)) in enumerate(WHOLE_ROWS.items(), 100):
        effects = {
            "error_rate": Effect(stable=0.05, canary=0.05 * errors),
            "task_completion_rate": Effect(stable=0.85, canary=0.85 * completion),
            "p95_latency": Effect(stable=2.0, canary=2.0 * latency, spread=0.8),
            "user_satisfaction": Effect(stable=4.0, canary=4.0 * satisfaction, spread=1.0),
        }
        truth = Truth(effects=effects, violations=violations)
        row = row_of(name, run(WHOLE, truth, runs=runs, seed=seed, processes=processes))
        rows.append(row)
        print(
            f"{name:42} {row['promoted']:9.1%} {row['rolled_back']:12.1%} {row['holding']:8.1%} {_median(row):>8} "
            f"{row['safety_stops']:13d}",
            flush=True,
        )
    return {"rows": rows}


def timed(_runs: int, processes: int) -> dict[str, Any]:
    """Wall time, which says nothing on a busy machine, and the processors' own time, which says more."""
    effects = {
        "error_rate": Effect(stable=0.05, canary=0.05),
        "task_completion_rate": Effect(stable=0.85, canary=0.85),
    }
    before, begun = _processor_seconds(), time.perf_counter()
    run(ERRORS_AND_COMPLETION, Truth(effects=effects), runs=TIMED_RUNS, seed=999, processes=processes)
    seconds, used = time.perf_counter() - begun, _processor_seconds() - before
    print(
        f"\n{TIMED_RUNS} rollouts of an equal canary in {seconds:.1f} s with {processes} processes; {used:.1f} s of "
        f"processors, so {used / 2:.1f} s of two idle cores (limit {TIME_LIMIT:.0f} s)"
    )
    return {
        "runs": TIMED_RUNS,
        "seconds": seconds,
        "processor_seconds": used,
        "processes": processes,
        "limit_seconds": TIME_LIMIT,
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


PARTS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "errors_and_completion": reference_table,
    "all_metrics": whole_table,
    "speed": timed,
}


def _median(row: dict[str, Any]) -> str:
    end = "promoted" if row["promoted"] > row["rolled_back"] else "rolled_back"
    median = row["median_conversations"][end]
    return "-" if median is None or max(row["promoted"], row["rolled_back"]) < 0.3 else f"{median:,.0f}"


if __name__ == "__main__":
    main()
