"""How often a harmless canary is rolled back, and a harmful one promoted, when one looks nearly all the time.

The canary is always as bad as it is allowed to be, on its boundary, where false rollbacks and false promotions are most
frequent: at several base rates, on ramps with drifts, with users who repeat themselves, with failures that end sooner,
and with a split that is not the designed one.

Run: ``nice python benchmarks/sim_false_rollbacks.py [RUNS]``. Prints one table a question, with exact 95 % intervals,
and writes ``benchmarks/results/sim_false_rollbacks.json``. Exits with 1 if a promise is refuted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agentcanary.simulated_outcomes import Effect, Truth
from agentcanary_analysis.cells import BoolArray, FloatArray
from agentcanary_analysis.checks import Boundary, relative_boundary
from agentcanary_analysis.metrics import (
    ERROR_RATE,
    P95_LATENCY,
    TASK_COMPLETION_RATE,
    USER_SATISFACTION,
    Direction,
)
from agentcanary_analysis.questions import Line, answer, log_e_harm, log_e_safe
from agentcanary_analysis.weighing import weigh
from benchmarks.article_plan import provenance
from benchmarks.sim_false_alarms import conditional, sooner, z_test
from benchmarks.simulated_looks import LEVEL, At, Rows, Share, Stretch, ever, looks, share_of

RESULT = Path(__file__).parent / "results" / "sim_false_rollbacks.json"
RUNS = 2000
SIZES = (50, 200, 1000, 5000)
BASE_RATES = (0.005, 0.01, 0.02, 0.05, 0.10, 0.20)
NEEDED = float(-np.log(LEVEL))

EQUAL = Line(ERROR_RATE, Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE))
CRITERION = Line(ERROR_RATE, relative_boundary(ERROR_RATE, 0.10))
COMPLETION = Line(TASK_COMPLETION_RATE, relative_boundary(TASK_COMPLETION_RATE, 0.05))
LATENCY = Line(P95_LATENCY, relative_boundary(P95_LATENCY, 0.50))
SATISFACTION = Line(USER_SATISFACTION, relative_boundary(USER_SATISFACTION, 0.05))
LINES = {"ratio 1, no floor": EQUAL, "+10 % and half a point": CRITERION}

PROOF_WEIGHT = 0.5
RAMP = (Stretch(0.05, 4000), Stretch(0.15, 6000), Stretch(PROOF_WEIGHT, 50_000))
DRIFTING = (Stretch(0.05, 10_000), Stretch(0.25, 10_000), Stretch(PROOF_WEIGHT, 10_000))
# Twelve hours, by which the rate doubles and halves again, while the weight goes up.
HOURS = tuple(Stretch(weight, 2500) for weight in (0.05, 0.15, PROOF_WEIGHT) for _ in range(4))
WAVE = tuple(float(1.5 + 0.5 * np.sin(hour / 2)) for hour in range(len(HOURS)))

Kept = dict[str, Any]


def harmful(line: Line) -> Callable[[At, Rows], BoolArray]:
    """Whether harm is proven at a look, late changes included, as the controller asks it."""

    def says(at: At, rows: Rows) -> BoolArray:
        return np.asarray(log_e_harm(at.outcomes.cells(line, rows), line, alpha=LEVEL) >= NEEDED)

    return says


def proven(line: Line) -> Callable[[At, Rows], BoolArray]:
    """Whether the canary is proven safe at a look."""

    def says(at: At, rows: Rows) -> BoolArray:
        return np.asarray(log_e_safe(at.outcomes.cells(line, rows), line, weight=PROOF_WEIGHT, alpha=LEVEL) >= NEEDED)

    return says


def pooled_z(line: Line) -> Callable[[At, Rows], BoolArray]:
    """A z-test at 5 % on counts added up over the stages, for comparison."""

    def says(at: At, rows: Rows) -> BoolArray:
        cells = at.outcomes.cells(line, rows)
        return z_test(cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n)

    return says


def on_the_line(line: Line, stable: float, *, spread: float = 1.0) -> Truth:
    """A canary that is just as bad as it may be."""
    return Truth(
        effects={line.metric.name: Effect(stable=stable, canary=line.boundary.at(stable), spread=spread)},
    )


def by_base_rate(
    runs: int,
    rng: np.random.Generator,
    base_rates: Sequence[float] = BASE_RATES,
    sizes: Sequence[int] = SIZES,
    weight: float = 0.05,
) -> list[Kept]:
    """Share ever rolled back by so many conversations of the canary, at one weight."""
    rows = []
    for name, line in LINES.items():
        for base in base_rates:
            walk = looks(
                on_the_line(line, base), [line], [Stretch(weight, round(max(sizes) / weight))], runs=runs, rng=rng
            )
            found = ever(walk, harmful(line), runs, sizes)
            rows.append({"boundary": name, "base rate": base, **{f"by {size}": found[size] for size in sizes}})
    return rows


def drifts(runs: int, rng: np.random.Generator) -> list[Kept]:
    """Share ever rolled back along a ramp on which both arms change alike."""
    cases: dict[str, tuple[Line, Effect, Sequence[Stretch]]] = {
        "errors 3, 5, 6 %": (EQUAL, Effect(stable=0.03, canary=0.03, by_stage=(1, 5 / 3, 2)), DRIFTING),
        "errors 6, 5, 3 %": (EQUAL, Effect(stable=0.06, canary=0.06, by_stage=(1, 5 / 6, 1 / 2)), DRIFTING),
        "errors 3 to 6 % by the hour": (EQUAL, Effect(stable=0.03, canary=0.03, by_stage=WAVE), HOURS),
        "the same, + 10 % allowed": (CRITERION, Effect(stable=0.03, canary=0.033, by_stage=WAVE), HOURS),
        "p95 up by 42 %, on + 50 %": (
            LATENCY,
            Effect(stable=2.0, canary=3.0, spread=0.8, by_stage=(1, 1.2, 1.42)),
            DRIFTING,
        ),
        "p95 down by 30 %, on + 50 %": (
            LATENCY,
            Effect(stable=2.0, canary=3.0, spread=0.8, by_stage=(1, 0.85, 0.7)),
            DRIFTING,
        ),
    }
    rows = []
    for name, (line, effect, ramp) in cases.items():
        truth = Truth(effects={line.metric.name: effect})
        row: Kept = {"drift": name}
        for column, says in (("ours", harmful(line)), ("pooled z-test", pooled_z(line))):
            if column == "ours" or line is EQUAL:
                row[column] = ever(looks(truth, [line], ramp, runs=runs, rng=rng), says, runs)[np.inf]
        rows.append(row)
    return rows


def on_boundaries(runs: int, rng: np.random.Generator, base_rates: Sequence[float] = BASE_RATES) -> list[Kept]:
    """Shares ever rolled back and ever proven safe, of canaries on a boundary, over a ramp of 60,000 conversations."""
    cases = {f"errors, {base:.1%} of stable": (CRITERION, base, 1.0) for base in base_rates}
    cases |= {
        "completion, 85 % of stable": (COMPLETION, 0.85, 1.0),
        "p95 latency, lognormal": (LATENCY, 2.0, 0.8),
        "satisfaction, mean 4, spread 1": (SATISFACTION, 4.0, 1.0),
    }
    rows = []
    for name, (line, stable, spread) in cases.items():
        truth = on_the_line(line, stable, spread=spread)
        row: Kept = {"metric": name}
        for column, says in (("rolled back", harmful(line)), ("promoted", proven(line))):
            row[column] = ever(looks(truth, [line], RAMP, runs=runs, rng=rng, growth=0.02), says, runs)[np.inf]
        rows.append(row)
    return rows


def correlated_users(
    runs: int, rng: np.random.Generator, *, correlation: float, weight: float, users: int = 3000, block: int = 20
) -> Kept:
    """Share ever rolled back when a user's conversations fail together; 4 conversations a user in the mean, 5 % fail.

    The versions are equal. Every user has a failure probability of their own (beta), and a look is taken after every
    ``block`` users.
    """
    spread = (1 - correlation) / correlation
    rule = conditional((weight,))
    single, whole, once, squares = (np.zeros((2, runs, 1)) for _ in range(4))
    columns = ("by conversation", "by user, conversations", "by user, tempered", "by user, users with a failure")
    rolled_back = {name: np.zeros(runs, dtype=bool) for name in columns}
    for _ in range(users // block):
        size = rng.geometric(0.25, (runs, block))
        rate = rng.beta(0.05 * spread, 0.95 * spread, (runs, block))
        on_canary = rng.binomial(size, weight)
        for arm, number in enumerate((on_canary, size - on_canary)):
            single[arm, :, 0] += rng.binomial(number, rate).sum(axis=1)
        failures = rng.binomial(size, rate)
        chosen = rng.random((runs, block)) < weight
        for arm, mine in enumerate((chosen, ~chosen)):
            here = np.where(mine, failures, 0)
            whole[arm, :, 0] += here.sum(axis=1)
            squares[arm, :, 0] += (here**2).sum(axis=1)
            once[arm, :, 0] += (here > 0).sum(axis=1)
        # As ``repeat_factor`` does: how many failures of a user stand for one.
        repeats = np.maximum(squares.sum(axis=0), 1) / np.maximum(whole.sum(axis=0), 1)
        for name, (canary, stable) in zip(columns, (single, whole, whole / repeats, once), strict=True):
            rolled_back[name] |= rule(canary, canary, stable, stable)
    return {"correlation": correlation, "weight": weight} | {name: share_of(rolled_back[name]) for name in columns}


def split_off(runs: int, rng: np.random.Generator, *, designed: float, real: float, canary: int = 5000) -> Kept:
    """What happens to equal versions when the canary gets another share than was designed."""
    truth = Truth(effects={ERROR_RATE.name: Effect(stable=0.05, canary=0.05)})
    alarmed, by_design, held, promoted = np.zeros((4, runs), dtype=np.bool_)
    when = np.full(runs, np.inf)
    for at in looks(truth, [EQUAL], [Stretch(real, round(canary / real))], runs=runs, rng=rng, growth=0.02):

        def believed(weight: FloatArray) -> FloatArray:
            return np.full_like(weight, designed)

        cells, split = at.outcomes.cells(EQUAL, at.rows), at.outcomes.split(at.rows)
        cells, split = replace(cells, weight=believed(cells.weight)), split._replace(weight=believed(split.weight))
        found = answer(cells, EQUAL, weight=designed, alpha=LEVEL, alpha_promote=LEVEL)
        weighed = weigh([EQUAL], [cells], [found], split, alpha=LEVEL)
        when[weighed.alarm & ~alarmed] = at.canary
        alarmed |= weighed.alarm
        by_design |= found.log_e_harm >= NEEDED
        held |= weighed.harmed
        promoted |= found.safe & ~weighed.alarm
    return {
        "designed": designed,
        "real": real,
        "detected": share_of(alarmed),
        "median canary conversations until then": float(np.median(when)) if np.isfinite(np.median(when)) else None,
        "rolled back, by design alone": share_of(by_design),
        "rolled back, ours": share_of(held),
    }


def split_table(runs: int, rng: np.random.Generator) -> list[Kept]:
    """``split_off`` of several shares; first of the designed one."""
    shares = ((0.5, 0.5), (0.5, 0.53), (0.5, 0.47), (0.05, 0.06), (0.05, 0.075))
    return [split_off(runs, rng, designed=designed, real=real) for designed, real in shares]


def correlated_table(runs: int, rng: np.random.Generator) -> list[Kept]:
    """``correlated_users`` of several correlations and weights."""
    cases = ((0.05, 0.5), (0.2, 0.5), (0.5, 0.5), (0.2, 0.05))
    return [correlated_users(runs, rng, correlation=correlation, weight=weight) for correlation, weight in cases]


def sooner_table(runs: int, rng: np.random.Generator) -> list[Kept]:
    """Failures of the canary end after 2 minutes, those of stable after 20, and are as many."""
    found = sooner(runs=runs, rng=rng)
    return [{"counted": name} | {"rolled back": Share(round(share * runs), runs)} for name, share in found.items()]


TABLES: dict[str, Callable[[int, np.random.Generator], list[Kept]]] = {
    "rolled back by so many canary conversations, 5 % of the traffic": by_base_rate,
    "rolled back along a ramp, both arms drift": drifts,
    "on the boundary, 60,000 conversations at 5, 15 and 50 %": on_boundaries,
    "users whose conversations fail together, equal versions": correlated_table,
    "equal failures that end sooner in the canary": sooner_table,
    "a split that is not the designed one, equal versions": split_table,
}
# Where nothing is promised: other methods, a count that the documents warn of, a split that breaks the design.
NOT_PROMISED = {
    "pooled z-test",
    "by user, conversations",
    "by user, tempered",
    "rolled back, by design alone",
    "detected",
    "counted when they end",
}


def refuted(rows: Sequence[Kept]) -> list[str]:
    """The cells that refute a promise."""
    return [
        f"{row}: {name} {value}"
        for row in rows
        for name, value in row.items()
        if isinstance(value, Share)
        and value.refutes()
        and name not in NOT_PROMISED
        and row.get("counted") not in NOT_PROMISED
        and row.get("designed") == row.get("real")
    ]


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    only = sys.argv[2:]
    tables: Kept = json.loads(RESULT.read_text(encoding="utf-8"))["tables"] if only else {}
    broken = []
    for number, (title, table) in enumerate(TABLES.items()):
        if only and str(number) not in only:
            continue
        rows = table(runs, np.random.default_rng([2027, number]))
        broken += refuted(rows)
        print(f"\n{title} ({runs} runs)")
        for row in rows:
            print("  ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
        kept = [
            {name: value.kept() if isinstance(value, Share) else value for name, value in row.items()} for row in rows
        ]
        tables[title] = {**provenance(), "runs": runs, "rows": kept}
    RESULT.write_text(json.dumps({"alpha": LEVEL, "tables": tables}, indent=1) + "\n", encoding="utf-8")
    if broken:
        sys.exit("refuted: " + "; ".join(broken))


if __name__ == "__main__":
    main()
