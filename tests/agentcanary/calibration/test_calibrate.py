from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import agentcanary
from agentcanary.calibration import Calibration, HistoryError, calibrate
from agentcanary.calibration.advice import alpha_advice, best_shares, caught_with, too_short
from agentcanary.calibration.design import design_of
from agentcanary.calibration.history import history_of
from agentcanary.calibration.injection import Harm
from agentcanary.calibration.past import past_of, stretch_of
from agentcanary.calibration.rates import rate_of
from agentcanary.calibration.runs import Runs, run
from agentcanary.calibration.work import Task, split_z
from agentcanary.calibration.workers import all_chunks
from agentcanary.config import parse_config
from agentcanary.plan import Plan, Stage
from agentcanary.simulate import Effect, End, Truth, simulate
from agentcanary_analysis.variance import Dispersion, design_effect, over_dispersion, z_dispersion
from tests.agentcanary.calibration.conftest import DAY, HOUR, PLAN, frame

ERRORS_ONLY = parse_config(PLAN.replace("max_latency_increase: 0.50", "max_latency_increase: null")).plan


def test_a_harmless_canary_is_rolled_back_within_the_budget_and_plain_comparisons_are_not(found: Calibration) -> None:
    # Rolled back in at most 5 % of the replays: more would happen once in 10,000 such tests.
    assert found.false_rollbacks.count <= binom.ppf(0.9999, found.replays, 0.05)
    assert found.naive.share > 0.2
    assert found.safety_stops.count == 0
    rates = (found.false_rollbacks, found.promoted, found.undecided, found.naive)
    assert all(rate.low <= rate.share <= rate.high and rate.replays == 40 for rate in rates)
    assert found.false_rollbacks.count + found.promoted.count + found.undecided.count == found.replays


def test_the_worse_a_canary_the_more_often_it_is_rolled_back(found: Calibration) -> None:
    for name in ("error_rate", "p95_latency"):
        curve = [found.false_rollbacks.count, *(one.rolled_back.count for one in found.metric(name).detection)]
        # Injections are nested, so the same replays see more of the same harm.
        assert curve == sorted(curve)
        assert curve[-1] >= 38
        assert found.metric(name).detection[-1].promoted.count == 0
    assert found.metric("error_rate").detection[0].tolerated
    assert not found.metric("error_rate").detection[1].tolerated


def compared_with_simulation(*, replays: int, runs: int) -> tuple[float, float]:
    """Shares of canaries with 2.4 times the errors that are rolled back: replayed, and simulated."""
    plan = replace(ERRORS_ONLY, stages=tuple(replace(stage, auto_rollback=True) for stage in ERRORS_ONLY.stages))
    per_hour, hours = 150.0, 10.0
    rows = frame(days=20, per_hour=per_hour, seed=11)
    past = past_of(history_of(rows, plan.metrics), plan)
    design = design_of(past.history, plan, replays=replays, rng=np.random.default_rng(3), longest=hours * HOUR)
    stretches = [stretch_of(past, design, one) for one in design.replays]
    (found,) = run(past, plan, design, stretches, [Harm(metric="error_rate", ratio=2.4)])
    rate = rows["error"].mean()
    simulated = simulate(
        plan,
        Truth(effects={"error_rate": Effect(stable=rate, canary=2.4 * rate)}),
        runs=runs,
        rng=np.random.default_rng(4),
        look_every=25,
        look_growth=0.05,
        # The simulation counts at once; a replay half an hour later, as a rollout does.
        max_conversations=int((hours - 0.5) * per_hour),
        conversations_per_hour=per_hour,
    )
    return float(found.rolled_back.mean()), simulated.share(End.ROLLED_BACK)


def test_independent_conversations_are_detected_as_the_simulation_of_the_plan_says() -> None:
    replayed, simulated = compared_with_simulation(replays=60, runs=150)
    assert 0.2 < simulated < 0.98
    error = np.sqrt(simulated * (1 - simulated) * (1 / 60 + 1 / 150))
    assert abs(replayed - simulated) <= 3.5 * error


