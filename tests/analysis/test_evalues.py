from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom

from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.evalues import (
    FloatArray,
    Question,
    conditional_binomial,
    late_changes,
    mixture,
    mixtures,
)
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.two_by_two import project, two_by_two

UP, DOWN = Direction.UP_IS_WORSE, Direction.DOWN_IS_WORSE
ERRORS = Boundary(ratio=1.10, floor=0.005, direction=UP)
COMPLETION = Boundary(ratio=0.95, floor=0.005, direction=DOWN)
LINES = {
    "errors": ERRORS,
    "completion": COMPLETION,
    "no floor": Boundary(ratio=1.10, floor=0.0, direction=UP),
    "wide": Boundary(ratio=1.8, floor=0.05, direction=UP),
    "responses": Boundary(ratio=1.0, floor=0.02, direction=DOWN),
}
WEIGHTS = (0.005, 0.05, 0.5, 0.95)


def log_conditional(
    canary: list[int], stable: list[int], weights: list[float], *, ratio: float, question: Question
) -> float:
    """The formula of the conditional binomial e-process, term by term and without logarithms of sums."""
    reach, centre, scale = (math.log(16), 0.65, 0.35) if question is Question.HARM else (-math.log(8), 0.0, 0.7)
    distances = [(point + 0.5) / 48 * reach for point in range(48)]
    prior = [math.exp(-((distance - centre) ** 2) / (2 * scale**2)) for distance in distances]
    total = 0.0
    for distance, share in zip(distances, prior, strict=True):
        theta, product = ratio * math.exp(distance), 1.0
        for k_c, k_s, w in zip(canary, stable, weights, strict=True):
            q, q_null = (w * x / (w * x + 1 - w) for x in (theta, ratio))
            product *= (q / q_null) ** k_c * ((1 - q) / (1 - q_null)) ** k_s
        total += share / sum(prior) * product
    return math.log(total)


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("ratio", [1.0, 1.1, 0.5])
def test_the_conditional_process_is_its_formula(question: Question, ratio: float) -> None:
    canary, stable, weights = [3, 9, 40], [41, 30, 25], [0.05, 0.15, 0.5]
    growth = conditional_binomial([canary], [stable], [weights], ratio=ratio, question=question)
    expected = log_conditional(canary, stable, weights, ratio=ratio, question=question)
    assert mixture(growth)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_projection_is_the_nearest_point_of_the_line(line: Boundary, weight: float) -> None:
    def divergence(stable: float, c: float, s: float) -> float:
        null = line.ratio * stable + line.shift
        return weight * _kl(c, null) + (1 - weight) * _kl(s, stable)

    low, high = max(0.0, -line.shift / line.ratio), min(1.0, (1 - line.shift) / line.ratio)
    for c, s in [(0.2, 0.1), (0.7, 0.85), (0.01, 0.012), (0.6, 0.05)]:
        found_c, found_s = (float(x[0]) for x in _project(c, s, line, weight))
        best = minimize_scalar(divergence, bounds=(low, high), args=(c, s), method="bounded", options={"xatol": 1e-12})
        assert found_c == pytest.approx(line.ratio * found_s + line.shift, abs=1e-12)
        assert divergence(found_s, c, s) <= best.fun + 1e-12


def _project(c: float, s: float, line: Boundary, weight: float) -> tuple[FloatArray, FloatArray]:
    return project(np.array([c]), np.array([s]), ratio=line.ratio, floor=line.shift, weight=weight)


