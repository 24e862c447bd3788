"""Generated histories have the rates, the rhythm and the dependence that they promise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from agentcanary_analysis.history import Effect, Traffic, generate_history


def _history(seed: int = 1, **more: Any) -> pd.DataFrame:
    asked: dict[str, Any] = {"days": 28, "conversations_per_day": 1500.0, **more}
    return generate_history(rng=np.random.default_rng(seed), **asked)


STILL = Traffic(day_spread=0.0, user_spread=0.0, load_effect=0.0, daily=0.0, weekend=1.0)


def test_the_same_seed_gives_the_same_history_and_another_one_does_not() -> None:
    pd.testing.assert_frame_equal(_history(3), _history(3))
    assert not _history(3)["latency_s"].equals(_history(4)["latency_s"])


def test_it_has_the_columns_of_an_analysis_in_the_order_of_the_starts() -> None:
    frame = _history()
    assert list(frame) == [
        "conversation_id",
        "version",
        "user_id",
        "error",
        "completed",
        "safety_violations",
        "satisfaction",
        "latency_s",
        "started_at",
    ]
    assert frame["conversation_id"].is_unique
    assert frame["started_at"].is_monotonic_increasing
    assert set(frame["version"]) == {"support-v1"}
    assert frame["started_at"].iloc[0] >= pd.Timestamp("2026-01-05", tz="UTC")
    assert frame["started_at"].iloc[-1] < pd.Timestamp("2026-02-02", tz="UTC")


def test_rates_are_those_asked_for_where_nothing_varies() -> None:
    frame = _history(traffic=STILL)
    for column, rate in (("error", 0.05), ("completed", 0.85)):
        assert binomtest(int(frame[column].sum()), len(frame), rate).pvalue > 0.001
    assert frame["latency_s"].median() == pytest.approx(1.8, rel=0.03)
    assert frame["satisfaction"].notna().mean() == pytest.approx(0.3, abs=0.01)
    assert frame["satisfaction"].dropna().isin([1, 2, 3, 4, 5]).all()


def test_an_effect_multiplies_the_canarys_rates_and_only_those() -> None:
    effect = Effect(errors=1.5, completion=0.9, latency=1.3, violations=20.0)
    traffic = Traffic(day_spread=0.1, violation_rate=0.002)
    frame = _history(canary="support-v2", effect=effect, traffic=traffic, conversations_per_day=5000.0)
    stable, canary = (frame[frame["version"] == version] for version in ("support-v1", "support-v2"))
    assert canary["error"].mean() / stable["error"].mean() == pytest.approx(1.5, rel=0.05)
    assert canary["completed"].mean() / stable["completed"].mean() == pytest.approx(0.9, rel=0.01)
    assert canary["latency_s"].median() / stable["latency_s"].median() == pytest.approx(1.3, rel=0.02)
    assert canary["safety_violations"].mean() / stable["safety_violations"].mean() == pytest.approx(20, rel=0.3)


def test_without_an_effect_the_arms_differ_by_chance_alone() -> None:
    frame = _history(canary="support-v2")
    counts = pd.crosstab(frame["version"], frame["error"])
    (_, of_stable), (_, of_canary) = counts.to_numpy().tolist()
    share = (frame["version"] == "support-v2").mean()
    assert binomtest(of_canary, of_stable + of_canary, share).pvalue > 0.001


def test_the_canary_gets_the_weight_of_each_epoch() -> None:
    frame = _history(canary="support-v2", weights=(0.05, 0.25, 0.0))
    for epoch, weight in enumerate((0.05, 0.25, 0.0)):
        part = frame[frame["epoch"] == epoch]
        assert (part["weight"] == weight).all()
        assert binomtest(int((part["version"] == "support-v2").sum()), len(part), weight).pvalue > 0.001
    assert frame.groupby("epoch")["started_at"].min().is_monotonic_increasing


def test_nights_and_weekends_are_quiet_and_rates_follow_the_load() -> None:
    frame = _history()
    hours, days = frame["started_at"].dt.hour, frame["started_at"].dt.day_of_week
    by_hour = frame.groupby(hours).size()
    assert by_hour[14] > 3 * by_hour[2]
    by_day = frame.groupby(days).size()
    assert by_day[5] == pytest.approx(0.55 * by_day[2], rel=0.05)
    busy, quiet = frame[hours.between(11, 17)], frame[hours.isin([23, 0, 1, 2, 3, 4, 5])]
    assert busy["error"].mean() > 1.15 * quiet["error"].mean()
    assert busy["latency_s"].median() > 1.15 * quiet["latency_s"].median()


def test_days_differ_more_than_chance_allows_when_asked_to() -> None:
    def over_dispersion(traffic: Traffic) -> float:
        frame = _history(traffic=traffic, conversations_per_day=4000.0)
        days = frame.groupby(frame["started_at"].dt.date)["error"].agg(["sum", "size"])
        expected = days["size"] * frame["error"].mean()
        return float(((days["sum"] - expected) ** 2 / expected).mean())

    assert over_dispersion(STILL) < 1.8
    assert over_dispersion(Traffic(day_spread=0.3, user_spread=0.0)) > 5


def test_users_resemble_themselves_when_asked_to() -> None:
    def repeats(spread: float) -> float:
        """Variance of users' numbers of errors over what independent conversations would have."""
        frame = _history(traffic=Traffic(day_spread=0.0, user_spread=spread, load_effect=0.0))
        users = frame.groupby("user_id")["error"].agg(["sum", "size"])
        rate = frame["error"].mean()
        return float(((users["sum"] - users["size"] * rate) ** 2).sum() / (users["size"] * rate * (1 - rate)).sum())

    assert repeats(0.0) == pytest.approx(1.0, abs=0.05)
    assert repeats(1.0) > 1.3


