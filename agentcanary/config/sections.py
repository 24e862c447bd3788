"""The shape of canary.yaml, section by section: keys, types, ranges and defaults. Pure.

What one section cannot know by itself (falling weights, unknown metrics) is in ``consistency.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from agentcanary.config.conversation_fields import ErrorIf, IdPlace, PresetNames, ProtocolNames
from agentcanary.config.deployment import KubernetesSection, RemoteSection
from agentcanary.config.fields import (
    AgentName,
    Count,
    Drop,
    Duration,
    ErrorBudget,
    Floor,
    Hours,
    Increase,
    LongDuration,
    MetricName,
    Name,
    NotifyTarget,
    Number,
    Peer,
    Probability,
    Secret,
    Sha256,
    Size,
    Span,
    StoreUrl,
    Switch,
    Text,
    TimeZone,
    TokenName,
    Unstated,
    Variable,
    Weight,
)
from agentcanary.config.section import Section
from agentcanary.config.values import Log, Privacy, Scope, SpanMode
from agentcanary.freeze import DAYS, MINUTES_A_DAY, FreezeWindow
from agentcanary.plan import DAY, MINUTE, Advance, OnFail, OnInconclusive, Pinned


class StageSection(Section):
    """A step of the plan."""

    durations = ("duration",)
    placeholders: ClassVar[dict[str, Any]] = {"name": "unknown", "weight": 0.0}

    name: Name = Field(description="Unique within the plan.")
    weight: Weight = Field(description="Share of new conversations given to the canary: 0.05 is 5 %.")
    duration: Unstated[Duration] = Field(None, description="How long it lasts at least; else promotion.min_duration.")
    min_requests: Unstated[Count] = Field(
        None, description="Counted canary conversations begun in the stage; else promotion.min_requests."
    )
    auto_rollback: Switch = Field(True, description="false: harm pauses instead. A safety stop is never disarmed.")
    advance: Advance = Field(Advance.QUIET, description="proven: the checks must be proven, not only quiet.")
    checks: list[Text] = Field([], description="Thresholds, such as error_rate_increase < 0.10.")


class PinnedSection(Section):
    """What becomes of conversations on a version that is taken back, by cause."""

    safety: Pinned = Pinned.SWITCH
    harm: Pinned = Pinned.SWITCH
    manual: Pinned = Pinned.FINISH


class RollbackSection(Section):
    """How much worse than stable is tolerated, relative: 0.10 is 10 %. null: the metric is not judged."""

    max_error_increase: Increase | None = 0.10
    max_safety_violations: Count = Field(0, description="Confirmed violations that are tolerated on the canary.")
    max_completion_drop: Drop | None = 0.05
    max_latency_increase: Increase | None = Field(0.50, description="Of the 95 % quantile.")
    max_satisfaction_drop: Drop | None = None
    floor: Unstated[Floor] = Field(
        None,
        description="Absolute difference not worth acting on: one share of conversations for every proportion "
        "(0.005 is half a point), or a number for each metric in its own unit.",
    )
    pinned: PinnedSection = PinnedSection()


class PromotionSection(Section):
    """What a stage below weight 1 waits for when it states nothing, and what must be proven before weight 1."""

    durations = ("min_duration",)

    min_duration: Duration = 30 * MINUTE
    min_requests: Count = 100
    max_completion_regression: Unstated[Drop] = Field(
        None, description="Proven before the step to weight 1; 0.02, or rollback.max_completion_drop if that is less."
    )
    max_violation_rate: Unstated[Probability] = Field(
        None, description="Share of conversations with a safety violation that is ruled out before weight 1."
    )


class MetricSection(Section):
    """A metric of your own; or, under the name of a built-in one, its horizon and floor."""

    durations = ("horizon", "maturity")
    placeholders: ClassVar[dict[str, Any]] = {"name": "unknown"}

    name: MetricName = Field(description="Checks speak of it as NAME_increase or NAME_regression.")
    kind: Unstated[Literal["proportion", "mean", "ratio", "quantile"]] = None
    worse: Unstated[Literal["up", "down"]] = Field(None, description="The direction in which it gets worse.")
    outcome: Unstated[Name] = Field(None, description="The outcome that it reads; else the one of its own name.")
    horizon: Unstated[LongDuration] = Field(None, description="Age at which a conversation is counted.")
    maturity: Unstated[LongDuration] = Field(
        None, description="Age at which its outcomes have all come, where that is later; it is counted then."
    )
    floor: Unstated[Size] = Field(None, description="Absolute difference not worth acting on, in the metric's unit.")
    quantile: Unstated[Probability] = Field(None, description="For kind: quantile only; 0.95 for p95.")
    early: Switch = Field(
        False, description="Ask for harm at a twentieth and a quarter of the horizon too; for a proportion, worse: up."
    )
    rollback_margin: Unstated[Increase] = Field(None, description="How much worse than stable is tolerated, relative.")
    on_fail: OnFail = Field(
        OnFail.ROLLBACK, description="What proven harm leads to; warn: a dry run, it is shown and decides nothing."
    )


class FreezeSection(Section):
    """A stretch of the week without a step forward; rollbacks always happen."""

    days: Unstated[
        Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], Field(min_length=1, max_length=7)]
    ] = Field(None, description="Days on which it begins; else every day.")
    hours: Unstated[Hours] = Field(None, description="'20:00-08:00' ends the next morning; else the whole day.")
    timezone: TimeZone = Field("UTC", description="In whose local time the days and hours are, such as Europe/Berlin.")

    def window(self) -> FreezeWindow:
        """What it means."""
        start, end = self.hours or (0, MINUTES_A_DAY)
        return FreezeWindow(days=tuple(dict.fromkeys(self.days or DAYS)), start=start, end=end, timezone=self.timezone)


class ConversationSection(Section):
    """How a request's conversation, and its user, are found. The first place that has an id counts."""

    durations = ("idle_after",)

    id_from: Unstated[Annotated[list[IdPlace], Field(min_length=1, max_length=20)]] = Field(
        None, description="Else x-conversation-id, the JSON keys conversation_id, session_id, thread_id, our cookie."
    )
    preset: Unstated[PresetNames] = Field(
        None, description="A framework, or several, whose places are looked at after id_from."
    )
    turn_from: Annotated[list[IdPlace], Field(max_length=20)] = Field(
        [], description="Where a turn is named, so that a request that is sent once more counts once."
    )
    user_from: Annotated[list[IdPlace], Field(max_length=20)] = Field([], description="For sticky_by: user.")
    max_body_bytes: Annotated[Count, Field(le=16 * 1_048_576)] = 1_048_576
    max_id_length: Annotated[Count, Field(ge=1, le=1024)] = 256
    idle_after: LongDuration = 30 * MINUTE


