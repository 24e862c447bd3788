"""One verdict over 4 epochs, 2 arms, 200 resampling buckets and 8 checks. Goal: at most 5 ms of an idle processor.

Run: ``python benchmarks/bench_verdict.py``. Prints one table, writes ``benchmarks/results/verdict.json``. The peer in
the same run is statsmodels, which tests each check once and says nothing of evidence, intervals or what is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from statsmodels.stats.proportion import test_proportions_2indep

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Safety, Tally
from agentcanary_analysis.checks import parse_check, relative_boundary
from agentcanary_analysis.histogram import bin_of, edge
from agentcanary_analysis.metrics import BUILT_IN, ERROR_RATE, P95_LATENCY, TASK_COMPLETION_RATE
from agentcanary_analysis.verdict import judge
from benchmarks.interleaved import keep, measure, report

COUNT, ROUNDS, LIMIT_NS = 4, 40, 5e6
EPOCHS = ((0.05, 2000), (0.15, 4000), (0.5, 12_000), (0.5, 8000))
CHECKS = tuple(
    parse_check(text)
    for text in (
        "error_rate_increase < 0.10",
        "error_rate_increase < 0.05",
        "error_rate_increase < 0.03",
        "task_completion_regression < 0.05",
        "task_completion_regression < 0.02",
        "p95_latency_increase < 0.30",
        "p95_latency_increase < 0.20",
        "safety_violations == 0",
    )
)
CRITERIA = {
    metric.name: relative_boundary(metric, margin)
    for metric, margin in ((ERROR_RATE, 0.10), (TASK_COMPLETION_RATE, 0.05), (P95_LATENCY, 0.50))
}


def aggregates() -> Aggregates:
    """Two equal versions, every bucket filled."""
    rng = np.random.default_rng(0)
    tallies, histograms, assigned = {}, {}, {}
    for number, (weight, size) in enumerate(EPOCHS):
        canary = int(rng.binomial(size, weight))
        for arm, units in ((Arm.CANARY, canary), (Arm.STABLE, size - canary)):
            assigned[number, arm] = units
            buckets = rng.multinomial(units, np.full(200, 1 / 200))
            for name, rate in (("error_rate", 0.05), ("task_completion_rate", 0.85)):
                events = rng.binomial(buckets, rate)
                tallies[Cell(name, number, arm)] = {
                    bucket: Tally(int(n), int(n), float(k), float(k))
                    for bucket, (n, k) in enumerate(zip(buckets, events, strict=True))
                }
            numbers = [bin_of(float(value)) for value in rng.lognormal(0, 0.8, units)]
            found, counts = np.unique(numbers, return_counts=True)
            histograms[Cell("p95_latency", number, arm)] = dict(zip(found.tolist(), counts.tolist(), strict=True))
    thresholds = {"p95_latency": edge(bin_of(3.73))}
    epochs = tuple(
        Epoch(number=number, weight=weight, stage=min(number, 2), thresholds=thresholds)
        for number, (weight, _) in enumerate(EPOCHS)
    )
    return Aggregates(
        epochs=epochs, tallies=tallies, histograms=histograms, assigned=assigned, safety=Safety(reports=9)
    )


def main() -> None:
    found = aggregates()

    def verdict() -> object:
        return judge(
            found, metrics=BUILT_IN, criteria=CRITERIA, checks=CHECKS, stage=2, proof_weight=0.5, anytime=False
        )

    def shown() -> object:
        return judge(found, metrics=BUILT_IN, criteria=CRITERIA, checks=CHECKS, stage=2, proof_weight=0.5)

    pairs = [
        tuple(found.tally(name, 2, arm) for arm in (Arm.CANARY, Arm.STABLE))
        for name in ("error_rate", "task_completion_rate")
    ]

    def eight_tests() -> None:
        for index in range(8):
            canary, stable = pairs[index % 2]
            test_proportions_2indep(
                canary.total, canary.units, stable.total, stable.units, value=1.1, compare="ratio", method="score"
            )

    variants: dict[str, Callable[[int], None]] = {
        "agentcanary: one verdict": repeated(verdict),
        "agentcanary: the same, as people read it": repeated(shown),
        "statsmodels: eight score tests, one epoch": repeated(eight_tests),
    }
    times = measure(variants, count=COUNT, rounds=ROUNDS)
    table = report(
        "one verdict, 4 epochs x 2 arms x 200 buckets x 8 checks",
        times,
        base="statsmodels: eight score tests, one epoch",
        count=COUNT,
        packages=("numpy", "scipy", "statsmodels"),
    )
    keep("verdict", table, limit_ns=LIMIT_NS)
    fastest = min(times["agentcanary: one verdict"])
    if fastest > LIMIT_NS:
        sys.exit(f"one verdict takes {fastest / 1e6:.1f} ms, the goal is {LIMIT_NS / 1e6:.0f} ms")


def repeated(act: Callable[[], object]) -> Callable[[int], None]:
    """A function that acts so many times."""

    def run(count: int) -> None:
        for _ in range(count):
            act()

    return run


if __name__ == "__main__":
    main()
