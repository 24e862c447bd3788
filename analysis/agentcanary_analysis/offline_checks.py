"""What an analysis says of each check, by the method that was chosen. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from agentcanary_analysis.analysis_result import AnalysisMethod, ArmResult, CheckResult, EvidencePoint, Scale
from agentcanary_analysis.check_intervals import check_interval
from agentcanary_analysis.counted import Counted
from agentcanary_analysis.counted_checks import clustered_values, compared_epochs
from agentcanary_analysis.evidence import Evidence, Status, Test
from agentcanary_analysis.figures import change, e_value, unit_of, value
from agentcanary_analysis.group_sequential import obrien_fleming_spending
from agentcanary_analysis.metrics import Kind, Metric
from agentcanary_analysis.offline_looks import Asked, Engine, engine
from agentcanary_analysis.one_look import Unknown
from agentcanary_analysis.one_look_checks import Look, Sides, look
from agentcanary_analysis.proportion_intervals import clopper_pearson_upper
from agentcanary_analysis.proportions import Proportion
from agentcanary_analysis.scheduled_looks import scheduled_looks
from agentcanary_analysis.suspicion import SUSPECT_BELOW

_POWER_Z = float(ndtri(0.8))
_CLOSEST_LOOKS = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of what was counted.

    Attributes:
        counted: The data.
        checks: In order.
        method: How they are decided.
        alpha: Budget of ``harmed``, of all checks together.
        alpha_promote: Budget of ``safe``, of each.
        rng: With a generator intervals are bootstrapped.
    """

    counted: Counted
    checks: Sequence[Asked]
    method: AnalysisMethod
    alpha: float
    alpha_promote: float
    rng: np.random.Generator | None

    @property
    def tested(self) -> int:
        """How many checks share the budget of ``harmed``."""
        return max(sum(one.boundary is not None for one in self.checks), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """What follows for one check."""

    status: Status
    reason: str
    needs: int | None = None
    notes: tuple[str, ...] = ()
    over_time: tuple[EvidencePoint, ...] = ()


def check_results(question: Question, found: Engine) -> tuple[CheckResult, ...]:
    """What the analysis says of each check, in their order.

    Args:
        question: What is asked.
        found: What the engine says of the whole data.
    """
    looks = {
        position: look(question.counted, one.metric, one.boundary, alpha=question.alpha_promote)
        for position, one in enumerate(question.checks)
        if one.boundary is not None
    }
    match question.method:
        case AnalysisMethod.FIXED:
            decided = _fixed(question, found, looks)
        case AnalysisMethod.ANYTIME:
            decided = _anytime(question, found)
        case AnalysisMethod.GROUP_SEQUENTIAL:
            decided = _scheduled(question, found, looks)
    return tuple(
        _count(question, one)
        if one.boundary is None
        else _result(question, one, found.evidence[position], looks[position], decided[position])
        for position, one in enumerate(question.checks)
    )


def _fixed(question: Question, found: Engine, looks: dict[int, Look]) -> dict[int, _Decision]:
    """One look: Holm's procedure for harm, each check by itself for safety."""
    levels = _holm({at: one.sides.beyond for at, one in looks.items() if isinstance(one.sides, Sides)}, question)
    return {
        position: _one_look(question, question.checks[position], found.evidence[position], one, levels.get(position))
        for position, one in looks.items()
    }


def _holm(p_values: dict[int, float], question: Question) -> dict[int, float]:
    """The level at which each check's harm is asked.

    **Source**: Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    levels: dict[int, float] = {}
    remaining, stopped = question.tested, False
    for position, p in sorted(p_values.items(), key=lambda item: item[1]):
        level = question.alpha / remaining
        # After the first that is not rejected nothing else is.
        levels[position] = 0.0 if stopped else level
        stopped = stopped or p > level
        remaining -= 1
    return levels


def _one_look(question: Question, asked: Asked, evidence: Evidence, one: Look, level: float | None) -> _Decision:
    nobody = _nobody(evidence)
    if nobody:
        return _Decision(status=Status.NO_DATA, reason=nobody)
    if isinstance(one.sides, Unknown):
        return _Decision(status=Status.UNDECIDED, reason=one.sides.value)
    beyond, within = one.sides.beyond, one.sides.within
    told = _told(evidence, asked.metric)
    if level and beyond <= level:
        return _Decision(status=Status.HARMED, reason=f"harmed: {told}, p = {beyond:.2g}")
    if within <= question.alpha_promote:
        if one.missing:
            return _Decision(status=Status.NO_DATA, reason=one.missing)
        return _Decision(status=Status.SAFE, reason=f"safe: {told}, p = {within:.2g}")
    needs = _needs(question, one.sides, level or question.alpha / question.tested)
    if beyond < SUSPECT_BELOW:
        return _Decision(status=Status.SUSPECT, reason=f"suspect: {told}, p = {beyond:.2g}, not proven", needs=needs)
    more = "too close to the boundary to tell" if needs is None else f"about {needs} more conversations"
    return _Decision(status=Status.UNDECIDED, reason=f"undecided: {told}; {more}", needs=needs)


def _needs(question: Question, sides: Sides, level: float) -> int | None:
    """Conversations of both arms that would probably (80 %) decide, if the difference stays what it is."""
    p, needed = min((sides.beyond, level), (sides.within, question.alpha_promote))
    z = -float(ndtri(min(max(p, 1e-12), 0.5)))
    if z < 0.05:
        return None
    total = float(question.counted.units()[compared_epochs(question.counted)].sum())
    return max(1, math.ceil(total * (((_POWER_Z - float(ndtri(needed))) / z) ** 2 - 1)))


def _anytime(question: Question, found: Engine) -> dict[int, _Decision]:
    """The engine's own statuses: valid however often one looked before."""
    tracks = _e_values_over_time(question)
    decided = {}
    for position, evidence in found.evidence.items():
        told = _told(evidence, question.checks[position].metric)
        status, reason = evidence.status, evidence.reason
        p = evidence.test.p_value if evidence.test is not None else 1.0
        if status is Status.HARMED:
            reason = f"harmed: {told}, E = {e_value(evidence.log_e_harm)}"
        elif status is Status.SAFE:
            reason = f"safe: {told}, E = {e_value(evidence.log_e_safe)}"
        elif status is Status.UNDECIDED and p < SUSPECT_BELOW:
            status, reason = Status.SUSPECT, f"suspect: {told}, p = {p:.2g} at this look, not proven"
        elif status is Status.UNDECIDED:
            reason = f"undecided: {told}; {reason}"
        decided[position] = _Decision(
            status=status, reason=reason, needs=evidence.needs, over_time=tuple(tracks.get(position, ()))
        )
    return decided


def _e_values_over_time(question: Question) -> dict[int, list[EvidencePoint]]:
    counted = question.counted
    tracks: dict[int, list[EvidencePoint]] = {}
    if counted.slices < 2:
        return tracks
    harm, safe = math.log(question.tested / question.alpha), -math.log(question.alpha_promote)
    for upto in range(1, counted.slices + 1):
        units = round(counted.units(upto).sum())
        found = engine(counted, question.checks, alpha=question.alpha, alpha_promote=question.alpha_promote, upto=upto)
        for position, evidence in found.evidence.items():
            tracks.setdefault(position, []).append(
                EvidencePoint(
                    at=_end_of(counted, upto),
                    conversations=units,
                    scale=Scale.LOG_E,
                    harm=evidence.log_e_harm,
                    safe=evidence.log_e_safe,
                    harm_boundary=harm,
                    safe_boundary=safe,
                )
            )
    return tracks


def _end_of(counted: Counted, upto: int) -> float | None:
    """When a slice ended; the last one ends as long after its beginning as the others."""
    cuts = counted.cuts
    if upto <= len(cuts):
        return cuts[upto - 1]
    return cuts[-1] + (cuts[-1] - cuts[-2]) if len(cuts) > 1 else None


def _scheduled(question: Question, found: Engine, final: dict[int, Look]) -> dict[int, _Decision]:
    """Looks at equal steps of time, with O'Brien and Fleming's spending; what was proven stays proven."""
    counted = question.counted
    decided = {}
    for position, last in final.items():
        one = question.checks[position]
        if one.boundary is None:
            continue
        looks = [
            look(counted, one.metric, one.boundary, alpha=question.alpha_promote, upto=upto)
            for upto in range(1, counted.slices)
        ] + [last]
        nobody = _nobody(found.evidence[position])
        if nobody or isinstance(last.sides, Unknown) or last.effective <= 0:
            decided[position] = _one_look(question, one, found.evidence[position], last, None)
            continue
        decided[position] = _spent(question, one, found.evidence[position], looks)
    return decided


def _spent(question: Question, asked: Asked, evidence: Evidence, looks: Sequence[Look]) -> _Decision:
    counted = question.counted
    times, kept = _information_times(looks)
    sides = [one.sides for one in (looks[at] for at in kept) if isinstance(one.sides, Sides)]
    harm = scheduled_looks(
        times, [one.beyond for one in sides], obrien_fleming_spending(question.alpha / question.tested)
    )
    safe = scheduled_looks(times, [one.within for one in sides], obrien_fleming_spending(question.alpha_promote))
    track = tuple(
        EvidencePoint(
            at=_end_of(counted, at + 1),
            conversations=round(counted.units(at + 1).sum()),
            scale=Scale.P_VALUE,
            harm=h.p_value,
            safe=s.p_value,
            harm_boundary=h.level,
            safe_boundary=s.level,
        )
        for at, h, s in zip(kept, harm, safe, strict=True)
    )
    told = _told(evidence, asked.metric)
    which = f"of {len(looks)}"
    missing = looks[-1].missing
    crossed_harm = next((n for n, one in enumerate(harm) if one.crossed), None)
    crossed_safe = next((n for n, one in enumerate(safe) if one.crossed), None)
    if crossed_harm is not None and (crossed_safe is None or crossed_harm <= crossed_safe or not safe[-1].crossed):
        at = kept[crossed_harm] + 1
        reason = f"harmed: {told}, p = {harm[crossed_harm].p_value:.2g} at look {at} {which}"
        return _Decision(status=Status.HARMED, reason=reason, over_time=track)
    if crossed_safe is not None:
        if missing:
            return _Decision(status=Status.NO_DATA, reason=missing, over_time=track)
        at = kept[crossed_safe] + 1
        reason = f"safe: {told}, p = {safe[crossed_safe].p_value:.2g} at look {at} {which}"
        return _Decision(status=Status.SAFE, reason=reason, over_time=track)
    if harm[-1].p_value < SUSPECT_BELOW:
        reason = f"suspect: {told}, p = {harm[-1].p_value:.2g} at the last look, not proven"
        return _Decision(status=Status.SUSPECT, reason=reason, over_time=track)
    reason = f"undecided: {told}; all {len(looks)} scheduled looks are used up"
    return _Decision(status=Status.UNDECIDED, reason=reason, over_time=track)


def _information_times(looks: Sequence[Look]) -> tuple[list[float], list[int]]:
    """Shares of the last look's information, and which looks they are of.

    Looks that cannot be computed yet, or are too close to another, are left out.
    """
    whole = looks[-1].effective
    times: list[float] = []
    kept: list[int] = []
    for position, one in enumerate(looks):
        time = one.effective / whole
        room = time - (times[-1] if times else 0.0)
        last = position == len(looks) - 1
        if isinstance(one.sides, Sides) and room >= _CLOSEST_LOOKS and (last or 1 - time >= _CLOSEST_LOOKS):
            times.append(min(time, 1.0))
            kept.append(position)
    return times, kept


def _nobody(evidence: Evidence) -> str:
    """Why there is nothing to compare, or empty."""
    empty = [
        name
        for name, arm in (("the canary", evidence.canary), ("stable", evidence.stable))
        if arm is None or not arm.observed
    ]
    if empty:
        return f"no conversation of {' and '.join(empty)} has a value in an epoch in which both could be chosen"
    return ""


def _told(evidence: Evidence, metric: Metric) -> str:
    stable, canary = evidence.stable, evidence.canary
    if stable is None or canary is None or stable.value is None or canary.value is None:
        return "values differ by epoch"
    at, base, line = (
        value(number, metric.kind, unit_of(metric))
        for number in (canary.value, stable.value, evidence.boundary.at(stable.value))
    )
    return f"canary {at} against {base} of stable ({change(evidence.relative_change)}), boundary {line}"


def _result(question: Question, one: Asked, evidence: Evidence, at: Look, decided: _Decision) -> CheckResult:
    counted, sides = question.counted, at.sides
    test = Test(name=sides.name, p_value=sides.beyond) if isinstance(sides, Sides) else None
    naive = Test(name=at.naive.name, p_value=at.naive.beyond) if isinstance(at.naive, Sides) else None
    known = evidence.answered and evidence.status is not Status.NO_DATA
    stable_bins: dict[int, int] = {}
    canary_bins: dict[int, int] = {}
    if one.metric.kind is Kind.QUANTILE:
        for both in counted.histograms(one.metric.name):
            for mine, bins in zip((stable_bins, canary_bins), both, strict=True):
                for number, rows in bins.items():
                    mine[number] = mine.get(number, 0) + rows
    return CheckResult(
        check=one.check.text,
        metric=one.metric,
        status=decided.status,
        reason=decided.reason,
        boundary=one.boundary,
        limit=one.check.limit,
        stable=_arm(question, one, evidence, 0),
        canary=_arm(question, one, evidence, 1),
        relative_change=evidence.relative_change,
        interval=check_interval(counted, one.metric, evidence.interval, question.rng),
        anytime=evidence.anytime if known and question.method is AnalysisMethod.ANYTIME else None,
        test=test,
        p_safe=sides.within if isinstance(sides, Sides) else None,
        naive_test=naive,
        log_e_harm=evidence.log_e_harm if known else None,
        log_e_safe=evidence.log_e_safe if known else None,
        log_e_harm_needed=math.log(question.tested / question.alpha),
        log_e_safe_needed=-math.log(question.alpha_promote),
        needs=decided.needs,
        notes=(*decided.notes, *_engine_notes(question, evidence), *_cluster_note(question)),
        over_time=decided.over_time,
        stable_histogram=stable_bins,
        canary_histogram=canary_bins,
    )


def _engine_notes(question: Question, evidence: Evidence) -> tuple[str, ...]:
    """The engine's notes; thresholds concern e-values only, which one look does not decide by."""
    anytime = question.method is AnalysisMethod.ANYTIME
    return tuple(note for note in evidence.notes if anytime or "threshold" not in note)


def _cluster_note(question: Question) -> tuple[str, ...]:
    if question.method is AnalysisMethod.ANYTIME and question.counted.clustered:
        return (
            "e-values count conversations: they hold where conversations were assigned one by one, whatever they share",
        )
    return ()


def _arm(question: Question, one: Asked, evidence: Evidence, arm: int) -> ArmResult:
    counted, metric = question.counted, one.metric
    epochs = compared_epochs(counted)
    summary = (evidence.stable, evidence.canary)[arm]
    observed = round(counted.observed(metric.name)[epochs, arm].sum())
    clusters = None
    if counted.exact_clusters and metric.kind is not Kind.QUANTILE:
        clusters = clustered_values(counted, metric).clusters[arm]
    return ArmResult(
        units=round(counted.units()[epochs, arm].sum()),
        observed=observed,
        value=None if summary is None else summary.value,
        events=None if summary is None else summary.events,
        clusters=clusters,
    )


def _count(question: Question, one: Asked) -> CheckResult:
    """Safety: a policy, not a test. One violation more than the limit is one too many."""
    counted = question.counted
    safety = counted.safety()
    units = counted.units().sum(axis=0)
    reported = counted.observed(one.metric.name).sum(axis=0)
    stable, canary = (
        ArmResult(units=round(n), observed=round(seen), value=float(total), events=total)
        for n, seen, total in zip(units, reported, (safety.stable, safety.canary), strict=True)
    )
    if safety.canary > one.check.limit:
        status = Status.HARMED
        reason = f"harmed: {safety.canary} in {canary.units} conversations of the canary, {one.check.limit:g} allowed"
    elif not canary.observed:
        status, reason = Status.NO_DATA, "no conversation of the canary has a safety report"
    else:
        seen = min(safety.canary, canary.observed)
        most = clopper_pearson_upper(Proportion(seen, canary.observed))
        status = Status.SAFE
        reason = (
            f"{safety.canary} in {canary.observed} conversations of the canary: at most {most:.2%} of them, "
            "with 95 % confidence"
        )
    return CheckResult(
        check=one.check.text,
        metric=one.metric,
        status=status,
        reason=reason,
        boundary=None,
        limit=one.check.limit,
        stable=stable,
        canary=canary,
        notes=()
        if canary.units == canary.observed
        else (f"no safety report about {canary.units - canary.observed} conversations of the canary",),
    )
