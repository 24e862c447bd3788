from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from agentcanary.plan import Advance, Criterion, Plan, Stage
from agentcanary.simulate import Effect, End, OperatingCharacteristics, Truth, simulate
from agentcanary.simulated_outcomes import SimulatedOutcomes
from agentcanary_analysis.aggregates import Epoch
from agentcanary_analysis.checks import parse_check, relative_boundary
from agentcanary_analysis.metrics import ERROR_RATE, P95_LATENCY, USER_SATISFACTION
from agentcanary_analysis.questions import Line
from benchmarks.article_plan import ERRORS_AND_COMPLETION as ARTICLE
from benchmarks.sim_rollout import ROWS


def stage(name: str, weight: float, minutes: float, least: int, *checks: str, proven: bool = False) -> Stage:
    return Stage(
        name=name,
        weight=weight,
        duration=60 * minutes,
        min_conversations=least,
        checks=tuple(parse_check(check) for check in checks),
        advance=Advance.PROVEN if proven else Advance.QUIET,
    )


def truth(*, errors: float = 1.0, completion: float = 1.0, violations: float = 0.0) -> Truth:
    return Truth(
        effects={
            "error_rate": Effect(stable=0.05, canary=0.05 * errors),
            "task_completion_rate": Effect(stable=0.85, canary=0.85 * completion),
        },
        violations=violations,
    )


def run(
    true: Truth, *, plan: Plan = ARTICLE, runs: int = 60, seed: int = 1, most: int = 60_000
) -> OperatingCharacteristics:
    return simulate(plan, true, runs=runs, rng=np.random.default_rng(seed), max_conversations=most)


def test_an_equal_canary_is_promoted_and_hardly_ever_rolled_back() -> None:
    found = run(truth())
    # Rolled back in at most 5 % of all rollouts: more than 8 of 60 would happen once in 100,000 such tests.
    assert found.count(End.ROLLED_BACK) <= 8
    assert found.share(End.PROMOTED) >= 0.85
    # The specification's simulation needed 21,000 conversations in the median.
    assert (found.median_conversations(End.PROMOTED) or np.inf) < 25_000


@pytest.mark.parametrize(
    ("errors", "completion", "median"),
    [(2.0, 1.0, 4800), (3.0, 1.0, 2000), (1.0, 0.9, 6200), (1.0, 0.85, 3000)],
    ids=["errors x 2", "errors x 3", "completion x .9", "completion x .85"],
)
def test_a_harmful_canary_is_rolled_back_as_soon_as_specified(errors: float, completion: float, median: int) -> None:
    found = run(truth(errors=errors, completion=completion), runs=100)
    assert found.count(End.PROMOTED) == 0
    assert found.share(End.ROLLED_BACK) >= 0.97
    assert set(found.causes) <= {"harm", ""}
    assert (found.median_conversations(End.ROLLED_BACK) or np.inf) <= 1.25 * median


def test_the_same_seed_gives_the_same_rollouts() -> None:
    assert run(truth(errors=3), runs=20, seed=3) == run(truth(errors=3), runs=20, seed=3)
    assert run(truth(errors=3), runs=20, seed=3) != run(truth(errors=3), runs=20, seed=4)


def test_one_safety_violation_stops_a_canary_as_often_as_there_is_one() -> None:
    found = run(truth(violations=0.01), runs=40, most=4000)
    assert found.count(End.ROLLED_BACK) == 40
    assert set(found.causes) == {"safety"}
    # The first look sees about ten conversations of the canary, so most end within the first thousand.
    assert (found.median_conversations(End.ROLLED_BACK) or np.inf) <= 3000


def test_violations_that_the_plan_tolerates_stop_nothing() -> None:
    patient = replace(ARTICLE, max_safety_violations=10**9)
    assert set(run(truth(violations=0.01), plan=patient, runs=10, most=3000).causes) == {""}


