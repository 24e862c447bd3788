"""How soon a harmful canary is found, and how often a harmless one would be: ours beside six other rules.

All rules ask whether the canary has more errors than stable, at the same looks at the same rollouts. Those with a fixed
size know the ratio that they are made for, have 80 % power for it and look once; the group-sequential ones look ten
times and know that there will be 5,000 conversations of the canary; the others look nearly all the time.

Three of a fixed size: the exact binomial test, whose error is below 5 % at any size, as ours is; the z-test with the
size of the textbook formula, by which the method was specified; and the score test, which needs least and whose true
error is above 5 % where events are few.

Run: ``nice python benchmarks/sim_time_to_detect.py [RUNS [WEIGHT …]]``. Prints one table and writes
``benchmarks/results/sim_time_to_detect.json``. Exits with 1 if ours, at ratio 1 without a floor, needs more
conversations in the median than the exact test of a fixed size for a canary that is 1.5 times as bad, or worse; or if
its false alarms refute their limit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import binom

from agentcanary.simulated_outcomes import Effect, Truth
from agentcanary_analysis.cells import BoolArray, Cells, FloatArray
from agentcanary_analysis.group_sequential import obrien_fleming_spending, pocock_spending, spending_bounds
from agentcanary_analysis.power import canary_units_needed
from agentcanary_analysis.questions import log_e_harm
from benchmarks.article_plan import provenance
from benchmarks.sim_false_alarms import article_rule
from benchmarks.sim_false_rollbacks import CRITERION, EQUAL, NEEDED
from benchmarks.simulated_looks import LEVEL, Share, Stretch, looks

RESULT = Path(__file__).parent / "results" / "sim_time_to_detect.json"
RUNS = 1000
MOST = 5000
RATIOS = (1.25, 1.5, 2.0, 3.0)
WEIGHTS = (0.05, 0.15, 0.50)
BASE_RATES = (0.05, 0.10)
PLANNED_LOOKS = 10
TUNED_TO = 5000.0

OURS = "ours, ratio 1"
FIXED = "fixed size, exact test"
POWER = 0.8

Counts = npt.NDArray[np.int64]
# Which rollouts are rolled back at a look: their counts (one epoch), and the planned look that it is, or None.
Rule = Callable[[Cells, int | None], BoolArray]


def z_of(cells: Cells) -> FloatArray:
    """The pooled z statistic, positive where the canary has more errors; 0 where it has no spread."""
    k_c, n_c, k_s, n_s = (column[:, 0] for column in (cells.canary_k, cells.canary_n, cells.stable_k, cells.stable_n))
    both = (n_c > 0) & (n_s > 0) & (k_c + k_s > 0)
    n_c, n_s = np.maximum(n_c, 1), np.maximum(n_s, 1)
    pooled = (k_c + k_s) / (n_c + n_s)
    spread = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n_c + 1 / n_s), 1e-300))
    return np.where(both, (k_c / n_c - k_s / n_s) / spread, 0.0)


def articles(cells: Cells, _planned: int | None) -> BoolArray:
    """Errors up by more than 10 %."""
    filled = np.maximum(cells.canary_n, 1), np.maximum(cells.stable_n, 1)
    return article_rule(cells.canary_k, filled[0], cells.stable_k, filled[1])


def peeked_z(cells: Cells, _planned: int | None) -> BoolArray:
    """A z-test at 5 % at every look."""
    return np.asarray(z_of(cells) > ndtri(1 - LEVEL))


@lru_cache(maxsize=2)
def _bounds(shape: str) -> tuple[float, ...]:
    spending = {"O'Brien-Fleming": obrien_fleming_spending, "Pocock": pocock_spending}[shape]
    return spending_bounds([(look + 1) / PLANNED_LOOKS for look in range(PLANNED_LOOKS)], spending(LEVEL))


def scheduled(shape: str) -> Rule:
    """A z-test at the planned looks, at the level that is spent there."""

    def rule(cells: Cells, planned: int | None) -> BoolArray:
        if planned is None:
            return np.zeros(len(cells.weight), dtype=np.bool_)
        return np.asarray(z_of(cells) >= _bounds(shape)[planned])

    return rule


def normal_mixture(cells: Cells, _planned: int | None) -> BoolArray:
    """One-sided asymptotic confidence sequence of the difference, tuned to 5,000 conversations of both arms.

    What GrowthBook publishes as sequential testing, with its default tuning parameter.

    Source:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2023), arXiv 2103.06476v7, equations 134 and 161.
    """
    n_c, n_s = cells.canary_n[:, 0], cells.stable_n[:, 0]
    both = (n_c > 0) & (n_s > 0)
    n_c, n_s = np.maximum(n_c, 1), np.maximum(n_s, 1)
    p_c, p_s = cells.canary_k[:, 0] / n_c, cells.stable_k[:, 0] / n_s
    error = np.sqrt(p_c * (1 - p_c) / n_c + p_s * (1 - p_s) / n_s)
    rho2 = (-2 * np.log(2 * LEVEL) + np.log(-2 * np.log(2 * LEVEL) + 1)) / TUNED_TO
    n_rho2 = (n_c + n_s) * rho2
    in_errors = np.sqrt(2 * (n_rho2 + 1) / n_rho2 * np.log(1 + np.sqrt(n_rho2 + 1) / (2 * LEVEL)))
    return np.asarray(both & (p_c > 0) & (p_s > 0) & (p_c - p_s > in_errors * error))


def ours(cells: Cells, _planned: int | None) -> BoolArray:
    """The conditional e-process at ratio 1, late changes included."""
    return np.asarray(log_e_harm(cells, EQUAL, alpha=LEVEL) >= NEEDED)


def our_criterion(cells: Cells, _planned: int | None) -> BoolArray:
    """The default criterion: errors up by more than 10 % and half a point."""
    return np.asarray(log_e_harm(cells, CRITERION, alpha=LEVEL) >= NEEDED)


RULES: dict[str, Rule] = {
    "article's rule": articles,
    "z-test at 5 %, peeked": peeked_z,
    "group-sequential, O'Brien-Fleming": scheduled("O'Brien-Fleming"),
    "group-sequential, Pocock": scheduled("Pocock"),
    "normal mixture, as GrowthBook's": normal_mixture,
    OURS: ours,
    "ours, + 10 % and half a point": our_criterion,
}


def detect(
    rules: Mapping[str, Rule],
    *,
    ratio: float,
    base: float,
    weight: float,
    runs: int,
    rng: np.random.Generator,
    most: int = MOST,
) -> dict[str, FloatArray]:
    """Conversations of the canary when each rule first rolls back, shape (runs,); infinite where it never does."""
    truth = Truth(effects={EQUAL.metric.name: Effect(stable=base, canary=base * ratio)})
    first = {name: np.full(runs, np.inf) for name in rules}
    planned = 0
    for at in looks(truth, [EQUAL], [Stretch(weight, round(most / weight))], runs=runs, rng=rng):
        look = None
        if at.canary >= (planned + 1) / PLANNED_LOOKS * most - 1e-9:
            look, planned = planned, planned + 1
        for name, rule in rules.items():
            if still := np.flatnonzero(np.isinf(first[name])).tolist():
                rows = np.array(still, dtype=np.intp)
                stopped = rows[rule(at.outcomes.cells(EQUAL, rows), look)]
                first[name][stopped] = at.canary
    return first


class Design(NamedTuple):
    """A test of a fixed size that is made for one ratio.

    Attributes:
        size: Conversations of both arms with 80 % power for a ratio, at a base rate and a weight.
        rejects: The test, of events and units of the canary and of stable, and the weight.
    """

    size: Callable[[float, float, float], float]
    rejects: Callable[[Counts, Counts, Counts, Counts, float], BoolArray]


def exact_power(total: int, ratio: float, base: float, weight: float) -> float:
    """Power of the exact test: how many of the events are the canary's, given how many there are."""
    rate = base * (weight * ratio + 1 - weight)
    spread = 8 * np.sqrt(total * rate) + 10
    events = np.arange(max(0, int(total * rate - spread)), min(total, int(total * rate + spread)) + 1)
    least = binom.isf(LEVEL, events, weight) + 1
    share = weight * ratio / (weight * ratio + 1 - weight)
    return float(binom.pmf(events, total, rate) @ binom.sf(least - 1, events, share))


