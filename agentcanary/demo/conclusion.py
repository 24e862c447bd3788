"""What the demo prints in the end: how every rollout came out, with the numbers of its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from agentcanary.demo.figures import change, columns, e_value, interval, measured, share
from agentcanary.demo.report import lines, paragraph
from agentcanary.demo.results import RULE_LIMIT, Result
from agentcanary.demo.scenarios import Promise
from agentcanary.demo.stickiness import Stickiness
from agentcanary.demo.summary import Summary
from agentcanary.demo.timing import since
from agentcanary.rollout import Rollout
from agentcanary_analysis.aggregates import Arm
from agentcanary_analysis.evidence import Status

_NAMES = {"error_rate": "errors", "task_completion_rate": "solved", "p95_latency": "p95 latency"}


def summarise(console: Console, summary: Summary) -> None:
    """How everything came out."""
    console.print()
    paragraph(
        console,
        'Evidence is counted in e-values, which stay valid however often one looks: "e harm" for a canary beyond its '
        'boundaries, "e safe" for one within. A harmless canary has at most one chance in 20 that the first reaches '
        "20, ever.",
    )
    for result in summary.results:
        console.print()
        _heading(console, result, summary)
        if result.rollout is not None:
            for sentence in _sentences(result, result.rollout, summary):
                paragraph(console, sentence, indent=2)
            if result.rollout.cause != "safety":
                lines(console, _evidence(result, result.rollout))
    console.print()
    _stickiness(console, summary)
    console.print()
    paragraph(
        console,
        f"{summary.requests:,} requests, {summary.streamed:,} of them streamed; the stand-in failed "
        f"{summary.failed:,}, as it was told to, and {summary.unanswered:,} got no answer. {_troubles(summary)}",
    )
    console.print()
    if summary.passed:
        console.print(Text("All as promised", style="bold green").append(f", in {summary.seconds:.0f} s.", "default"))
    else:
        console.print(Text("Not as promised:", style="bold red"))
        for sentence in summary.why_not:
            paragraph(console, f"- {sentence}", indent=2)


def _heading(console: Console, result: Result, summary: Summary) -> None:
    rollout = result.rollout
    text = Text(result.scenario.name, style="bold").append(": ", "default")
    if rollout is None:
        text.append("never began", "bold red")
    elif rollout.ended_at is None:
        text.append(f"{rollout.phase.value} in stage {rollout.current_stage.name}, not rolled back", "default")
    else:
        seconds = summary.real_seconds(rollout.ended_at)
        when = f"{since(rollout.ended_at - summary.began_at)} ({seconds:.0f} s)"
        text.append(f"{rollout.phase.value.replace('_', ' ')} at {when}", "default")
    as_promised = ("  as promised", "green") if not result.why_not else ("  not as promised", "bold red")
    console.print(text.append(*as_promised))


def _sentences(result: Result, rollout: Rollout, summary: Summary) -> Iterator[str]:
    yield (
        f"Counted: {result.counted[Arm.STABLE]:,} conversations of {rollout.stable}, {result.counted[Arm.CANARY]:,} of "
        f"{rollout.canary}."
    )
    match result.scenario.promise:
        case Promise.STOPPED:
            yield from _stop(result)
        case Promise.KEPT:
            yield from _kept(result, rollout, summary)
        case Promise.ROLLED_BACK:
            yield f"Decided by: {rollout.reason}."
        case Promise.PROMOTED:
            yield "Every criterion was proven safe at 50 % of the traffic before it got the rest."


def _stop(result: Result) -> Iterator[str]:
    stop = result.stop
    if stop is None:
        return
    yield "No statistics here: one confirmed violation is enough."
    if stop.after:
        turns = "one turn" if stop.after == 1 else f"{stop.after} turns"
        yield (
            f"From the violation to the beginning of the last turn on the canary: {stop.seconds * 1000:.0f} ms of "
            f"real time; {turns} began meanwhile, in the other worker process."
        )
    else:
        yield "From the violation to the beginning of the last turn on the canary: 0 ms; no turn began after it."


def _kept(result: Result, rollout: Rollout, summary: Summary) -> Iterator[str]:
    if rollout.ended_at is None:
        yield "Neither harm nor safety is proven yet, so it waits: so few conversations cannot tell."
    rule = result.rule
    by_rule = f'The usual rule, "errors up by more than {RULE_LIMIT * 100:.0f} %: roll back", '
    if rule.first_at is None:
        yield f"{by_rule}would have kept this harmless version, too: it was true at none of {rule.looks} looks."
    else:
        yield (
            f"{by_rule}would have rolled this harmless version back at {since(rule.first_at - summary.began_at)}; it "
            f"was true at {rule.beyond} of {rule.looks} looks."
        )


def _evidence(result: Result, rollout: Rollout) -> list[str]:
    findings = result.findings
    rows = [["", "stable", "canary", "change", "95 % interval", "e harm", "e safe"]]
    for found in findings.evidence:
        unit = "s" if found.metric == "p95_latency" else ""
        rows.append(
            [
                _NAMES.get(found.metric, found.metric),
                measured(found.stable, unit),
                measured(found.canary, unit),
                change(found.relative_change),
                interval(found.interval),
                e_value(found.log_e_harm),
                e_value(found.log_e_safe),
                "no data yet" if found.status is Status.NO_DATA else found.status.value,
            ]
        )
    safe = e_value(-math.log(rollout.plan.alpha_promote))
    rows.append(["all together", "", "", "", "", e_value(findings.log_e_harm)])
    rows.append(["proven at", "", "", "", "", e_value(findings.log_e_harm_boundary), safe])
    return columns(rows, left=(0, 7), gap=1)


def _stickiness(console: Console, summary: Summary) -> None:
    console.print(Text("Did conversations keep their version?", style="bold"))
    paragraph(console, "As users saw it, in conversations of two turns or more:")
    head = [
        ["", "", "kept their", "of them while", "moved by", "changed", "met both"],
        ["", "conversations", "version", "weight changed", "a rollback", "otherwise", "workers"],
    ]
    rows = [[result.scenario.name, *_counts(result.stickiness)] for result in summary.results]
    total = summary.stickiness
    lines(console, columns([*head, *rows, ["all", *_counts(total)]], gap=1))
    if total.share is not None:
        paragraph(
            console,
            f"{share(total.share)} kept their version across workers and weight changes; {total.moved:,} more were "
            f"moved to stable because their canary was rolled back.",
            indent=2,
        )


def _counts(found: Stickiness) -> list[str]:
    broken = len(found.broken)
    numbers = (found.conversations, found.kept, found.across_a_change, found.moved, broken, found.both_workers)
    return [f"{number:,}" for number in numbers]


def _troubles(summary: Summary) -> str:
    if not summary.degraded:
        return "agentcanary itself had no failure."
    found = ", ".join(f"{kind} {times:,} ×" for kind, times in sorted(summary.degraded.items()))
    return f"What agentcanary had to try again or do without: {found}."
