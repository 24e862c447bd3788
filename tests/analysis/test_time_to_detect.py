"""How soon harm is found beside other rules, in small; ``benchmarks/sim_time_to_detect.py`` keeps it in large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agentcanary_analysis.cells import Cells
from benchmarks.sim_time_to_detect import (
    DESIGNS,
    FIXED,
    OURS,
    RULES,
    described,
    fixed,
    normal_mixture,
    slower_than_fixed,
    table,
)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    found = table(250, 5, weights=(0.5,), base_rates=(0.1,), ratios=(2.0,), most=700)
    return {row["rule"]: row for row in found}


def test_ours_finds_a_doubled_error_rate_sooner_than_an_exact_test_of_a_fixed_size(
    rows: dict[str, dict[str, Any]],
) -> None:
    assert rows[OURS]["x 2"]["detected"]["share"] > 0.95
    assert slower_than_fixed(list(rows.values()), ratios=(2.0,)) == []


def test_what_is_slower_is_told(rows: dict[str, dict[str, Any]]) -> None:
    slow = rows[OURS] | {"x 2": rows[OURS]["x 2"] | {"median": None}}
    assert slower_than_fixed([slow, rows[FIXED]], ratios=(2.0,)) == [
        f"x 2 at 10% errors and weight 0.5: never against {rows[FIXED]['x 2']['median']:.0f}"
    ]


def test_only_rules_that_are_peeked_at_without_a_correction_raise_false_alarms_often(
    rows: dict[str, dict[str, Any]],
) -> None:
    false = {name: row["equal"]["detected"]["share"] for name, row in rows.items()}
    assert set(false) == {*RULES, *DESIGNS}
    # 5 % of 250 and four standard deviations.
    most = 0.05 + 4 * float(np.sqrt(0.05 * 0.95 / 250))
    assert {name for name, share in false.items() if share > most} == {"article's rule", "z-test at 5 %, peeked"}


@pytest.mark.parametrize("name", DESIGNS)
def test_a_fixed_size_has_the_power_that_it_was_made_for(name: str) -> None:
    found = fixed(DESIGNS[name], made_for=1.5, ratio=1.5, base=0.1, weight=0.5, runs=4000, rng=np.random.default_rng(6))
    assert described(found)["detected"]["share"] == pytest.approx(0.8, abs=0.03)


def test_textbook_sizes_are_those_that_the_method_was_specified_with() -> None:
    sizes = [0.05 * DESIGNS["fixed size, z-test by the textbook"].size(ratio, 0.05, 0.05) for ratio in (1.5, 2.0, 3.0)]
    assert sizes == pytest.approx([711, 229, 81], abs=1)


def test_the_normal_mixture_is_nearly_deaf_at_a_hundred_conversations() -> None:
    def of(events: int) -> Cells:
        one = np.ones((1, 1))
        counted = {"canary_units": 50 * one, "canary_n": 50 * one, "stable_units": 50 * one, "stable_n": 50 * one}
        sums = {"canary_k": events * one, "stable_k": 1 * one, "canary_squares": 0 * one, "stable_squares": 0 * one}
        return Cells(weight=one / 2, stage=0 * one, variance=np.ones(1), **counted, **sums)

    # Its bound there is about six standard errors: 19 against 1 of 50 is not enough, 27 is.
    assert not normal_mixture(of(19), None)[0]
    assert normal_mixture(of(27), None)[0]
