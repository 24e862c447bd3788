"""The report of a rollout: the result that an analysis has too, and how it went."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from sqlalchemy.engine import make_url

from agentcanary.clock import Clock, SystemClock
from agentcanary.errors import StoreError, UnknownError
from agentcanary.rollout import Audit, Rollout
from agentcanary.state_machine import Look, advance
from agentcanary.status.conclusion import conclusion
from agentcanary.status.history import EvidenceHistory
from agentcanary.status.reading import situation
from agentcanary.status.situation import Situation, warnings
from agentcanary.store import Store
from agentcanary_analysis.aggregates import Aggregates, Arm
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
from agentcanary_analysis.checks import check_name
from agentcanary_analysis.evidence import ArmSummary, Evidence
from agentcanary_analysis.figures import e_value
from agentcanary_analysis.metrics import Metric
from agentcanary_analysis.report import Course, Report, Step
from agentcanary_analysis.verdict import CheckFinding
from agentcanary_analysis.weighing import budget

_WEIGHT = re.compile(r"weight ([0-9.e-]+)$")


def rollout_report(seen: Situation, history: EvidenceHistory, *, source: str = "") -> Report:
    """What is known of a rollout, and how it went.

    Args:
        seen: What is known now.
        history: The evidence at the looks before.
        source: Where it was read, for people.
    """
    rollout, plan, counted = seen.rollout, seen.rollout.plan, seen.aggregates
    ended = rollout.phase.ended
    reasons = (rollout.reason,) if ended else advance(rollout, Look(findings=seen.findings), now=seen.now).reasons
    result = AnalysisResult(
        verdict=Verdict(conclusion(rollout)),
        reasons=tuple(reason for reason in reasons if reason),
        method=AnalysisMethod.ANYTIME,
        alpha=budget(plan.alpha, rollout.attempt),
        alpha_promote=budget(plan.alpha_promote, rollout.attempt),
        stable=rollout.stable,
        canary=rollout.canary,
        weight=None,
        checks=tuple(_checks(seen, history)),
        sample_ratio=_split(seen),
        epochs=tuple(_epochs(counted)),
        excluded=dict(sorted(counted.excluded.items())),
        notes=tuple(_notes(seen)),
        source=source,
        unit="conversation_id",
    )
    course = Course(
        agent=rollout.agent,
        rollout=rollout.id,
        attempt=rollout.attempt,
        phase=rollout.phase.value,
        began_at=rollout.created_at,
        until=max(seen.now if rollout.ended_at is None else rollout.ended_at, rollout.created_at),
        weights=tuple(_weights(seen.audit)),
        steps=tuple(
            Step(at=entry.at, actor=entry.actor, action=entry.action, reason=entry.reason, after=entry.after)
            for entry in seen.audit
        ),
    )
    return Report(result, course)


def _checks(seen: Situation, history: EvidenceHistory) -> Iterable[CheckResult]:
    """The criteria, which decide, then the checks of the current stage that ask for something else."""
    rollout, plan, findings = seen.rollout, seen.rollout.plan, seen.findings
    alone = findings.log_e_harm_boundary
    together = alone + math.log(max(len(plan.criteria), 1))
    safe = -math.log(budget(plan.alpha_promote, rollout.attempt))
    margins = {criterion.metric: criterion.margin for criterion in plan.criteria}
    over = rollout.phase.ended
    shown = set()
    for found in findings.evidence:
        metric = plan.metric(found.metric)
        shown.add((found.metric, found.boundary))
        yield _check(
            found,
            text=f"{check_name(metric)} < {margins[found.metric]:g}",
            metric=metric,
            limit=margins[found.metric],
            counted=seen.aggregates,
            needed=(together, safe),
            over=over,
            note="the criterion of the rollout: proven beyond it, the canary is taken back",
            over_time=_over_time(history, found.metric, harm_needed=together, safe_needed=safe),
        )
    for check in findings.checks:
        metric = plan.metric(check.check.metric)
        if check.evidence is None:
            yield _count(check, metric, seen)
        elif (metric.name, check.evidence.boundary) not in shown:
            yield _check(
                check.evidence,
                text=check.check.text,
                metric=metric,
                limit=check.check.limit,
                counted=seen.aggregates,
                needed=(alone, safe),
                over=over,
                note=f"a check of the stage {rollout.current_stage.name}: it holds the rollout there",
                reason=check.reason,
            )


def _check(
    found: Evidence,
    *,
    text: str,
    metric: Metric,
    limit: float,
    counted: Aggregates,
    needed: tuple[float, float],
    over: bool,
    note: str,
    reason: str | None = None,
    over_time: tuple[EvidencePoint, ...] = (),
) -> CheckResult:
    said = found.reason if reason is None else reason
    compared = all(arm is not None and arm.observed for arm in (found.stable, found.canary))
    return CheckResult(
        check=text,
        metric=metric,
        status=found.status,
        # The forecast is void once nothing is decided any more.
        reason="" if over and said.startswith("about ") else said,
        boundary=found.boundary,
        limit=limit,
        stable=_arm(found.stable),
        canary=_arm(found.canary),
        relative_change=found.relative_change,
        interval=found.interval,
        anytime=found.anytime,
        test=found.test if compared else None,
        log_e_harm=found.log_e_harm,
        log_e_safe=found.log_e_safe,
        log_e_harm_needed=needed[0],
        log_e_safe_needed=needed[1],
        needs=None if over else found.needs,
        notes=(note, *found.notes),
        over_time=over_time,
        stable_histogram=_histogram(counted, metric, Arm.STABLE),
        canary_histogram=_histogram(counted, metric, Arm.CANARY),
    )


def _count(found: CheckFinding, metric: Metric, seen: Situation) -> CheckResult:
    """A count, as it was recorded: safety violations by the version that served."""
    counted = seen.aggregates
    safety = {Arm.STABLE: counted.safety.stable, Arm.CANARY: counted.safety.canary}
    arms = {}
    for arm in Arm:
        units = sum(n for (_, of), n in counted.assigned.items() if of is arm)
        arms[arm] = ArmResult(units=units, observed=units, value=safety[arm], events=safety[arm])
    return CheckResult(
        check=found.check.text,
        metric=metric,
        status=found.status,
        reason=found.reason,
        boundary=None,
        limit=found.check.limit,
        stable=arms[Arm.STABLE],
        canary=arms[Arm.CANARY],
    )


def _arm(arm: ArmSummary | None) -> ArmResult:
    if arm is None:
        return ArmResult(units=0, observed=0, value=None)
    return ArmResult(units=arm.units, observed=arm.observed, value=arm.value, events=arm.events)


def _histogram(counted: Aggregates, metric: Metric, arm: Arm) -> dict[int, int]:
    """Over the epochs in which both arms could be chosen."""
    total: Counter[int] = Counter()
    for epoch in counted.epochs:
        if 0 < epoch.weight < 1:
            total.update(counted.histogram(metric.name, epoch.number, arm))
    return dict(total)


def _over_time(
    history: EvidenceHistory, metric: str, *, harm_needed: float, safe_needed: float
) -> tuple[EvidencePoint, ...]:
    return tuple(
        EvidencePoint(
            at=look.at,
            conversations=look.conversations,
            scale=Scale.LOG_E,
            harm=look.strengths[metric].harm,
            safe=look.strengths[metric].safe,
            harm_boundary=harm_needed,
            safe_boundary=safe_needed,
        )
        for look in history.looks
        if metric in look.strengths
    )


def _split(seen: Situation) -> SplitResult:
    split = [epoch for epoch in _epochs(seen.aggregates) if 0 < epoch.weight < 1]
    found = seen.findings.sample_ratio
    return SplitResult(
        stable=sum(epoch.stable for epoch in split),
        canary=sum(epoch.canary for epoch in split),
        designed={epoch.number: epoch.weight for epoch in split},
        log_e=max(found.log_e_assigned, found.log_e_counted) if split else None,
        alarm=found.alarm,
        reason=found.reason,
    )


def _epochs(counted: Aggregates) -> list[EpochResult]:
    """Without the history before the rollout."""
    return [
        EpochResult(
            number=epoch.number,
            weight=epoch.weight,
            stable=counted.assigned.get((epoch.number, Arm.STABLE), 0),
            canary=counted.assigned.get((epoch.number, Arm.CANARY), 0),
        )
        for epoch in counted.epochs
        if epoch.number >= 0
    ]


def _notes(seen: Situation) -> Iterable[str]:
    findings = seen.findings
    yield (
        f"all criteria together: harm E = {e_value(findings.log_e_harm)}, "
        f"proven at {e_value(findings.log_e_harm_boundary)}"
    )
    yield from warnings(seen)


def _weights(audit: Iterable[Audit]) -> Iterable[tuple[float, float]]:
    """The weight from each entry on that says one; where it did not change nothing is drawn."""
    last = None
    for entry in audit:
        said = _WEIGHT.search(entry.after)
        if said is not None and float(said[1]) != last:
            last = float(said[1])
            yield entry.at, last


def report(store: str, *, agent: str | None = None, rollout: str | None = None, clock: Clock | None = None) -> Report:
    """The report of a rollout in a store, which is only read.

    Args:
        store: URL of the store: ``sqlite:///canary.sqlite3``.
        agent: Name of the agent; not needed where the store knows one only.
        rollout: Id of the rollout; None for the agent's newest.
        clock: The time of rollouts; by default the wall clock.

    Raises:
        StoreError: If the store cannot be read, or an SQLite file is not there.
        UnknownError: If there is no such rollout.
    """
    clock = clock or SystemClock()
    url = make_url(store)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise StoreError(f"store {store}: there is no such file; the application makes it when it starts")
    opened = Store(store)
    try:
        return stored_report(opened, _found(opened, agent, rollout), now=clock(), speed=clock.speed)
    finally:
        opened.close()


def stored_report(store: Store, rollout: Rollout, *, now: float, speed: float = 1.0) -> Report:
    """The report of a rollout in an open store.

    Args:
        store: The store.
        rollout: The rollout.
        now: Unix time in seconds, of the rollout's clock.
        speed: Of that clock.
    """
    seen = situation(store, rollout, now=now, speed=speed)
    return rollout_report(seen, EvidenceHistory().read(store, rollout), source=store.name)


def _found(store: Store, agent: str | None, rollout: str | None) -> Rollout:
    if rollout is not None:
        return store.rollout(rollout)
    agents = store.agents() if agent is None else [agent]
    if len(agents) > 1:
        raise UnknownError(f"{store.name} knows the agents {', '.join(agents)}; say which: agent={agents[0]!r}")
    found = store.current(agents[0]) if agents else None
    if found is None:
        whose = f"agent {agent!r} has" if agent is not None else "there is"
        raise UnknownError(f"{whose} no rollout in {store.name}")
    return found
