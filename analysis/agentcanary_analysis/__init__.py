"""The statistics of canary releases. Pure: no web framework, no store, no clock.

Names are loaded at first use: importing this package loads no numpy and no scipy, and neither do the modules that the
request path needs (metrics, checks, aggregates, histogram).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentcanary_analysis.aggregates import Aggregates, Arm, Cell, Epoch, Safety, Tally
    from agentcanary_analysis.analysis_result import (
        AnalysisMethod,
        AnalysisResult,
        ArmResult,
        CheckResult,
        EpochResult,
        EvidencePoint,
        Scale,
        SplitResult,
        Verdict,
    )
    from agentcanary_analysis.anytime_intervals import anytime_mean_ratio_interval, anytime_ratio_interval
    from agentcanary_analysis.bootstrap import (
        Change,
        bucket_draws,
        histogram_quantile_draws,
        proportion_draws,
        sorted_quantile_draws,
    )
    from agentcanary_analysis.bootstrap_intervals import (
        ClusteredInterval,
        bca_interval,
        clustered_interval,
        effective_clusters,
        percentile_interval,
        proportion_jackknife,
    )
    from agentcanary_analysis.checks import Boundary, Check, CheckError, check_name, parse_check, relative_boundary
    from agentcanary_analysis.clickhouse import clickhouse_view
    from agentcanary_analysis.clusters import (
        Tempered,
        cluster_tallies,
        clusters_with_event,
        repeat_factor,
        tempered_events,
    )
    from agentcanary_analysis.comparison import analyze, analyze_result
    from agentcanary_analysis.conditional import conditional_p_value
    from agentcanary_analysis.confidence_sequences import best_kappa, normal_mixture_bound
    from agentcanary_analysis.enumerated_power import enumerated_power
    from agentcanary_analysis.evalues import Growth, Question, conditional_binomial, mixture
    from agentcanary_analysis.evidence import ArmSummary, Evidence, Interval, Status, assess
    from agentcanary_analysis.frame_columns import TableError
    from agentcanary_analysis.frames import frame_aggregates
    from agentcanary_analysis.group_sequential import (
        crossing_probabilities,
        hwang_shih_decani_spending,
        obrien_fleming_bounds,
        obrien_fleming_spending,
        pocock_bounds,
        pocock_spending,
        power_spending,
        spending_bounds,
    )
    from agentcanary_analysis.history import Effect, Traffic, generate_history
    from agentcanary_analysis.means import (
        fieller_interval,
        log_delta_interval,
        mean_difference_interval,
        mean_test,
        relative_change,
    )
    from agentcanary_analysis.metrics import BUILT_IN, Direction, Kind, Metric
    from agentcanary_analysis.one_look import Claim, Limits, OneLook, Unknown
    from agentcanary_analysis.power import (
        Provable,
        Spread,
        can_prove,
        canary_units_needed,
        hours_to_decide,
        mean_power,
        proportion_power,
    )
    from agentcanary_analysis.proportion_intervals import (
        clopper_pearson_interval,
        clopper_pearson_upper,
        mantel_haenszel_ratio,
        mee_interval,
        miettinen_nurminen_interval,
        newcombe_interval,
        ratio_interval,
        ratio_limits,
        wilson_interval,
    )
    from agentcanary_analysis.proportions import Proportion, boundary_test, score_p_values, score_statistic, score_test
    from agentcanary_analysis.quantile_ratios import (
        quantile_ratio,
        quantile_ratio_interval,
        standardised_quantiles,
        stratified_quantile_ratio_interval,
    )
    from agentcanary_analysis.quantiles import (
        exceedances,
        histogram_quantile,
        histogram_quantile_interval,
        order_statistic_ranks,
        sorted_quantile,
        sorted_quantile_interval,
        upper_limit_needs,
    )
    from agentcanary_analysis.report import Report
    from agentcanary_analysis.sample_ratio import log_e_sample_ratio
    from agentcanary_analysis.scheduled_looks import ScheduledLook, information_time, look_levels, scheduled_looks
    from agentcanary_analysis.spans import Spans, conversations_of, read_spans
    from agentcanary_analysis.table_files import read_table
    from agentcanary_analysis.two_by_two import two_by_two
    from agentcanary_analysis.verdict import CheckFinding, Findings, SampleRatio, judge

_HOMES = {
    "analysis_result": [
        "AnalysisMethod",
        "AnalysisResult",
        "ArmResult",
        "CheckResult",
        "EpochResult",
        "EvidencePoint",
        "Scale",
        "SplitResult",
        "Verdict",
    ],
    "comparison": ["analyze", "analyze_result"],
    "frame_columns": ["TableError"],
    "frames": ["frame_aggregates"],
    "spans": ["Spans", "conversations_of", "read_spans"],
    "table_files": ["read_table"],
    "clickhouse": ["clickhouse_view"],
    "aggregates": ["Aggregates", "Arm", "Cell", "Epoch", "Safety", "Tally"],
    "anytime_intervals": ["anytime_mean_ratio_interval", "anytime_ratio_interval"],
    "bootstrap": ["Change", "bucket_draws", "histogram_quantile_draws", "proportion_draws", "sorted_quantile_draws"],
    "bootstrap_intervals": [
        "ClusteredInterval",
        "bca_interval",
        "clustered_interval",
        "effective_clusters",
        "percentile_interval",
        "proportion_jackknife",
    ],
    "checks": ["Boundary", "Check", "CheckError", "check_name", "parse_check", "relative_boundary"],
    "clusters": ["Tempered", "cluster_tallies", "clusters_with_event", "repeat_factor", "tempered_events"],
    "conditional": ["conditional_p_value"],
    "confidence_sequences": ["best_kappa", "normal_mixture_bound"],
    "enumerated_power": ["enumerated_power"],
    "evalues": ["Growth", "Question", "conditional_binomial", "mixture"],
    "evidence": ["ArmSummary", "Evidence", "Interval", "Status", "assess"],
    "group_sequential": [
        "crossing_probabilities",
        "hwang_shih_decani_spending",
        "obrien_fleming_bounds",
        "obrien_fleming_spending",
        "pocock_bounds",
        "pocock_spending",
        "power_spending",
        "spending_bounds",
    ],
    "history": ["Effect", "Traffic", "generate_history"],
    "means": ["fieller_interval", "log_delta_interval", "mean_difference_interval", "mean_test", "relative_change"],
    "metrics": ["BUILT_IN", "Direction", "Kind", "Metric"],
    "one_look": ["Claim", "Limits", "OneLook", "Unknown"],
    "power": [
        "Provable",
        "Spread",
        "can_prove",
        "canary_units_needed",
        "hours_to_decide",
        "mean_power",
        "proportion_power",
    ],
    "proportion_intervals": [
        "clopper_pearson_interval",
        "clopper_pearson_upper",
        "mantel_haenszel_ratio",
        "mee_interval",
        "miettinen_nurminen_interval",
        "newcombe_interval",
        "ratio_interval",
        "ratio_limits",
        "wilson_interval",
    ],
    "proportions": ["Proportion", "boundary_test", "score_p_values", "score_statistic", "score_test"],
    "quantile_ratios": [
        "quantile_ratio",
        "quantile_ratio_interval",
        "standardised_quantiles",
        "stratified_quantile_ratio_interval",
    ],
    "quantiles": [
        "exceedances",
        "histogram_quantile",
        "histogram_quantile_interval",
        "order_statistic_ranks",
        "sorted_quantile",
        "sorted_quantile_interval",
        "upper_limit_needs",
    ],
    "report": ["Report"],
    "sample_ratio": ["log_e_sample_ratio"],
    "scheduled_looks": ["ScheduledLook", "information_time", "look_levels", "scheduled_looks"],
    "two_by_two": ["two_by_two"],
    "verdict": ["CheckFinding", "Findings", "SampleRatio", "judge"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BUILT_IN",
    "Aggregates",
    "AnalysisMethod",
    "AnalysisResult",
    "Arm",
    "ArmResult",
    "ArmSummary",
    "Boundary",
    "Cell",
    "Change",
    "Check",
    "CheckError",
    "CheckFinding",
    "CheckResult",
    "Claim",
    "ClusteredInterval",
    "Direction",
    "Effect",
    "Epoch",
    "EpochResult",
    "Evidence",
    "EvidencePoint",
    "Findings",
    "Growth",
    "Interval",
    "Kind",
    "Limits",
    "Metric",
    "OneLook",
    "Proportion",
    "Provable",
    "Question",
    "Report",
    "Safety",
    "SampleRatio",
    "Scale",
    "ScheduledLook",
    "Spans",
    "SplitResult",
    "Spread",
    "Status",
    "TableError",
    "Tally",
    "Tempered",
    "Traffic",
    "Unknown",
    "Verdict",
    "analyze",
    "analyze_result",
    "anytime_mean_ratio_interval",
    "anytime_ratio_interval",
    "assess",
    "bca_interval",
    "best_kappa",
    "boundary_test",
    "bucket_draws",
    "can_prove",
    "canary_units_needed",
    "check_name",
    "clickhouse_view",
    "clopper_pearson_interval",
    "clopper_pearson_upper",
    "cluster_tallies",
    "clustered_interval",
    "clusters_with_event",
    "conditional_binomial",
    "conditional_p_value",
    "conversations_of",
    "crossing_probabilities",
    "effective_clusters",
    "enumerated_power",
    "exceedances",
    "fieller_interval",
    "frame_aggregates",
    "generate_history",
    "histogram_quantile",
    "histogram_quantile_draws",
    "histogram_quantile_interval",
    "hours_to_decide",
    "hwang_shih_decani_spending",
    "information_time",
    "judge",
    "log_delta_interval",
    "log_e_sample_ratio",
    "look_levels",
    "mantel_haenszel_ratio",
    "mean_difference_interval",
    "mean_power",
    "mean_test",
    "mee_interval",
    "miettinen_nurminen_interval",
    "mixture",
    "newcombe_interval",
    "normal_mixture_bound",
    "obrien_fleming_bounds",
    "obrien_fleming_spending",
    "order_statistic_ranks",
    "parse_check",
    "percentile_interval",
    "pocock_bounds",
    "pocock_spending",
    "power_spending",
    "proportion_draws",
    "proportion_jackknife",
    "proportion_power",
    "quantile_ratio",
    "quantile_ratio_interval",
    "ratio_interval",
    "ratio_limits",
    "read_spans",
    "read_table",
    "relative_boundary",
    "relative_change",
    "repeat_factor",
    "scheduled_looks",
    "score_p_values",
    "score_statistic",
    "score_test",
    "sorted_quantile",
    "sorted_quantile_draws",
    "sorted_quantile_interval",
    "spending_bounds",
    "standardised_quantiles",
    "stratified_quantile_ratio_interval",
    "tempered_events",
    "two_by_two",
    "upper_limit_needs",
    "wilson_interval",
]


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
