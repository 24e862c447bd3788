"""What replays count, against a plain loop over the conversations and the engine's own counting."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from agentcanary.assignment import bucket
from agentcanary.calibration.design import Design, design_of, look_times, replayable
from agentcanary.calibration.history import History, history_of
from agentcanary.calibration.injection import Harm
from agentcanary.calibration.past import Past, Stretch, past_of, stretch_of
from agentcanary.calibration.replayed import ReplayedOutcomes
from agentcanary.config import parse_config
from agentcanary.plan import Plan
from agentcanary.simulate import lines_of
from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.cells import cells_of
from agentcanary_analysis.histogram import bin_of
from agentcanary_analysis.metrics import Kind
from tests.agentcanary.calibration.conftest import DAY, HOUR, PLAN, frame

SWITCHED = 30


@pytest.fixture(scope="module")
def past() -> Past:
    plan = parse_config(
        PLAN.replace("max_completion_drop: null", "max_completion_drop: 0.1\n  max_satisfaction_drop: 0.1")
    ).plan
    # Different horizons, so that a look counts different conversations for each.
    horizons = {
        "error_rate": 1800.0,
        "p95_latency": 1200.0,
        "task_completion_rate": 3600.0,
        "user_satisfaction": 7200.0,
    }
    plan = replace(plan, metrics=tuple(replace(one, horizon=horizons.get(one.name, 1800.0)) for one in plan.metrics))
    frame_ = frame(days=6, per_hour=120).assign(safety_violations=lambda f: (f.index % 97 == 0).astype(int))
    history = history_of(frame_, plan.metrics)
    return past_of(history, replayable(plan, history)[0])


@pytest.fixture(scope="module")
def design(past: Past) -> Design:
    return design_of(past.history, past.plan, replays=3, rng=np.random.default_rng(2), longest=30 * HOUR)


def replayed(past: Past, design: Design, harm: Harm | None, stretch: Stretch, look: int) -> ReplayedOutcomes:
    """Two epochs: weight 0.2 from the start, weight 0.5 from look 30 on."""
    outcomes = ReplayedOutcomes(past, lines_of(past.plan), [stretch], [harm], design.looks)
    outcomes.open_epoch(0, Epoch(number=0, weight=0.2, stage=0, thresholds=outcomes.known_thresholds(0)))
    outcomes.look = SWITCHED
    outcomes.open_epoch(0, Epoch(number=1, weight=0.5, stage=1, thresholds=outcomes.known_thresholds(0)))
    outcomes.look = look
    return outcomes


def counted(past: Past, design: Design, stretch: Stretch, thresholds: list[dict[str, float]], look: int) -> Aggregates:
    """The same by a loop: each conversation by itself, as the store counts it."""
    history, start, now = past.history, stretch.replay.start, design.looks[look]
    tallies: defaultdict[Cell, dict[int, Tally]] = defaultdict(lambda: {0: Tally()})
    bins: defaultdict[Cell, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    assigned: defaultdict[tuple[int, Arm], int] = defaultdict(int)
    for row in np.flatnonzero((history.times >= start) & (history.times < start + now)):
        age_zero = history.times[row] - start
        epoch = 0 if age_zero < design.looks[SWITCHED] else 1
        canary = bucket(stretch.replay.salt, history.units[row]).assignment < (0.2, 0.5)[epoch]
        arm = Arm.CANARY if canary else Arm.STABLE
        assigned[epoch, arm] += 1
        for metric in past.plan.metrics:
            if metric.name not in history.values or age_zero >= now - metric.horizon:
                continue
            value, cell = history.values[metric.name][row], Cell(metric.name, epoch, arm)
            if metric.kind is Kind.QUANTILE:
                bins[cell][bin_of(value)] += 1
            elif np.isnan(value):
                tallies[cell][0] += Tally(units=1)
            else:
                tallies[cell][0] += Tally(1, 1, value, value**2)
    epochs = tuple(
        Epoch(number=number, weight=(0.2, 0.5)[number], stage=number, thresholds=thresholds[number])
        for number in (0, 1)
    )
    return Aggregates(epochs=epochs, tallies=tallies, histograms=bins, assigned=assigned)


@pytest.mark.parametrize("look", [5, SWITCHED, SWITCHED + 1, 45, -1])
def test_every_line_is_counted_as_a_loop_over_the_conversations_counts_it(
    past: Past, design: Design, look: int
) -> None:
    look = look % len(design.looks)
    stretch = stretch_of(past, design, design.replays[1])
    outcomes = ReplayedOutcomes(past, lines_of(past.plan), [stretch], [None], design.looks)
    thresholds = [outcomes.known_thresholds(0)]
    outcomes.open_epoch(0, Epoch(number=0, weight=0.2, stage=0, thresholds=thresholds[0]))
    if look >= SWITCHED:
        outcomes.look = SWITCHED
        thresholds.append(outcomes.known_thresholds(0))
        outcomes.open_epoch(0, Epoch(number=1, weight=0.5, stage=1, thresholds=thresholds[1]))
    else:
        thresholds.append({})
    outcomes.look = look
    wanted = counted(past, design, stretch, thresholds, look)
    assert thresholds[0].keys() == {"p95_latency"}
    used = 2 if look >= SWITCHED else 1
    for line in lines_of(past.plan):
        found, expected = outcomes.cells(line, np.array([0])), cells_of(wanted, line.metric, line.boundary)
        for name in ("canary_n", "canary_k", "canary_units", "stable_n", "stable_k", "stable_units", "stable_squares"):
            np.testing.assert_allclose(
                getattr(found, name)[:, :used], getattr(expected, name)[:, :used], rtol=1e-12, err_msg=f"{line} {name}"
            )
    split = outcomes.split(np.array([0]))
    for epoch in range(used):
        assert split.canary_assigned[0, epoch] == wanted.assigned.get((epoch, Arm.CANARY), 0)
        assert split.stable_assigned[0, epoch] == wanted.assigned.get((epoch, Arm.STABLE), 0)


def test_harm_reaches_the_canary_alone_and_violations_are_those_of_the_canary(past: Past, design: Design) -> None:
    stretch = stretch_of(past, design, design.replays[0])
    line = next(line for line in lines_of(past.plan) if line.metric.name == "error_rate")
    plain, harmed = (
        replayed(past, design, harm, stretch, len(design.looks) - 1).cells(line, np.array([0]))
        for harm in (None, Harm(metric="error_rate", ratio=3.0))
    )
    np.testing.assert_array_equal(harmed.stable_k, plain.stable_k)
    np.testing.assert_array_equal(harmed.canary_n, plain.canary_n)
    ratio = harmed.canary_k.sum() / plain.canary_k.sum()
    assert 2.5 < ratio < 3.5
    outcomes = replayed(past, design, None, stretch, len(design.looks) - 1)
    rows = stretch.rows
    first = rows < rows[0] + stretch.begun[SWITCHED]
    canary = stretch.buckets < np.where(first, 0.2, 0.5)
    assert outcomes.violations.tolist() == [past.history.violations[rows][canary].sum()]


def test_thresholds_come_from_the_seven_days_before_and_only_where_they_are_enough(past: Past) -> None:
    history: History = past.history
    hourly = past.thresholds["p95_latency"]
    # 120 conversations an hour: 200 are known after the second.
    assert np.isnan(hourly[:1]).all()
    assert np.isfinite(hourly[3:]).all()
    before = history.values["p95_latency"][history.times < history.times[0] + 100 * HOUR]
    exact = np.quantile(before, 0.95)
    assert exact / 1.02 <= hourly[100] <= exact * 1.02


def test_replays_lie_in_blocks_of_whole_days_that_do_not_overlap(past: Past) -> None:
    found = design_of(past.history, past.plan, replays=50, rng=np.random.default_rng(5), longest=20 * HOUR)
    assert found.blocks == 3
    assert found.block_days == 2
    assert found.whole_days
    for one in found.replays:
        begin = past.history.times[0] + one.block * found.block_days * DAY
        assert begin <= one.start <= begin + found.block_days * DAY - found.span
    assert np.ptp(np.bincount([one.block for one in found.replays])) <= 1
    assert len({one.salt for one in found.replays}) == 50


def test_looks_are_even_at_first_then_move_apart_and_end_with_the_replay() -> None:
    looks = look_times(100 * HOUR, 30 * HOUR)
    gaps = np.diff(looks)
    assert looks[0] == 0
    assert looks[-1] == 100 * HOUR
    assert gaps[0] == pytest.approx(900)
    assert (gaps <= np.maximum(900.0, 0.05 * looks[1:]) + 1e-6).all()


def test_a_plan_is_replayed_without_what_nobody_recorded_and_says_so(plan: Plan) -> None:
    history = history_of(frame(days=3, per_hour=20).drop(columns=["latency_s"]).assign(error=np.nan), plan.metrics)
    known, notes = replayable(plan, history)
    assert known.criteria == ()
    assert [check.metric for stage in known.stages for check in stage.checks] == ["safety_violations"]
    assert any("error_rate: nothing in the history" in note and "hold a rollout for ever" in note for note in notes)
    assert any(note == "p95_latency: nothing in the history, so nothing is known of it" for note in notes)


def test_freeze_windows_are_left_out_and_named(plan: Plan) -> None:
    text = PLAN + "freeze:\n  - {days: [fri], hours: '15:00-23:00'}\n"
    frozen = parse_config(text).plan
    assert frozen.freeze
    history = history_of(frame(days=3, per_hour=20), plan.metrics)
    known, notes = replayable(frozen, history)
    assert known.freeze == ()
    assert any(note.startswith("freeze windows are left out") for note in notes)


def test_pandas_is_not_changed_by_reading_it(plan: Plan) -> None:
    rows = frame(days=3, per_hour=20)
    copy = rows.copy()
    history_of(rows, plan.metrics)
    pd.testing.assert_frame_equal(rows, copy)
