"""Coverage of every interval that the package offers, over a grid of rates, sizes and splits.

Proportions by enumeration of all outcomes, averaged over rates within 10 % of each other (counts are whole, so the
coverage at one rate goes up and down by a point or two); everything else by simulation with a fixed seed. Each method
promises a region; there its coverage is at most a point below nominal, or never below for the exact ones. Outside,
the worst case is printed, and the method's docstring says what to use instead.

Run: ``nice python benchmarks/sim_coverage.py``. Prints the worst case of each method and writes
``benchmarks/results/sim_coverage.json``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.stats import binom

from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Tally
from agentcanary_analysis.bootstrap import (
    Change,
    histogram_quantile_draws,
    proportion_draws,
    sorted_quantile_draws,
)
from agentcanary_analysis.bootstrap_intervals import (
    bca_interval,
    clustered_interval,
    percentile_interval,
    proportion_jackknife,
)
from agentcanary_analysis.histogram import GROWTH
from agentcanary_analysis.means import fieller_interval, log_delta_interval, mean_difference_interval
from agentcanary_analysis.metrics import ERROR_RATE, P95_LATENCY, Kind, Metric
from agentcanary_analysis.one_look import Limits, Unknown
from agentcanary_analysis.proportion_intervals import (
    clopper_pearson_interval,
    clopper_pearson_upper,
    mantel_haenszel_ratio,
    newcombe_interval,
    ratio_limits,
    wilson_interval,
)
from agentcanary_analysis.proportions import Proportion, score_statistic
from agentcanary_analysis.quantile_ratios import quantile_ratio_interval, stratified_quantile_ratio_interval
from agentcanary_analysis.quantiles import order_statistic_ranks
from agentcanary_analysis.summaries import summarise

FloatArray = NDArray[np.float64]
Bins = dict[int, int]

SEED = 20
LEVEL = 0.95
RESULT = Path(__file__).parent / "results" / "sim_coverage.json"
NINETY_FIVE = 1.959963984540054

NEARBY = np.linspace(0.9, 1.1, 9)
RATES = (0.005, 0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 0.85)
RATIOS = (0.8, 1.0, 1.15, 2.0)
SPLITS = ((50, 50), (50, 950), (200, 200), (150, 450), (200, 3800), (1000, 1000))
RAMP = (0.05, 0.25, 0.5)
DRIFT = (1.0, 1.3, 1.6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """The coverage of one method in one cell of the grid.

    Attributes:
        method: Which interval.
        where: The cell.
        promised: Whether it lies in the region for which the method is offered.
        nominal: What the interval says.
        slack: How far below nominal it may be.
        coverage: What it is; by enumeration the mean over nearby rates.
        lowest: By enumeration the lowest of those.
        runs: Simulated intervals; 0 by enumeration.
        refused: Share of the samples for which the method names a reason instead of an interval.
    """

    method: str
    where: str
    promised: bool
    nominal: float
    slack: float
    coverage: float
    lowest: float
    runs: int = 0
    refused: float = 0.0

    def breaks_its_promise(self, chance: float = 0.01) -> bool:
        """Whether coverage is below what is promised; of a simulation, less likely than ``chance`` if it were not."""
        if not self.promised:
            return False
        least = self.nominal - self.slack
        if not self.runs:
            return self.coverage < least
        return bool(binom.cdf(round(self.coverage * self.runs), self.runs, least) < chance)


def rng_of(*parts: object) -> np.random.Generator:
    return np.random.default_rng([SEED, *repr(parts).encode()])


def enumerated(
    method: str, where: str, covered: Sequence[float], *, promised: bool, nominal: float = LEVEL, slack: float = 0.01
) -> Coverage:
    mean, lowest = float(np.mean(covered)), float(min(covered))
    # An exact method owes its level at every single rate.
    coverage = mean if slack else lowest
    return Coverage(
        method=method,
        where=where,
        promised=promised,
        nominal=nominal,
        slack=slack,
        coverage=coverage,
        lowest=lowest,
    )


def simulated(
    method: str,
    where: str,
    runs: int,
    truth: float,
    sample: Callable[[np.random.Generator], Limits | Unknown],
    *,
    promised: bool = True,
    nominal: float = LEVEL,
) -> Coverage:
    rng = rng_of(method, where)
    found = [limits for limits in (sample(rng) for _ in range(runs)) if isinstance(limits, Limits)]
    inside = sum(low <= truth <= high for low, high in found)
    coverage = inside / len(found) if found else 1.0
    return Coverage(
        method=method,
        where=where,
        promised=promised,
        nominal=nominal,
        slack=0.01,
        coverage=coverage,
        lowest=coverage,
        runs=len(found),
        refused=1 - len(found) / runs,
    )


def nearby(rate: float) -> FloatArray:
    """Rates within 10 %, of the event or of its absence, whichever is rarer."""
    return rate * NEARBY if rate <= 0.5 else 1 - (1 - rate) * NEARBY


def likely(units: int, rates: FloatArray) -> NDArray[np.int64]:
    """All numbers of events but those that weigh less than 1e-9."""
    reach = 6.5 * np.sqrt(units * rates * (1 - rates)) + 8
    first, last = (units * rates - reach).min(), (units * rates + reach).max()
    return np.arange(max(0, int(first)), min(units, int(last) + 1) + 1)


def one_rate(sizes: Sequence[int] = (20, 50, 200, 1000, 5000)) -> Iterator[Coverage]:
    """Wilson and Clopper-Pearson, two-sided and upper."""
    for units in sizes:
        for rate in (*RATES, 0.98):
            rates = nearby(rate)
            counts = likely(units, rates)
            arms = [Proportion(int(k), units) for k in counts]
            where = f"n={units}, p={rate}"
            enough = min(rate, 1 - rate) * units >= 5
            wilson = np.array([wilson_interval(arm) for arm in arms])
            exact = np.array([clopper_pearson_interval(arm) for arm in arms])
            upper = np.array([(0.0, clopper_pearson_upper(arm)) for arm in arms])
            for method, ends, promised, slack in (
                ("Wilson", wilson, enough, 0.01),
                ("Clopper-Pearson", exact, True, 0.0),
                ("Clopper-Pearson upper limit", upper, True, 0.0),
            ):
                covered = [float(binom.pmf(counts, units, p) @ ((ends[:, 0] <= p) & (p <= ends[:, 1]))) for p in rates]
                # The counts left out weigh less than 1e-9 and count as not covered.
                yield enumerated(method, where, [c + 1e-9 for c in covered], promised=promised, slack=slack)


def two_rates(splits: Sequence[tuple[int, int]] = SPLITS) -> Iterator[Coverage]:
    """Koopman's ratio; Newcombe's, Mee's and Miettinen and Nurminen's differences."""
    for n_c, n_s in splits:
        for rate in RATES:
            for ratio in RATIOS:
                if ratio * rate > 0.96:
                    continue
                where = f"n={n_c}/{n_s}, p={rate}, R={ratio}"
                events = min(n_c * ratio * rate, n_s * rate)
                others = min(n_c * (1 - ratio * rate), n_s * (1 - rate))
                enough = min(events, others) >= 5
                rates = nearby(rate)
                k_c, k_s = likely(n_c, ratio * rates), likely(n_s, rates)
                grid = np.broadcast_arrays(k_c[:, None, None], n_c, k_s[None, :, None], n_s)
                low, high = ratio_limits(*grid)
                lower, upper = _newcombe(k_c, n_c, k_s, n_s)
                inflated = np.sqrt((n_c + n_s) / (n_c + n_s - 1))
                covered: dict[str, list[float]] = {}
                for s in rates:
                    c = ratio * s
                    chance = binom.pmf(k_c, n_c, c)[:, None] * binom.pmf(k_s, n_s, s)
                    z = np.abs(score_statistic(*grid, shift=c - s))
                    for method, inside in (
                        ("Koopman ratio", (low <= ratio) & (ratio <= high)),
                        ("Newcombe difference", (lower <= c - s) & (c - s <= upper)),
                        ("Mee difference", z <= NINETY_FIVE),
                        ("Miettinen-Nurminen difference", z <= NINETY_FIVE * inflated),
                    ):
                        covered.setdefault(method, []).append(float((chance * inside).sum()))
                for method, values in covered.items():
                    yield enumerated(method, where, values, promised=enough)


def _newcombe(k_c: NDArray[np.int64], n_c: int, k_s: NDArray[np.int64], n_s: int) -> tuple[FloatArray, FloatArray]:
    """``newcombe_interval`` of all pairs, put together from the intervals of the arms."""
    (c_low, c_high), (s_low, s_high) = (
        np.array([wilson_interval(Proportion(int(k), n)) for k in counts]).T for counts, n in ((k_c, n_c), (k_s, n_s))
    )
    c, s = (k_c / n_c)[:, None], k_s / n_s
    low = c - s - np.hypot(c - c_low[:, None], s_high - s)
    high = c - s + np.hypot(c_high[:, None] - c, s - s_low)
    at = len(k_c) // 2, len(k_s) // 2
    ours = newcombe_interval(Proportion(int(k_c[at[0]]), n_c), Proportion(int(k_s[at[1]]), n_s))
    if not np.allclose(ours, (low[at], high[at])):
        raise AssertionError("the table of Newcombe's intervals is not that of newcombe_interval")
    return low, high


def ramp_units(total: int) -> list[tuple[int, int]]:
    """Canary and stable units of the epochs of a ramp."""
    return [(round(total * weight), total - round(total * weight)) for weight in RAMP]


def ramped_rates(runs: int) -> Iterator[Coverage]:
    """The stratified score interval of the ratio, and what the report shows, over a ramp with a drifting rate."""
    for total, rate, ratio in ((1000, 0.01, 1.0), (1000, 0.05, 1.0), (1000, 0.05, 2.0), (4000, 0.05, 1.15)):
        units = ramp_units(total)
        where = f"ramp of {total} an epoch, p={rate} drifting by 60 %, R={ratio}"
        rng = rng_of("ramp", where)
        n_c, n_s = np.array(units).T
        k_c = rng.binomial(n_c, np.array(DRIFT) * rate * ratio, (runs, 3))
        k_s = rng.binomial(n_s, np.array(DRIFT) * rate, (runs, 3))
        low, high = ratio_limits(k_c, n_c, k_s, n_s)
        score = [Limits(float(a), float(b)) for a, b in zip(low, high, strict=True)]
        shown = [
            _reported(
                _aggregates(
                    ERROR_RATE,
                    [(Tally(a, a, c, c), Tally(b, b, s, s)) for (a, b), c, s in zip(units, cs, ss, strict=True)],
                ),
                ERROR_RATE,
            )
            for cs, ss in zip(k_c[: runs // 4].tolist(), k_s[: runs // 4].tolist(), strict=True)
        ]
        for method, found, truth in (
            ("stratified Koopman ratio", score, ratio),
            ("report: proportion", shown, ratio - 1),
        ):
            following = iter(found)
            yield simulated(method, where, len(found), truth, lambda _, following=following: next(following))  # type: ignore[misc]  # mypy cannot infer a lambda with a default


def _aggregates(metric: Metric, epochs: Sequence[tuple[Tally, Tally]]) -> Aggregates:
    return Aggregates(
        epochs=tuple(Epoch(number=e, weight=weight, stage=e) for e, weight in enumerate(RAMP)),
        tallies={
            Cell(metric.name, e, arm): {0: tally}
            for e, pair in enumerate(epochs)
            for arm, tally in zip((Arm.CANARY, Arm.STABLE), pair, strict=True)
        },
    )


def _reported(aggregates: Aggregates, metric: Metric) -> Limits | Unknown:
    interval = summarise(aggregates, metric).interval
    return Unknown.UNBOUNDED if interval is None else Limits(interval.low, interval.high)


def tally_of(values: FloatArray, sizes: FloatArray | None = None) -> Tally:
    n = np.zeros_like(values) if sizes is None else sizes
    sums = (float(column.sum()) for column in (values, values * values, n, n * n, values * n))
    return Tally(values.size, values.size, *sums)


VALUES: dict[str, Callable[[np.random.Generator, int], FloatArray]] = {
    "normal": lambda rng, size: rng.normal(4, 1, size),
    "gamma(4)": lambda rng, size: rng.gamma(4, 1, size),
    "stars, 85 % 5, else 1": lambda rng, size: np.where(rng.random(size) < 0.85, 5.0, 1.0),
    "lognormal(0.8)": lambda rng, size: rng.lognormal(0, 0.8, size),
}
MEANS = {"normal": 4.0, "gamma(4)": 4.0, "stars, 85 % 5, else 1": 4.4, "lognormal(0.8)": float(np.exp(0.32))}
SKEWED = {"lognormal(0.8)": 200, "stars, 85 % 5, else 1": 200}
"""From how many values an arm on the normal distribution of its mean is promised; elsewhere from 30."""


def means(runs: int) -> Iterator[Coverage]:
    """Welch, delta on the logarithm, Fieller and the report, of one epoch and over a ramp with drifting values."""
    cases = [[(30, 570)], [(50, 950)], [(100, 100)], [(200, 3800)], ramp_units(1000)]
    for name, draw in VALUES.items():
        for units in cases:
            factor, drift = 1.1, DRIFT if len(units) > 1 else (1.0,)
            where = f"{name}, n={'+'.join(f'{a}/{b}' for a, b in units)}, R={factor}"
            promised = min(min(pair) for pair in units) >= SKEWED.get(name, 30)
            rng = rng_of("means", where)
            samples = [
                [
                    (tally_of(d * factor * draw(rng, a)), tally_of(d * draw(rng, b)))
                    for d, (a, b) in zip(drift, units, strict=True)
                ]
                for _ in range(runs)
            ]
            weights = np.array([a * b / (a + b) for a, b in units])
            level = MEANS[name] * float((weights * drift).sum() / weights.sum())
            for method, interval, truth in (
                ("Welch difference", mean_difference_interval, (factor - 1) * level),
                ("delta on the logarithm", log_delta_interval, factor - 1),
                ("Fieller", fieller_interval, factor - 1),
            ):
                following = iter(samples)

                def sample(
                    _: np.random.Generator,
                    following: Iterator[list[tuple[Tally, Tally]]] = following,
                    interval: Callable[..., Limits | Unknown] = interval,
                ) -> Limits | Unknown:
                    pairs = next(following)
                    return interval([c for c, _ in pairs], [s for _, s in pairs])

                yield simulated(method, where, runs, truth, sample, promised=promised)


def users(rng: np.random.Generator, number: int, level: float) -> dict[int, Tally]:
    """Users of 1 to 9 conversations whose ratings agree with themselves, by resampling bucket."""
    n = rng.integers(1, 10, number).astype(float)
    y = n * level * rng.gamma(16, 1 / 16, number)
    place = rng.integers(0, 200, number)
    columns = [np.bincount(place, column, 200) for column in (np.ones(number), y, y * y, n, n * n, y * n)]
    return {
        bucket: Tally(int(sums[0]), int(sums[0]), *map(float, sums[1:]))
        for bucket, sums in enumerate(np.array(columns).T)
        if sums[0]
    }


def clusters(runs: int) -> Iterator[Coverage]:
    """The clustered interval, with the method that it chooses by the number of clusters."""
    for number, others in ((15, 300), (30, 600), (60, 1200), (200, 200), (200, 3800), (1000, 4000)):
        where = f"users={number}/{others}"
        yield simulated(
            "clustered interval (ratio)",
            where,
            runs,
            0.1,
            lambda rng, a=number, b=others: (  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
                clustered_interval([users(rng, a, 4.4)], [users(rng, b, 4.0)], rng=rng, draws=600).limits
            ),
        )
        yield simulated(
            "delta on the logarithm (ratio)",
            where,
            runs,
            0.1,
            lambda rng, a=number, b=others: log_delta_interval(  # type: ignore[misc]  # as above
                [sum(users(rng, a, 4.4).values(), Tally())],
                [sum(users(rng, b, 4.0).values(), Tally())],
                kind=Kind.RATIO,
            ),
            promised=number >= 30,
        )


def order_statistics() -> Iterator[Coverage]:
    """The order statistics' own coverage, exact for any continuous distribution."""
    for p in (0.5, 0.95, 0.99):
        for n in (1, 10, 58, 59, 72, 73, 200, 1000, 100_000):
            low, high, _ = order_statistic_ranks(n, p)
            covered = float(binom.cdf(high - 1, n, p) - binom.cdf(low - 1, n, p))
            yield enumerated("order statistics", f"n={n}, p={p}", [covered], promised=True, slack=0.0)


