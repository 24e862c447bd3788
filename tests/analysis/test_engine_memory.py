"""What the engine needs does not grow with the number of conversations: it reads sums."""

from __future__ import annotations

import tracemalloc

import numpy as np
from scipy.stats import norm

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.checks import parse_check, relative_boundary
from agentcanary_analysis.histogram import bin_of, edge
from agentcanary_analysis.metrics import BUILT_IN, ERROR_RATE, P95_LATENCY, TASK_COMPLETION_RATE
from agentcanary_analysis.verdict import Findings, judge

CRITERIA = {
    metric.name: relative_boundary(metric, margin)
    for metric, margin in ((ERROR_RATE, 0.10), (TASK_COMPLETION_RATE, 0.05), (P95_LATENCY, 0.50))
}
CHECKS = [parse_check(text) for text in ("error_rate_increase < 0.10", "p95_latency_increase < 0.30")]
BINS = range(-60, 160)


def rollout(conversations: int) -> Aggregates:
    """Four epochs of two equal versions, the same shape whatever the number of conversations."""
    rng = np.random.default_rng(2)
    edges = np.log([edge(number) for number in BINS])
    chances = np.diff(norm.cdf(edges, scale=0.8), prepend=0.0)
    tallies, histograms, assigned = {}, {}, {}
    weights = (0.05, 0.15, 0.5, 0.5)
    for number, weight in enumerate(weights):
        for arm, share in ((Arm.CANARY, weight), (Arm.STABLE, 1 - weight)):
            units = max(200, round(conversations / 4 * share))
            assigned[number, arm] = units
            buckets = rng.multinomial(units, np.full(200, 1 / 200))
            for name, rate in (("error_rate", 0.05), ("task_completion_rate", 0.85)):
                events = rng.binomial(buckets, rate)
                tallies[Cell(name, number, arm)] = {
                    bucket: Tally(int(n), int(n), float(k), float(k))
                    for bucket, (n, k) in enumerate(zip(buckets, events, strict=True))
                }
            # Every bin is filled, however few conversations there are.
            drawn = 1 + rng.multinomial(units, chances / chances.sum())
            histograms[Cell("p95_latency", number, arm)] = dict(zip(BINS, drawn.tolist(), strict=True))
    epochs = tuple(
        Epoch(number=number, weight=weight, stage=min(number, 2), thresholds={"p95_latency": edge(bin_of(3.73))})
        for number, weight in enumerate(weights)
    )
    return Aggregates(epochs=epochs, tallies=tallies, histograms=histograms, assigned=assigned)


def look(found: Aggregates) -> Findings:
    return judge(found, metrics=BUILT_IN, criteria=CRITERIA, checks=CHECKS, stage=2, proof_weight=0.5)


def peak_of_a_look(conversations: int) -> int:
    """Bytes that one look takes at its peak, beside its aggregates."""
    found = rollout(conversations)
    look(found)
    tracemalloc.start()
    try:
        look(found)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_billion_conversations_need_the_memory_of_a_thousand() -> None:
    few, many = peak_of_a_look(1_000), peak_of_a_look(1_000_000_000)
    assert many < 1.5 * few
    assert many < 4 * 2**20


def test_a_billion_conversations_are_judged_like_any_others() -> None:
    found = look(rollout(1_000_000_000))
    assert found.harmed == ()
    assert not found.sample_ratio.alarm
    assert {evidence.metric: evidence.status.value for evidence in found.evidence} == dict.fromkeys(CRITERIA, "safe")