def _kl(p: float, q: float) -> float:
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def null_rates(line: Boundary, question: Question) -> list[tuple[float, float]]:
    """Canary and stable rates on the null's side: on the line, and away from it."""
    found = []
    for stable in np.linspace(0.0, 1.0, 41):
        edge = float(np.clip(line.at(float(stable)), 0, 1))
        inside_is_low = (line.direction is UP) == (question is Question.HARM)
        for share in (0.0, 0.3, 1.0):
            canary = edge * (1 - share) if inside_is_low else edge + (1 - edge) * share
            # A line outside the unit square leaves one side of it empty.
            if 0 <= line.at(float(stable)) <= 1:
                found.append((canary, float(stable)))
    return found


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_one_more_unit_never_adds_evidence_on_average_under_the_null_in_the_2x2_process(
    line: Boundary, weight: float, question: Question
) -> None:
    # The four things that a unit can be: canary with and without the event, stable with and without.
    one = np.eye(4)
    growth = two_by_two(
        one[:, [0]] + one[:, [1]],
        one[:, [0]],
        one[:, [2]] + one[:, [3]],
        one[:, [2]],
        np.full((4, 1), weight),
        boundary=line,
        question=question,
    )
    e = np.exp(growth.log_e[:, 0, np.isfinite(growth.log_prior)])
    for canary, stable in null_rates(line, question):
        chance = [weight * canary, weight * (1 - canary), (1 - weight) * stable, (1 - weight) * (1 - stable)]
        assert (np.array(chance) @ e).max() <= 1 + 1e-9


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.1, 3.0])
def test_one_more_unit_never_adds_evidence_on_average_under_the_null_in_the_conditional_process(
    ratio: float, weight: float, question: Question
) -> None:
    growth = conditional_binomial([[1], [0]], [[0], [1]], np.full((2, 1), weight), ratio=ratio, question=question)
    e_canary, e_stable = np.exp(growth.log_e[:, 0, :])
    for stable in (0.001, 0.05, 0.3):
        for share in (0.2, 0.9, 1.0):
            true = ratio * share if question is Question.HARM else ratio / share
            canary = true * stable
            if canary <= 1:
                none = weight * (1 - canary) + (1 - weight) * (1 - stable)
                mean = weight * canary * e_canary + (1 - weight) * stable * e_stable + none
                assert mean.max() <= 1 + 1e-12


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("line", [ERRORS, COMPLETION], ids=["errors", "completion"])
def test_the_expected_e_value_is_at_most_one_with_a_base_rate_that_drifts_from_unit_to_unit(
    line: Boundary, question: Question
) -> None:
    weights = (0.05, 0.05, 0.5, 0.5)
    bases = (0.03, 0.3, 0.6, 0.08) if line.direction is UP else (0.97, 0.7, 0.4, 0.9)
    outcomes = np.array(list(itertools.product(range(4), repeat=4)))
    chance = np.ones(len(outcomes))
    counts = np.zeros((4, len(outcomes), 2))
    for unit, (weight, stable) in enumerate(zip(weights, bases, strict=True)):
        canary = line.at(stable)
        of_unit = np.array([weight * canary, weight * (1 - canary), (1 - weight) * stable, (1 - weight) * (1 - stable)])
        chance *= of_unit[outcomes[:, unit]]
        counts[outcomes[:, unit], np.arange(len(outcomes)), unit // 2] += 1
    growth = two_by_two(
        counts[0] + counts[1],
        counts[0],
        counts[2] + counts[3],
        counts[2],
        [[0.05, 0.5]],
        boundary=line,
        question=question,
    )
    late = late_changes(mixtures(growth, np.array([[[True, True], [False, True]]])))
    assert chance.sum() == pytest.approx(1)
    assert chance @ np.exp(mixture(growth)) <= 1 + 1e-12
    assert chance @ np.exp(late) <= 1 + 1e-12


@given(
    counts=st.lists(st.tuples(*[st.integers(0, 400)] * 4), min_size=1, max_size=4),
    weight=st.sampled_from(WEIGHTS),
    question=st.sampled_from(Question),
)
def test_epochs_of_equal_weight_may_be_merged(
    counts: list[tuple[int, int, int, int]], weight: float, question: Question
) -> None:
    k_c, rest_c, k_s, rest_s = (np.array([column], dtype=float) for column in zip(*counts, strict=True))
    apart = two_by_two(k_c + rest_c, k_c, k_s + rest_s, k_s, weight, boundary=ERRORS, question=question)
    summed = [column.sum(axis=1, keepdims=True) for column in (k_c + rest_c, k_c, k_s + rest_s, k_s)]
    merged = two_by_two(*summed, weight, boundary=ERRORS, question=question)  # type: ignore[misc, arg-type]  # four columns
    np.testing.assert_allclose(mixture(apart), mixture(merged), rtol=1e-9, atol=1e-9)
    apart = conditional_binomial(k_c, k_s, weight, ratio=1.1, question=question)
    merged = conditional_binomial(summed[1], summed[3], weight, ratio=1.1, question=question)
    np.testing.assert_allclose(mixture(apart), mixture(merged), rtol=1e-9, atol=1e-9)


@given(canary=st.integers(0, 300), stable=st.integers(0, 300), weight=st.sampled_from(WEIGHTS))
def test_swapping_the_arms_mirrors_the_conditional_process(canary: int, stable: int, weight: float) -> None:
    here = conditional_binomial([[canary]], [[stable]], weight, ratio=1.25, question=Question.HARM)
    mirrored = conditional_binomial([[stable]], [[canary]], 1 - weight, ratio=0.8, question=Question.HARM, worse=DOWN)
    np.testing.assert_allclose(mixture(here), mixture(mirrored), rtol=1e-9, atol=1e-9)


@given(canary=st.integers(0, 99), stable=st.integers(0, 100), weight=st.sampled_from(WEIGHTS))
def test_one_event_more_in_the_canary_speaks_for_harm_and_against_safety(
    canary: int, stable: int, weight: float
) -> None:
    def log_e(events: int, question: Question, line: Boundary) -> float:
        return float(mixture(two_by_two(100, events, 100, stable, weight, boundary=line, question=question))[0])

    for line, sign in ((ERRORS, 1), (COMPLETION, -1)):
        assert sign * log_e(canary + 1, Question.HARM, line) > sign * log_e(canary, Question.HARM, line)
        assert sign * log_e(canary + 1, Question.SAFE, line) < sign * log_e(canary, Question.SAFE, line)


def test_a_batch_is_its_rows() -> None:
    rng = np.random.default_rng(1)
    units = rng.integers(50, 900, (2, 30, 3))
    events = rng.binomial(units, 0.1)
    weights = rng.choice([0.0, 0.05, 0.15, 0.5, 1.0], (30, 3))
    for question in Question:
        whole = mixture(
            two_by_two(units[0], events[0], units[1], events[1], weights, boundary=ERRORS, question=question)
        )
        rows = [
            mixture(
                two_by_two(
                    units[0, row], events[0, row], units[1, row], events[1, row], weights[row], boundary=ERRORS,
                    question=question,
                )
            )[0]
            for row in range(30)
        ]  # fmt: skip
        np.testing.assert_allclose(whole, rows, rtol=1e-12, atol=1e-12)


def test_epochs_in_which_only_one_arm_could_be_chosen_tell_nothing() -> None:
    for question in Question:
        growth = two_by_two(
            [[0, 900]], [[0, 500]], [[900, 0]], [[1, 0]], [[0.0, 1.0]], boundary=ERRORS, question=question
        )
        assert mixture(growth)[0] == pytest.approx(0, abs=1e-12)
        growth = conditional_binomial([[0, 500]], [[1, 0]], [[0.0, 1.0]], ratio=1.0, question=question)
        assert mixture(growth)[0] == pytest.approx(0, abs=1e-12)


def test_without_any_event_the_conditional_process_says_nothing() -> None:
    assert mixture(conditional_binomial([[0]], [[0]], 0.05, ratio=1.1, question=Question.SAFE))[0] == pytest.approx(0)


def test_no_event_in_stable_is_evidence_not_an_error() -> None:
    # The article's formula shows a relative change of 0 when stable has no event.
    harm = mixture(two_by_two([[400]], [[16]], [[400]], [[0]], 0.5, boundary=ERRORS, question=Question.HARM))
    assert harm[0] > math.log(20)


def test_without_a_floor_a_rate_near_zero_cannot_be_proven_safe_and_with_one_it_can() -> None:
    counts = [[20_000]], [[2]], [[20_000]], [[2]]
    assert mixture(two_by_two(*counts, 0.5, boundary=LINES["no floor"], question=Question.SAFE))[0] < math.log(20)
    assert mixture(two_by_two(*counts, 0.5, boundary=ERRORS, question=Question.SAFE))[0] > math.log(20)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@given(data=st.data())
def test_any_possible_counts_give_a_number(line: Boundary, data: st.DataObject) -> None:
    units = data.draw(st.lists(st.integers(0, 10**9), min_size=2, max_size=2))
    events = [data.draw(st.integers(0, n)) for n in units]
    weight = data.draw(st.floats(0, 1))
    for question in Question:
        found = mixture(two_by_two(units[0], events[0], units[1], events[1], weight, boundary=line, question=question))
        assert np.isfinite(found).all()
        found = mixture(conditional_binomial(events[0], events[1], weight, ratio=line.ratio, question=question))
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (([[10]], [[11]], [[5]], [[1]], 0.5), "canary_events must not exceed canary_units, got 11 of 10"),
        (([[10]], [[1]], [[5]], [[6]], 0.5), "stable_events must not exceed stable_units, got 6 of 5"),
        (([[-1]], [[0]], [[5]], [[1]], 0.5), "canary_units must be finite and not negative, got -1"),
        (([[10]], [[math.nan]], [[5]], [[1]], 0.5), "canary_events must be finite and not negative, got nan"),
        (([[10]], [[1]], [[math.inf]], [[1]], 0.5), "stable_units must be finite and not negative, got inf"),
        (([[10]], [[1]], [[5]], [[1]], 5), r"weight must be between 0 and 1, got 5.0 \(write 0.05 for 5 %\)"),
        (([[10]], [[1]], [[5]], [[1]], math.nan), "weight must be between 0 and 1, got nan"),
    ],
)
def test_impossible_counts_are_refused_by_name_and_value(counts: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        two_by_two(*counts, boundary=ERRORS, question=Question.HARM)  # type: ignore[arg-type]  # bad on purpose


def test_a_ratio_that_is_no_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio must be positive and finite, got -1"):
        conditional_binomial([[1]], [[1]], 0.5, ratio=-1, question=Question.HARM)


def test_late_changes_are_weighed_as_written() -> None:
    by_stage = np.log([[6.0, 2.0, 10.0]])
    assert np.exp(late_changes(by_stage))[0] == pytest.approx(0.85 * 6 + 0.075 * 2 + 0.0375 * 10 + 0.0375 * 1)


def test_a_stage_that_has_not_begun_counts_one() -> None:
    begun = np.log([[6.0, 2.0]])
    assert late_changes(begun) == pytest.approx(late_changes(np.log([[6.0, 2.0, 1.0, 1.0, 1.0]])))


def stops(
    canary_rate: float,
    stable_rate: float,
    weight: float,
    boundary: Boundary | None,
    *,
    runs: int,
    most: int,
    seed: int,
    every: int = 10,
) -> FloatArray:
    """Canary units at which harm is proven at .05, with a look after so many of them; infinite where it never is."""
    rng = np.random.default_rng(seed)
    block = round(every / weight)
    counts = np.zeros((4, runs, 1))
    stopped = np.full(runs, np.inf)
    for _ in range(most // every):
        running = np.isinf(stopped)
        if not running.any():
            break
        canary = rng.binomial(block, weight, (runs, 1))
        counts[0] += canary
        counts[1] += rng.binomial(canary, canary_rate)
        counts[2] += block - canary
        counts[3] += rng.binomial(block - canary, stable_rate)
        c_n, c_k, s_n, s_k = counts[:, running]
        if boundary is None:
            growth = conditional_binomial(c_k, s_k, weight, ratio=1.0, question=Question.HARM)
        else:
            growth = two_by_two(c_n, c_k, s_n, s_k, weight, boundary=boundary, question=Question.HARM)
        hit = np.flatnonzero(running)[late_changes(mixture(growth)[:, None]) >= math.log(20)]
        stopped[hit] = counts[0, hit, 0]
    return stopped


def one_look_power(canary_rate: float, stable_rate: float, weight: float, canary_units: float) -> float:
    """Power of the exact conditional test at .05 at one look, for a ratio above 1; by enumeration."""
    ratio = canary_rate / stable_rate
    event_rate = weight * canary_rate + (1 - weight) * stable_rate
    units = round(canary_units / weight)
    events = np.arange(binom.isf(1e-12, units, event_rate) + 1)
    # The smallest number of canary events that the test rejects, for each total.
    critical = binom.isf(0.05, events, weight) + 1
    power = binom.sf(critical - 1, events, weight * ratio / (weight * ratio + 1 - weight))
    return float((binom.pmf(events, units, event_rate) * power).sum())


# Median canary units until harm is proven at r = 1 and 5 % errors, as simulated for the method's specification at 5 %
# of the traffic, by ratio; one look with 80 % power at 5 % takes 711, 229 and 81 by the textbook's formula.
SPECIFIED = {1.5: 650, 2.0: 190, 3.0: 70}
TEXTBOOK = {1.5: 711, 2.0: 229, 3.0: 81}


@pytest.mark.parametrize("weight", [0.05, 0.15, 0.5])
@pytest.mark.parametrize("ratio", SPECIFIED)
def test_watching_all_the_time_needs_no_more_conversations_than_one_exact_look_with_80_percent_power(
    ratio: float, weight: float
) -> None:
    every = 10 if ratio < 2 else 2
    median = float(np.median(stops(0.05 * ratio, 0.05, weight, None, runs=2000, most=6000, seed=7, every=every)))
    assert one_look_power(0.05 * ratio, 0.05, weight, median) < 0.80
    if weight == 0.05:
        assert median <= SPECIFIED[ratio]
        assert median <= TEXTBOOK[ratio]


# The same for 85 % completion that may fall by 5 %: factor on the completion, median of the specification.
COMPLETION_DETECTION = {"x .9": (0.9, 936), "x .85": (0.85, 245), "x .8": (0.8, 120), "x .7": (0.7, 47)}


@pytest.mark.parametrize(("factor", "specified"), COMPLETION_DETECTION.values(), ids=COMPLETION_DETECTION)
def test_the_2x2_process_detects_at_least_as_soon_as_specified(factor: float, specified: int) -> None:
    line = Boundary(ratio=0.95, floor=0.0, direction=DOWN)
    median = np.median(stops(0.85 * factor, 0.85, 0.05, line, runs=600, most=6000, seed=8))
    assert median <= 1.06 * specified


@pytest.mark.parametrize("line", [None, ERRORS], ids=["conditional", "2x2"])
def test_a_canary_on_the_boundary_is_called_harmful_in_at_most_5_percent_of_rollouts_however_often_one_looks(
    line: Boundary | None,
) -> None:
    canary_rate = 0.05 if line is None else line.at(0.05)
    alarms = np.isfinite(stops(canary_rate, 0.05, 0.05, line, runs=1500, most=1000, seed=9)).sum()
    # One-sided binomial bound at 1e-4: 0.05 + 3.72 * sqrt(0.05 * 0.95 / 1500).
    assert alarms / 1500 <= 0.05 + 3.72 * math.sqrt(0.05 * 0.95 / 1500)
    assert alarms > 0
