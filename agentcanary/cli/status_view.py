"""What ``status_data`` found, as lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentcanary.cli.output import Line, Pieces, columns
from agentcanary.degraded import meaning
from agentcanary.status.figures import ago, change, count, e_value, moment, span, value
from agentcanary_analysis.metrics import Direction, Kind

_STYLES = {"harmed": "bold red", "suspect": "yellow", "safe": "green", "no_data": "magenta", "undecided": "cyan"}
_VERDICT_STYLES = {"promote": "bold green", "rollback": "bold red", "hold": "bold yellow"}
_MARKS = {"begun": "✓", "current": "▶", "ahead": "·"}
Data = Mapping[str, Any]
Shown = Line | Pieces


def status_lines(data: Data) -> Iterator[Shown]:
    """Everything, the verdict first."""
    yield from _head(data)
    yield Line()
    yield Line((data["verdict"].upper(), _VERDICT_STYLES[data["verdict"]]), _colon(data["reasons"]))
    for reason in data["reasons"][1:]:
        yield Line(reason, indent=2)
    if data["next_look"] is not None and data["next_look"]["verdict"] != "hold":
        yield Line(f"The next look decides: {data['next_look']['verdict']}", indent=2)
    # The reasons hold it too where nothing else waits.
    if data["frozen"] is not None and data["frozen"]["reason"] not in data["reasons"]:
        yield Line(data["frozen"]["reason"], indent=2)
    yield Line()
    yield from _ladder(data)
    if data["checks"]:
        yield Line()
        yield Line((f"Checks of stage {data['stage']['name']}", "bold"))
        yield from _lines_of(data["checks"])
    if data["criteria"]:
        yield Line()
        yield Line(("Criteria", "bold"), ": proven beyond, it is rolled back; all proven within, it may go to weight 1")
        yield from _lines_of(data["criteria"])
        yield Line(f"all together   harm {_e(data['harm'])}", indent=2)
    if data["margins"]:
        yield Line()
        yield Line(("Margins", "bold"), " that must be proven before weight 1")
        yield from _lines_of(data["margins"])
    if data["dry_run"]:
        yield Line()
        yield Line(("Dry run", "bold"), " (on_fail: warn): shown and told, nothing is decided by it")
        yield from _lines_of(data["dry_run"])
    yield Line()
    yield from _facts(data)
    yield Line()
    yield Line(("Next", "bold"))
    for step in data["next"]:
        yield Line(step, indent=2)


def change_line(data: Data) -> str:
    """One line for a plain terminal that follows a rollout."""
    rollout, stage = data["rollout"], data["stage"]
    return (
        f"{moment(data['at'])}  {rollout['phase']}  stage {stage['name']}  weight {rollout['weight']:g}  "
        f"{_progress(stage)}  {data['verdict']}: {'; '.join(data['reasons'])}"
    )


def change_key(data: Data) -> tuple[object, ...]:
    """Differs when something worth a line happened; counts and times grow all the time and are not in it."""
    rollout = data["rollout"]
    statuses = tuple((line["metric"], line["status"]) for line in (*data["checks"], *data["criteria"]))
    drained = rollout["drained_at"] is not None
    return (rollout["id"], rollout["revision"], data["verdict"], statuses, tuple(data["warnings"]), drained)


def _head(data: Data) -> Iterator[Shown]:
    rollout, stage = data["rollout"], data["stage"]
    where = "" if rollout["ended_at"] else f", stage {stage['number']} of {stage['of']} {stage['name']}"
    yield Line(
        (f"{data['agent']}: {rollout['stable']} → {rollout['canary']}", "bold"),
        f"   {rollout['phase']}{where}, weight {rollout['weight']:g}",
    )
    began = f"made {moment(rollout['created_at'])} ({ago(rollout['created_at'], data['at'])})"
    if rollout["ended_at"]:
        began += f", ended {moment(rollout['ended_at'])} ({ago(rollout['ended_at'], data['at'])})"
    yield Line((f"rollout {rollout['id']}, attempt {rollout['attempt']}, {began}", "dim"))
    if rollout["stopped_at"] is not None:
        yield Line((f"STOPPED {moment(rollout['stopped_at'])}: {rollout['stop_reason']}", "bold red"))


def _colon(reasons: Iterable[str]) -> str:
    first = next(iter(reasons), "")
    return f": {first}" if first else ""


def _ladder(data: Data) -> Iterator[Shown]:
    rows, styles = [("", "stage", "weight", "at least", "conversations", "")], ["dim"]
    for stage in data["stages"]:
        here = stage["state"] == "current"
        needed = count(stage["min_conversations"]) if stage["min_conversations"] else "–"
        rows.append(
            (
                _MARKS[stage["state"]],
                stage["name"],
                f"{stage['weight']:g}",
                span(stage["duration"]),
                needed,
                _progress(data["stage"]) if here else "",
            )
        )
        styles.append("bold" if here else "")
    yield from columns(rows, styles=styles)


def _progress(stage: Data) -> str:
    """Time and conversations of the current stage."""
    parts = []
    if stage["elapsed"] is not None:
        left = f", {span(stage['remaining'])} left" if stage["remaining"] else ""
        parts.append(f"{span(stage['elapsed'])} elapsed{left}")
    needed, had = stage["min_conversations"], stage["conversations"]
    if needed:
        left = f", {count(needed - had)} more needed" if needed > had else ""
        parts.append(f"{count(had)} of {count(needed)} conversations counted{left}")
    elif had:
        parts.append(f"{count(had)} conversations counted")
    return "; ".join(parts)


def _lines_of(lines: Iterable[Data]) -> Iterator[Shown]:
    for line in lines:
        yield from _line(line)


def _line(line: Data) -> Iterator[Shown]:
    """A check or a criterion: its status, the two arms, and what the methods say."""
    name = line.get("check", line["label"])
    yield Line(f"{name}   ", (line["status"].replace("_", " "), _STYLES[line["status"]]), _why(line), indent=2)
    if line["evidence"] is None:
        return
    if line["stable"] is not None and line["canary"] is not None:
        yield Pieces(
            f"stable {_arm(line, 'stable')}",
            f"canary {_arm(line, 'canary')}",
            f"change {change(_float(line['relative_change']))}{_interval(line['interval'])}",
            _against(line),
            indent=6,
        )
    if line["test"] is not None:
        evidence = line["evidence"]
        yield Pieces(
            f"p = {line['test']['p_value']:.3g} ({line['test']['name']})",
            f"harm {_e(evidence['harm'])}",
            f"safe {_e(evidence['safe'])}",
            indent=6,
        )
    for note in line["notes"]:
        yield Line((note, "dim"), indent=6)


def _why(line: Data) -> str:
    reason, needs = line["reason"], line["needs"]
    if needs is None:
        return f": {reason}" if reason else ""
    more = f"about {count(needs)} more conversations"
    if line["needs_hours"] is not None:
        more += f", {span(line['needs_hours'] * 3600)} at the present rate"
    # The engine's own words for the same number.
    return f": {more}" if reason.startswith("about ") or not reason else f": {reason}; {more}"


def _arm(line: Data, arm: str) -> str:
    found, kind = line[arm], Kind(line["kind"])
    shown = value(_float(found["value"]), kind, line["unit"])
    if kind is Kind.PROPORTION and found["events"] is not None:
        return f"{shown} ({count(found['events'])} of {count(found['observed'])})"
    return f"{shown} ({count(found['observed'])})"


def _interval(interval: Data | None) -> str:
    if interval is None:
        return ""
    low, high = change(_float(interval["low"])), change(_float(interval["high"]))
    return f" ({interval['level'] * 100:g} %: {low} to {high})"


def _e(found: Data) -> str:
    return f"E = {e_value(_float(found['log_e']) or 0.0)}, proven at {e_value(found['log_needed'])}"


def _against(line: Data) -> str:
    boundary, kind = line["boundary"], Kind(line["kind"])
    at = _float(boundary["at"])
    if at is None:
        return f"judged against {boundary['ratio']:g} × stable"
    limit = "at most" if boundary["direction"] == Direction.UP_IS_WORSE else "at least"
    return f"judged against {limit} {value(at, kind, line['unit'])}"


def _facts(data: Data) -> Iterator[Shown]:
    ratio, safety, seen = data["sample_ratio"], data["safety"], data["conversations"]
    parts = [
        f"{count(split['canary'])} of {count(split['canary'] + split['stable'])} where {split['weight']:g} is asked for"
        for split in ratio["split"]
        if split["canary"] + split["stable"]
    ]
    split = f"the canary has {'; '.join(parts)}" if parts else "nothing was split yet"
    verdict: str | tuple[str, str] = ("off", "bold red") if ratio["alarm"] else "as asked for"
    strongest = max(_float(ratio[which]["log_e"]) or 0.0 for which in ("assigned", "counted"))
    evidence = f" (E = {e_value(strongest)}, alarm at 1000)" if parts else ""
    yield Line(("Split", "bold"), ": ", verdict, f", {split}{evidence}")
    rate = f", {seen['per_hour']:,.0f} an hour" if seen["per_hour"] else ""
    assigned = seen["assigned"]
    yield Line(
        ("Conversations", "bold"),
        f": {count(assigned['stable'])} stable, {count(assigned['canary'])} canary{rate}",
    )
    excluded = ", ".join(f"{count(number)} {reason}" for reason, number in seen["excluded"].items())
    yield Line(("Excluded", "bold"), f": {excluded or 'none'}")
    tolerated = f"{count(safety['tolerated'])} tolerated"
    style = "bold red" if safety["canary"] > safety["tolerated"] else ""
    yield Line(
        ("Safety", "bold"),
        ": ",
        (f"{count(safety['canary'])} confirmed violations of the canary", style),
        f" ({tolerated}), {count(safety['stable'])} of stable, {count(safety['reports'])} reports received",
    )
    yield from _judges(data["judges"])
    yield from _segments(data["segments"])
    workers = data["workers"]
    # Counts end with the worker that made them: of workers that are gone nothing is known.
    never = "; degraded: never since they started" if workers["alive"] and not workers["degraded"] else ""
    yield Line(("Workers", "bold"), f": {count(workers['alive'])} alive{never}")
    for kind, number in workers["degraded"].items():
        yield Line((f"degraded: {kind} {count(number)}", "yellow"), f" ({meaning(kind)})", indent=2)
    for warning in data["warnings"]:
        yield Line(("Warning", "bold yellow"), f": {warning}")
    if data["audit"]:
        yield Line(("Audit", "bold"), ", the newest last")
        rows = [(moment(e["at"]), e["actor"], e["action"], f"{e['after']}: {e['reason']}") for e in data["audit"]]
        yield from columns(rows, indent=2)


def _segments(groups: Iterable[Data]) -> Iterator[Shown]:
    """Each segment's metrics; nothing is decided by them."""
    for group in groups:
        yield Line((f"By {group['name']}", "bold"), ", beside the whole; nothing is decided by it")
        for one in group["rows"]:
            yield Line(f"{one['value']}   {count(one['stable'])} stable, {count(one['canary'])} canary", indent=2)
            for line in one["metrics"]:
                yield Pieces(
                    line["label"],
                    f"stable {_arm(line, 'stable')}",
                    f"canary {_arm(line, 'canary')}",
                    f"change {change(_float(line['relative_change']))}{_interval(line['interval'])}",
                    indent=6,
                )


def _judges(judges: Iterable[Data]) -> Iterator[Shown]:
    """What models as judges looked at in each arm, and how often they gave no value."""
    for line in judges:
        if line["judge"] == "LLM":
            arms = "; ".join(f"{arm} {_judged(line[arm])}" for arm in ("stable", "canary"))
            yield Line(("Judge", "bold"), f" of {line['outcome']}: {arms}")


def _judged(arm: Data) -> str:
    if not arm["outcomes"]:
        return "nothing judged"
    return f"{arm['sampling_rate'] or 0:.1%} judged, {arm['failure_rate'] or 0:.1%} without a value"


def _float(stored: float | str | None) -> float | None:
    """What ``evidence_data.number`` stored."""
    return None if stored is None else float(stored)
