"""What ``plan_data`` says, as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentcanary.cli.output import Line, Pieces, columns
from agentcanary.status.figures import count, span, value
from agentcanary_analysis.metrics import Kind

Data = Mapping[str, Any]
Shown = Line | Pieces
_STATED_BY = {"error_rate": "--error-rate", "task_completion_rate": "--completion-rate"}


def plan_lines(data: Data) -> Iterator[Shown]:
    """For people: what is assumed, what the stages can prove, what becomes of canaries, what to mind."""
    versions = f"{data['stable']} → {data['canary']}" if data["canary"] else f"{data['stable']}, no canary named"
    yield Line((f"{data['agent']}: {versions}", "bold"), "   what this plan can prove")
    yield Line()
    yield from _assumptions(data)
    yield Line()
    yield Line(
        ("Stages", "bold"),
        f": what one look at the end of each can show with a chance of {data['power']:.0%} (alpha "
        f"{data['alpha']:g}). Evidence that may be looked at any time needs somewhat more.",
    )
    for stage in data["stages"]:
        yield from _stage(stage)
    yield Line()
    yield from _canaries(data)
    if data["warnings"]:
        yield Line()
        for warning in data["warnings"]:
            yield Line(("Warning", "bold yellow"), f": {warning}")


def _assumptions(data: Data) -> Iterator[Shown]:
    rate, missing = data["traffic"]["conversations_per_hour"], []
    yield Line(("Taken for granted", "bold"))
    rows = [(f"{rate:,.10g} conversations an hour", _stated(data["traffic"]["stated"]))]
    if not data["traffic"]["stated"]:
        missing.append("--conversations-per-hour")
    for metric in data["metrics"]:
        shown = value(metric["stable"], Kind(metric["kind"]), metric["unit"])
        detail = ""
        if metric["kind"] == Kind.QUANTILE:
            detail = f", lognormal with a spread of {metric['spread']:g}"
        elif metric["kind"] == Kind.MEAN:
            detail = f", everybody answers, with a spread of {metric['spread']:.3g}"
        rows.append((f"{metric['label']} of stable {shown}{detail}", _stated(metric["stated"])))
        if not metric["stated"] and metric["metric"] in _STATED_BY:
            missing.append(_STATED_BY[metric["metric"]])
    yield from columns(rows, indent=2)
    unstated = [metric for metric in data["metrics"] if not metric["stated"]]
    if unstated or not data["traffic"]["stated"]:
        stable = ", ".join(f"{metric['metric']}: {metric['stable']:g}" for metric in data["metrics"])
        options = f" or with {', '.join(missing)}" if missing else ""
        yield Line(f"What is assumed is no more than a guess: say what you know in the file{options}.", indent=2)
        yield Line(f"traffic: {{conversations_per_hour: {rate:.10g}, stable: {{{stable}}}}}", indent=4)
    for left in data["left_out"]:
        option = _STATED_BY.get(left["metric"], f"{left['metric']} in traffic: stable:")
        yield Line(
            f"Without {left['label']}: no check names it, so it counts only once it is recorded. "
            f"If you record it, state it with {option}.",
            indent=2,
        )
    if data["pausing"]:
        yield Line(f"Harm only pauses in {', '.join(data['pausing'])}: here it counts as rolled back.", indent=2)


def _stated(stated: bool) -> str:
    return "stated" if stated else "assumed"


def _stage(stage: Data) -> Iterator[Shown]:
    lasts = f"lasts {span(round(stage['hours'] * 60) * 60.0)}"
    if stage["waits_for_conversations"]:
        lasts += f" (its minimum of conversations takes longer than {span(stage['duration_hours'] * 3600)})"
    if stage["weight"] < 1:
        lasts += f", {count(stage['canary_conversations'])} canary conversations counted"
    yield Line((stage["name"], "bold"), f"   weight {stage['weight']:g}, {lasts}", indent=2)
    for proof in stage["checks"]:
        yield Line(proof["check"], indent=4)
        yield from (Line(*text, indent=6) for text in _proof(proof))


def _proof(proof: Data) -> Iterator[tuple[str | tuple[str, str], ...]]:
    if proof["boundary"] is None:
        if proof["upper_limit"] is not None:
            yield (f"none among them still allows for {proof['upper_limit'] * 100:.2g} % of the conversations",)
        return
    kind, unit = Kind(proof["kind"]), proof["unit"]

    def shown(found: Data) -> str:
        return value(found["value"], kind, unit)

    up, detectable, certifiable = proof["worse"] == "up", proof["detectable"], proof["certifiable"]
    limit = "at most" if up else "at least"
    if detectable is None:
        yield ("no canary is bad enough to be found worse than stable",)
    else:
        far = f"{shown(detectable)} (× {detectable['ratio']:.3g})"
        yield (f"finds a canary worse than stable from {far} {'up' if up else 'down'}",)
    if certifiable is None:
        yield ("proves nothing of a canary like stable",)
    else:
        yield (f"proves a canary like stable to be {limit} {shown(certifiable)}",)
    if proof["decidable"]:
        return
    needed = proof["needed_canary_conversations"]
    if needed is None:
        yield (("can never prove its limit: a canary like stable is on that line", "yellow"),)
        return
    takes = f"{count(needed)} of them ({span(round(proof['needed_hours']) * 3600.0)})"
    yield ((f"too few to prove its limit, {limit} {shown(proof['boundary'])}: that takes {takes}", "yellow"),)


def _canaries(data: Data) -> Iterator[Shown]:
    found = data["simulation"]
    yield Line(
        ("Canaries", "bold"),
        f": {count(found['runs'])} simulated rollouts of each (seed {found['seed']}), through the real engine and "
        f"state machine. ± is one standard error. Undecided: without an end after "
        f"{count(found['most_conversations'])} conversations ({span(round(found['most_hours']) * 3600.0)}).",
    )
    rows = [("true canary", "", "rolled back", "promoted", "undecided", "half by")]
    styles, before = ["dim"], None
    for one in found["canaries"]:
        if one["metric"] != before:
            rows.append((one["label"], "", "", "", "", ""))
            styles.append("")
            before = one["metric"]
        harmless = one["metric"] is None
        shown = "" if harmless else value(one["canary"], Kind(one["kind"]), one["unit"])
        row = (
            one["change"] if harmless else f"  {one['change']}",
            f"{shown} *" if one["tolerated"] and not harmless else shown,
            _chance(one["rolled_back"]),
            _chance(one["promoted"]),
            _chance(one["undecided"]),
            _hours(one["hours"]["median"]),
        )
        rows.append(row)
        styles.append("" if one["metric"] else "bold")
    yield from columns(rows, indent=2, styles=styles)
    if any(one["tolerated"] for one in found["canaries"][1:]):
        yield Line("* within the rollback boundary: it is tolerated, and shall not be rolled back", indent=2)
    yield Line()
    hours, waits = found["canaries"][0]["hours"], span(data["horizon_hours"] * 3600)
    median, early, late = (_end(hours[share], found["most_hours"]) for share in ("median", "p10", "p90"))
    yield Line(
        ("Expected duration", "bold"),
        f" of harmless canaries' rollouts: half of them take {median}, a tenth {early}, nine tenths {late}. "
        f"Conversations count at once here: a stage that waits for its conversations, or for proof, takes up to "
        f"{waits} more.",
    )


def _chance(one: Data) -> str:
    return f"{one['share'] * 100:3.0f} % ± {one['standard_error'] * 100:.1f}"


def _end(hours: float | None, most: float) -> str:
    return f"more than {span(round(most) * 3600.0)}" if hours is None else f"up to {_hours(hours)}"


def _hours(hours: float | None) -> str:
    return "later" if hours is None else span(max(round(hours * 60), 1) * 60.0)
