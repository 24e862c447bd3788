"""A recorded comparison → a verdict: one look, any look or scheduled looks, by the engine that decides rollouts. Pure.

Each check is its own boundary: harmed, if the canary is proven to be beyond it, safe, if it is proven to be within.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agentcanary_analysis.analysis_result import (
    AnalysisMethod,
    AnalysisResult,
    CheckResult,
    EpochResult,
    SplitResult,
    Verdict,
)
from agentcanary_analysis.checks import Check, parse_check
from agentcanary_analysis.counted import Counted
from agentcanary_analysis.counted_checks import split_p_value
from agentcanary_analysis.evidence import Status
from agentcanary_analysis.frame_columns import TableError, default_metrics
from agentcanary_analysis.frames import count_frame
from agentcanary_analysis.metrics import Metric
from agentcanary_analysis.offline_checks import Question, check_results
from agentcanary_analysis.offline_looks import Engine, asked, engine, with_thresholds

if TYPE_CHECKING:
    from agentcanary_analysis.report import Report

LOOKS = 5
DEFAULT_CHECKS = (
    "error_rate_increase < 0.10",
    "task_completion_regression < 0.05",
    "p95_latency_increase < 0.50",
    "safety_violations == 0",
)
_SLICES = 20
_SPLIT_ALARM = 0.0005


def analyze(
    frame: Any,
    *,
    stable: str,
    canary: str,
    checks: Sequence[str] | None = None,
    unit: str | None = "conversation_id",
    cluster: str | None = None,
    weight: float | None = None,
    alpha: float = 0.05,
    method: str = "fixed",
    rng: np.random.Generator | None = None,
    columns: Mapping[str, str] | None = None,
    strata: str | Sequence[str] = (),
    metrics: Sequence[Metric] = (),
    alpha_promote: float | None = None,
    looks: int = LOOKS,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """A report on two versions from a table with one row a conversation.

    Args:
        frame: pandas, Polars (eager or lazy), PyArrow, a DuckDB relation, PySpark, Ibis; or the path of a csv, csv.gz,
            Parquet or OTLP file (see ``read_table``).
        stable: Name of the stable version, as in the column ``version``.
        canary: Name of the canary version.
        checks: As in a plan: ``error_rate_increase < 0.10``. None asks the rollback criteria of the standard plan, for
            the columns that are there.
        unit: Column of the conversation's id; None takes every row as one.
        cluster: Column of the user or task that conversations share: variances are then by cluster.
        weight: Share that the canary was to get; tests the split. Not needed where columns ``weight`` say it.
        alpha: Budget for calling a canary harmful that is within every boundary, all checks together.
        method: ``fixed`` (one look), ``anytime`` (any number of looks; needs ``weight`` or a column ``weight`` or
            ``epoch``) or ``group-sequential`` (scheduled looks; needs ``started_at``).
        rng: With a generator intervals are bootstrapped.
        columns: Names of this table by ours: ``{"latency_s": "duration", "version": "model"}``.
        strata: Columns whose values are kept apart, as epochs are.
        metrics: The caller's own, beside the article's; their column has the name of their outcome.
        alpha_promote: Budget for calling a canary safe that is beyond some boundary; None takes ``alpha``.
        looks: Number of scheduled looks, equally far apart in time; for ``group-sequential``.
        progress: Told what is being done.

    Raises:
        TableError: If columns are missing or hold what cannot be counted; a ``ValueError``.
        CheckError: If a check cannot be read; a ``ValueError``.
        ValueError: If an argument is out of range.
    """
    from agentcanary_analysis.report import Report

    return Report(
        analyze_result(
            frame,
            stable=stable,
            canary=canary,
            checks=checks,
            unit=unit,
            cluster=cluster,
            weight=weight,
            alpha=alpha,
            method=method,
            rng=rng,
            columns=columns,
            strata=strata,
            metrics=metrics,
            alpha_promote=alpha_promote,
            looks=looks,
            progress=progress,
        )
    )


def analyze_result(
    frame: Any,
    *,
    stable: str,
    canary: str,
    checks: Sequence[str] | None = None,
    unit: str | None = "conversation_id",
    cluster: str | None = None,
    weight: float | None = None,
    alpha: float = 0.05,
    method: str = "fixed",
    rng: np.random.Generator | None = None,
    columns: Mapping[str, str] | None = None,
    strata: str | Sequence[str] = (),
    metrics: Sequence[Metric] = (),
    alpha_promote: float | None = None,
    looks: int = LOOKS,
    progress: Callable[[str], None] | None = None,
) -> AnalysisResult:
    """The values of ``analyze``, without the report around them; see there.

    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "conversation_id": range(4000),
    ...         "version": ["v1", "v2"] * 2000,
    ...         "error": [int(i % 40 == 0 or i % 10 == 1) for i in range(4000)],
    ...     }
    ... )
    >>> found = analyze_result(table, stable="v1", canary="v2", checks=["error_rate_increase < 0.10"])
    >>> found.verdict.value, found.checks[0].status.value, found.checks[0].canary.events
    ('rollback', 'harmed', 400)
    """
    how = _method(method)
    promote = alpha if alpha_promote is None else alpha_promote
    for name, value in (("alpha", alpha), ("alpha_promote", promote)):
        if not 0 < value < 0.5:
            raise ValueError(f"{name} must be between 0 and 0.5, got {value} (write 0.05 for 5 %)")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r:.80} (write numpy.random.default_rng(7))")
    if not 2 <= looks <= 100:
        raise ValueError(f"looks must be between 2 and 100, got {looks}")
    known = default_metrics(metrics)
    parsed = None if checks is None else _parsed(checks, known)
    table, source = _table(frame)
    counted = count_frame(
        table,
        stable=stable,
        canary=canary,
        metrics=known,
        wanted=[check.metric for check in parsed or ()],
        unit=unit,
        cluster=cluster,
        strata=(strata,) if isinstance(strata, str) else tuple(strata),
        columns=columns,
        weight=weight,
        slices={AnalysisMethod.FIXED: 1, AnalysisMethod.ANYTIME: _SLICES, AnalysisMethod.GROUP_SEQUENTIAL: looks}[how],
        needs_times=how is AnalysisMethod.GROUP_SEQUENTIAL,
        needs_design=how is AnalysisMethod.ANYTIME,
        progress=progress,
    )
    if progress is not None:
        progress("judging")
    if how is not AnalysisMethod.GROUP_SEQUENTIAL:
        counted = with_thresholds(counted)
    there = {metric.name for metric in counted.metrics}
    if parsed is None:
        parsed = [check for check in _parsed(DEFAULT_CHECKS, known) if check.metric in there]
        if not parsed:
            raise TableError(
                f"no check was given, and none of the usual ones fits the columns of {', '.join(sorted(there))}; "
                'write for example checks=["satisfaction_regression < 0.05"]'
            )
    questions = [asked(check, counted.metrics) for check in parsed]
    found = engine(counted, questions, alpha=alpha, alpha_promote=promote)
    asking = Question(counted=counted, checks=questions, method=how, alpha=alpha, alpha_promote=promote, rng=rng)
    results = check_results(asking, found)
    split = _split(counted, found, how)
    verdict, reasons = _verdict(results, split)
    return AnalysisResult(
        verdict=verdict,
        reasons=reasons,
        method=how,
        alpha=alpha,
        alpha_promote=promote,
        stable=stable,
        canary=canary,
        weight=weight,
        checks=results,
        sample_ratio=split,
        epochs=_epochs(counted),
        excluded=dict(counted.excluded),
        notes=_notes(counted, questions, found, how),
        source=source,
        unit=unit,
        cluster=cluster,
    )


def _method(method: str) -> AnalysisMethod:
    try:
        return AnalysisMethod(method)
    except ValueError:
        known = ", ".join(AnalysisMethod)
        raise ValueError(f"method must be one of {known}, got {method!r}") from None


def _parsed(checks: Sequence[str], metrics: Sequence[Metric]) -> list[Check]:
    if isinstance(checks, str):
        raise TypeError(f"checks must be a list, got the text {checks!r} (write [{checks!r}])")
    parsed = [parse_check(text, metrics) for text in checks]
    if not parsed:
        raise ValueError("checks is empty; leave it out for the usual ones")
    return list(dict.fromkeys(parsed))


def _table(frame: Any) -> tuple[Any, str]:
    """The table and, for people, what it is."""
    if isinstance(frame, (str, Path)):
        from agentcanary_analysis.table_files import read_table

        return read_table(frame), str(frame)
    return frame, f"a {type(frame).__module__.split('.')[0]} {type(frame).__name__}"


def _split(counted: Counted, found: Engine, method: AnalysisMethod) -> SplitResult:
    units = counted.units().sum(axis=0)
    stable, canary = round(units[0]), round(units[1])
    p_value = split_p_value(counted)
    if p_value is None:
        why = "nobody said which share the canary was to get: give weight, or a column weight"
        return SplitResult(stable=stable, canary=canary, designed=None, reason=why)
    ratio = found.findings.sample_ratio
    many_looks = method is AnalysisMethod.ANYTIME
    alarm = ratio.alarm if many_looks else p_value < _SPLIT_ALARM
    reason = ""
    if alarm:
        share = canary / max(stable + canary, 1)
        reason = ratio.reason or (
            f"sample ratio: the canary has {canary} of {stable + canary} conversations ({share:.2%}), "
            f"which by chance has p = {p_value:.2g}"
        )
    return SplitResult(
        stable=stable,
        canary=canary,
        designed={epoch.number: epoch.weight for epoch in counted.epochs},
        p_value=p_value,
        log_e=max(ratio.log_e_assigned, ratio.log_e_counted),
        alarm=alarm,
        reason=reason,
    )


def _verdict(results: Sequence[CheckResult], split: SplitResult) -> tuple[Verdict, tuple[str, ...]]:
    def told(*statuses: Status) -> tuple[str, ...]:
        return tuple(f"{one.check}: {one.reason}" for one in results if one.status in statuses)

    harmed = told(Status.HARMED)
    if harmed:
        return Verdict.ROLLBACK, harmed + ((split.reason,) if split.alarm else ())
    if split.alarm:
        return Verdict.HOLD, (split.reason,)
    if all(one.status is Status.SAFE for one in results):
        return Verdict.PROMOTE, told(Status.SAFE)
    return Verdict.HOLD, told(Status.SUSPECT) + told(Status.NO_DATA) + told(Status.UNDECIDED)


def _epochs(counted: Counted) -> tuple[EpochResult, ...]:
    return tuple(
        EpochResult(number=epoch.number, weight=epoch.weight, label=label, stable=round(stable), canary=round(canary))
        for epoch, label, (stable, canary) in zip(counted.epochs, counted.labels, counted.units(), strict=True)
    )


def _notes(counted: Counted, questions: Sequence[Any], found: Engine, method: AnalysisMethod) -> tuple[str, ...]:
    notes = []
    violations = counted.safety().canary
    if violations and all(one.boundary is not None for one in questions):
        notes.append(f"{violations} safety violations of the canary are in the table, and no check asks for them")
    if not counted.designed:
        notes.append("e-values are computed as if the realised share of the canary had been the design")
    tested = sum(one.boundary is not None for one in questions)
    if tested > 1 and method is not AnalysisMethod.ANYTIME:
        how = "by Holm's procedure" if method is AnalysisMethod.FIXED else "in equal parts"
        notes.append(f"the budget for calling the canary harmful is shared {how} among {tested} checks")
    if len(counted.epochs) > 1:
        notes.append(f"{len(counted.epochs)} epochs or strata are compared each within itself, never added")
    if counted.clustered:
        many = "each cluster by itself" if counted.exact_clusters else "clusters taken together in 200 groups"
        notes.append(f"variances are by {counted.columns.cluster}, {many}")
    asked_for = {one.metric.name for one in questions}
    unasked = [metric.name for metric in counted.metrics if metric.name not in asked_for]
    if unasked:
        notes.append(f"no check asks for {', '.join(unasked)}")
    return (*notes, *(warning for warning in found.findings.warnings if "not measured" not in warning))
