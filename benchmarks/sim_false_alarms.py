"""How often a harmless canary is rolled back: the source article's rule, a z-test that is peeked at, and ours.

Run: ``python benchmarks/sim_false_alarms.py [RUNS]``. Prints the tables and writes
``benchmarks/results/sim_false_alarms.json``. Both versions are the same in every simulation here, so every rollback is
a false one. Reference figures are those of the method's specification.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evalues import Question, conditional_binomial, mixture
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.two_by_two import two_by_two
from benchmarks.article_plan import provenance

FloatArray = npt.NDArray[np.float64]
# Events and units of the canary, events and units of stable, each of shape (runs, epochs) → rolled back, shape (runs,).
Rule = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], npt.NDArray[np.bool_]]

RESULT = Path(__file__).parent / "results" / "sim_false_alarms.json"
RUNS = 4000
LEVEL = 0.05
SIZES = (50, 200, 1000)
ERROR_RATE, COMPLETION, WEIGHT = 0.05, 0.85, 0.05
CRITERION = Boundary(ratio=1.10, floor=0.005, direction=Direction.UP_IS_WORSE)
RAMP = (0.05, 0.25, 0.5)


def article_rule(c_k: FloatArray, c_n: FloatArray, s_k: FloatArray, s_n: FloatArray) -> npt.NDArray[np.bool_]:
    """Errors up by more than 10 %, pooled; no change where stable has none."""
    canary, stable = c_k.sum(axis=1) / c_n.sum(axis=1), s_k.sum(axis=1) / s_n.sum(axis=1)
    return np.asarray((stable > 0) & (canary > 1.10 * stable))


def z_test(c_k: FloatArray, c_n: FloatArray, s_k: FloatArray, s_n: FloatArray) -> npt.NDArray[np.bool_]:
    """One-sided pooled z-test at 5 %; it says nothing where an arm is empty."""
    k_c, n_c, k_s, n_s = (column.sum(axis=1) for column in (c_k, c_n, s_k, s_n))
    both = (n_c > 0) & (n_s > 0)
    n_c, n_s = np.where(both, n_c, 1), np.where(both, n_s, 1)
    pooled = (k_c + k_s) / (n_c + n_s)
    error = np.sqrt(np.maximum(pooled * (1 - pooled) * (1 / n_c + 1 / n_s), 1e-300))
    return np.asarray(both & (ndtr((k_s / n_s - k_c / n_c) / error) < LEVEL))


def conditional(weights: tuple[float, ...]) -> Rule:
    """The conditional e-process at ratio 1, by epoch."""

    def rule(c_k: FloatArray, _c_n: FloatArray, s_k: FloatArray, _s_n: FloatArray) -> npt.NDArray[np.bool_]:
        growth = conditional_binomial(c_k, s_k, weights[: c_k.shape[1]], ratio=1.0, question=Question.HARM)
        return np.asarray(mixture(growth) >= -np.log(LEVEL))

    return rule


def criterion(weights: tuple[float, ...]) -> Rule:
    """The 2×2 e-process against +10 % and half a point, by epoch."""

    def rule(c_k: FloatArray, c_n: FloatArray, s_k: FloatArray, s_n: FloatArray) -> npt.NDArray[np.bool_]:
        growth = two_by_two(c_n, c_k, s_n, s_k, weights[: c_k.shape[1]], boundary=CRITERION, question=Question.HARM)
        return np.asarray(mixture(growth) >= -np.log(LEVEL))

    return rule


def one_look(rule: Rule, canary: int, *, runs: int, rng: np.random.Generator) -> float:
    """Share rolled back at a single look."""
    stable = round(canary * (1 - WEIGHT) / WEIGHT)
    c_n, s_n = np.full((runs, 1), float(canary)), np.full((runs, 1), float(stable))
    found = rule(
        rng.binomial(canary, ERROR_RATE, (runs, 1)).astype(float),
        c_n,
        rng.binomial(stable, ERROR_RATE, (runs, 1)).astype(float),
        s_n,
    )
    return float(found.mean())


def every_ten(rules: dict[str, Rule], *, runs: int, rng: np.random.Generator) -> dict[str, dict[int, float]]:
    """Share ever rolled back by so many canary conversations, with a look after every 10 of them."""
    ever = {name: np.zeros(runs, dtype=bool) for name in rules}
    found: dict[str, dict[int, float]] = {name: {} for name in rules}
    c_k, c_n, s_k, s_n = np.zeros((4, runs, 1))
    block = round(10 / WEIGHT)
    for look in range(1, max(SIZES) // 10 + 1):
        canary = rng.binomial(block, WEIGHT, (runs, 1))
        c_n += canary
        s_n += block - canary
        c_k += rng.binomial(canary, ERROR_RATE)
        s_k += rng.binomial(block - canary, ERROR_RATE)
        some = c_n[:, 0] > 0
        for name, rule in rules.items():
            ever[name][some] |= rule(c_k[some], c_n[some], s_k[some], s_n[some])
            if 10 * look in SIZES:
                found[name][10 * look] = float(ever[name].mean())
    return found


def article_pipeline(canary: int, *, runs: int, rng: np.random.Generator) -> float:
    """Share rolled back by the article's three rules, in four stages with so many canary conversations each."""
    stable = round(canary * (1 - WEIGHT) / WEIGHT)
    ever = np.zeros(runs, dtype=bool)
    for _ in range(4):
        errors = rng.binomial(canary, ERROR_RATE, runs) / canary, rng.binomial(stable, ERROR_RATE, runs) / stable
        done = rng.binomial(canary, COMPLETION, runs) / canary, rng.binomial(stable, COMPLETION, runs) / stable
        # An order statistic of lognormal latencies lies at a beta-distributed share of them.
        p95 = [_p95(units, runs, rng) for units in (canary, stable)]
        ever |= (errors[1] > 0) & (errors[0] > 1.10 * errors[1])
        ever |= done[0] < 0.95 * done[1]
        ever |= p95[0] > 1.5 * p95[1]
    return float(ever.mean())