@pytest.mark.slow
def test_many_independent_conversations_are_detected_as_the_simulation_of_the_plan_says() -> None:
    replayed, simulated = compared_with_simulation(replays=600, runs=2000)
    assert abs(replayed - simulated) <= 3 * np.sqrt(simulated * (1 - simulated) * (1 / 600 + 1 / 2000))


def split(rows: pd.DataFrame, plan: Plan, *, replays: int = 80) -> Dispersion:
    """Variance of the z statistics of splits of a history, by the errors."""
    history = history_of(rows, plan.metrics, sticky_by=plan.sticky_by)
    past = past_of(history, plan)
    design = design_of(history, plan, replays=replays, rng=np.random.default_rng(8), longest=100 * HOUR)
    stretches = [stretch_of(past, design, one) for one in design.replays]
    found = z_dispersion(split_z(past, plan.metric("error_rate"), stretches))
    assert found is not None
    return found


def test_a_split_by_hash_is_as_random_as_assumed_and_users_repeat_themselves_as_much_as_they_do() -> None:
    # Six conversations a user, alike in their errors: with correlation r the variance of users is 1 + 5 r times.
    rng = np.random.default_rng(8)
    users, each, correlation = 1500, 6, 0.4
    rates = rng.beta(0.1 * (1 / correlation - 1), 0.9 * (1 / correlation - 1), users)
    rows = frame(days=5, per_hour=75).head(users * each)
    who = rng.permutation(np.repeat(np.arange(users), each))
    names = [f"u{number}" for number in who]
    rows = rows.assign(user_id=names, error=(rng.random(len(who)) < rates[who]).astype(int))
    effect = design_effect(rows["error"], names)
    assert effect == pytest.approx(1 + (each - 1) * correlation, rel=0.2)
    by_conversation = split(rows, ERRORS_ONLY)
    assert by_conversation.low < 1 < by_conversation.high
    # A replay of a hundred hours sees five of the six conversations of a user: about 1 + 4 r.
    assert split(rows, replace(ERRORS_ONLY, sticky_by="user")).low > 1.5


