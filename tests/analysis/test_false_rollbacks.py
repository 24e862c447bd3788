"""Error rates of the engine on its boundaries, in small; ``benchmarks/sim_false_rollbacks.py`` keeps them in large."""

from __future__ import annotations

import numpy as np
import pytest

from agentcanary_analysis.questions import Line
from benchmarks.sim_false_rollbacks import (
    COMPLETION,
    LATENCY,
    LINES,
    SATISFACTION,
    by_base_rate,
    correlated_users,
    drifts,
    harmful,
    on_boundaries,
    on_the_line,
    proven,
    refuted,
    split_off,
)
from benchmarks.simulated_looks import Share, Stretch, ever, looks


def rng() -> np.random.Generator:
    return np.random.default_rng(41)


@pytest.mark.parametrize(("count", "known"), [(5, False), (16, True)], ids=["5 %", "16 %"])
def test_a_promise_is_refuted_by_what_would_hardly_ever_come_out(count: int, known: bool) -> None:
    assert Share(count, 100).refutes(0.05) is known


def test_looks_are_as_dense_as_conversations_of_the_canary_and_then_one_percent_apart() -> None:
    walk = looks(on_the_line(LINES["ratio 1, no floor"], 0.05), [], [Stretch(0.05, 100_000)], runs=1, rng=rng())
    canary = np.array([at.canary for at in walk])
    assert np.diff(canary[:90]) == pytest.approx(1.0)
    assert (np.diff(canary[100:-1]) / canary[100:-2]).max() < 0.0101
    assert canary[-1] == pytest.approx(5000)


def test_a_canary_on_its_boundary_is_rolled_back_in_at_most_5_percent_of_rollouts_at_any_base_rate() -> None:
    rows = by_base_rate(300, rng(), base_rates=(0.02, 0.2), sizes=(50, 250))
    assert len(rows) == 4
    assert refuted(rows) == []
    assert all(row["by 50"].count <= row["by 250"].count for row in rows)


@pytest.mark.parametrize(
    ("line", "stable", "spread"),
    [(COMPLETION, 0.85, 1.0), (LATENCY, 2.0, 0.8)],
    ids=["completion", "p95 latency"],
)
def test_a_canary_on_a_boundary_is_hardly_ever_proven_safe_or_harmful(line: Line, stable: float, spread: float) -> None:
    for says in (harmful(line), proven(line)):
        walk = looks(
            on_the_line(line, stable, spread=spread), [line], [Stretch(0.5, 8000)], runs=200, rng=rng(), growth=0.05
        )
        assert not ever(walk, says, 200)[np.inf].refutes()


def test_users_who_repeat_themselves_do_no_harm_when_units_are_what_is_randomised() -> None:
    found = correlated_users(200, rng(), correlation=0.5, weight=0.5, users=1200)
    assert found["by user, conversations"].share > 0.15
    assert not found["by conversation"].refutes()
    assert not found["by user, users with a failure"].refutes()


def test_a_split_that_is_not_the_designed_one_is_found_and_nobody_is_rolled_back_for_it() -> None:
    found = split_off(100, rng(), designed=0.05, real=0.10, canary=600)
    assert found["detected"].share > 0.98
    assert found["rolled back, by design alone"].share > 0.5
    assert found["rolled back, ours"].share < 0.2
    right = split_off(100, rng(), designed=0.05, real=0.05, canary=300)
    assert not right["detected"].refutes(0.001)
    assert not right["rolled back, ours"].refutes()


@pytest.mark.slow
def test_no_drift_and_no_boundary_refutes_a_promise() -> None:
    assert refuted(drifts(400, rng())) == []
    assert refuted(on_boundaries(400, rng(), base_rates=(0.01, 0.05))) == []


@pytest.mark.slow
def test_means_on_their_boundary_are_within_their_budgets_too() -> None:
    for says in (harmful(SATISFACTION), proven(SATISFACTION)):
        walk = looks(on_the_line(SATISFACTION, 4.0), [SATISFACTION], [Stretch(0.5, 30_000)], runs=600, rng=rng())
        assert not ever(walk, says, 600)[np.inf].refutes()
