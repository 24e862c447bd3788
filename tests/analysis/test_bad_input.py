"""Bad input to every public function: a clear error or a named status, never a neutral number, a warning or a crash.

``FUNCTIONS`` lists what each argument may be and what it may not be; a new public name that is not listed fails.
Legal but extreme values (one unit, a billion units, no event, only events, values that never came) must give sound
numbers or be refused in words. numpy's warnings are errors in all tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import agentcanary_analysis as aca
from agentcanary_analysis import (
    Arm,
    Boundary,
    Cell,
    Change,
    Claim,
    Direction,
    Epoch,
    Kind,
    Limits,
    Proportion,
    Spread,
    Tally,
    Unknown,
)
from agentcanary_analysis.histogram import INFINITE_BIN, edge
from agentcanary_analysis.span_values import Span

Illegal = tuple[Any, ...]

BILLION = 10**9
RNG = np.random.default_rng(3)

# Results, enums and tables: nobody makes them from raw numbers, so they check nothing.
NOT_MADE_BY_USERS = {
    "AnalysisResult",
    "ArmResult",
    "ArmSummary",
    "BUILT_IN",
    "CheckError",
    "CheckFinding",
    "CheckResult",
    "ClusteredInterval",
    "EpochResult",
    "Evidence",
    "EvidencePoint",
    "Findings",
    "Growth",
    "Interval",
    "Limits",
    "OneLook",
    "Provable",
    "Report",
    "SampleRatio",
    "ScheduledLook",
    "Spans",
    "SplitResult",
    "TableError",
    "Tempered",
}
ENUMS = {
    "AnalysisMethod",
    "Arm",
    "Change",
    "Claim",
    "Direction",
    "Kind",
    "Question",
    "Scale",
    "Spread",
    "Status",
    "Unknown",
    "Verdict",
}

NOT_NUMBERS: Illegal = (math.nan, "0.5", None, 1j, [])
CONFIDENCES: Illegal = (*NOT_NUMBERS, 0, 1, -0.1, 95, math.inf)
SHARES: Illegal = (*NOT_NUMBERS, -0.1, 1.5, 95, math.inf)
COUNTS: Illegal = (*NOT_NUMBERS, -1, 2.5, math.inf, "3")
COUNT_ARRAYS: Illegal = (math.nan, "3", None, 1j, -1, 2.5, math.inf, [[1, 2], [3]], [1, "x"], ["3"], 10**30)
GENERATORS: Illegal = (None, 7, "seed", np.random.RandomState(1), math.nan)
DRAWS: Illegal = (*COUNTS, 0, 10**12, True)
EPOCHS: Illegal = (None, 7, "abc", {}, [None], [7], ["x"], Proportion(1, 2), {0: Proportion(1, 2)})
ONE_ARM: Illegal = (None, 7, "abc", (1, 2), [Proportion(1, 2)], Proportion(0, 0))
PROPORTIONS: Illegal = (*EPOCHS, [], [Proportion(0, 0)], [(1, 2)], [Proportion(1, 2)] * 7)
TALLIES: Illegal = (*EPOCHS, [{0: 3}], [Tally(3, 3, 3.0, 3.0)] * 7)
HISTOGRAMS: Illegal = (
    *EPOCHS,
    [{0: -1}],
    [{0: 2.5}],
    [{0: math.nan}],
    [{0: "3"}],
    [{"a": 3}],
    [{2.5: 3}],
    [{10**6: 3}],
)
ONE_HISTOGRAM: Illegal = (
    None,
    7,
    "abc",
    [],
    {0: -1},
    {0: 2.5},
    {0: math.nan},
    {0: "3"},
    {"a": 3},
    {0.5: 3},
    {-(10**6): 3},
)
BUCKETS: Illegal = (
    *EPOCHS,
    [{200: Tally(1, 1, 1.0, 1.0)}],
    [{-1: Tally(1, 1)}],
    [{0.5: Tally(1, 1)}],
    [{0: 3}],
    [{0: None}],
)
BOUNDARIES: Illegal = (None, 1.1, "up", (1.1, 0.0))
NAMES: Illegal = (None, 7, "beyond", "beyond the boundary", True)
VALUES: Illegal = (None, 7, "abc", [], [math.nan], [2.0, 1.0], [[1.0]], ["1"], [1.0, None], [1j])
TIMES: Illegal = (None, 7, [], [0.0], [0.5, 0.5], [0.5, 0.2], [1.5], [math.nan], [math.inf], ["0.5"], [None], [-1.0])
SPENDINGS: Illegal = (
    None,
    0.05,
    lambda time: math.nan,
    lambda time: -0.1,
    lambda time: 1.5,
    lambda time: "0.05",
)
ALPHAS: Illegal = (*NOT_NUMBERS, 0, -0.05, 0.5, 5, math.inf)
POSITIVE: Illegal = (*NOT_NUMBERS, 0, -1, math.inf)


def epochs(of: SearchStrategy[Any]) -> SearchStrategy[list[Any]]:
    return st.lists(of, min_size=2, max_size=2)


sizes = st.sampled_from([1, 2, 3, 10, 50, 950, BILLION]) | st.integers(1, 2000)
proportions = sizes.flatmap(
    lambda n: st.builds(Proportion, st.sampled_from([0, n // 20, n // 2, n - 1, n]) | st.integers(0, n), st.just(n))
)
maybe_empty = proportions | st.just(Proportion(0, 0))
boundaries = st.builds(
    Boundary,
    ratio=st.sampled_from([1.0, 1.1, 0.98, 1e-6, 1e6]) | st.floats(0.5, 2.0),
    floor=st.sampled_from([0.0, 0.005, 1e-12, 0.999]),
    direction=st.sampled_from(Direction),
)
values_of_an_arm = st.lists(st.floats(-1e6, 1e6), max_size=20) | st.builds(
    lambda value, times: [value] * times, st.sampled_from([0.0, 3.0, -1e-9, 1e30]), st.integers(1, 20)
)


def tally_of(values: Sequence[float], sizes: Sequence[int], times: int) -> Tally:
    y = np.array(values, dtype=float)
    n = np.resize(np.array(sizes, dtype=float), y.size)
    sums = (times * float(column.sum()) for column in (y, y * y, n, n * n, y * n))
    return Tally(times * y.size, times * y.size, *sums)


tallies = st.builds(
    tally_of, values_of_an_arm, st.lists(st.integers(0, 30), min_size=1), st.sampled_from([1, 1, 1, 10**7])
)
event_tallies = st.lists(st.integers(0, 5), max_size=20).map(lambda events: tally_of(events, [5], 1))
histograms = st.dictionaries(
    st.integers(-60, 200) | st.just(INFINITE_BIN), st.integers(0, 50) | st.just(BILLION), max_size=8
)
filled_histograms = histograms.filter(lambda bins: any(bins.values()))
buckets = st.dictionaries(st.integers(0, 199), tallies, max_size=6)
values = st.lists(st.floats(0, 1e9) | st.just(math.inf), min_size=1, max_size=30).map(sorted)
confidences = st.sampled_from([1e-9, 0.9, 0.95, 1 - 1e-9]) | st.floats(0.01, 0.999)
quantiles = st.sampled_from([1e-9, 0.5, 0.95, 1 - 1e-9]) | st.floats(0.01, 0.99)
rates = st.sampled_from([1e-9, 0.05, 0.5, 1 - 1e-9]) | st.floats(0.001, 0.999)
alphas = st.sampled_from([1e-12, 0.05, 0.4999]) | st.floats(0.001, 0.4)
units = st.sampled_from([1, 50, BILLION]) | st.integers(1, 10**6)
times = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True).map(lambda ks: [k / 40 for k in sorted(ks)])
generators = st.builds(np.random.default_rng, st.just(1))


@st.composite
def count_arrays(draw: st.DrawFn) -> dict[str, Any]:
    """Canary and stable counts of the same epochs."""
    arms = draw(st.lists(st.tuples(maybe_empty, maybe_empty), min_size=1, max_size=3))
    return {
        "canary_events": [c.events for c, _ in arms],
        "canary_units": [c.units for c, _ in arms],
        "stable_events": [s.events for _, s in arms],
        "stable_units": [s.units for _, s in arms],
    }


class Case(NamedTuple):
    """How a public function may be called, and how not.

    Attributes:
        legal: What each argument may be; ``"**"`` makes several at once.
        illegal: What each argument may not be.
        sound: What must hold of a result beside what holds of all.
    """

    legal: dict[str, SearchStrategy[Any]]
    illegal: dict[str, tuple[Any, ...]]
    sound: Callable[[Any], bool] = lambda result: True


def in_unit(result: Any) -> bool:
    return bool(np.all((np.asarray(result) >= 0) & (np.asarray(result) <= 1)))


def p_value(result: Any) -> bool:
    return isinstance(result, Unknown) or 0 <= result.p_value <= 1


TWO_PROPORTIONS = {"canary": epochs(maybe_empty), "stable": epochs(maybe_empty)}
BAD_PROPORTIONS = {"canary": PROPORTIONS, "stable": PROPORTIONS}
TWO_ARMS = {"canary": proportions, "stable": proportions, "confidence": confidences}
BAD_ARMS = {"canary": ONE_ARM, "stable": ONE_ARM, "confidence": CONFIDENCES}
TWO_TALLIES = {"canary": epochs(tallies), "stable": epochs(tallies), "kind": st.sampled_from([Kind.MEAN, Kind.RATIO])}
BAD_TALLIES = {"canary": TALLIES, "stable": TALLIES, "kind": (None, 7, "x", Kind.PROPORTION, Kind.QUANTILE, Kind.COUNT)}
MEAN_INTERVAL = (TWO_TALLIES | {"confidence": confidences}, BAD_TALLIES | {"confidence": CONFIDENCES})
TWO_HISTOGRAMS = {"canary": epochs(histograms), "stable": epochs(histograms), "p": quantiles}
BAD_HISTOGRAMS = {"canary": HISTOGRAMS, "stable": HISTOGRAMS, "p": CONFIDENCES}
DRAWING = {"rng": generators, "change": st.sampled_from(Change), "draws": st.just(50)}
BAD_DRAWING = {"rng": GENERATORS, "change": NAMES, "draws": DRAWS}
COUNTED = {
    "canary_events": COUNT_ARRAYS,
    "canary_units": COUNT_ARRAYS,
    "stable_events": COUNT_ARRAYS,
    "stable_units": COUNT_ARRAYS,
}
TESTED = {"boundary": boundaries, "claim": st.sampled_from(Claim)}
BAD_TESTED = {"boundary": BOUNDARIES, "claim": NAMES}
LOOKS = {"times": times, "spending": st.sampled_from([aca.pocock_spending(0.05), aca.power_spending(0.01, 3.0)])}
BAD_LOOKS = {"times": TIMES, "spending": SPENDINGS}

# Tempered counts need not be whole, so a fraction is legal here.
E_COUNTS: Illegal = (math.nan, "3", None, 1j, -1, math.inf, [[1, 2], [3]], [1, "x"], ["3"])
SPLIT = {"canary_units": E_COUNTS, "stable_units": E_COUNTS, "weight": (*E_COUNTS, 1.5, 95)}
shares = st.sampled_from([0.0, 0.05, 0.5, 1.0]) | st.floats(0, 1)
counted_units = st.sampled_from([50, 950, BILLION]) | st.integers(50, 10**6)
few_events = st.integers(0, 50)


def one_epoch(canary: Proportion, stable: Proportion, weight: float) -> aca.Aggregates:
    arms = {Arm.CANARY: canary, Arm.STABLE: stable}
    return aca.Aggregates(
        epochs=(Epoch(number=0, weight=weight, stage=0),),
        tallies={
            Cell("error_rate", 0, arm): {0: Tally(n.units, n.units, float(n.events), float(n.events))}
            for arm, n in arms.items()
        },
    )


rollouts = st.builds(one_epoch, maybe_empty, maybe_empty, shares)

TABLE_FILE = Path(__file__).with_name("reference_values.csv")
ROWS = 40
TABLE = pd.DataFrame(
    {
        "conversation_id": [f"c{row}" for row in range(ROWS)],
        "version": ["v1", "v2"] * (ROWS // 2),
        "error": [int(row % 7 == 0) for row in range(ROWS)],
        "satisfaction": [math.nan if row % 3 else 1.0 + row % 5 for row in range(ROWS)],
    }
)
# Frames with every value of a column alike, with half of them missing, with numbers as large as they come.
tables = st.sampled_from(
    [
        TABLE,
        TABLE.assign(error=0),
        TABLE.assign(error=1),
        TABLE.assign(satisfaction=3.0),
        TABLE.assign(satisfaction=math.nan),
        TABLE.assign(satisfaction=1e300),
        TABLE[:2],
    ]
)
TABLES: Illegal = (
    None,
    7,
    "nowhere.csv",
    [],
    {},
    TABLE[:0],
    TABLE.drop(columns="version"),
    TABLE.assign(version="v1"),
    TABLE.assign(error="yes"),
    TABLE.assign(error=2),
    TABLE.assign(error=-1),
    TABLE.assign(error=math.inf),
    TABLE.assign(error=0.5),
)
VERSION_NAMES: Illegal = (None, 7, "", "v3")
COMPARED = {"frame": tables, "stable": st.just("v1"), "canary": st.just("v2")}
BAD_COMPARED = {"frame": TABLES, "stable": (*VERSION_NAMES, "v2"), "canary": (*VERSION_NAMES, "v1")}
ANALYSED = Case(
    COMPARED
    | {
        "method": st.sampled_from(["fixed", "anytime"]),
        "weight": st.sampled_from([0.05, 0.5]),
        "alpha": st.sampled_from([1e-9, 0.05, 0.4]),
        "rng": st.none() | generators,
    },
    BAD_COMPARED
    | {
        "checks": ("error_rate_increase < 0.1", [], [7], [None], ["error_rate_increase"], ["no_such < 0.1"], 7),
        "unit": ("no_such", 7),
        "cluster": ("no_such", 7),
        "weight": (math.nan, "0.5", 1j, [], -0.1, 1.5, 95, math.inf),
        "alpha": ALPHAS,
        "alpha_promote": (math.nan, "0.5", 1j, [], 0, -0.05, 0.5, 5),
        "method": (None, 7, "peeking"),
        "rng": (7, "seed", np.random.RandomState(1), math.nan),
        "looks": (*NOT_NUMBERS, 1, 0, -3, 101, math.inf),
        "columns": ({"error": "no_such"}, {"no_such": "error"}, 7),
        "strata": (["no_such"], [7]),
    },
)
SPAN = Span(
    "a",
    "1",
    "",
    "agentcanary.turn",
    100.0,
    102.5,
    2.5,
    False,
    {"agentcanary.turn": "t1", "gen_ai.conversation.id": "c1", "gen_ai.agent.version": "v2"},
)

FUNCTIONS: dict[str, Case] = {
    "Aggregates": Case(
        {"epochs": st.just(()), "histograms": st.just({}), "assigned": st.just({(0, Arm.CANARY): 5})},
        {
            "epochs": ((Epoch(number=1, weight=0.1, stage=0), Epoch(number=0, weight=0.1, stage=0)),),
            "histograms": ({Cell("p95_latency", 0, Arm.CANARY): {3: -1}},),
            "assigned": ({(0, Arm.CANARY): -1},),
            "excluded": ({"forced": -1},),
        },
    ),
    "Boundary": Case(
        {"ratio": st.floats(1e-6, 1e6), "floor": st.floats(0, 10), "direction": st.sampled_from(Direction)},
        {"ratio": POSITIVE, "floor": (*NOT_NUMBERS, -0.005, math.inf), "direction": (None, "up", "up_is_worse")},
    ),
    "Cell": Case({"metric": st.just("error_rate"), "epoch": st.just(0), "arm": st.sampled_from(Arm)}, {}),
    "Check": Case({"text": st.just("x < 1"), "metric": st.just("x"), "limit": st.just(1.0)}, {}),
    "Epoch": Case(
        {"number": st.just(0), "weight": st.floats(0, 1), "stage": st.just(0)},
        {"weight": (*NOT_NUMBERS, -0.1, 1.1, 5, math.inf)},
    ),
    "Metric": Case(
        {
            "name": st.just("cost"),
            "kind": st.sampled_from([Kind.MEAN, Kind.PROPORTION]),
            "direction": st.sampled_from(Direction),
            "outcome": st.just("cost"),
            "horizon": st.just(60.0),
            "floor": st.just(0.01),
        },
        {
            "name": ("", "p 95", "é", None, 7),
            "kind": (None, "mean", Kind.QUANTILE),
            "direction": (None, "up_is_worse"),
            "outcome": ("", None),
            "horizon": POSITIVE,
            "floor": (*NOT_NUMBERS, -0.005, math.inf),
            "quantile": (0.95, 95, math.nan),
        },
    ),
    "Proportion": Case(
        {"events": st.just(0), "units": sizes},
        {"events": (*COUNTS, True, 10**13), "units": (*COUNTS, True, 10**13)},
    ),
    "Safety": Case({"canary": st.integers(0, 9), "stable": st.integers(0, 9), "reports": st.integers(0, 99)}, {}),
    "Tally": Case(
        {"units": st.just(9), "observed": st.just(4), "total": st.just(4.0), "total_squares": st.just(4.0)},
        {
            "units": COUNTS,
            "observed": (*COUNTS, 10),
            "total": (*NOT_NUMBERS, math.inf, 1e200, 5.0),
            "total_squares": (*NOT_NUMBERS, math.inf, -1.0, 0.0),
            "size": (*NOT_NUMBERS, math.inf, -1.0),
            "size_squares": (*NOT_NUMBERS, math.inf, -1.0),
            "product": (*NOT_NUMBERS, math.inf),
        },
    ),
    "assess": Case(
        {"aggregates": rollouts, "metric": st.just(aca.BUILT_IN[0]), "boundary": boundaries, "weight": shares},
        {
            "aggregates": (None, 7, {}, [Tally(1, 1)]),
            "metric": (None, 7, "error_rate"),
            "boundary": BOUNDARIES,
            "weight": SHARES,
            "alpha": CONFIDENCES,
            "alpha_promote": CONFIDENCES,
        },
    ),
    "bca_interval": Case(
        {
            "draws": st.lists(st.floats(-5, 5) | st.sampled_from([math.inf, math.nan]), min_size=1, max_size=30),
            "estimate": st.floats(-5, 5),
            "left_out": st.just([([1.0, 2.0], [3, 4]), ([0.0], [9])]),
            "confidence": confidences,
        },
        {
            "draws": (None, 7, [], "abc", [[1.0]], ["1"], [1j]),
            "estimate": NOT_NUMBERS,
            "left_out": (None, 7, [7], [(["x"], [1])]),
            "confidence": CONFIDENCES,
        },
    ),
    "best_kappa": Case(
        {"intrinsic_time": st.floats(1e-6, 1e9), "alpha": alphas}, {"intrinsic_time": POSITIVE, "alpha": ALPHAS}
    ),
    "boundary_test": Case(TWO_PROPORTIONS | TESTED, BAD_PROPORTIONS | BAD_TESTED, p_value),
    "bucket_draws": Case(
        {"canary": epochs(buckets), "stable": epochs(buckets), "kind": TWO_TALLIES["kind"], **DRAWING},
        {"canary": BUCKETS, "stable": BUCKETS, "kind": BAD_TALLIES["kind"], **BAD_DRAWING},
    ),
    "can_prove": Case(
        {
            "base_rate": rates,
            "canary_units": units,
            "weight": rates,
            "alpha": alphas,
            "direction": st.sampled_from(Direction),
            "spread": st.sampled_from(Spread),
        },
        {
            "base_rate": CONFIDENCES,
            "canary_units": POSITIVE,
            "weight": CONFIDENCES,
            "alpha": ALPHAS,
            "power": (*NOT_NUMBERS, 0.2, 0.5, 1, 80, math.inf),
            "floor": (*NOT_NUMBERS, -0.005, 1, math.inf),
            "direction": NAMES,
            "spread": NAMES,
        },
    ),
    "canary_units_needed": Case(
        {"canary_rate": rates, "stable_rate": rates, "weight": rates, **TESTED, "alpha": alphas},
        {
            "canary_rate": CONFIDENCES,
            "stable_rate": CONFIDENCES,
            "weight": CONFIDENCES,
            **BAD_TESTED,
            "alpha": ALPHAS,
            "power": (*NOT_NUMBERS, 0.5, 1, 80),
        },
    ),
    "check_name": Case({"metric": st.sampled_from(aca.BUILT_IN)}, {"metric": (None, 7, "error_rate")}),
    "clopper_pearson_interval": Case(
        {"arm": proportions, "confidence": confidences}, {"arm": ONE_ARM, "confidence": CONFIDENCES}, in_unit
    ),
    "clopper_pearson_upper": Case(
        {"arm": proportions, "confidence": confidences}, {"arm": ONE_ARM, "confidence": CONFIDENCES}, in_unit
    ),
    "cluster_tallies": Case(
        {"clusters": st.just(["a", "b", "a"]), "values": st.lists(st.floats(-9, 9), min_size=3, max_size=3)},
        {"clusters": (None, 7, [], ["a"], [[], [], []]), "values": (*VALUES, [1.0, math.inf, 2.0])},
    ),
    "clustered_interval": Case(
        {
            "canary": epochs(buckets),
            "stable": epochs(buckets),
            "rng": generators,
            "kind": TWO_TALLIES["kind"],
            "confidence": confidences,
            "draws": st.just(50),
        },
        {
            "canary": BUCKETS,
            "stable": BUCKETS,
            "rng": GENERATORS,
            "kind": BAD_TALLIES["kind"],
            "confidence": CONFIDENCES,
            "draws": DRAWS,
            "rarest": (-1, 2.5, math.nan, "3"),
        },
    ),
    "clusters_with_event": Case(
        {"clusters": st.just(["a", "b", "a"]), "events": st.lists(st.integers(0, 1), min_size=3, max_size=3)},
        {"clusters": (None, 7, [], ["a"], [[], [], []]), "events": (*VALUES, [0, 1, 2], [0, 1, 0.5])},
    ),
    "conditional_p_value": Case(
        {"**": count_arrays(), **TESTED, "share_of_equal": st.floats(0, 1)},
        {**COUNTED, **BAD_TESTED, "share_of_equal": SHARES},
        in_unit,
    ),
    "crossing_probabilities": Case(
        {"bounds": st.just([2.0, 2.0]), "times": st.just([0.5, 1.0]), "drift": st.floats(-30, 30)},
        {
            "bounds": (None, 7, [], [1.0], ["2", "2"], [math.nan, 2.0]),
            "times": TIMES,
            "drift": (*NOT_NUMBERS, math.inf, 1e6),
            "lower": (7, [], [3.0, 3.0], [math.nan, 0.0], ["0", "0"]),
        },
        in_unit,
    ),
    "effective_clusters": Case({"tallies": st.lists(tallies, max_size=4)}, {"tallies": (None, 7, [7], ["x"], [None])}),
    "enumerated_power": Case(
        {
            "canary_rate": st.floats(0, 1),
            "stable_rate": st.floats(0, 1),
            "canary_units": st.integers(1, 30),
            "stable_units": st.integers(1, 30),
            **TESTED,
            "alpha": alphas,
        },
        {
            "canary_rate": SHARES,
            "stable_rate": SHARES,
            "canary_units": (*COUNTS, 0),
            "stable_units": (*COUNTS, 0),
            **BAD_TESTED,
            "alpha": ALPHAS,
        },
        in_unit,
    ),
    "exceedances": Case(
        {"bins": histograms, "threshold": st.integers(-60, 200).map(edge)},
        {"bins": ONE_HISTOGRAM, "threshold": (*NOT_NUMBERS, -1.0, 0.0, math.inf)},
    ),
    "fieller_interval": Case(*MEAN_INTERVAL),
    "histogram_quantile": Case(
        {"bins": filled_histograms, "p": quantiles}, {"bins": (*ONE_HISTOGRAM, {}, {0: 0}), "p": CONFIDENCES}
    ),
    "histogram_quantile_draws": Case({**TWO_HISTOGRAMS, **DRAWING}, {**BAD_HISTOGRAMS, **BAD_DRAWING}),
    "histogram_quantile_interval": Case(
        {"bins": filled_histograms, "p": quantiles, "confidence": confidences},
        {"bins": (*ONE_HISTOGRAM, {}, {0: 0}), "p": CONFIDENCES, "confidence": CONFIDENCES},
    ),
    "hours_to_decide": Case(
        {"canary_units": units, "weight": rates, "conversations_per_hour": st.floats(0.1, 1e9)},
        {
            "canary_units": (*NOT_NUMBERS, -1, math.inf),
            "weight": (*NOT_NUMBERS, 0, -0.1, 1.5, 5),
            "conversations_per_hour": POSITIVE,
            "horizon": (*NOT_NUMBERS, -1, math.inf),
        },
    ),
    "hwang_shih_decani_spending": Case(
        {"alpha": alphas, "gamma": st.floats(-500, 500)},
        {"alpha": ALPHAS, "gamma": (*NOT_NUMBERS, math.inf, 1e3)},
    ),
    "information_time": Case(
        {
            "canary_units": st.lists(st.integers(0, BILLION), min_size=2, max_size=2),
            "stable_units": st.lists(st.integers(0, BILLION), min_size=2, max_size=2),
            "planned": st.floats(1, 1e12),
        },
        {
            "canary_units": (math.nan, "3", None, 1j, [-1, 2], [math.inf, 1], [1], ["1", "2"], [[1, 2]]),
            "stable_units": (math.nan, "3", None, 1j, [-1, 2], [math.inf, 1], [1], ["1", "2"], [[1, 2]]),
            "planned": POSITIVE,
            "ratio": POSITIVE,
        },
        in_unit,
    ),
    "log_delta_interval": Case(MEAN_INTERVAL[0], MEAN_INTERVAL[1] | {"freedom": (*NOT_NUMBERS, 0, -1)}),
    "look_levels": Case(LOOKS, BAD_LOOKS, in_unit),
    "mantel_haenszel_ratio": Case(TWO_PROPORTIONS, BAD_PROPORTIONS),
    "mean_difference_interval": Case(*MEAN_INTERVAL),
    "mean_power": Case(
        {"difference": st.floats(-9, 9), "deviation": st.floats(0.01, 1e6), "units": st.floats(2, 1e9)},
        {
            "difference": (*NOT_NUMBERS, math.inf),
            "deviation": POSITIVE,
            "units": (*POSITIVE, 1.5),
            "alpha": ALPHAS,
        },
        in_unit,
    ),
    "mean_test": Case({**TWO_TALLIES, **TESTED}, {**BAD_TALLIES, **BAD_TESTED}, p_value),
    "mee_interval": Case(TWO_ARMS, BAD_ARMS),
    "miettinen_nurminen_interval": Case(TWO_ARMS, BAD_ARMS),
    "newcombe_interval": Case(TWO_ARMS, BAD_ARMS),
    "obrien_fleming_bounds": Case(
        {"times": times.map(lambda looks: [*looks[:-1], 1.0]), "alpha": st.floats(0.001, 0.4)},
        {"times": (*TIMES, [0.25, 0.5]), "alpha": ALPHAS},
    ),
    "obrien_fleming_spending": Case({"alpha": alphas}, {"alpha": ALPHAS}),
    "order_statistic_ranks": Case(
        {"n": sizes, "p": quantiles, "confidence": confidences},
        {"n": (*COUNTS, 0), "p": CONFIDENCES, "confidence": CONFIDENCES},
        lambda result: 0 <= result[0] < result[1] and 0 <= result[2] <= 1 + 1e-12,
    ),
    "parse_check": Case(
        {"text": st.sampled_from(["error_rate_increase < 0.10", "safety_violations == 0"])},
        {"text": (None, 7, "", "x", "error_rate_increase < -0.1", "error_rate_increase < nan", "errors < 0.1")},
    ),
    "percentile_interval": Case(
        {
            "draws": st.lists(st.floats(-5, 5) | st.sampled_from([math.inf, math.nan]), min_size=1, max_size=30),
            "confidence": confidences,
        },
        {"draws": (None, 7, [], "abc", [[1.0]], ["1"], [1j]), "confidence": CONFIDENCES},
    ),
    "pocock_bounds": Case(
        {"times": times.map(lambda looks: [*looks[:-1], 1.0]), "alpha": st.floats(0.001, 0.4)},
        {"times": (*TIMES, [0.25, 0.5]), "alpha": ALPHAS},
    ),
    "pocock_spending": Case({"alpha": alphas}, {"alpha": ALPHAS}),
    "power_spending": Case(
        {"alpha": alphas, "exponent": st.floats(0.01, 100)}, {"alpha": ALPHAS, "exponent": POSITIVE}
    ),
    "proportion_draws": Case({**TWO_PROPORTIONS, **DRAWING}, {**BAD_PROPORTIONS, **BAD_DRAWING}),
    "proportion_jackknife": Case(
        {**TWO_PROPORTIONS, "change": st.sampled_from(Change)}, {**BAD_PROPORTIONS, "change": NAMES}
    ),
    "proportion_power": Case(
        {
            "canary_rate": rates,
            "stable_rate": rates,
            "canary_units": units,
            "stable_units": units,
            **TESTED,
            "alpha": alphas,
        },
        {
            "canary_rate": CONFIDENCES,
            "stable_rate": CONFIDENCES,
            "canary_units": POSITIVE,
            "stable_units": POSITIVE,
            **BAD_TESTED,
            "alpha": ALPHAS,
        },
        in_unit,
    ),
    "quantile_ratio": Case(TWO_HISTOGRAMS, BAD_HISTOGRAMS),
    "quantile_ratio_interval": Case(
        {"canary": histograms, "stable": histograms, "p": quantiles, "confidence": confidences},
        {"canary": ONE_HISTOGRAM, "stable": ONE_HISTOGRAM, "p": CONFIDENCES, "confidence": CONFIDENCES},
    ),
    "ratio_interval": Case(
        TWO_PROPORTIONS | {"confidence": confidences}, BAD_PROPORTIONS | {"confidence": CONFIDENCES}
    ),
    "ratio_limits": Case({"**": count_arrays(), "confidence": confidences}, {**COUNTED, "confidence": CONFIDENCES}),
    "relative_boundary": Case(
        {"metric": st.sampled_from([aca.BUILT_IN[0], aca.BUILT_IN[1]]), "margin": st.floats(0, 0.99)},
        {"metric": (None, 7, "error_rate", aca.BUILT_IN[3]), "margin": (*NOT_NUMBERS, -0.02, math.inf)},
    ),
    "relative_change": Case(TWO_TALLIES, BAD_TALLIES),
    "repeat_factor": Case(
        {"tallies": st.lists(event_tallies, max_size=4)},
        {"tallies": (None, 7, [7], ["x"], [Tally(2, 2, -1.0, 1.0)], [Tally(2, 2, 0.5, 0.2)])},
    ),
    "scheduled_looks": Case(
        {"times": st.just([0.5, 1.0]), "p_values": st.just([0.2, 0.01]), "spending": LOOKS["spending"]},
        {
            **BAD_LOOKS,
            "p_values": (None, 7, [], [0.1], [math.nan, 0.1], [-0.1, 0.5], [0.5, 1.1], ["0.1", "0.2"], [None, None]),
        },
    ),
    "score_p_values": Case({"**": count_arrays(), **TESTED}, {**COUNTED, **BAD_TESTED}, in_unit),
    "score_statistic": Case(
        {"**": count_arrays()},
        {
            **COUNTED,
            "ratio": (math.nan, "1", None, 1j, 0, -1, math.inf),
            "shift": (math.nan, "0", None, 1j, 1.0, -1.0, 5, math.inf),
        },
    ),
    "score_test": Case(TWO_PROPORTIONS | TESTED, BAD_PROPORTIONS | BAD_TESTED, p_value),
    "sorted_quantile": Case({"values": values, "p": quantiles}, {"values": VALUES, "p": CONFIDENCES}),
    "sorted_quantile_draws": Case(
        {"canary": values, "stable": values, "p": quantiles, **DRAWING},
        {"canary": VALUES, "stable": VALUES, "p": CONFIDENCES, **BAD_DRAWING},
    ),
    "sorted_quantile_interval": Case(
        {"values": values, "p": quantiles, "confidence": confidences},
        {"values": VALUES, "p": CONFIDENCES, "confidence": CONFIDENCES},
    ),
    "spending_bounds": Case(LOOKS, BAD_LOOKS),
    "standardised_quantiles": Case(TWO_HISTOGRAMS, BAD_HISTOGRAMS),
    "stratified_quantile_ratio_interval": Case(
        TWO_HISTOGRAMS | {"confidence": confidences}, BAD_HISTOGRAMS | {"confidence": CONFIDENCES}
    ),
    "tempered_events": Case(
        {"canary": epochs(event_tallies), "stable": epochs(event_tallies)}, {"canary": TALLIES, "stable": TALLIES}
    ),
    "anytime_mean_ratio_interval": Case(
        {
            "canary": epochs(event_tallies),
            "stable": epochs(event_tallies),
            "variance": st.floats(1e-6, 1e6),
            "planned_units": st.floats(1, 1e6),
            "confidence": confidences,
        },
        {
            "canary": TALLIES,
            "stable": TALLIES,
            "variance": POSITIVE,
            "planned_units": POSITIVE,
            "confidence": CONFIDENCES,
        },
    ),
    "anytime_ratio_interval": Case(
        {"canary_events": counted_units, "stable_events": counted_units, "weight": shares, "confidence": confidences},
        {
            "canary_events": E_COUNTS,
            "stable_events": E_COUNTS,
            "weight": SPLIT["weight"],
            "confidence": CONFIDENCES,
        },
    ),
    "conditional_binomial": Case(
        {
            "canary_events": counted_units,
            "stable_events": counted_units,
            "weight": shares,
            "ratio": st.floats(1e-6, 1e6),
            "question": st.sampled_from(aca.Question),
            "worse": st.sampled_from(Direction),
        },
        {
            "canary_events": E_COUNTS,
            "stable_events": E_COUNTS,
            "weight": SPLIT["weight"],
            "ratio": POSITIVE,
            "question": (*NAMES, "harm"),
            "worse": NAMES,
        },
    ),
    "judge": Case(
        {
            "aggregates": rollouts,
            "metrics": st.just(aca.BUILT_IN),
            "criteria": boundaries.map(lambda line: {"error_rate": line}),
            "proof_weight": shares,
            "attempt": st.integers(1, 9),
        },
        {
            "aggregates": (None, 7, {}, [Tally(1, 1)]),
            "metrics": (None, 7, [7], ["error_rate"], []),
            "criteria": ({"no_such": None}, {"error_rate": None}, {"error_rate": 1.1}),
            "proof_weight": SHARES,
            "alpha": CONFIDENCES,
            "alpha_promote": CONFIDENCES,
            "attempt": (*NOT_NUMBERS, 0, -1, 1.5),
        },
    ),
    "log_e_sample_ratio": Case(
        {"canary_units": counted_units, "stable_units": counted_units, "weight": shares},
        {**SPLIT, "concentration": POSITIVE},
    ),
    "mixture": Case(
        {
            "growth": st.builds(
                aca.conditional_binomial,
                counted_units,
                counted_units,
                shares,
                ratio=st.just(1.1),
                question=st.sampled_from(aca.Question),
            )
        },
        {"growth": (None, 7, "x", [1.0])},
    ),
    "normal_mixture_bound": Case(
        {"variance": st.floats(0, 1e9), "alpha": alphas, "kappa": st.floats(1e-6, 1e9)},
        {"variance": (*NOT_NUMBERS, -1, math.inf), "alpha": CONFIDENCES, "kappa": POSITIVE},
    ),
    "two_by_two": Case(
        {
            "canary_units": counted_units,
            "canary_events": few_events,
            "stable_units": counted_units,
            "stable_events": few_events,
            "weight": shares,
            "boundary": boundaries,
            "question": st.sampled_from(aca.Question),
        },
        {
            **SPLIT,
            "canary_events": (*E_COUNTS, 10**13),
            "stable_events": (*E_COUNTS, 10**13),
            "boundary": BOUNDARIES,
            "question": (*NAMES, "harm"),
        },
    ),
    "upper_limit_needs": Case(
        {"p": quantiles, "confidence": confidences}, {"p": CONFIDENCES, "confidence": CONFIDENCES}
    ),
    "analyze": ANALYSED,
    "analyze_result": ANALYSED,
    "clickhouse_view": Case(
        {"horizon": st.floats(1e-3, 1e6), "version": st.none() | st.text(max_size=9)},
        {
            "view": (None, 7, "", "a b", "x; DROP TABLE y", "a.b.c.d"),
            "table": (None, 7, "", "a b", "x; DROP TABLE y"),
            "horizon": POSITIVE,
            "outcomes": (7, {"x": ""}, {"x": "a b"}, {"x": 7}),
        },
    ),
    "conversations_of": Case(
        {"spans": st.lists(st.just(SPAN), max_size=3), "horizon": st.floats(1e-3, 1e6)},
        {"spans": (None, 7, [7], [None], ["x"]), "horizon": POSITIVE},
    ),
    "Effect": Case(
        {name: st.floats(0.01, 99) for name in ("errors", "completion", "latency", "satisfaction", "violations")},
        {"errors": (*NOT_NUMBERS, -1, 100, math.inf), "latency": (*NOT_NUMBERS, 0, -1, math.inf)},
    ),
    "frame_aggregates": Case(
        COMPARED | {"weight": st.sampled_from([0.05, 0.5])},
        BAD_COMPARED | {"weight": (math.nan, "0.5", 1j, [], -0.1, 1.5, 95, math.inf), "unit": ("no_such", 7)},
    ),
    "generate_history": Case(
        {
            "days": st.integers(1, 3),
            "conversations_per_day": st.sampled_from([20, 80]),
            "rng": generators,
            "canary": st.just("v2"),
            "weights": st.sampled_from([(0.0,), (0.05, 0.5), (1.0,)]),
        },
        {
            "days": (*NOT_NUMBERS, 0, -1, 2.5, math.inf),
            "conversations_per_day": (*NOT_NUMBERS, 0, -1, 1e15, math.inf),
            "rng": GENERATORS,
            "weights": (None, 7, [], [1.5], [-0.1], [math.nan], ["x"], [None]),
            "start": (None, 7, "2026-01-01", datetime(2026, 1, 1)),  # noqa: DTZ001  # that is what is wrong with it
            "effect": (7, "x", {}),
            "traffic": (7, "x", {}),
        },
    ),
    "read_spans": Case(
        {"path": st.just(TABLE_FILE)}, {"path": (None, 7, "", "nowhere.jsonl", TABLE_FILE.parent, TABLE_FILE)}
    ),
    "read_table": Case(
        {"path": st.just(TABLE_FILE)},
        {"path": (None, 7, "", "nowhere.csv", "nowhere.parquet", TABLE_FILE.parent, Path(__file__), [])},
    ),
    "Traffic": Case(
        {"error_rate": rates, "rated": rates, "latency": st.floats(0.01, 1e3)},
        {
            "error_rate": (*NOT_NUMBERS, 0, -0.1, 5, math.inf),
            "latency": POSITIVE,
            "daily": SHARES,
            "satisfaction": (*NOT_NUMBERS, 0, 6),
        },
    ),
    "wilson_interval": Case(
        {"arm": proportions, "confidence": confidences}, {"arm": ONE_ARM, "confidence": CONFIDENCES}, in_unit
    ),
}
# A draw without anything to divide by is named NaN in their docstrings; intervals of it are ``UNBOUNDED``.
NAN_IS_NAMED = {"bucket_draws", "histogram_quantile_draws", "proportion_draws", "sorted_quantile_draws"} | {
    "proportion_jackknife"
}


def test_every_public_name_is_listed() -> None:
    assert set(aca.__all__) == set(FUNCTIONS) | NOT_MADE_BY_USERS | ENUMS


@pytest.mark.parametrize("name", sorted(ENUMS))
def test_a_name_that_is_no_member_is_refused(name: str) -> None:
    kind = getattr(aca, name)
    for value in (None, 7, "no such member"):
        with pytest.raises(ValueError, match="is not a valid"):
            kind(value)


# Functions that take files by position.
BY_POSITION: dict[str, Callable[..., Any]] = {"read_spans": lambda path: aca.read_spans(path)}


def function_of(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = BY_POSITION.get(name) or getattr(aca, name)
    return found


def sound(result: Any, *, nan: bool) -> bool:
    """No NaN where none is named, no interval the wrong way round, at any depth."""
    if isinstance(result, pd.DataFrame):
        # In a table what is missing is NaN and what hangs is infinite, both by name.
        return result.index.is_unique and result.columns.is_unique
    if isinstance(result, aca.Report):
        return sound(result.result, nan=nan)
    if result is None or isinstance(result, (str, bool, Enum)) or callable(result):
        return True
    if isinstance(result, Limits):
        return result.low <= result.high
    if isinstance(result, (int, float, np.number, np.ndarray)):
        return nan or not np.isnan(result).any()
    if isinstance(result, Mapping):
        return all(sound(value, nan=nan) for value in result.values())
    if isinstance(result, (tuple, list)):
        return all(sound(value, nan=nan) for value in result)
    assert is_dataclass(result), result
    return all(sound(getattr(result, field), nan=nan) for field in result.__dataclass_fields__)


def outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[Any, str]:
    """The result, or what a refusal says; any other exception is a crash."""
    try:
        return function(**arguments), ""
    except (ValueError, TypeError) as error:
        return None, str(error) or "nothing"


def refused(function: Callable[..., Any], arguments: dict[str, Any]) -> bool:
    """It raises what it should, in words, or names why it has no number."""
    result, error = outcome(function, arguments)
    if error:
        return len(error) > 15
    # A state by name is an answer too; of a pair of method and limits the limits are what is named.
    return isinstance(getattr(result, "limits", result), Unknown)


def arguments_of(case: Case, data: st.DataObject) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, strategy in case.legal.items():
        found = data.draw(strategy, label=name)
        arguments |= found if name == "**" else {name: found}
    return arguments


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_extreme_values_give_sound_numbers_or_are_refused(name: str, data: st.DataObject) -> None:
    case, function = FUNCTIONS[name], function_of(name)
    arguments = arguments_of(case, data)
    result, error = outcome(function, arguments)
    if error:
        assert len(error) > 15, f"{error!r} says nothing"
        return
    assert sound(result, nan=name in NAN_IS_NAMED), result
    assert isinstance(result, Unknown) or case.sound(result), result


BAD = [(name, argument) for name, case in FUNCTIONS.items() for argument in case.illegal]


@pytest.mark.parametrize(("name", "argument"), BAD, ids=[f"{name}-{argument}" for name, argument in BAD])
@settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_illegal_value_is_refused_whatever_the_others_are(name: str, argument: str, data: st.DataObject) -> None:
    case, function = FUNCTIONS[name], function_of(name)
    arguments = arguments_of(case, data)
    for value in case.illegal[argument]:
        assert refused(function, arguments | {argument: value}), f"{name}({argument}={value!r}) was accepted"