def test_days_that_differ_for_no_reason_are_found_between_periods_and_not_in_the_split() -> None:
    rng = np.random.default_rng(2)
    rows = frame(days=12, per_hour=150)
    day = ((rows["started_at"] - rows["started_at"].iloc[0]).dt.total_seconds() // DAY).astype(int)
    factor = np.tile([0.5, 1.5], 6)[day]
    swinging = rows.assign(error=(rng.random(len(rows)) < 0.1 * factor).astype(int))
    between = over_dispersion(history_of(swinging, ERRORS_ONLY.metrics).times, swinging["error"])
    # Within: p (1 - p) is .0875; between: .05 squared times 12/11, with 3,600 conversations a day: a ratio of 112.
    assert between is not None
    assert between.ratio == pytest.approx(112, rel=0.15)
    of_split = split(swinging.iloc[::5], ERRORS_ONLY)
    assert of_split.low < 1 < of_split.high


def test_a_rhythm_of_the_day_lengthens_the_stage_that_proves() -> None:
    rows = frame(days=16, per_hour=150, errors=0.1, daily=0.9)
    found = calibrate(rows, ERRORS_ONLY, replays=20, rng=np.random.default_rng(1), longest=3 * HOUR, ratios=(3.0,))
    hours = found.metric("error_rate").representative_hours
    assert hours is not None
    assert hours > 8
    stages = {one.name: one for one in found.stages}
    assert stages["half"].recommended >= hours * HOUR
    assert "error_rate has a rhythm" in stages["half"].reason
    assert stages["low"].recommended == stages["low"].own
    rhythm = found.metric("error_rate").hours
    assert rhythm is not None
    # 0.1 (1 + 0.9 sin): the sixth hour is at the top, the eighteenth at the bottom.
    assert rhythm.values[5:7].mean() == pytest.approx(0.19, abs=0.015)
    assert rhythm.values[17:19].mean() == pytest.approx(0.01, abs=0.01)


def test_the_margin_is_the_smallest_that_is_proven_and_is_confirmed_on_days_held_out(found: Calibration) -> None:
    for advice in found.margins:
        powers = found.metric(advice.metric).margins
        assert [one.margin for one in powers] == sorted({one.margin for one in powers})
        proven = [one.proven.count for one in powers]
        assert proven == sorted(proven)
        if advice.smallest is None:
            assert advice.recommended == advice.own
            continue
        chosen = next(one for one in powers if one.margin == advice.smallest)
        assert chosen.chosen_on is not None
        assert chosen.chosen_on.at_least >= 0.8
        below = [one for one in powers if one.margin < advice.smallest and one.chosen_on is not None]
        assert all(one.chosen_on.at_least < 0.8 for one in below if one.chosen_on is not None)
        assert advice.confirmed is (chosen.held_out is not None and chosen.held_out.share >= 0.8)
    assert {advice.metric for advice in found.margins} == {"error_rate", "p95_latency"}


@pytest.mark.slow
def test_the_tuned_plan_promotes_more_harmless_canaries_and_keeps_the_budget() -> None:
    text = PLAN.replace("max_latency_increase: 0.50", "max_latency_increase: null").replace("0.60", "0.10")
    rows = frame(days=12, per_hour=100, errors=0.15)
    before, after = (
        calibrate(rows, parse_config(one), replays=20, rng=np.random.default_rng(2), longest=16 * HOUR, ratios=(3.0,))
        for one in (text, tuned(rows, text))
    )
    assert after.promoted.count > before.promoted.count
    assert after.false_rollbacks.count <= binom.ppf(0.9999, after.replays, 0.05)
    # What was recommended is proven now as it was said.
    assert after.margins[0].own == after.margins[0].recommended


def tuned(rows: pd.DataFrame, text: str) -> str:
    """The plan as it is recommended on 60 replays."""
    plan = parse_config(text)
    found = calibrate(rows, plan, replays=60, rng=np.random.default_rng(1), longest=16 * HOUR, ratios=(3.0,))
    assert found.margins[0].confirmed
    assert found.margins[0].recommended > 0.10
    return found.to_yaml(text)


def test_the_same_seed_gives_the_same_result_for_any_number_of_processes(history: pd.DataFrame) -> None:
    past = past_of(history_of(history.iloc[::4].head(2000), ERRORS_ONLY.metrics), ERRORS_ONLY)

    def result(*, seed: int, jobs: int) -> str:
        design = design_of(past.history, ERRORS_ONLY, replays=60, rng=np.random.default_rng(seed), longest=HOUR)
        task = Task(past=past, design=design, harms=(None,), margins=(ERRORS_ONLY,))
        told: list[tuple[int, int]] = []
        worked = all_chunks(task, jobs=jobs, progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 2), (2, 2)]
        return repr([worked.policy.log_e.tolist(), worked.harmed[0].safe.tolist(), worked.z["error_rate"].tolist()])

    assert result(seed=5, jobs=1) == result(seed=5, jobs=2)
    assert result(seed=5, jobs=1) != result(seed=6, jobs=1)


@pytest.mark.parametrize(
    ("days", "longest", "sentences"),
    [
        (0.2, None, ["the plan at least 6 h: no replay can reach its end", "one block", "less than two days"]),
        (1.0, 2 * HOUR, ["one block", "less than two days", "less than two weeks", "very large differences"]),
        (6.0, 2 * HOUR, ["fewer than ten", "less than two weeks"]),
    ],
)
def test_a_history_that_is_too_short_says_what_it_cannot_tell(
    days: float, longest: float | None, sentences: list[str]
) -> None:
    history = history_of(frame(days=days, per_hour=60), ERRORS_ONLY.metrics)
    design = design_of(history, ERRORS_ONLY, replays=20, rng=np.random.default_rng(1), longest=longest)
    text = " ".join(too_short(design, history.days, history.per_hour))
    for sentence in sentences:
        assert sentence in text