def test_a_rollout_that_ends_nowhere_is_holding_at_the_last_conversation() -> None:
    found = run(truth(), runs=5, most=1000)
    assert found.ends == (End.HOLDING,) * 5
    assert found.conversations == (1000,) * 5
    assert found.median_conversations(End.PROMOTED) is None


def test_harm_that_begins_with_a_late_stage_is_found() -> None:
    late = Truth(
        effects={
            "error_rate": Effect(stable=0.05, canary=0.10, from_stage=2),
            "task_completion_rate": Effect(stable=0.85, canary=0.85),
        }
    )
    found = run(late, runs=60)
    assert found.share(End.ROLLED_BACK) == 1
    assert set(found.stages) == {2}


def test_a_base_rate_that_drifts_along_the_ramp_rolls_nobody_back() -> None:
    ramp = Truth(
        effects={
            "error_rate": Effect(stable=0.03, canary=0.03, by_stage=(1.0, 5 / 3, 2.0)),
            "task_completion_rate": Effect(stable=0.85, canary=0.85),
        }
    )
    found = run(ramp, runs=60, most=12_000)
    assert found.count(End.ROLLED_BACK) <= 8


def test_latency_and_satisfaction_are_judged_too() -> None:
    criteria = (Criterion(metric="p95_latency", margin=0.5), Criterion(metric="user_satisfaction", margin=0.05))
    plan = Plan(
        stages=(
            stage("low", 0.15, 30, 200, "p95_latency_increase < 0.30"),
            stage("medium", 0.50, 60, 500, "satisfaction_regression < 0.02"),
            ARTICLE.stages[-1],
        ),
        criteria=criteria,
    )

    def of(latency: float, satisfaction: float) -> OperatingCharacteristics:
        effects = {
            "p95_latency": Effect(stable=2.0, canary=2.0 * latency, spread=0.8),
            "user_satisfaction": Effect(stable=4.0, canary=4.0 * satisfaction, spread=1.0),
        }
        return run(Truth(effects=effects), plan=plan, runs=30, most=30_000)

    assert of(1.0, 1.0).share(End.PROMOTED) >= 0.8
    assert of(3.0, 1.0).share(End.ROLLED_BACK) == 1
    assert of(1.0, 0.8).share(End.ROLLED_BACK) == 1


def test_a_stage_that_asks_for_proof_waits_for_it() -> None:
    def first_stage(proven: bool) -> OperatingCharacteristics:
        plan = Plan(
            stages=(stage("only", 0.5, 0, 100, "error_rate_increase < 0.50", proven=proven), ARTICLE.stages[-1]),
        )
        effects = {"error_rate": Effect(stable=0.05, canary=0.05)}
        return run(Truth(effects=effects), plan=plan, runs=20, most=20_000)

    quiet, proven = (first_stage(asked).median_conversations(End.PROMOTED) for asked in (False, True))
    assert quiet is not None
    assert proven is not None
    assert quiet <= 1000 < proven


def test_a_margin_of_the_promotion_takes_longer_to_prove_than_its_criterion() -> None:
    tight = replace(ARTICLE, promotion=(Criterion(metric="task_completion_rate", margin=0.02),))
    better = truth(errors=0.5)
    loose, strict = (run(better, plan=plan, runs=25, seed=5) for plan in (ARTICLE, tight))
    assert (strict.median_conversations(End.PROMOTED) or 0) > (loose.median_conversations(End.PROMOTED) or np.inf)


def test_a_truth_that_says_nothing_of_a_judged_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="the plan judges task_completion_rate, of which the truth says nothing"):
        run(Truth(effects={"error_rate": Effect(stable=0.05, canary=0.05)}))


@pytest.mark.parametrize("name", ["runs", "look_every", "conversations_per_hour"])
def test_a_number_that_is_not_positive_is_refused(name: str) -> None:
    numbers = {"runs": 1, name: 0}
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        simulate(ARTICLE, truth(), rng=np.random.default_rng(0), **numbers)