class ResponsesSection(Section):
    """What is read in responses: errors inside a status of 200, the first token, tokens and cost."""

    protocols: Unstated[ProtocolNames] = Field(
        None, description="How responses are written; else as conversation.preset says."
    )
    error_if: Annotated[list[ErrorIf], Field(max_length=20)] = Field(
        [], description="Rules of your own: a value in JSON, or the name of an event."
    )
    measure: Switch = Field(True, description="false: first token, tokens and cost are not recorded as outcomes.")


class TokenSection(Section):
    """A bearer token, by the variable that holds it or by its hash; agentcanary token makes one."""

    placeholders: ClassVar[dict[str, Any]] = {"name": "unknown", "scopes": ["read"]}

    name: TokenName = Field(description="Whose it is: the actor in the audit log.")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)] = Field(
        description="read: status. operate: pause, promote, roll back. record: outcomes."
    )
    env: Unstated[Variable] = Field(None, repr=False, description="The environment variable that holds the token.")
    sha256: Unstated[Sha256] = Field(None, repr=False, description="The token's SHA-256 instead, in hexadecimal.")


class SecuritySection(Section):
    """Who is believed."""

    trust_header: Switch = Field(False, description="true: x-canary: true forces the canary, whoever sends it.")
    trusted_peers: Annotated[list[Peer], Field(max_length=100)] = Field(
        [], description="Addresses or networks, such as 10.0.0.0/8, from which x-canary: true is believed."
    )
    cookie_secret: Unstated[Secret] = Field(None, repr=False, description="Signs our cookie; else the store keeps one.")
    id_secret: Unstated[Secret] = Field(
        None, repr=False, description="The key of hashed conversation ids; else the store keeps one beside them."
    )
    testers: Switch = Field(False, description="true: tokens of agentcanary tester force an arm until they expire.")
    tester_secret: Unstated[Secret] = Field(
        None, repr=False, description="Signs what agentcanary tester gives; else the store keeps one."
    )
    tokens: Annotated[list[TokenSection], Field(max_length=100)] = Field(
        [], description="For the API, the pages and outcomes, beside AGENTCANARY_TOKEN in the environment."
    )