@lru_cache(maxsize=64)
def exact_size(ratio: float, base: float, weight: float) -> float:
    """About the smallest size with 80 % power: it goes up and down a little with the size."""
    low, high = 1, ceil(2 * textbook_size(ratio, base, weight))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exact_power(middle, ratio, base, weight) >= POWER else (middle, high)
    return float(high)


def score_size(ratio: float, base: float, weight: float) -> float:
    """By ``canary_units_needed``."""
    return (canary_units_needed(ratio * base, base, weight, EQUAL.boundary, power=POWER) or np.inf) / weight


def textbook_size(ratio: float, base: float, weight: float) -> float:
    """``(z_alpha + z_power)^2`` times the variance of the difference, divided by its square."""
    canary = ratio * base
    variance = canary * (1 - canary) / weight + base * (1 - base) / (1 - weight)
    return float((ndtri(1 - LEVEL) + ndtri(POWER)) ** 2 * variance / (canary - base) ** 2)


def exact_test(k_c: Counts, _n_c: Counts, k_s: Counts, _n_s: Counts, weight: float) -> BoolArray:
    """Binomial, one-sided."""
    return np.asarray(binom.sf(k_c - 1, k_c + k_s, weight) <= LEVEL)


def score_test(k_c: Counts, n_c: Counts, k_s: Counts, n_s: Counts, _weight: float) -> BoolArray:
    """With the pooled variance."""
    pooled = (k_c + k_s) / (n_c + n_s)
    return _beyond(k_c / n_c - k_s / n_s, pooled * (1 - pooled) * (1 / n_c + 1 / n_s))


