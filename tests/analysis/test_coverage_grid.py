"""Every interval covers the truth as often as it says, where it is offered; ``benchmarks/sim_coverage.py`` in small."""

from __future__ import annotations

import pytest

from benchmarks.sim_coverage import Coverage, study

INTERVALS = {
    "Wilson",
    "Clopper-Pearson",
    "Clopper-Pearson upper limit",
    "Koopman ratio",
    "Newcombe difference",
    "Mee difference",
    "Miettinen-Nurminen difference",
    "order statistics",
    "stratified Koopman ratio",
    "report: proportion",
    "Welch difference",
    "delta on the logarithm",
    "Fieller",
    "clustered interval (ratio)",
    "delta on the logarithm (ratio)",
    "quantile ratio",
    "stratified quantile ratio",
    "report: quantile",
    "percentile bootstrap, proportions, difference",
    "percentile bootstrap, proportions, relative",
    "BCa bootstrap, proportions, difference",
    "BCa bootstrap, proportions, relative",
    "percentile bootstrap, quantiles",
    "percentile bootstrap, stratified quantiles",
}


def check(cells: list[Coverage], chance: float) -> None:
    assert {cell.method for cell in cells} == INTERVALS
    broken = [cell for cell in cells if cell.breaks_its_promise(chance)]
    assert not broken, "\n".join(f"{cell.method}: {cell.coverage:.4f} at {cell.where}" for cell in broken)


def test_promised_coverage_is_kept_in_small() -> None:
    check(list(study(0.012, splits=((50, 950),))), chance=1e-4)


@pytest.mark.slow
def test_promised_coverage_is_kept_over_the_whole_grid() -> None:
    check(list(study()), chance=0.01)
