"""The facts that shaped the method, in small; ``benchmarks/sim_false_alarms.py`` keeps them in large.

Both versions are equal in every simulation, so every rollback is a false one.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.sim_false_alarms import (
    RAMP,
    WEIGHT,
    article_rule,
    conditional,
    criterion,
    every_ten,
    one_look,
    ramp,
    slower_hours,
    sooner,
    z_test,
)

RUNS = 600
# 5 % of 600 and four standard deviations: exceeded by chance in fewer than one of 10,000 such tests.
MOST = 0.05 + 4 * float(np.sqrt(0.05 * 0.95 / RUNS))


def rng() -> np.random.Generator:
    return np.random.default_rng(31)


# Simulated for the method's specification: share rolled back at 50, 200 and 1000 canary conversations.
@pytest.mark.parametrize(("canary", "share"), [(50, 0.41), (200, 0.37), (1000, 0.23)])
def test_the_articles_rule_rolls_back_a_harmless_canary_at_one_look_as_often_as_was_measured(
    canary: int, share: float
) -> None:
    assert one_look(article_rule, canary, runs=4000, rng=rng()) == pytest.approx(share, abs=0.04)


def test_however_often_one_looks_ours_is_within_its_budget_and_the_others_are_not() -> None:
    found = every_ten(
        {
            "article": article_rule,
            "z": z_test,
            "conditional": conditional((WEIGHT,)),
            "criterion": criterion((WEIGHT,)),
        },
        runs=RUNS,
        rng=rng(),
    )
    assert found["article"][1000] > 0.8
    assert found["z"][1000] > 0.25
    assert max(found["conditional"].values()) <= MOST
    assert max(found["criterion"].values()) <= MOST


def test_a_ramp_with_a_drifting_base_rate_fools_the_pooled_test_and_not_ours() -> None:
    found = ramp(
        {"pooled": z_test, "conditional": conditional(RAMP), "criterion": criterion(RAMP)}, runs=RUNS, rng=rng()
    )
    assert found["pooled"] > 0.8
    assert found["conditional"] <= MOST
    assert found["criterion"] <= MOST


def test_hours_that_get_slower_along_the_ramp_are_no_fault_of_the_canary() -> None:
    found = slower_hours(runs=RUNS, rng=rng())
    assert found["canary against a fixed 5 %"] > 0.9
    assert found["scaled exceedance"] <= MOST


def test_failures_that_end_sooner_do_not_matter_when_units_are_counted_at_their_horizon() -> None:
    found = sooner(runs=RUNS, rng=rng())
    assert found["counted when they end"] > 0.8
    assert found["counted at their horizon"] <= MOST