LATENCIES: dict[str, Callable[[np.random.Generator, int], FloatArray]] = {
    "lognormal(0.6)": lambda rng, size: rng.lognormal(0, 0.6, size),
    "lognormal(1.2)": lambda rng, size: rng.lognormal(0, 1.2, size),
    "exponential": lambda rng, size: rng.exponential(1, size),
}


def bins_of(values: FloatArray) -> dict[int, int]:
    """``bin_of`` of many positive finite values."""
    numbers, counts = np.unique(np.ceil(np.log(values) / np.log(GROWTH) - 1e-9).astype(int), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def quantiles(runs: int) -> Iterator[Coverage]:
    """The ratio of two quantiles, of one epoch and over a ramp with drifting latency; and what the report shows."""
    for name, draw in LATENCIES.items():
        for p in (0.5, 0.95):
            for n_c, n_s in ((60, 1140), (200, 3800), (300, 300)):
                yield simulated(
                    "quantile ratio",
                    f"{name}, n={n_c}/{n_s}, p={p}",
                    runs,
                    1.3,
                    lambda rng, a=n_c, b=n_s, p=p, draw=draw: quantile_ratio_interval(  # type: ignore[misc]  # as above
                        bins_of(1.3 * draw(rng, a)), bins_of(draw(rng, b)), p
                    ),
                )
        for total in (60, 500, 2000):

            def ramp(
                rng: np.random.Generator,
                draw: Callable[[np.random.Generator, int], FloatArray] = draw,
                total: int = total,
            ) -> list[tuple[Bins, Bins]]:
                return [
                    (bins_of(1.3 * d * draw(rng, a)), bins_of(d * draw(rng, b)))
                    for d, (a, b) in zip(DRIFT, ramp_units(total), strict=True)
                ]

            where = f"{name}, ramp of {total} an epoch, drifting by 60 %, p=0.95"
            yield simulated(
                "stratified quantile ratio",
                where,
                runs,
                1.3,
                lambda rng, ramp=ramp: stratified_quantile_ratio_interval(*arms_of(ramp(rng)), 0.95),  # type: ignore[misc]  # as above
            )
            yield simulated(
                "report: quantile",
                where,
                runs // 2,
                0.3,
                lambda rng, ramp=ramp: _reported(_histograms(ramp(rng)), P95_LATENCY),  # type: ignore[misc]  # as above
                promised=False,  # its method is not this module's to promise
            )


def arms_of(epochs: Sequence[tuple[Bins, Bins]]) -> tuple[list[Bins], list[Bins]]:
    return [canary for canary, _ in epochs], [stable for _, stable in epochs]


def _histograms(epochs: Sequence[tuple[Bins, Bins]]) -> Aggregates:
    return Aggregates(
        epochs=tuple(Epoch(number=e, weight=weight, stage=e) for e, weight in enumerate(RAMP)),
        histograms={
            Cell(P95_LATENCY.name, e, arm): bins
            for e, pair in enumerate(epochs)
            for arm, bins in zip((Arm.CANARY, Arm.STABLE), pair, strict=True)
        },
    )


def bootstraps(runs: int) -> Iterator[Coverage]:
    """Percentile and BCa intervals of proportions and quantiles."""
    for n_c, n_s, rate in ((50, 950, 0.05), (200, 3800, 0.05), (200, 200, 0.2), (1000, 1000, 0.05), (200, 3800, 0.5)):
        where, promised = f"n={n_c}/{n_s}, p={rate}", n_c * rate >= 10
        for change, truth in ((Change.DIFFERENCE, 0.15 * rate), (Change.RELATIVE, 0.15)):

            def proportion(
                rng: np.random.Generator,
                bca: bool,
                n_c: int = n_c,
                n_s: int = n_s,
                rate: float = rate,
                change: Change = change,
            ) -> Limits | Unknown:
                canary = [Proportion(int(rng.binomial(n_c, 1.15 * rate)), n_c)]
                stable = [Proportion(int(rng.binomial(n_s, rate)), n_s)]
                draws = proportion_draws(canary, stable, rng=rng, change=change, draws=1000)
                if not bca:
                    return percentile_interval(draws)
                ratio = mantel_haenszel_ratio(canary, stable)
                if isinstance(ratio, Unknown):
                    return ratio
                estimate = canary[0].rate - stable[0].rate if change is Change.DIFFERENCE else ratio - 1
                return bca_interval(draws, estimate, proportion_jackknife(canary, stable, change=change))

            for name, bca in (("percentile bootstrap", False), ("BCa bootstrap", True)):
                yield simulated(
                    f"{name}, proportions, {change.name.lower()}",
                    where,
                    runs,
                    truth,
                    lambda rng, bca=bca, proportion=proportion: proportion(rng, bca),  # type: ignore[misc]  # as above
                    promised=promised,
                )
    for name, draw in LATENCIES.items():
        for p, n_c, n_s in ((0.5, 100, 1900), (0.95, 60, 1140), (0.95, 200, 3800), (0.95, 1000, 1000)):
            yield simulated(
                "percentile bootstrap, quantiles",
                f"{name}, n={n_c}/{n_s}, p={p}",
                runs,
                0.3,
                lambda rng, a=n_c, b=n_s, p=p, draw=draw: percentile_interval(  # type: ignore[misc]  # as above
                    sorted_quantile_draws(np.sort(1.3 * draw(rng, a)), np.sort(draw(rng, b)), p, rng=rng, draws=1000)
                ),
                promised=n_c * (1 - p) >= 20,
            )

    def ramp(rng: np.random.Generator) -> Limits | Unknown:
        epochs = [
            (bins_of(1.3 * d * rng.lognormal(0, 0.6, a)), bins_of(d * rng.lognormal(0, 0.6, b)))
            for d, (a, b) in zip(DRIFT, ramp_units(500), strict=True)
        ]
        canary, stable = arms_of(epochs)
        drawn = histogram_quantile_draws(canary, stable, 0.95, rng=rng, draws=400)
        return drawn if isinstance(drawn, Unknown) else percentile_interval(drawn)

    yield simulated(
        "percentile bootstrap, stratified quantiles", "lognormal(0.6), ramp of 500 an epoch", runs // 5, 0.3, ramp
    )


def study(scale: float = 1.0, splits: Sequence[tuple[int, int]] = SPLITS) -> Iterator[Coverage]:
    """Every cell of the grid.

    Args:
        scale: Of the number of simulated runs.
        splits: Sizes of the arms for the enumeration of two proportions.
    """
    yield from one_rate((20, 50, 200, 1000, 5000) if scale >= 1 else (20, 50))
    yield from two_rates(splits)
    yield from order_statistics()
    yield from ramped_rates(int(20_000 * scale))
    yield from means(int(4_000 * scale))
    yield from clusters(int(1_500 * scale))
    yield from quantiles(int(2_500 * scale))
    yield from bootstraps(int(2_500 * scale))


def main() -> None:
    started = time.perf_counter()
    cells = []
    for cell in study():
        cells.append(cell)
        print(f"\r{len(cells)} cells, {time.perf_counter() - started:.0f} s", end="", flush=True)
    print()
    report(cells, time.perf_counter() - started)


def worst(cells: Sequence[Coverage]) -> Coverage | None:
    return min(cells, key=lambda cell: cell.coverage - cell.nominal, default=None)


def report(cells: Sequence[Coverage], seconds: float) -> None:
    print(f"{'method':46} {'cells':>5} {'mean':>6}  worst where promised, and elsewhere")
    rows: list[dict[str, Any]] = []
    for method in dict.fromkeys(cell.method for cell in cells):
        mine = [cell for cell in cells if cell.method == method]
        inside, outside = (worst([cell for cell in mine if cell.promised is side]) for side in (True, False))
        mean = float(np.mean([cell.coverage for cell in mine if cell.promised] or [np.nan]))
        rows.append(
            {
                "method": method,
                "nominal": mine[0].nominal,
                "cells": len(mine),
                "mean_where_promised": mean,
                "worst_where_promised": None if inside is None else asdict(inside),
                "worst_elsewhere": None if outside is None else asdict(outside),
            }
        )
        for number, (cell, name) in enumerate(((inside, "promised"), (outside, "elsewhere"))):
            if cell is not None:
                head = f"{method:46} {len(mine):5} {mean:6.3f}" if not number or inside is None else " " * 59
                error = 2 * np.sqrt(0.0475 / max(cell.runs, 1))
                lowest = f" ± {error:.3f}" if cell.runs else f" (lowest {cell.lowest:.3f})"
                print(f"{head}  {name:9} {cell.coverage:.3f}{lowest} at {cell.where}")
    broken = [cell for cell in cells if cell.breaks_its_promise()]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "commit": commit,
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__},
        "seed": SEED,
        "seconds": round(seconds),
        "broken_promises": [asdict(cell) for cell in broken],
        "methods": rows,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if broken:
        raise SystemExit("\n".join(f"{cell.method}: {cell.coverage:.4f} at {cell.where}" for cell in broken))


if __name__ == "__main__":
    main()