def textbook_test(k_c: Counts, n_c: Counts, k_s: Counts, n_s: Counts, _weight: float) -> BoolArray:
    """With the variance of each arm by itself."""
    c, s = k_c / n_c, k_s / n_s
    return _beyond(c - s, c * (1 - c) / n_c + s * (1 - s) / n_s)


def _beyond(difference: FloatArray, variance: FloatArray) -> BoolArray:
    return np.asarray((difference > 0) & (difference > ndtri(1 - LEVEL) * np.sqrt(variance)))


DESIGNS = {
    FIXED: Design(exact_size, exact_test),
    "fixed size, z-test by the textbook": Design(textbook_size, textbook_test),
    "fixed size, score test": Design(score_size, score_test),
}


def fixed(
    design: Design,
    *,
    made_for: float,
    ratio: float,
    base: float,
    weight: float,
    runs: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Conversations of the canary at the one look, shape (runs,); infinite where it does not reject."""
    total = ceil(design.size(made_for, base, weight))
    # A draw that leaves an arm empty happens once in millions of these sizes; it is taken as one conversation.
    canary = np.clip(rng.binomial(total, weight, runs), 1, total - 1)
    events = rng.binomial(canary, ratio * base), rng.binomial(total - canary, base)
    rejected = design.rejects(events[0], canary, events[1], total - canary, weight)
    return np.where(rejected, total * weight, np.inf)


def described(found: FloatArray) -> dict[str, Any]:
    """Median and 90 % point of the conversations, None where fewer were detected; and the share detected."""

    def point(share: float) -> float | None:
        value = float(np.quantile(found, share, method="higher"))
        return value if np.isfinite(value) else None

    detected = Share(int(np.isfinite(found).sum()), found.size)
    return {"median": point(0.5), "90 %": point(0.9), "detected": detected.kept()}


def table(
    runs: int,
    seed: int,
    *,
    weights: Sequence[float] = WEIGHTS,
    base_rates: Sequence[float] = BASE_RATES,
    ratios: Sequence[float] = RATIOS,
    rules: Mapping[str, Rule] = RULES,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """One row for each rule, weight and base rate: false alarms of equal versions, and the time to each ratio."""
    rows = []
    for weight in weights:
        for base in base_rates:
            rng = np.random.default_rng([seed, round(1000 * weight), round(1000 * base)])
            by_ratio = {
                ratio: detect(rules, ratio=ratio, base=base, weight=weight, runs=runs, rng=rng, most=most)
                for ratio in (1.0, *ratios)
            }
            for name in rules:
                row = {"rule": name, "weight": weight, "base rate": base, "equal": described(by_ratio[1.0][name])}
                rows.append(row | {f"x {ratio:g}": described(by_ratio[ratio][name]) for ratio in ratios})
            for name, design in DESIGNS.items():
                alone = partial(fixed, design, base=base, weight=weight, runs=runs, rng=rng)
                row = {"rule": name, "weight": weight, "base rate": base}
                row["equal"] = described(np.concatenate([alone(made_for=ratio, ratio=1.0) for ratio in ratios]))
                for ratio in ratios:
                    found = alone(made_for=ratio, ratio=ratio)
                    # It does not stop sooner, and says nothing later: its size is what it needs.
                    row[f"x {ratio:g}"] = described(found) | {"median": float(found.min())}
                rows.append(row)
    return rows


def slower_than_fixed(
    rows: Sequence[Mapping[str, Any]], design: str = FIXED, ratios: Sequence[float] = RATIOS
) -> list[str]:
    """Where ours needs more in the median than a fixed size, for a ratio of 1.5 or more."""
    cells = {(row["rule"], row["weight"], row["base rate"]): row for row in rows}
    slower = []
    for (name, weight, base), row in cells.items():
        if name != OURS:
            continue
        for ratio in (ratio for ratio in ratios if ratio >= 1.5):
            mine, size = row[f"x {ratio:g}"]["median"], cells[design, weight, base][f"x {ratio:g}"]["median"]
            if mine is None or mine > size:
                needed = "never" if mine is None else f"{mine:.0f}"
                slower.append(f"x {ratio:g} at {base:.0%} errors and weight {weight:g}: {needed} against {size:.0f}")
    return slower


def show(rows: Sequence[Mapping[str, Any]], ratios: Sequence[float] = RATIOS) -> None:
    """Print median / 90 % point (share detected), in conversations of the canary."""
    for at, row in enumerate(rows):
        where = row["weight"], row["base rate"]
        if not at or where != (rows[at - 1]["weight"], rows[at - 1]["base rate"]):
            print(f"\n{row['base rate']:.0%} errors, {row['weight']:.0%} of the traffic on the canary")
            print(f"{'':34}{'false alarms':>14}" + "".join(f"{f'x {ratio:g}':>24}" for ratio in ratios))
        cells = []
        for ratio in ratios:
            found = row[f"x {ratio:g}"]
            points = "/".join("-" if found[name] is None else f"{found[name]:,.0f}" for name in ("median", "90 %"))
            cells.append(f"{points} ({found['detected']['share']:.0%})")
        print(f"{row['rule']:34}{row['equal']['detected']['share']:>14.1%}" + "".join(f"{cell:>24}" for cell in cells))


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    weights = [float(text) for text in sys.argv[2:]] or list(WEIGHTS)
    rows = table(runs, 2028, weights=weights)
    show(rows)
    kept = json.loads(RESULT.read_text(encoding="utf-8"))["rows"] if len(sys.argv) > 2 and RESULT.exists() else []
    kept = [row for row in kept if row["weight"] not in weights] + rows
    result = {**provenance(), "runs": runs, "most canary conversations": MOST, "rows": kept}
    slower = {design: slower_than_fixed(kept, design) for design in DESIGNS}
    result["slower than"] = slower
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    false = [row["equal"]["detected"] for row in kept if row["rule"].startswith("ours")]
    refuted = [found for found in false if Share(round(found["share"] * found["runs"]), found["runs"]).refutes()]
    for design, where in slower.items():
        print(f"\nslower than {design}: {'; '.join(where) or 'nowhere'}")
    if slower[FIXED] or refuted:
        sys.exit(f"slower: {slower[FIXED]}, false alarms beyond {LEVEL:.0%}: {refuted}")


if __name__ == "__main__":
    main()