def test_with_one_block_of_days_nothing_is_confirmed_and_nothing_known_of_other_days() -> None:
    rows = frame(days=1, per_hour=60)
    found = calibrate(rows, ERRORS_ONLY, replays=20, rng=np.random.default_rng(1), longest=HOUR, ratios=(3.0,))
    assert found.blocks == 1
    assert found.false_rollbacks.between_low is None
    assert all(one.confirmed is None for one in found.margins)
    assert any("one block of days" in one for one in found.unknown)
    assert any("No safety violation is in the history" in one for one in found.unknown)


def test_violations_stop_replays_by_policy_and_few_failures_and_missing_users_are_named() -> None:
    rows = frame(days=4, per_hour=60, errors=0.005).drop(columns="user_id")
    rows = rows.assign(safety_violations=(rows.index % 10 == 0).astype(int))
    plan = replace(ERRORS_ONLY, max_violation_rate=0.001)
    found = calibrate(rows, plan, replays=20, rng=np.random.default_rng(1), longest=5 * HOUR, ratios=(3.0,))
    assert found.safety_stops.count == 20
    assert any("stopped by a safety violation" in sentence for sentence in found.sentences())
    # Evidence is judged by itself: the policy's stops are no false rollbacks of it.
    assert found.false_rollbacks.count <= 5
    assert any("conversations failed, so injected harm repeats the same few" in one for one in found.unknown)
    assert any("names no users" in one for one in found.unknown)
    assert found.metric("error_rate").design_effect is None
    with pytest.raises(KeyError, match="nothing is known of 'cost', only of error_rate"):
        found.metric("cost")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"replays": 19}, ValueError, "at least 20, got 19"),
        ({"jobs": 0}, ValueError, "jobs must be at least 1, got 0"),
        ({"longest": 60.0}, ValueError, "at least an hour, in seconds, got 60"),
        ({"ratios": (0.0,)}, ValueError, "must be positive, got 0"),
        ({"version": "v9"}, HistoryError, "no conversation of 'v9'"),
        ({"plan": "canary.yaml"}, TypeError, "must be a Plan or a Config, got str"),
        ({"plan": Plan(stages=(Stage(name="all", weight=1.0, duration=0.0),))}, ValueError, "no criterion of the plan"),
    ],
)
def test_impossible_arguments_are_refused(
    arguments: dict[str, object], error: type[Exception], message: str, plan: Plan
) -> None:
    rows = frame(days=3, per_hour=20)
    with pytest.raises(error, match=message):
        calibrate(rows, **{"plan": plan, "rng": np.random.default_rng(1), **arguments})  # type: ignore[arg-type]  # wrong on purpose


def test_it_is_a_frame_data_a_page_and_a_chart(found: Calibration) -> None:
    detection = found.to_frame()
    assert detection["metric"].tolist() == ["none"] + ["error_rate"] * 2 + ["p95_latency"] * 2
    assert (detection["low"] <= detection["rolled_back"]).all()
    for view in ("margins", "metrics", "stages", "rhythm"):
        assert len(found.to_frame(view)) > 0
    with pytest.raises(ValueError, match="no view 'x'; views are detection"):
        found.to_frame("x")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["false_rollbacks"]["interval"]["method"] == "Clopper-Pearson"
    assert data["recommended"]["alpha"]["own"] == 0.05
    html = found._repr_html_()
    assert html.startswith("<div>")
    assert "harmless" in html
    for view, metric in (("detection", None), ("detection", "p95_latency"), ("hours", "error_rate")):
        assert "layer" in found.plot(view, metric=metric).to_dict()
    with pytest.raises(ValueError, match="too short for error_rate by weekdays"):
        found.plot("weekdays")
    with pytest.raises(ValueError, match="no chart 'pie'"):
        found.plot("pie")
    assert found.recommended["margins"].keys() == {"error_rate", "p95_latency"}


