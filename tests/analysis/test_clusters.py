"""Conversations of one user: units with an event, linearised variance, tempered counts."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.bootstrap_intervals import effective_clusters
from agentcanary_analysis.clusters import (
    Tempered,
    cluster_tallies,
    clusters_with_event,
    repeat_factor,
    tempered_events,
)
from agentcanary_analysis.evalues import Question, conditional_binomial, mixture
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.proportions import Proportion

rows = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 1)), max_size=40)


@given(rows)
def test_a_cluster_counts_once_whatever_it_repeats(conversations: list[tuple[str, int]]) -> None:
    users, events = [user for user, _ in conversations], [event for _, event in conversations]
    once = clusters_with_event(users, events)
    assert once == clusters_with_event(users * 2, events * 2)
    assert once.units == len(set(users))
    assert once.events == sum(any(event for name, event in conversations if name == user) for user in set(users))


@given(rows)
def test_the_sums_of_clusters_are_those_of_their_conversations(conversations: list[tuple[str, int]]) -> None:
    users, events = [user for user, _ in conversations], [event for _, event in conversations]
    total = sum(cluster_tallies(users, events).values(), Tally())
    per_user = {user: [event for name, event in conversations if name == user] for user in set(users)}
    assert total == Tally(
        len(per_user),
        len(per_user),
        sum(events),
        sum(sum(values) ** 2 for values in per_user.values()),
        len(users),
        sum(len(values) ** 2 for values in per_user.values()),
        sum(sum(values) * len(values) for values in per_user.values()),
    )
    if conversations:
        assert 1 <= effective_clusters([total]) <= len(per_user) * (1 + 1e-12)
    factor = repeat_factor([total])
    if any(events):
        assert isinstance(factor, float)
        assert 1 <= factor <= max(sum(values) for values in per_user.values())
    else:
        assert factor is Unknown.NO_EVENTS


def test_a_cluster_has_the_same_bucket_in_every_process() -> None:
    users = [f"user-{number}" for number in range(50)]
    code = (
        "from agentcanary_analysis.clusters import cluster_tallies\n"
        "print(sorted(cluster_tallies([f'user-{number}' for number in range(50)], [1] * 50)))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert elsewhere.stdout.strip() == str(sorted(cluster_tallies(users, [1] * 50)))


def test_many_clusters_fill_all_buckets_about_evenly() -> None:
    buckets = cluster_tallies(range(20_000), np.ones(20_000))
    sizes = np.array([buckets[number].units for number in range(200)])
    # Chi-squared with 199 degrees of freedom; seven standard deviations.
    assert ((sizes - 100) ** 2 / 100).sum() < 199 + 7 * math.sqrt(2 * 199)


def _ever_rolled_back(rng: np.random.Generator, runs: int, *, tempered: bool) -> float:
    """Share of harmless canaries that the conditional e-process ever calls harmed at 5 %, users randomised."""
    looks, users, weight = 15, 60, 0.25
    canary = rng.random((runs, looks, users)) < weight
    # A few users cause most errors: a chance of their own, kept over up to 12 conversations.
    chance = rng.beta(0.1, 1.9, (runs, looks, users))
    events = rng.binomial(rng.integers(1, 13, (runs, looks, users)), chance)
    sums: list[NDArray[np.float64]] = []
    for arm in (canary, ~canary):
        mine = np.where(arm, events, 0)
        sums += [mine.sum(axis=2).cumsum(axis=1), (mine**2).sum(axis=2).cumsum(axis=1)]
    k_c, squares_c, k_s, squares_s = sums
    factor = (squares_c + squares_s) / np.maximum(k_c + k_s, 1) if tempered else np.ones_like(k_c)
    harmed = np.zeros(runs, dtype=bool)
    for look in range(looks):
        growth = conditional_binomial(
            (k_c / factor)[:, look, None],
            (k_s / factor)[:, look, None],
            [[weight]],
            ratio=1.0,
            question=Question.HARM,
        )
        harmed |= mixture(growth) >= math.log(20)
    return float(harmed.mean())


def test_tempering_keeps_the_false_alarms_of_correlated_users_in_bounds() -> None:
    # Statistics.md, section 2: 1.7 to 3.2 % tempered where counting conversations gives 19 to 32 %.
    counted = _ever_rolled_back(np.random.default_rng(5), 1500, tempered=False)
    tempered = _ever_rolled_back(np.random.default_rng(5), 1500, tempered=True)
    assert counted > 0.15
    assert tempered <= 0.05


def test_tempered_events_are_divided_by_one_factor_for_all() -> None:
    users = [Tally(10, 10, 8.0, 30.0), Tally(5, 5, 0.0, 0.0)]
    others = [Tally(90, 90, 12.0, 30.0), Tally(50, 50, 4.0, 12.0)]
    tempered = tempered_events(users, others)
    assert isinstance(tempered, Tempered)
    assert tempered.factor == pytest.approx(72 / 24)
    assert (tempered.canary * 3).tolist() == [8, 0]
    assert (tempered.stable * 3).tolist() == [12, 4]
    assert tempered_events([Tally(3, 3)], [Tally(9, 9)]) is Unknown.NO_EVENTS


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an event is 0 or 1, got 2; leave out"):
        clusters_with_event(["a"], [2])
    with pytest.raises(ValueError, match=r"conversation 1 has the value nan; leave out"):
        cluster_tallies(["a", "b"], [1.0, math.nan])
    with pytest.raises(ValueError, match=r"each conversation needs one value, got the shape \(1,\) for 2"):
        cluster_tallies(["a", "b"], [1.0])
    with pytest.raises(ValueError, match=r"must be counts of events, got total=-1 and total_squares=1"):
        repeat_factor([Tally(2, 2, -1.0, 1.0)])
    with pytest.raises(ValueError, match=r"must be counts of events"):
        repeat_factor([Tally(2, 2, 1.0, 0.5)])
    with pytest.raises(ValueError, match="the same epochs, got 0 of the canary and 1 of stable"):
        tempered_events([], [Tally()])
    assert clusters_with_event([], []) == Proportion(0, 0)
    assert cluster_tallies([], []) == {}
