"""``agentcanary explain CONVERSATION``: why it is where it is, and where it counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentcanary.cli.options import CONFIG_FILE, AgentOption, ConfigOption, JsonOption
from agentcanary.cli.output import Line, columns, print_json, show
from agentcanary.errors import UnknownError
from agentcanary.status.figures import ago, count, moment, span, value
from agentcanary_analysis.metrics import Kind

if TYPE_CHECKING:
    from agentcanary.assignment import Assignment
    from agentcanary.cli.seat import Seat

_TURNS_SHOWN = 20
_REASONS = {
    "split": "a new conversation, by its bucket and the weight",
    "pinned": "it keeps its version",
    "taken_back": "the canary was taken back",
    "began_before": "it was live before the rollout began",
    "handover": "workers are just learning of the rollout",
    "fallback": "its pin could not be stored at its first turn",
    "no_rollout": "no rollout is open",
}


def register(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command("explain")(explain)


def explain(
    conversation: Annotated[str, typer.Argument(metavar="CONVERSATION", help="The conversation id.")],
    config: ConfigOption = CONFIG_FILE,
    agent: AgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything known of a conversation: arm and why, turns, outcomes, where it counts or why it does not."""
    from agentcanary.cli.explanation import explanation
    from agentcanary.cli.people import unit_named
    from agentcanary.cli.seat import seat

    with seat(config, agent) as at:
        now = at.clock()
        unit = unit_named(at, conversation)
        known = at.store.conversation(at.agent, unit)
        following = next_turn(at, unit, now)
        if known is None:
            raise UnknownError(
                f"conversation {conversation!r} of agent {at.agent!r} is not in {at.store.name}: it had no turn and no "
                f"outcome, or they were pruned. {_following(following)}"
            )
        rollouts = {rollout.id: rollout for rollout in at.store.rollouts(at.agent)}
        data = explanation(known, rollouts, now=now, next_turn=following)
    if as_json:
        print_json(data)
    else:
        show(explanation_lines(data, following=_following(following)))


def next_turn(at: Seat, unit: str, now: float) -> Assignment | None:
    """What a turn of the conversation would be given now; None where that depends on more than its id."""
    from agentcanary.assignment import assign, bucket, follow, needs_pin
    from agentcanary.rollout import view_of
    from agentcanary.snapshot import HANDOVER

    config = at.config
    rollout = at.store.current(at.agent)
    if rollout is None and at.agent != config.agent:
        return None
    stable, canary = (
        (config.stable, config.canary)
        if at.agent == config.agent or rollout is None
        else (
            rollout.stable,
            rollout.canary,
        )
    )
    view = view_of(at.agent, rollout, stable=stable, canary=canary, handover=HANDOVER * at.clock.speed)
    buckets = bucket(view.salt, unit)
    idle_after = config.plan.idle_after if rollout is None else rollout.plan.idle_after
    pin = at.store.pin(at.agent, view.rollout, unit, now=now, idle_after=idle_after) if view.rollout else None
    if pin is not None and view.sticky:
        return follow(view, unit, pin, buckets)
    by_user = rollout is not None and rollout.plan.sticky_by == "user"
    if not view.sticky or (by_user and needs_pin(view, buckets)):
        return None
    return assign(view, unit, buckets, now=now, fresh=True)


def explanation_lines(data: Mapping[str, Any], *, following: str) -> Iterator[Line]:
    """An explanation for people.

    Args:
        data: From ``explanation``.
        following: What a turn now would be given, in words.
    """
    yield Line((f"conversation {data['conversation']}", "bold"), f"   agent {data['agent']}")
    yield Line(following)
    for part in data["parts"]:
        yield Line()
        yield from _part_lines(part, data["at"])
    yield Line()
    if not data["outcomes"]:
        yield Line("No outcome was recorded for it.")
        return
    yield Line(("Outcomes", "bold"))
    rows = []
    for outcome in data["outcomes"]:
        number = "missing" if outcome["value"] is None else f"{outcome['value']:g}"
        unconfirmed = "" if outcome["confirmed"] else "not confirmed"
        said = ", ".join(part for part in (outcome["label"], unconfirmed, outcome["explanation"]) if part)
        rows.append((moment(outcome["at"]), outcome["name"], number, outcome["kind"], said))
    yield from columns(rows, indent=2)


def _following(following: Assignment | None) -> str:
    if following is None:
        return "What a turn now would be given depends on more than the conversation id."
    return (
        f"A turn now would be served by {following.version}: {_REASONS.get(following.reason, following.reason.value)}."
    )


def _part_lines(part: Mapping[str, Any], now: float) -> Iterator[Line]:
    where = f"rollout {part['rollout']} ({part['phase']})" if part["rollout"] else "outside a rollout"
    yield Line((where, "bold"), f"   {part['arm']}, first turn served by {part['version']}")
    yield Line(f"why: {part['why']}", indent=2)
    if part["stage"] is not None:
        yield Line(
            f"epoch {part['epoch']}: stage {part['stage']}, weight {part['weight']:g}; "
            f"{'a pin is stored' if part['pin'] == 'stored' else 'its recorded first turn is its pin'}",
            indent=2,
        )
    yield Line(
        f"{count(part['turns'])} turns from {moment(part['started_at'])} to {moment(part['last_turn_at'])} "
        f"({ago(part['last_turn_at'], now)}): "
        f"{part['errors']} in error, {part['aborted']} aborted, {part['open']} open",
        indent=2,
    )
    log = part["turn_log"]
    yield from columns([_turn(turn) for turn in log[:_TURNS_SHOWN]], indent=4)
    if len(log) > _TURNS_SHOWN:
        yield Line(f"… and {count(len(log) - _TURNS_SHOWN)} more; --json has all of them", indent=4)
    if part["excluded"]:
        yield Line((f"In no statistic: {part['excluded']}", "yellow"), indent=2)
    elif part["counts"]:
        yield Line("counts for", indent=2)
        yield from columns([_count(line, now) for line in part["counts"]], indent=4)


def _turn(turn: Mapping[str, Any]) -> tuple[str, ...]:
    latency = "" if turn["latency"] is None else value(turn["latency"], Kind.MEAN, "s")
    first = turn["time_to_first_byte"]
    first = "" if first is None else f"first byte after {value(first, Kind.MEAN, 's')}"
    return (moment(turn["started_at"]), turn["outcome"], latency, first)


def _count(line: Mapping[str, Any], now: float) -> tuple[str, ...]:
    if not line["of_age"]:
        return (line["metric"], "not yet", f"of age in {span(line['counted_at'] - now)}")
    shown = "missing" if line["value"] is None else value(float(line["value"]), Kind.MEAN, line["unit"])
    if line["kind"] == Kind.PROPORTION and line["value"] is not None:
        shown = "yes" if float(line["value"]) else "no"
    return (line["metric"], shown, f"as of {moment(line['counted_at'])}, when it came of age")
