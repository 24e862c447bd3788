from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from agentcanary.calibration.history import MISSING_BIN, HistoryError, bins_of, history_of
from agentcanary_analysis.histogram import INFINITE_BIN, bin_of
from agentcanary_analysis.metrics import BUILT_IN, Direction, Kind, Metric
from tests.agentcanary.calibration.conftest import START, frame

SMALL = frame(days=3, per_hour=10)


def test_the_same_rows_make_the_same_history_whatever_the_frame() -> None:
    wanted = history_of(SMALL, BUILT_IN)
    arrow = pa.Table.from_pandas(SMALL)
    for native in (pl.from_pandas(SMALL), pl.from_pandas(SMALL).lazy(), arrow, duckdb.sql("SELECT * FROM arrow")):
        found = history_of(native, BUILT_IN)
        np.testing.assert_allclose(found.times, wanted.times, rtol=0, atol=1e-6)
        assert found.units == wanted.units
        for name, values in wanted.values.items():
            np.testing.assert_array_equal(found.values[name], values)


def test_rows_are_taken_in_the_order_of_time_and_missing_values_stay_missing() -> None:
    shuffled = SMALL.sample(frac=1, random_state=3)
    found = history_of(shuffled, BUILT_IN)
    assert (np.diff(found.times) >= 0).all()
    assert found.units == history_of(SMALL, BUILT_IN).units
    assert int(np.isnan(found.values["user_satisfaction"]).sum()) == int(SMALL["satisfaction"].isna().sum()) > 0
    assert any("user_satisfaction" in note and "stay missing" in note for note in found.notes)


def test_times_may_be_seconds_texts_or_naive_and_mean_utc() -> None:
    wanted = history_of(SMALL, BUILT_IN).times
    seconds = (SMALL["started_at"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    for column in (seconds, SMALL["started_at"].astype(str), SMALL["started_at"].dt.tz_localize(None)):
        np.testing.assert_allclose(history_of(SMALL.assign(started_at=column), BUILT_IN).times, wanted, atol=1e-3)
    with pytest.raises(HistoryError, match="milliseconds"):
        history_of(SMALL.assign(started_at=seconds * 1000), BUILT_IN)


def test_users_that_nobody_knows_are_users_of_their_own() -> None:
    some = history_of(SMALL.assign(user_id=SMALL["user_id"].where(SMALL.index % 2 == 0)), BUILT_IN)
    assert some.users is not None
    assert len(set(some.users[1::2])) == len(some.users[1::2])
    assert history_of(SMALL.assign(user_id=None), BUILT_IN).users is None


def test_columns_of_other_names_and_metrics_of_ones_own_are_read() -> None:
    cost = Metric(name="cost", kind=Kind.MEAN, direction=Direction.UP_IS_WORSE, outcome="dollars")
    renamed = SMALL.rename(columns={"conversation_id": "session", "error": "failed"}).assign(dollars=0.5)
    found = history_of(renamed, (*BUILT_IN, cost), columns={"conversation_id": "session", "error": "failed"})
    assert set(found.values["cost"]) == {0.5}
    assert found.values["error_rate"].sum() == SMALL["error"].sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="started_at"), "no column 'started_at', only conversation_id, user_id"),
        (lambda f: f.drop(columns="conversation_id"), "no column 'conversation_id'"),
        (lambda f: f.head(199), "has 199 conversations; a replay needs at least 200"),
        (lambda f: f.assign(started_at=pd.Timestamp(START, unit="s", tz="UTC")), "at the same moment"),
        (lambda f: f.assign(started_at="yesterday, I think"), "started_at cannot be read as a time"),
        (lambda f: f.assign(started_at=f["started_at"].where(f.index > 4)), "started_at is missing in 5 of"),
        (
            lambda f: f.assign(conversation_id=f["conversation_id"].where(f.index > 2)),
            "conversation_id is missing in 3",
        ),
        (lambda f: pd.concat([f, f.head(2)]), "2 rows repeat a conversation, such as 'c0'"),
        (lambda f: f.assign(error=2), "column 'error' of error_rate must be 0 or 1, got 2"),
        (lambda f: f.assign(latency_s=-1.5), "'latency_s' of p95_latency must be 0 or more, got -1.5"),
        (lambda f: f.assign(completed="yes"), "'completed' of task_completion_rate must hold numbers"),
        (lambda f: f.assign(satisfaction=np.inf), "user_satisfaction must be finite, got inf"),
        (lambda f: f.assign(safety_violations=-1), "safety_violations must be a count of 0 or more, got -1"),
        (
            lambda f: f.assign(version=["v1", "v2"] * (len(f) // 2)),
            "holds the versions v1, v2; name the one to replay",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_bad_history_is_refused_with_what_is_wrong_and_the_value(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(HistoryError, match=message.replace("(", r"\(")):
        history_of(change(SMALL), BUILT_IN)


def test_what_is_no_frame_and_a_version_that_is_not_there_are_refused() -> None:
    with pytest.raises(HistoryError, match="must be a frame that Narwhals knows, got list"):
        history_of([1, 2], BUILT_IN)
    with pytest.raises(HistoryError, match="no conversation of 'v9', only of support-v1"):
        history_of(SMALL, BUILT_IN, version="v9")
    with pytest.raises(HistoryError, match="sticky_by: user, but the history has no column 'user_id'"):
        history_of(SMALL.drop(columns="user_id"), BUILT_IN, sticky_by="user")


def test_other_versions_all_missing_values_and_gaps_are_named() -> None:
    both = pd.concat(
        [
            SMALL,
            frame(days=3, per_hour=2, version="old", seed=5).assign(
                conversation_id=lambda f: "o" + f["conversation_id"]
            ),
        ]
    )
    assert (
        "144 conversations of other versions than support-v1 are left out"
        in history_of(both, BUILT_IN, version="support-v1").notes
    )
    nothing = history_of(SMALL.assign(completed=np.nan), BUILT_IN)
    assert "task_completion_rate" not in nothing.values
    assert any("task_completion_rate: every value is missing" in note for note in nothing.notes)
    days = (SMALL["started_at"] - SMALL["started_at"].iloc[0]).dt.total_seconds() / 86400
    gap = history_of(SMALL[(days < 1) | (days > 2.2)], BUILT_IN)
    assert [note for note in gap.notes if note.startswith("a gap: no conversation began for 1d")]


def test_bins_of_many_values_are_those_of_each() -> None:
    values = np.concatenate([[0.0, 1e-12, 1e-9, 1.0, 1.02, 1.0200001, 1e90, np.inf], np.geomspace(1e-6, 1e6, 400)])
    assert bins_of(values).tolist() == [bin_of(value) for value in values]
    assert bins_of(np.array([np.nan]))[0] == MISSING_BIN
    assert bin_of(np.inf) == INFINITE_BIN
