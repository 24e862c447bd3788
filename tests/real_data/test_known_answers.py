"""Real outcome data whose answers are known; skipped where they are not there."""

from __future__ import annotations

import json

import pytest

from benchmarks.real_data import DATA, RESULT, asos, burstgpt, cookie_cats, metr, tau2_fine_tune, vllm

pytestmark = pytest.mark.needs("shared data")


def test_a_fine_tuned_model_changes_nothing_in_one_domain_and_too_little_to_tell_in_the_other() -> None:
    found = tau2_fine_tune(DATA)
    retail, airline = found["retail"], found["airline"]
    assert (retail["stable"], retail["canary"]) == ([34, 40], [34, 40])
    assert retail["p_two_sided"] == pytest.approx(1.0)
    assert retail["difference"][0] == pytest.approx(-retail["difference"][1])
    assert (airline["stable"], airline["canary"]) == ([10, 20], [13, 20])
    assert airline["p_two_sided"] > 0.3
    assert airline["difference"][0] < 0 < airline["difference"][1]


def test_model_generations_differ_less_surely_when_runs_of_one_task_are_counted_together() -> None:
    found = metr(DATA)
    first, second = found["GPT-4 0314 → GPT-4 Turbo"], found["GPT-4 Turbo → GPT-4o"]
    rates = [(first["completed"][arm], first["error"][arm]) for arm in ("stable", "canary")]
    assert [(round(completed, 3), round(error, 2)) for completed, error in rates] == [(0.193, 0.48), (0.192, 0.30)]
    assert first["completed"]["p_naive"] > 0.9
    assert first["completed"]["p_clustered_by_task"] > 0.9
    assert first["error"]["p_naive"] < 1e-9
    assert (round(second["completed"]["stable"], 3), round(second["completed"]["canary"], 3)) == (0.192, 0.244)
    # Eleven runs a task repeat each other: what looks significant rests on 83 tasks.
    assert second["completed"]["p_naive"] < 0.01
    assert second["completed"]["p_clustered_by_task"] > 0.3
    assert second["completed"]["relative_change_by_task"][0] < 0 < second["completed"]["relative_change_by_task"][1]
    assert min(second["completed"]["design_effect"]) > 5


def test_the_z_test_and_the_bootstrap_agree_on_a_large_experiment() -> None:
    found = cookie_cats(DATA)
    assert [round(found[arm][0] / found[arm][1], 4) for arm in ("stable", "canary")] == [0.1871, 0.1815]
    assert found["p_z_test"] == pytest.approx(found["p_bootstrap"], abs=0.005)
    width = found["difference_z_test"][1] - found["difference_z_test"][0]
    for ours, bootstrap in zip(found["difference_z_test"], found["difference_bootstrap"], strict=True):
        assert ours == pytest.approx(bootstrap, abs=0.01 * width)


def test_experiments_that_are_peeked_at_are_called_significant_far_more_often_than_they_stay_so() -> None:
    found = asos(DATA)
    assert found["experiments"] == 38
    shares = found["shares"]
    # Watched with z tests more than half are significant at some time, and for more than half of those it passes.
    assert shares["z_ever"] > 0.5
    assert shares["z_ever_and_not_at_the_end"] > 0.5 * shares["z_ever"]
    # What is looked at as often by e-values is called about as often as by one z test at the end.
    assert shares["ours_ever"] < 0.5 * shares["z_ever"]
    assert shares["ours_ever"] == pytest.approx(shares["z_at_the_end"], abs=0.05)
    assert sum(one["comparisons"] for one in found["by_metric"].values()) == found["comparisons"]


def test_real_traffic_has_a_daily_and_a_weekly_profile() -> None:
    found = burstgpt(DATA)
    assert found["hours"] == 8 * 168
    assert len(found["daily"]["relative"]) == 24
    assert len(found["weekly"]["relative"]) == 7
    for profile in (found["daily"], found["weekly"]):
        assert profile["p_value"] < 0.001
    assert found["daily"]["peak_over_trough"] > 10
    assert found["weekly"]["peak_over_trough"] > 3
    assert found["between_days"] > 3


def test_latency_regressions_of_known_cause_are_found_and_equal_loads_are_not() -> None:
    found = vllm(DATA, splits=60)
    for column in ("first_chunk_time", "total_chunk_time"):
        regressions = found[column]["regressions"]
        assert all(one["found"] and one["status_at_50_percent"] == "harmed" for one in regressions.values())
        ratios = [regressions[load]["ratio"] for load in ("200", "300", "400", "500")]
        assert ratios == sorted(ratios)
        equal = found[column]["equal_loads"]
        assert equal["harmed"] == 0
        # A 95 % interval misses one in twenty: more than 9 of 60 would happen once in 1,000.
        assert equal["interval_excludes_1"] <= 9


def test_the_figures_that_are_kept_are_those_of_the_data() -> None:
    kept = json.loads(RESULT.read_text(encoding="utf-8"))
    assert kept["tau2_fine_tune"] == json.loads(json.dumps(tau2_fine_tune(DATA)))
    assert kept["asos"]["by_metric"] == asos(DATA)["by_metric"]
    assert kept["cookie_cats"]["stable"] == cookie_cats(DATA, draws=1000)["stable"]
    shown = kept["metr"]["GPT-4 Turbo → GPT-4o"]["completed"]
    found = metr(DATA)["GPT-4 Turbo → GPT-4o"]["completed"]
    for name in ("p_naive", "p_clustered_by_task"):
        assert shown[name] == pytest.approx(found[name], rel=1e-6)