def _p95(units: int, runs: int, rng: np.random.Generator) -> FloatArray:
    rank = min(int(0.95 * units), units - 1)
    return np.asarray(np.exp(0.8 * ndtri(rng.beta(rank + 1, units - rank, runs))))


def ramp(rules: dict[str, Rule], *, runs: int, rng: np.random.Generator, size: int = 10_000) -> dict[str, float]:
    """Share ever rolled back while the base rate goes 3 → 5 → 6 % and the weight 5 → 25 → 50 %, 10 looks a stage."""
    ever = {name: np.zeros(runs, dtype=bool) for name in rules}
    c_k, c_n, s_k, s_n = np.zeros((4, runs, 3))
    for stage, (weight, base) in enumerate(zip(RAMP, (0.03, 0.05, 0.06), strict=True)):
        for _ in range(10):
            canary = rng.binomial(size // 10, weight, runs)
            c_n[:, stage] += canary
            s_n[:, stage] += size // 10 - canary
            c_k[:, stage] += rng.binomial(canary, base)
            s_k[:, stage] += rng.binomial(size // 10 - canary, base)
            for name, rule in rules.items():
                ever[name] |= rule(*(column[:, : stage + 1] for column in (c_k, c_n, s_k, s_n)))
    return {name: float(values.mean()) for name, values in ever.items()}


def slower_hours(*, runs: int, rng: np.random.Generator, size: int = 10_000) -> dict[str, float]:
    """Share ever rolled back for latency (boundary + 50 %) while both arms get slower by 42 % along the ramp.

    The threshold is fixed at the 95 % point before the ramp. The trap is to test the canary's exceedances against the
    5 % that they were then; scaled exceedance compares those of 1.5 times the threshold with stable's of the same hour.
    """
    spread, factors = 0.8, (1.0, 1.2, 1.42)
    z = 1.6448536269514722
    ever_fixed, ever_scaled = np.zeros((2, runs), dtype=bool)
    c_1, c_n, c_r, s_1 = np.zeros((4, runs, 3))
    rule = conditional(RAMP)
    for stage, (weight, factor) in enumerate(zip(RAMP, factors, strict=True)):
        beyond, far_beyond = (float(ndtr((np.log(factor / times) - spread * z) / spread)) for times in (1.0, 1.5))
        for _ in range(10):
            canary = rng.binomial(size // 10, weight, runs)
            first = rng.binomial(canary, beyond)
            c_n[:, stage] += canary
            c_1[:, stage] += first
            c_r[:, stage] += rng.binomial(first, far_beyond / beyond)
            s_1[:, stage] += rng.binomial(size // 10 - canary, beyond)
            upto = slice(0, stage + 1)
            ever_scaled |= rule(c_r[:, upto], c_n[:, upto], s_1[:, upto], c_n[:, upto])
            ever_fixed |= _beyond_5_percent(c_1.sum(axis=1), c_n.sum(axis=1))
    return {"canary against a fixed 5 %": float(ever_fixed.mean()), "scaled exceedance": float(ever_scaled.mean())}


def _beyond_5_percent(events: FloatArray, units: FloatArray) -> npt.NDArray[np.bool_]:
    """A binomial e-process of the canary alone: its share beyond the threshold against 5 %, mixed over alternatives."""
    rates = 0.05 * np.exp((np.arange(48) + 0.5) / 48 * np.log(16))
    log_e = events[:, None] * np.log(rates / 0.05) + (units - events)[:, None] * np.log((1 - rates) / 0.95)
    log_prior = -(np.log(rates / 0.05) ** 2) / (2 * 0.7**2)
    weights = np.exp(log_prior) / np.exp(log_prior).sum()
    return np.asarray(np.log((weights * np.exp(np.minimum(log_e, 700))).sum(axis=1)) >= -np.log(LEVEL))


def sooner(*, runs: int, rng: np.random.Generator) -> dict[str, float]:
    """Share ever rolled back when the canary's failures end after 2 minutes and stable's after 20, as often.

    1000 conversations an hour and arm, 5 % fail, all others last 20 minutes; a look a minute for two hours.
    """
    a_minute, horizon, minutes = 1000 / 60, 30, 120
    failures = rng.poisson(a_minute * ERROR_RATE, (2, runs, minutes))
    total = failures.cumsum(axis=2)

    def counted(age: int, arm: int, minute: int) -> FloatArray:
        """Failures of conversations that began so long ago."""
        upto = minute - age
        return total[arm, :, upto].astype(float) if upto >= 0 else np.zeros(runs)

    rule = conditional((0.5,))
    ever_ended, ever_aged = np.zeros((2, runs), dtype=bool)
    none = np.zeros((runs, 1))
    for minute in range(minutes):
        ended = counted(2, 0, minute)[:, None], counted(20, 1, minute)[:, None]
        aged = counted(horizon, 0, minute)[:, None], counted(horizon, 1, minute)[:, None]
        ever_ended |= rule(ended[0], none, ended[1], none)
        ever_aged |= rule(aged[0], none, aged[1], none)
    return {"counted when they end": float(ever_ended.mean()), "counted at their horizon": float(ever_aged.mean())}


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    rng = np.random.default_rng(2026)
    tables: dict[str, Any] = {}
    rules: dict[str, Rule] = {
        "article's rule": article_rule,
        "z-test at .05": z_test,
        "conditional e-process, ratio 1": conditional((WEIGHT,)),
        "2x2 e-process, +10 % and half a point": criterion((WEIGHT,)),
    }
    peeked = every_ten(rules, runs=runs, rng=rng)
    tables["rolled back by 50 / 200 / 1000 canary conversations"] = {
        "article's rule, one look": (_sizes(lambda n: one_look(article_rule, n, runs=runs, rng=rng)), (41, 37, 23)),
        "article's rule, every 10": (peeked["article's rule"], (66, 79, 86)),
        "article's whole pipeline": (_sizes(lambda n: article_pipeline(n, runs=runs, rng=rng)), (98, 93, 77)),
        "z-test at .05, every 10": (peeked["z-test at .05"], (17, 25, 34)),
        "conditional e-process, every 10": (peeked["conditional e-process, ratio 1"], (0.2, 0.8, 1.5)),
        "2x2 e-process with floor, every 10": (peeked["2x2 e-process, +10 % and half a point"], None),
    }
    ramp_rules: dict[str, Rule] = {
        "pooled z-test, every look": z_test,
        "conditional e-process by epoch": conditional(RAMP),
        "2x2 e-process by epoch": criterion(RAMP),
    }
    tables["a ramp with a base rate of 3, 5 and 6 %"] = ramp(ramp_rules, runs=runs, rng=rng)
    tables["a ramp on which both arms get slower by 42 %"] = slower_hours(runs=runs, rng=rng)
    tables["equal failures that end sooner in the canary"] = sooner(runs=runs, rng=rng)
    kept = {}
    for title, rows in tables.items():
        print(f"\n{title} ({runs} runs)")
        kept[title] = [_print(name, value) for name, value in rows.items()]
    RESULT.write_text(json.dumps({**provenance(), "runs": runs, "tables": kept}, indent=1) + "\n", encoding="utf-8")


def _sizes(share: Callable[[int], float]) -> dict[int, float]:
    return {size: share(size) for size in SIZES}


def _print(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, float):
        print(f"{name:40} {value:7.1%}")
        return {"rule": name, "rolled_back": value}
    shares, reference = value
    print(f"{name:40} {' / '.join(f'{share:.1%}' for share in shares.values()):24} {reference or ''}")
    return {"rule": name, "rolled_back": shares, "reference_percent": reference}


if __name__ == "__main__":
    main()