def test_some_turns_take_very_long_and_none_longer_than_the_timeout() -> None:
    frame = _history()
    assert frame["latency_s"].max() == 60.0
    assert frame["latency_s"].quantile(0.999) > 8 * frame["latency_s"].median()
    assert (frame["latency_s"] > 0).all()


def test_errors_go_with_failed_tasks_and_bad_ratings() -> None:
    frame = _history()
    failed, fine = frame[frame["error"] == 1], frame[frame["error"] == 0]
    assert failed["completed"].mean() < fine["completed"].mean() - 0.1
    assert failed["satisfaction"].mean() < fine["satisfaction"].mean() - 0.3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"days": 0}, "days must be"),
        ({"conversations_per_day": 0.0}, "conversations"),
        ({"start": datetime(2026, 1, 5)}, "time zone"),  # noqa: DTZ001 (that is the mistake)
        ({"canary": "b", "weights": ()}, "one weight"),
        ({"canary": "b", "weights": (5.0,)}, "write 0.05"),
    ],
    ids=["no days", "no traffic", "no time zone", "no weight", "a weight in percent"],
)
def test_impossible_histories_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _history(**arguments)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Traffic(error_rate=5.0), "write 0.05"),
        (lambda: Traffic(violation_rate=-0.1), "violation_rate"),
        (lambda: Traffic(latency=0.0), "latency must be positive"),
        (lambda: Traffic(satisfaction=6.0), "between 1 and 5"),
        (lambda: Traffic(user_spread=-1.0), "user_spread"),
        (lambda: Effect(errors=-1.0), "errors is a multiple"),
        (lambda: Effect(latency=0.0), "latency must be a positive"),
    ],
)
def test_impossible_traffic_is_refused(make: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()  # type: ignore[operator]  # a table of constructors


def test_the_history_begins_where_it_was_asked_to() -> None:
    frame = _history(start=datetime(2026, 3, 7, tzinfo=UTC), days=2)
    assert str(frame["started_at"].dt.date.min()) == "2026-03-07"
    # A Saturday and a Sunday: a week's mean of 1,500 is 841 on each.
    assert len(frame) == pytest.approx(2 * 1500 * 0.55 * 7 / (5 + 2 * 0.55), rel=0.08)