def drawn(effect: Effect, lines: list[Line], *, size: int = 4000, runs: int = 400) -> SimulatedOutcomes:
    outcomes = SimulatedOutcomes(Truth(effects={lines[0].metric.name: effect}), lines, runs, np.random.default_rng(6))
    for row in range(runs):
        outcomes.open_epoch(row, Epoch(number=0, weight=0.5, stage=0))
    outcomes.draw(np.arange(runs), np.zeros(runs, dtype=np.intp), size)
    return outcomes


def test_the_split_and_the_events_are_binomial() -> None:
    line = Line(ERROR_RATE, relative_boundary(ERROR_RATE, 0.1))
    cells = drawn(Effect(stable=0.05, canary=0.10), [line]).cells(line, np.arange(400))
    low, high = np.asarray(binom.ppf([1e-5, 1 - 1e-5], 400 * 4000, 0.5))
    assert low <= cells.canary_n.sum() <= high
    for events, units, rate in ((cells.canary_k, cells.canary_n, 0.1), (cells.stable_k, cells.stable_n, 0.05)):
        low, high = np.asarray(binom.ppf([1e-5, 1 - 1e-5], units.sum(), rate))
        assert low <= events.sum() <= high


def test_exceedances_of_a_higher_threshold_are_some_of_those_of_a_lower_one() -> None:
    lines = [Line(P95_LATENCY, relative_boundary(P95_LATENCY, margin)) for margin in (0.3, 0.5)]
    outcomes = drawn(Effect(stable=2.0, canary=2.0, spread=0.8), lines)
    low, high = (outcomes.cells(line, np.arange(400)) for line in lines)
    assert (high.canary_k <= low.canary_k).all()
    assert (high.canary_k < low.canary_k).any()
    assert (high.stable_k == low.stable_k).all()
    # The threshold is the histogram edge nearest above the 95 % point.
    assert low.stable_k.sum() / low.stable_n.sum() == pytest.approx(0.05, abs=0.003)


def test_ratings_have_the_mean_and_the_spread_that_were_asked_for_and_some_are_missing() -> None:
    line = Line(USER_SATISFACTION, relative_boundary(USER_SATISFACTION, 0.05))
    cells = drawn(Effect(stable=4.0, canary=3.8, spread=0.9, answered=0.3), [line]).cells(line, np.arange(400))
    assert cells.canary_n.sum() / cells.canary_units.sum() == pytest.approx(0.3, abs=0.003)
    assert cells.canary_k.sum() / cells.canary_n.sum() == pytest.approx(3.8, abs=0.01)
    mean = cells.stable_k / cells.stable_n
    variance = (cells.stable_squares - cells.stable_n * mean**2) / (cells.stable_n - 1)
    assert variance.mean() == pytest.approx(0.81, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_whole_table_comes_out_like_the_specifications_or_better(name: str) -> None:
    errors, completion, base, reference = ROWS[name]
    effects = {
        "error_rate": Effect(stable=base, canary=base * errors),
        "task_completion_rate": Effect(stable=0.85, canary=0.85 * completion),
    }
    found = run(Truth(effects=effects), runs=600, seed=17)
    # Both sides are simulated: three points for 300 runs there, two for 600 here.
    if reference.promoted > 10:
        assert found.share(End.PROMOTED) >= reference.promoted / 100 - 0.05
    else:
        assert found.share(End.PROMOTED) <= max(0.05, reference.promoted / 100 + 0.05)
    if reference.rolled_back > 10:
        assert found.share(End.ROLLED_BACK) >= reference.rolled_back / 100 - 0.03
    else:
        assert found.share(End.ROLLED_BACK) <= 0.05
    if reference.conversations is not None:
        end = End.PROMOTED if reference.promoted > reference.rolled_back else End.ROLLED_BACK
        assert (found.median_conversations(end) or np.inf) <= 1.1 * reference.conversations