def test_a_configuration_will_do_and_names_from_outside_are_escaped_in_the_page() -> None:
    config = parse_config(PLAN)
    odd = replace(ERRORS_ONLY.stages[0], name="<script>x</script>")
    config = replace(config, plan=replace(ERRORS_ONLY, stages=(odd, *ERRORS_ONLY.stages[1:])))
    assert agentcanary.calibrate is calibrate
    assert agentcanary.Calibration is Calibration
    rows = frame(days=3, per_hour=40)
    found = calibrate(rows, config, replays=20, rng=np.random.default_rng(1), longest=HOUR, ratios=(3.0,))
    assert found.plan == config.plan
    assert "<script>" not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()


def test_the_exact_interval_covers_replays_and_the_other_one_blocks() -> None:
    happened = np.array([True] * 4 + [False] * 16)
    found = rate_of(happened, np.repeat([0, 1, 2, 3], 5))
    # Clopper & Pearson for 4 of 20, as R's binom.test prints it.
    assert found.low == pytest.approx(0.057334, abs=5e-7)
    assert found.high == pytest.approx(0.436614, abs=5e-7)
    # Blocks of .8, 0, 0, 0: mean .2, s = .4, t(.975, 3) = 3.182446.
    assert found.between_low == 0
    assert found.between_high == pytest.approx(0.2 + 3.182446 * 0.4 / 2, abs=1e-6)
    assert found.few_blocks


def test_a_budget_that_is_not_kept_is_lowered_to_where_it_is(plan: Plan) -> None:
    log_e = np.linspace(0, 6, 100)  # e-values up to 400: 20 and more in half of the replays
    nothing = np.full(100, np.nan)
    runs = Runs(
        block=np.zeros(100, dtype=np.int64),
        end=np.where(log_e >= np.log(20), "rolled_back", "promoted"),
        cause=np.where(log_e >= np.log(20), "harm", ""),
        guilty=np.zeros(100, dtype=np.int64),
        hours=nothing,
        entered=nothing[:, None],
        safe=nothing[:, None],
        log_e=log_e,
        log_e_alone=log_e[:, None],
        naive=np.zeros(100, dtype=np.bool_),
    )
    rate = rate_of(runs.rolled_back, runs.block)
    advice = alpha_advice(plan, runs, rate, {})
    assert advice.recommended < plan.alpha
    assert (log_e >= -np.log(advice.recommended)).mean() <= plan.alpha
    assert "more than the budget of 5%" in advice.reason
    kept = alpha_advice(plan, runs, rate_of(np.zeros(100, dtype=np.bool_), runs.block), {})
    assert kept.recommended == plan.alpha


def test_the_budget_is_shared_so_that_the_hardest_metric_is_caught_most_often() -> None:
    rng = np.random.default_rng(4)
    log_e = {"hard": rng.normal(4.2, 1.0, 500), "easy": rng.normal(9.0, 1.0, 500), "middle": rng.normal(5.5, 1.0, 500)}
    shares, caught = best_shares(log_e, 0.05)
    assert sum(shares.values()) == pytest.approx(1, abs=2e-4)
    assert shares["hard"] > shares["middle"] > shares["easy"]
    assert caught_with(shares, log_e, 0.05) == pytest.approx(caught, abs=0.01)
    equal = dict.fromkeys(log_e, 1 / 3)
    assert caught > caught_with(equal, log_e, 0.05)
    for name in log_e:
        moved = {other: share * (1 - 0.1) for other, share in shares.items()}
        moved[name] += 0.1
        assert caught_with(moved, log_e, 0.05) <= caught + 0.005
