"""By which methods a result was found, with their sources. Pure, standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from agentcanary_analysis.analysis_result import AnalysisMethod, AnalysisResult
from agentcanary_analysis.metrics import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a report.

    Attributes:
        name: What it decides or estimates.
        says: What it does and when it holds.
        sources: Where it is published.
    """

    name: str
    says: str
    sources: tuple[str, ...]


_CONDITIONAL = "Lindon & Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS 35"
_TWO_BY_TWO = "Turner, Ly & Grünwald (2022), Generic e-variables for exact sequential k-sample tests, arXiv:2106.02693"
_SCORE = (
    "Koopman (1984), Biometrics 40:513-517",
    "Farrington & Manning (1990), Statistics in Medicine 9:1447-1454",
    "Gart & Nam (1990), Biometrics 46:637-643",
)

_DECIDED = {
    AnalysisMethod.FIXED: Method(
        name="One look",
        says="Every check is tested once, at the level α, stratified by epoch. The p-values hold for data that were "
        "looked at once, when they were complete; looking again while they grow makes false alarms more frequent.",
        sources=(),
    ),
    AnalysisMethod.ANYTIME: Method(
        name="Anytime-valid evidence",
        says="An e-value is a bet against the boundary that cannot be expected to win while the boundary is kept. "
        "E ≥ 1/α proves the opposite, however often and whenever one looks.",
        sources=("Grünwald, de Heide & Koolen (2024), Safe testing, J. Royal Statistical Society B 86:1091-1128",),
    ),
    AnalysisMethod.GROUP_SEQUENTIAL: Method(
        name="Scheduled looks",
        says="The level α is spent over looks that were fixed before; a p-value counts when it is below what its look "
        "may spend.",
        sources=("Lan & DeMets (1983), Biometrika 70:659-663",),
    ),
}
_TESTS: dict[tuple[AnalysisMethod, Kind], Method] = {
    (AnalysisMethod.FIXED, Kind.PROPORTION): Method(
        name="Test of proportions",
        says="Score test against the boundary; Fisher's conditional test with mid-p where an arm has fewer than "
        "10 conversations with, or without, the event.",
        sources=(*_SCORE, "Lancaster (1961), JASA 56:223-234, for mid-p"),
    ),
    (AnalysisMethod.FIXED, Kind.MEAN): Method(
        name="Test of means",
        says="Welch's test of the contrast canary − boundary × stable.",
        sources=("Welch (1947), Biometrika 34:28-35",),
    ),
    (AnalysisMethod.FIXED, Kind.QUANTILE): Method(
        name="Test of quantiles",
        says="Score test on how many conversations exceed stable's quantile, the canary's scaled by the boundary.",
        sources=_SCORE[:1],
    ),
    (AnalysisMethod.ANYTIME, Kind.PROPORTION): Method(
        name="E-values of proportions",
        says="Exact for any base rate that changes with the hour; counts of epochs of different weight are never "
        "added.",
        sources=(_CONDITIONAL, _TWO_BY_TWO),
    ),
    (AnalysisMethod.ANYTIME, Kind.MEAN): Method(
        name="E-values of means",
        says="Asymptotic, on the contrast canary − boundary × stable.",
        sources=("Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Annals of Statistics 52:2613-2640",),
    ),
    (AnalysisMethod.ANYTIME, Kind.QUANTILE): Method(
        name="E-values of quantiles",
        says="How many conversations exceed a threshold that was fixed before the epoch began, scaled by the boundary "
        "for the canary; a turn that never ended exceeds every threshold.",
        sources=(_CONDITIONAL,),
    ),
}
_INTERVALS: dict[Kind, Method] = {
    Kind.PROPORTION: Method(
        name="Interval of a ratio of proportions",
        says="Mantel-Haenszel over epochs; by the score, which knows no limit theorem, where an arm has fewer than "
        "10 events.",
        sources=("Greenland & Robins (1985), Biometrics 41:55-68", _SCORE[0]),
    ),
    Kind.MEAN: Method(
        name="Interval of a ratio of means",
        says="Delta method on its logarithm.",
        sources=("Deng, Knoblich & Lu (2018), KDD, arXiv:1803.06336",),
    ),
    Kind.QUANTILE: Method(
        name="Interval of a ratio of quantiles",
        says="From order statistics of both arms.",
        sources=("Woodruff (1952), JASA 47:635-646", "Zou & Donner (2008), Statistics in Medicine 27:1693-1702"),
    ),
}
_CLUSTERS = Method(
    name="Clusters",
    says="Conversations of one cluster are no independent evidence: variances are taken over clusters. The p-value as "
    "if they were independent stands beside it.",
    sources=("Deng, Knoblich & Lu (2018), KDD, arXiv:1803.06336", "Kish (1965), Survey Sampling, section 11.7"),
)
_SPLIT = Method(
    name="Sample ratio",
    says="Is the canary's share of the conversations what was asked for? If not, something chose the conversations, "
    "and the arms cannot be compared.",
    sources=(_CONDITIONAL, "Fabijan et al. (2019), Diagnosing sample ratio mismatch, KDD"),
)


def methods(result: AnalysisResult) -> list[Method]:
    """The methods behind a result: how it was decided, the tests, the intervals, the split.

    Args:
        result: Of an analysis or of a rollout.
    """
    kinds = sorted({check.metric.kind for check in result.checks})
    tested = AnalysisMethod.FIXED if result.method is AnalysisMethod.GROUP_SEQUENTIAL else result.method
    found = [_DECIDED[result.method]]
    found += [_TESTS[tested, kind] for kind in kinds if (tested, kind) in _TESTS]
    with_interval = {check.metric.kind for check in result.checks if check.interval is not None}
    found += [_INTERVALS[kind] for kind in kinds if kind in with_interval and kind in _INTERVALS]
    if result.cluster is not None:
        found.append(_CLUSTERS)
    if result.sample_ratio.p_value is not None or result.sample_ratio.log_e is not None:
        found.append(_SPLIT)
    return found
