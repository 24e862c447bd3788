"""What can be wrong with an installation, judged from what was read. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agentcanary.assignment import Reason
from agentcanary.rollout import Phase, Rollout
from agentcanary.status.figures import ago, count, span
from agentcanary.store import Pending, Worker
from agentcanary_analysis.aggregates import Aggregates, Arm
from agentcanary_analysis.metrics import Kind, Metric

CLOCK_TOLERANCE = 2.0
_FLUSH_LAG = 10.0
# Of conversations: below it a few requests without an id (health checks, crawlers) are nothing to look at.
_NAMELESS_SHARE = 0.05
_LEFT_OUT_SHARE = 0.01
_MISSING_SHARE = 0.10
_ENOUGH = 50


class State(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        state: See ``State``.
        said: What was found.
        remedy: What to do, empty when nothing is to be done.
    """

    name: str
    state: State
    said: str
    remedy: str = ""


def workers_checks(workers: Sequence[Worker], *, now: float, dead_after: float, config_hash: str) -> Iterator[Check]:
    """Are workers alive, of one configuration and one clock, and do they keep up?

    Args:
        workers: All that did not leave.
        now: Unix time in seconds.
        dead_after: Seconds without a heartbeat after which a worker is dead.
        config_hash: Of the configuration in the file.
    """
    alive = [worker for worker in workers if worker.heartbeat_at > now - dead_after]
    if not alive:
        last = max((worker.heartbeat_at for worker in workers), default=None)
        when = "none ever reported" if last is None else f"the last heartbeat came {ago(last, now)}"
        yield Check("workers", State.WARN, f"none is alive: {when}", "start the application that mounts the middleware")
    else:
        hosts = len({worker.host for worker in alive})
        yield Check("workers", State.OK, f"{len(alive)} alive on {hosts} machine{'s' * (hosts > 1)}")
    dead = len(workers) - len(alive)
    if dead and alive:
        yield Check(
            "dead workers",
            State.WARN,
            f"{dead} ended without saying so (killed, or cut off from the store)",
            "nothing, if they were killed: the others adopt what they had not stored yet",
        )
    hashes = Counter(worker.config_hash for worker in alive)
    if len(hashes) > 1:
        yield Check(
            "configurations",
            State.WARN,
            f"the live workers run {len(hashes)} different configurations",
            "finish the deployment, or give every worker the same canary.yaml",
        )
    elif hashes and config_hash not in hashes:
        yield Check(
            "configurations",
            State.WARN,
            "the live workers run another configuration than this file",
            "restart the application if the file was edited; else name the file that it uses with --config",
        )
    skew = max((worker.heartbeat_at - now for worker in alive), default=0.0)
    if skew > CLOCK_TOLERANCE:
        yield Check(
            "clocks",
            State.FAIL,
            f"a worker's heartbeat lies {span(skew)} in the future",
            "synchronise the clocks of the machines (NTP): stages and horizons are timed by them",
        )
    elif alive:
        yield Check("clocks", State.OK, f"no heartbeat lies more than {CLOCK_TOLERANCE:g} s in the future")
    lag = max((worker.heartbeat_at - worker.flushed_until for worker in alive), default=0.0)
    if lag > _FLUSH_LAG:
        yield Check(
            "recording",
            State.WARN,
            f"the slowest live worker has stored everything up to {span(lag)} ago only",
            "nothing is counted beyond that: look at the disk and the load of that machine",
        )
    degraded: Counter[str] = Counter()
    for worker in alive:
        degraded.update(worker.degraded)
    if degraded:
        said = ", ".join(f"{kind} {count(number)} times" for kind, number in sorted(degraded.items()))
        yield Check(
            "degraded",
            State.WARN,
            f"requests were served, but: {said}",
            "the log of the workers has the errors under agentcanary.degraded",
        )


