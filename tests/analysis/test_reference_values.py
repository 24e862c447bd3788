"""Every published or independently computed value that a method of ours must reproduce, each with its source.

``reference_values.csv`` holds the rows (id, method, inputs, expected, tolerance, source). Where the whole collection is
present, every row of it must be among them, or be named below with the reason why its method is not offered.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentcanary_analysis.aggregates import Tally
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.conditional import conditional_p_value
from agentcanary_analysis.confidence_sequences import best_kappa, log_normal_mixture, normal_mixture_bound
from agentcanary_analysis.group_sequential import (
    Spending,
    crossing_probabilities,
    hwang_shih_decani_spending,
    obrien_fleming_bounds,
    obrien_fleming_spending,
    pocock_bounds,
    pocock_spending,
    power_spending,
    spending_bounds,
)
from agentcanary_analysis.means import log_delta_interval, mean_difference_interval, mean_test, relative_change
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Claim, Limits, OneLook, Unknown
from agentcanary_analysis.power import canary_units_needed, mean_power, proportion_power
from agentcanary_analysis.proportion_intervals import (
    clopper_pearson_interval,
    clopper_pearson_upper,
    mee_interval,
    miettinen_nurminen_interval,
    newcombe_interval,
    ratio_interval,
    wilson_interval,
)
from agentcanary_analysis.proportions import Proportion, score_test
from agentcanary_analysis.quantiles import order_statistic_ranks
from agentcanary_analysis.sample_ratio import log_e_sample_ratio

COPIED = Path(__file__).with_name("reference_values.csv")
WHOLE = Path(__file__).parents[2].parent / "shared" / "reference" / "statistics.csv"

Inputs = Mapping[str, Any]
Values = dict[str, Any]


class Row(NamedTuple):
    """One row of the collection."""

    id: str
    method: str
    inputs: Inputs
    expected: Values
    tolerance: float
    source: str


def rows_of(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(
                row["id"],
                row["method"],
                json.loads(row["inputs_json"]),
                json.loads(row["expected_json"]),
                float(row["tolerance"]),
                row["source"],
            )
            for row in csv.DictReader(file)
        ]


EQUAL = Boundary(ratio=1.0, floor=0.0, direction=Direction.UP_IS_WORSE)


def up(ratio: float) -> Boundary:
    return Boundary(ratio=ratio, floor=0.0, direction=Direction.UP_IS_WORSE)


def one(row: Inputs) -> Proportion:
    return Proportion(row["count"], row["nobs"])


def two(row: Inputs) -> tuple[Proportion, Proportion]:
    return Proportion(row["x1"], row["n1"]), Proportion(row["x2"], row["n2"])


def ends(limits: Limits | Unknown) -> Values:
    assert isinstance(limits, Limits), limits
    return {"low": limits.low, "high": limits.high}


def known(result: OneLook | Unknown) -> OneLook:
    assert isinstance(result, OneLook), result
    return result


def two_sided(p_value: float) -> float:
    return 2 * min(p_value, 1 - p_value)


def tally(values: Sequence[float]) -> Tally:
    return Tally(len(values), len(values), sum(values), sum(value * value for value in values))


def sums(arm: Mapping[str, float]) -> Tally:
    return Tally(int(arm["n"]), int(arm["n"]), arm["sum"], arm["sum_squares"])


def chi_square(row: Inputs) -> Values:
    canary, stable = two(row)
    test = score_test([canary], [stable], EQUAL)
    return {"chi2": test.statistic**2, "pvalue": two_sided(test.p_value)}


def fisher(row: Inputs) -> Values:
    canary, stable = ([row["x_canary"]], [row["n_canary"]]), ([row["x_stable"]], [row["n_stable"]])
    return {"pvalue": conditional_p_value(*canary, *stable, EQUAL, share_of_equal=1.0)}


def koopman(row: Inputs) -> Values:
    canary, stable = two(row)
    result = ends(ratio_interval([canary], [stable]))
    if "theta0" in row:
        line = up(row["theta0"])
        result["p_rr_le_theta0_rejected_right"] = score_test([canary], [stable], line).p_value
        result["p_left"] = score_test([canary], [stable], line, claim=Claim.WITHIN).p_value
    return result


def non_inferiority(row: Inputs) -> Values:
    canary, stable = two(row)
    line = Boundary(ratio=1.0, floor=-row["delta0"], direction=Direction.DOWN_IS_WORSE)
    return ends(mee_interval(canary, stable)) | {
        "p_noninferior_right": score_test([canary], [stable], line, claim=Claim.WITHIN).p_value,
        "p_left": score_test([canary], [stable], line).p_value,
    }


def ratio_test(claim: Claim) -> Callable[[Inputs], Values]:
    def values(row: Inputs) -> Values:
        canary, stable = two(row)
        test = score_test([canary], [stable], up(row["theta0"]), claim=claim)
        return {"z": test.statistic, "pvalue": test.p_value}

    return values


def welch(row: Inputs) -> Values:
    a, b = [tally(row["a"])], [tally(row["b"])]
    test = known(mean_test(a, b, EQUAL))
    interval = ends(mean_difference_interval(a, b))
    return {
        "t": test.statistic,
        "pvalue": two_sided(test.p_value),
        "ci_a_minus_b": [interval["low"], interval["high"]],
    }


def welch_from_sums(row: Inputs) -> Values:
    stable, canary = [sums(row["a"])], [sums(row["b"])]
    p_value = known(mean_test(canary, stable, EQUAL)).p_value
    return {"pvalue": two_sided(p_value), **ends(mean_difference_interval(canary, stable))}


def welch_relative(row: Inputs) -> Values:
    stable, canary = [sums(row["control"])], [sums(row["treatment"])]
    test = known(mean_test(canary, stable, EQUAL))
    relative = ends(log_delta_interval(canary, stable))
    return {
        "control": stable[0].total / stable[0].observed,
        "treatment": canary[0].total / canary[0].observed,
        "rel": relative_change(canary, stable),
        "rel_low": relative["low"],
        "rel_high": relative["high"],
        "pvalue": two_sided(test.p_value),
        "t": test.statistic,
        **ends(mean_difference_interval(canary, stable)),
    }


def power_two_proportions(row: Inputs) -> Values:
    if "p1" in row:
        return {"power": proportion_power(row["p2"], row["p1"], row["n"], row["n"], EQUAL, alpha=row["alpha"] / 2)}
    # Stata's two-sided power counts rejections on the wrong side too.
    arms = row["prop2"], row["prop2"] + row["diff"], row["n1"] * row["ratio"], row["n1"]
    sides = (Boundary(ratio=1.0, floor=0.0, direction=direction) for direction in Direction)
    return {"power": sum(proportion_power(*arms, side, alpha=0.025) for side in sides)}


def sample_size(sides: int, key: str) -> Callable[[Inputs], Values]:
    def values(row: Inputs) -> Values:
        low, high = sorted((row["p1"], row["p2"]))
        return {key: canary_units_needed(high, low, 0.5, EQUAL, alpha=row["alpha"] / sides, power=row["power"])}

    return values


def scheduled(spending: Callable[[Inputs], Spending]) -> Callable[[Inputs], Values]:
    def values(row: Inputs) -> Values:
        spend = spending(row)
        bounds = spending_bounds(row["t"], spend)
        return {"z": list(bounds), "cumulative_alpha": list(crossing_probabilities(bounds, row["t"]))}

    return values


def classic(bounds_of: Callable[[Sequence[float], float], tuple[float, ...]]) -> Callable[[Inputs], Values]:
    def values(row: Inputs) -> Values:
        bounds = bounds_of(row["t"], row["alpha_one_sided"])
        return {"z": list(bounds), "cumulative_alpha": list(crossing_probabilities(bounds, row["t"]))}

    return values


def peeking(row: Inputs) -> Values:
    looks = row["looks"]
    bounds = [1.959963984540054] * looks
    times = [(look + 1) / looks for look in range(looks)]
    error = crossing_probabilities(bounds, times, lower=[-bound for bound in bounds])[-1]
    return {"type1_published": error, "type1_rpact": error}


def ranks(row: Inputs) -> Values:
    low, high, coverage = order_statistic_ranks(row["n"], row["p"], confidence=1 - row["alpha"])
    return {"low_rank": low, "high_rank": high, "coverage": coverage}


def sample_ratio(row: Inputs) -> Values:
    (stable, canary), weight = row["counts"], row["theta0"][1]
    odds = math.exp(log_e_sample_ratio([[canary]], [[stable]], [[weight]], concentration=row["k"])[0])
    return {"odds": odds, "p_value": 1 / odds}


def mixture_bound(row: Inputs) -> Values:
    return {"value": normal_mixture_bound(row["v"], row["alpha"], best_kappa(row["v_opt"], row["alpha_opt"]))}


def mixture_evidence(row: Inputs) -> Values:
    return {"value": float(log_normal_mixture(row["s"], row["v"], best_kappa(row["v_opt"], row["alpha_opt"])))}


def of_one(interval: Callable[[Proportion], Limits]) -> Callable[[Inputs], Values]:
    return lambda row: ends(interval(one(row)))


def of_two(interval: Callable[[Proportion, Proportion], Limits]) -> Callable[[Inputs], Values]:
    return lambda row: ends(interval(*two(row)))


OURS: dict[str, Callable[[Inputs], Values]] = {
    "clopper_pearson_two_sided_95": of_one(clopper_pearson_interval),
    "clopper_pearson": of_one(clopper_pearson_interval),
    "one_proportion_ci_clopper_pearson": of_one(clopper_pearson_interval),
    "clopper_pearson_one_sided_upper_95 (rule of three)": lambda row: {"upper": clopper_pearson_upper(one(row))},
    "wilson": of_one(wilson_interval),
    "one_proportion_ci_wilson": of_one(wilson_interval),
    "two_proportion_chi2": chi_square,
    "fisher_exact_one_sided_canary_greater": fisher,
    "welch_t": welch,
    "welch_from_sufficient_stats": welch_from_sums,
    "welch_mean_relative (log-delta CI)": welch_relative,
    "power_two_prop": power_two_proportions,
    "power_two_prop_unequal": power_two_proportions,
    "samplesize_two_prop": sample_size(2, "n"),
    "samplesize_two_prop_one_sided": sample_size(1, "n_per_arm"),
    "power_t": lambda row: {"power": mean_power(row["delta"], row["sd"], row["n"], alpha=row["alpha"] / 2)},
    "lan_demets_obf_spending": scheduled(lambda row: obrien_fleming_spending(row["alpha_one_sided"])),
    "lan_demets_pocock_spending": scheduled(lambda row: pocock_spending(row["alpha_one_sided"])),
    "kim_demets_power_family": scheduled(lambda row: power_spending(row["alpha_one_sided"], row["rho"])),
    "hwang_shih_decani": scheduled(lambda row: hwang_shih_decani_spending(row["alpha_one_sided"], row["gamma"])),
    "obrien_fleming_classic": classic(obrien_fleming_bounds),
    "pocock_classic": classic(pocock_bounds),
    "peeking_inflation_two_sided_z_5pct": peeking,
    "miettinen_nurminen_rd_95": of_two(miettinen_nurminen_interval),
    "rd_miettinen_nurminen": of_two(miettinen_nurminen_interval),
    "mee_rd_95": of_two(mee_interval),
    "rd_mee": of_two(mee_interval),
    "newcombe_hybrid_score_rd_95": of_two(newcombe_interval),
    "rd_newcomb": of_two(newcombe_interval),
    "koopman_score_rr (canary/stable) + one-sided p vs theta0": koopman,
    "rr_koopman": koopman,
    "farrington_manning_rd_noninferiority": non_inferiority,
    "rr score test H0: RR<=1.1": ratio_test(Claim.BEYOND),
    "rr score test H0: RR>=1.1": ratio_test(Claim.WITHIN),
    "order_statistic_ci_ranks_p95 (1-based; hi=n+1 means unbounded)": ranks,
    "sequential_srm_dirichlet_multinomial (k=100)": sample_ratio,
    "normal_mixture_bound": mixture_bound,
    "normal_log_mixture": mixture_evidence,
    "normal_mixture_best_rho_two_sided": lambda row: {"value": best_kappa(row["v_opt"], row["alpha_opt"] / 2)},
}

CONTINUITY = "continuity corrections only make a test deaf; below ten events the conditional test is used"
TWO_SIDED = "every question here has a direction"
EXPOSURE = "what is counted are conversations with an event, not events per exposure"
WALD = "leaves [0, 1] or has no width at 0 and at all; score intervals are offered instead"
RANKS = "an order of values cannot be computed from sums or by epochs"
SPLIT = "the split is watched at every look: the Dirichlet-multinomial e-process is offered"
MULTIPLE = "e-values of several metrics are averaged at the same look; nothing is adjusted afterwards"
BAYES = "no prior belief decides a rollout"
EXACT = "takes minutes at the sizes of a rollout and is no better than the conditional mid-p test"
OTHER_MIXTURE = "the exact e-processes need no bound for one arm"
TWO_SIDED_SEQUENCE = "the one-sided mixture is offered: every question here has a direction"
DELTA = "can fall below -100 %; the delta method on the logarithm is offered"

# By method, or by id where only some rows of a method are not offered.
NOT_OFFERED: dict[str, str] = {
    "r_prop_test_45_1000_60_1000_cc1": CONTINUITY,
    "r_prop_test_5_83_12_99_cc1": CONTINUITY,
    "r_prop_test_500_100000_600_100000_cc1": CONTINUITY,
    "rd_wald_cc": CONTINUITY,
    "binomial_exact_greater": "a tolerated rate is judged by the exact upper limit",
    "poisson_exact_95": EXPOSURE,
    "poisson_exact_one_sided_upper_95 (= -ln 0.05)": EXPOSURE,
    "poisson_rate_ratio_exact_greater": EXPOSURE,
    "poisson_diff_wald_greater": EXPOSURE,
    "poisson_ratio_wald_greater": EXPOSURE,
    "poisson_ratio_score_greater": EXPOSURE,
    "poisson_ratio_wald-log_greater": EXPOSURE,
    "poisson_ratio_score-log_greater": EXPOSURE,
    "poisson_ratio_exact-cond_greater": EXPOSURE,
    "poisson_ratio_etest_greater": EXPOSURE,
    "poisson_ratio_exact_greater": EXPOSURE,
    "poisson_e_test": EXPOSURE,
    "srm_chi2": SPLIT,
    "mann_whitney_cc": RANKS,
    "p_adjust": MULTIPLE,
    "false_discovery_control_bh": MULTIPLE,
    "one_proportion_ci_agresti_coull": WALD,
    "one_proportion_ci_normal": WALD,
    "one_proportion_ci_bayes_hpd(binom.bayes)": BAYES,
    "bayes_effect_flat_prior": BAYES,
    "clopper_pearson_midp": "between Wilson's and the exact interval, which are both offered",
    "rd_wald": WALD,
    "rd_agresti_caffo": WALD,
    "rd_agresti-caffo": WALD,
    "rr_katz_log": WALD,
    "rr_adjusted_log": WALD,
    "rr_inverse_sinh": WALD,
    "rr_mover_r_wilson": "Koopman's interval agrees with the test that decides",
    "fisher_two_sided": TWO_SIDED,
    "fisher_mid_p": TWO_SIDED,
    "stratified_rr_score (IVS, Tang)": "strata have Mantel-Haenszel weights, those of the estimate that is shown",
    "power_binom_tost": "one arm against two fixed limits is no question of a rollout",
    "cs_nm2": TWO_SIDED_SEQUENCE,
    "cs_nm2log": TWO_SIDED_SEQUENCE,
    "gamma_exponential_mixture_bound": OTHER_MIXTURE,
    "gamma_exponential_log_mixture": OTHER_MIXTURE,
    "beta_binomial_mixture_bound": OTHER_MIXTURE,
    "poly_stitching_bound": OTHER_MIXTURE,
    "double_stitching_bound": OTHER_MIXTURE,
    "quantile_ab_p_value (A=1..1000,B shifted, t_opt=100)": "quantiles are compared by scaled exceedance",
    "fixed-quantile CS radius via beta-binomial mixture (Howard-Ramdas demo)": "quantiles are compared, not bounded",
    "bernoulli_confidence_interval (anytime)": OTHER_MIXTURE,
    "asymptotic_cs_unit_margin": TWO_SIDED_SEQUENCE,
    "asymptotic_cs_two_sided_relative (N*=5000)": TWO_SIDED_SEQUENCE,
    "asymptotic_cs_one_sided_lower_relative (N*=5000)": "tuned to 5,000 units: nearly deaf at 100",
    "asymptotic_cs_one_sided_lower_absolute (N*=5000)": "tuned to 5,000 units: nearly deaf at 100",
    "asymptotic_cs_one_sided_upper_absolute (N*=5000)": "tuned to 5,000 units: nearly deaf at 100",
    "delta_method_relative_lift_welch": DELTA,
    "delta_method_relative_lift_proportion": DELTA,
    "quantile_difference_from_order_stat_bounds": "latencies are compared by their ratio",
    "mid_experiment_power_scaling": "needs are forecast from the e-process itself",
    "boschloo/barnard exact (less)": EXACT,
}

# Numbers of an offered method that we do not give.
PARTS_NOT_OFFERED = {
    ("two_proportion_chi2", "wald_diff_p1_minus_p2"): WALD,
    ("welch_t", "df"): "inside the p-value and the interval, which are compared",
    ("welch_from_sufficient_stats", "se"): "inside the p-value and the interval, which are compared",
    ("welch_from_sufficient_stats", "expected"): "the middle of the interval, which is compared",
}


def flat(values: Any) -> Iterable[float]:
    for value in values if isinstance(values, list) else [values]:
        yield math.inf if value == "Inf" else float(value)


TABLE = rows_of(COPIED)


@pytest.mark.parametrize("row", TABLE, ids=[row.id for row in TABLE])
def test_a_reference_value_is_reproduced(row: Row) -> None:
    ours = OURS[row.method](row.inputs)
    compared = 0
    for name, expected in row.expected.items():
        if expected is None or (row.method, name) in PARTS_NOT_OFFERED:
            continue
        for mine, theirs in zip(flat(ours[name]), flat(expected), strict=True):
            assert mine == pytest.approx(theirs, abs=row.tolerance, rel=1e-12), (name, row.source)
            compared += 1
    assert compared
    assert row.source


def test_every_row_of_the_whole_collection_is_reproduced_or_named_with_a_reason() -> None:
    if not WHOLE.exists():
        pytest.skip("the collection of reference values is not beside this checkout")
    copied = {row.id: row for row in TABLE}
    whole = rows_of(WHOLE)
    for row in whole:
        reason = NOT_OFFERED.get(row.id) or NOT_OFFERED.get(row.method)
        assert (row.id in copied) != bool(reason), f"{row.id} ({row.method}): reproduce it or say why not, not both"
        assert copied.get(row.id, row) == row, f"{row.id} was changed on its way into the table"
    assert set(copied) <= {row.id for row in whole}
    assert set(NOT_OFFERED) <= {row.id for row in whole} | {row.method for row in whole}
