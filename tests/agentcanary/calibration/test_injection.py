from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kstest

from agentcanary.calibration.history import FloatArray, History, IntArray, history_of
from agentcanary.calibration.injection import Donors, Harm, scaled, uniforms
from agentcanary_analysis.metrics import (
    BUILT_IN,
    ERROR_RATE,
    P95_LATENCY,
    TASK_COMPLETION_RATE,
    USER_SATISFACTION,
    Metric,
)
from tests.agentcanary.calibration.conftest import frame

HISTORY: History = history_of(frame(days=2, per_hour=600, daily=0.8), BUILT_IN)
ROWS = np.arange(len(HISTORY.times))
SALT = b"0123456789abcdef"


def injected(metric: Metric, ratio: float) -> IntArray:
    donors = Donors(HISTORY, metric)
    draws, picks = (uniforms(HISTORY.hashes, SALT, use) for use in (0, 1))
    return donors.replaced(ROWS, ratio, draws, picks)


def failures(metric: Metric, records: IntArray) -> FloatArray:
    bad = 1.0 if metric is ERROR_RATE else 0.0
    return np.asarray(HISTORY.values[metric.name][records] == bad, dtype=np.float64)


@pytest.mark.parametrize("metric", [ERROR_RATE, TASK_COMPLETION_RATE], ids=lambda metric: metric.name)
@pytest.mark.parametrize("ratio", [0.5, 1.25, 2.0, 3.0])
def test_failures_rise_in_proportion_to_the_rate_of_each_hour(metric: Metric, ratio: float) -> None:
    before, after = failures(metric, ROWS), failures(metric, injected(metric, ratio))
    hours = Donors(HISTORY, metric).hour
    for part in (hours % 24 < 12, hours % 24 >= 12):
        rate, units = before[part].mean(), part.sum()
        # Each conversation is changed by a draw of its own: four standard errors of the injected share.
        assert abs(after[part].mean() - ratio * rate) <= 4 * np.sqrt(abs(ratio - 1) * rate / units)


def test_injections_are_nested_in_their_ratio() -> None:
    changed = [injected(ERROR_RATE, ratio) != ROWS for ratio in (1.25, 1.5, 2.0, 3.0)]
    for smaller, larger in pairwise(changed):
        assert smaller.sum() < larger.sum()
        assert (larger | ~smaller).all()
    np.testing.assert_array_equal(injected(ERROR_RATE, 1.0), ROWS)


def test_a_conversation_takes_the_whole_record_of_one_that_failed_in_the_same_hour() -> None:
    records = injected(ERROR_RATE, 3.0)
    changed = records != ROWS
    donors = Donors(HISTORY, ERROR_RATE)
    assert (donors.hour[records] == donors.hour).all()
    assert set(HISTORY.values["error_rate"][records[changed]]) == {1.0}
    # Failing conversations never complete and take twice as long here: so do the injected ones.
    assert HISTORY.values["task_completion_rate"][records[changed]].max() == 0.0
    assert np.median(HISTORY.values["p95_latency"][records[changed]]) > 1.5 * np.median(HISTORY.values["p95_latency"])


def test_draws_are_uniform_differ_by_salt_and_use_and_are_the_same_again() -> None:
    draws = uniforms(HISTORY.hashes, SALT, 0)
    assert kstest(draws, "uniform").pvalue > 1e-4
    np.testing.assert_array_equal(draws, uniforms(HISTORY.hashes, SALT, 0))
    for other in (uniforms(HISTORY.hashes, SALT, 1), uniforms(HISTORY.hashes, b"another salt 456", 0)):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 4 / np.sqrt(len(draws))


def test_other_values_are_scaled_the_worse_way() -> None:
    np.testing.assert_array_equal(scaled(np.array([2.0, np.inf]), P95_LATENCY, 1.5), [3.0, np.inf])
    np.testing.assert_array_equal(scaled(np.array([3.0]), USER_SATISFACTION, 1.5), [2.0])
    with pytest.raises(ValueError, match="failures are injected"):
        scaled(np.array([1.0]), ERROR_RATE, 2.0)
    with pytest.raises(ValueError, match="must be positive, got -1"):
        Harm(metric="error_rate", ratio=-1)