class TelemetrySection(Section):
    """What traces show."""

    span: Span = SpanMode.TURN
    privacy: Privacy = Privacy.PLAIN


class RetentionSection(Section):
    """How long what is stored is kept; what is left out is kept for ever. Sums and the audit log always are."""

    durations = ("conversations", "looks")

    conversations: Unstated[LongDuration] = Field(
        None, description="Single conversations and their outcomes, after their last turn: 90d."
    )
    looks: Unstated[LongDuration] = Field(None, description="The evidence over time of rollouts that have ended.")


class TrafficSection(Section):
    """What is known of the agent's traffic, for what is said about the plan; nothing is decided by it."""

    conversations_per_hour: Unstated[Annotated[Number, Field(gt=0, le=1e12)]] = None
    stable: dict[str, Size] = Field({}, description="Values on the stable version, such as error_rate: 0.05.")


class FileSection(Section):
    """canary.yaml. Everything has a default but ``agent`` and ``stable``."""

    durations = ("max_duration", "bake", "drain_after", "look_every", "stale_after", "horizon")

    agent: AgentName = Field(description="Name of the agent.")
    stable: Name = Field(description="The version that serves now.")
    canary: Name | None = Field(None, description="The version that is to replace it; null records history only.")
    preset: Unstated[Literal["standard", "conservative", "safety_critical"]] = Field(
        None, description="Ready-made stages; what the file states itself wins. standard without canary_stages."
    )
    canary_stages: Unstated[Annotated[list[StageSection], Field(min_length=1, max_length=100)]] = None
    rollback: RollbackSection = RollbackSection()
    promotion: PromotionSection = PromotionSection()
    metrics: Annotated[list[MetricSection], Field(max_length=100)] = Field([])
    horizon: Unstated[LongDuration] = Field(None, description="For every metric that states none; else 30m.")
    alpha: ErrorBudget = Field(0.05, description="Budget for ever rolling back a canary within every boundary.")
    alpha_promote: Unstated[ErrorBudget] = Field(
        None, description="Budget for ever promoting a canary beyond some boundary; 0.05, or the preset's."
    )
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    max_duration: Unstated[LongDuration] = Field(None, description="Then on_inconclusive applies; else never.")
    bake: Unstated[Duration] = Field(None, description="Least time at weight 1; else 30m, or the preset's.")
    freeze: Annotated[list[FreezeSection], Field(max_length=20)] = Field(
        [], description="Windows in which no step forward is taken, such as nights and Fridays."
    )
    drain_after: Duration = DAY
    sticky: Switch = Field(True, description="false: every request is drawn by itself.")
    sticky_by: Literal["conversation", "user"] = "conversation"
    conversation: ConversationSection = ConversationSection()
    responses: ResponsesSection = ResponsesSection()
    store: Unstated[StoreUrl] = Field(
        None, repr=False, description="Else sqlite:///.agentcanary/AGENT.sqlite3, relative to this file."
    )
    notify: Annotated[list[NotifyTarget], Field(max_length=20)] = Field([Log()])
    telemetry: TelemetrySection = TelemetrySection()
    versions: Annotated[dict[Name, RemoteSection], Field(max_length=20)] = Field(
        {}, description="Versions that run in another Deployment, by name."
    )
    kubernetes: Unstated[KubernetesSection] = None
    privacy: Privacy = Field(Privacy.PLAIN, description="hash: no conversation id is kept anywhere, only keyed hashes.")
    retention: RetentionSection = RetentionSection()
    security: SecuritySection = SecuritySection()
    traffic: TrafficSection = TrafficSection()
    look_every: LongDuration = Field(10.0, description="Time between two looks.")
    stale_after: LongDuration = Field(10.0, description="With an older snapshot, new conversations go to stable.")
    controller: Switch = Field(True, description="false: another process controls the rollout.")