def controller_check(
    rollout: Rollout, last_look: float | None, *, now: float, kept_every: float, in_workers: bool
) -> Check:
    """Does anybody look at the evidence?

    Args:
        rollout: The agent's newest.
        last_look: When the last look that was kept took place, None for none.
        now: Unix time in seconds.
        kept_every: A look is kept at least this often, in seconds.
        in_workers: True when the workers of this configuration control the rollout.
    """
    if rollout.phase.ended:
        return Check("controller", State.OK, f"the rollout is {rollout.phase.value}: there is nothing to decide")
    since = rollout.created_at if last_look is None else last_look
    if now - since <= kept_every:
        said = (
            "the rollout was only just made" if last_look is None else f"its last kept look was {ago(last_look, now)}"
        )
        return Check("controller", State.OK, said)
    when = "ever" if last_look is None else f"since {ago(last_look, now)}"
    remedy = (
        "start the application: its workers look"
        if in_workers
        else "the file says controller: false, so run agentcanary controller beside the application"
    )
    return Check("controller", State.FAIL, f"nobody has looked at the evidence {when}", remedy)


def outbox_check(pending: Sequence[Pending], *, now: float) -> Check:
    """Are messages delivered?"""
    failed = [one for one in pending if one.attempts]
    if not failed:
        return Check("notifications", State.OK, "none has failed")
    oldest = min(one.created_at for one in failed)
    return Check(
        "notifications",
        State.WARN,
        f"{len(failed)} could not be delivered, the oldest from {ago(oldest, now)}: {failed[-1].error}",
        "mend the receiver named in notify; they are tried again by themselves",
    )


def outcomes_checks(rollout: Rollout, counted: Aggregates) -> Iterator[Check]:
    """Does what the plan asks for arrive?"""
    plan = rollout.plan
    checked = {check.metric for stage in plan.stages for check in stage.checks}
    judged = {criterion.metric for criterion in plan.criteria}
    for metric in plan.metrics:
        named = metric.name in checked
        if metric.kind is Kind.COUNT:
            if named and not counted.safety.reports:
                yield Check(
                    metric.name,
                    State.WARN,
                    "no safety report was ever received: nobody may be watching",
                    f'report every judgement: canary.record(conversation_id, "{metric.outcome}", 0 or 1)',
                )
        elif not metric.always_measured and (named or metric.name in judged):
            found = _arrives(metric, rollout, counted, named=named)
            if found is not None:
                yield found


def identity_checks(counted: Aggregates) -> Iterator[Check]:
    """Are conversations recognised, and assigned by the split?"""
    conversations = sum(counted.assigned.values())
    nameless = counted.excluded.get(Reason.NO_CONVERSATION.value, 0)
    if nameless > _NAMELESS_SHARE * max(conversations, 1) and nameless >= _ENOUGH:
        yield Check(
            "conversation ids",
            State.WARN,
            f"{count(nameless)} turns had no usable id, beside {count(conversations)} conversations that had one",
            "say where the id is with conversation.id_from; those turns are served by stable, in no statistic",
        )
    elif conversations:
        said = f"{count(conversations)} conversations in the split, {count(nameless)} turns without a usable id"
        yield Check("conversation ids", State.OK, said)
    for reason in (Reason.STALE_SNAPSHOT, Reason.FALLBACK):
        left_out = counted.excluded.get(reason.value, 0)
        if left_out > _LEFT_OUT_SHARE * max(conversations, 1):
            yield Check(
                "the split",
                State.WARN,
                f"{count(left_out)} conversations were left out of it: {reason.value}",
                "the workers could not read the store at times: look at its disk or its machine",
            )


def _arrives(metric: Metric, rollout: Rollout, counted: Aggregates, *, named: bool) -> Check | None:
    """Whether a metric that somebody must report has values; None while too few are counted to tell."""
    units = observed = 0
    for epoch in rollout.epochs:
        for arm in Arm:
            tally = counted.tally(metric.name, epoch.number, arm)
            units, observed = units + tally.units, observed + tally.observed
    if units < _ENOUGH:
        return None
    report = f'report it: canary.record(conversation_id, "{metric.outcome}", VALUE) within {span(metric.horizon)}'
    if not observed:
        state = State.FAIL if named and rollout.phase is not Phase.PROMOTED else State.WARN
        consequence = "a check names it, so the rollout will hold" if named else "its criterion does not count"
        return Check(metric.name, state, f"no value in {count(units)} conversations: {consequence}", report)
    missing = 1 - observed / units
    if missing > _MISSING_SHARE:
        said = f"no value in {missing:.0%} of {count(units)} conversations: it is proven safe later, or never"
        return Check(metric.name, State.WARN, said, report)
    return Check(metric.name, State.OK, f"a value in {1 - missing:.0%} of {count(units)} conversations")
