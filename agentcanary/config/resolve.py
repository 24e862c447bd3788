"""canary.yaml's sections → what they mean: the plan, with every default and preset filled in. Pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from agentcanary.config.declared_metrics import metrics_of
from agentcanary.config.sections import (
    ConversationSection,
    FileSection,
    PromotionSection,
    RollbackSection,
    SecuritySection,
    StageSection,
)
from agentcanary.config.values import (
    DEFAULT_ID_FROM,
    Config,
    Conversation,
    Extractor,
    Responses,
    Retention,
    Security,
    Telemetry,
    Token,
    Traffic,
)
from agentcanary.plan import DEFAULT_PROMOTION, Criterion, OnFail, Plan, Stage
from agentcanary.presets import DEFAULT_PRESET, PRESETS
from agentcanary.protocols import PROTOCOLS
from agentcanary_analysis.checks import parse_check
from agentcanary_analysis.metrics import ERROR_RATE, P95_LATENCY, TASK_COMPLETION_RATE, USER_SATISFACTION, Metric

_SQLITE = "sqlite:///"


def resolve(sections: FileSection, file: Path | None, folder: Path) -> Config:
    """The configuration that the sections state.

    Args:
        sections: Free of contradictions.
        file: Where they were read from.
        folder: Absolute; the path of an SQLite store is relative to it.
    """
    conversation = sections.conversation
    preset = _preset_name(sections)
    return Config(
        agent=sections.agent,
        stable=sections.stable,
        canary=sections.canary,
        plan=_plan(sections),
        store=_store(sections.store or f"{_SQLITE}.agentcanary/{sections.agent}.sqlite3", folder),
        conversation=Conversation(
            id_from=_id_from(conversation),
            presets=conversation.preset or (),
            turn_from=tuple(conversation.turn_from),
            user_from=tuple(conversation.user_from),
            max_body_bytes=conversation.max_body_bytes,
            max_id_length=conversation.max_id_length,
            idle_after=conversation.idle_after,
        ),
        responses=_responses(sections),
        security=_security(sections.security),
        telemetry=Telemetry(span=sections.telemetry.span, privacy=sections.telemetry.privacy),
        privacy=sections.privacy,
        retention=Retention(conversations=sections.retention.conversations, looks=sections.retention.looks),
        notify=tuple(sections.notify),
        traffic=Traffic(
            conversations_per_hour=sections.traffic.conversations_per_hour, stable=dict(sections.traffic.stable)
        ),
        versions={name: section.remote() for name, section in sections.versions.items()},
        kubernetes=None if sections.kubernetes is None else sections.kubernetes.mesh(sections.agent),
        look_every=sections.look_every,
        stale_after=sections.stale_after,
        controller=sections.controller,
        preset=preset if sections.canary_stages is None else None,
        file=file,
    )


def _security(section: SecuritySection) -> Security:
    return Security(
        trust_header=section.trust_header,
        trusted_peers=tuple(section.trusted_peers),
        cookie_secret=section.cookie_secret,
        id_secret=section.id_secret,
        testers=section.testers,
        tester_secret=section.tester_secret,
        tokens=tuple(
            Token(name=token.name, scopes=frozenset(token.scopes), env=token.env, sha256=token.sha256)
            for token in section.tokens
        ),
    )


def _id_from(conversation: ConversationSection) -> tuple[Extractor, ...]:
    if conversation.id_from is None:
        return DEFAULT_ID_FROM if conversation.preset is None else ()
    return tuple(conversation.id_from)


def _responses(sections: FileSection) -> Responses:
    responses = sections.responses
    stated = responses.protocols
    return Responses(
        protocols=tuple(name for name in sections.conversation.preset or () if name in PROTOCOLS)
        if stated is None
        else stated,
        error_if=tuple(responses.error_if),
        measure=responses.measure,
    )


def _preset_name(sections: FileSection) -> str:
    return sections.preset or DEFAULT_PRESET


def _plan(sections: FileSection) -> Plan:
    preset = PRESETS[_preset_name(sections)]
    metrics = metrics_of(sections.metrics, sections.rollback, sections.horizon)
    stages = preset.stages
    if sections.canary_stages is not None:
        stages = tuple(_stage(stage, sections.promotion, metrics) for stage in sections.canary_stages)
    pinned = sections.rollback.pinned
    on_fail = {metric.name: metric.on_fail for metric in sections.metrics if metric.on_fail is not OnFail.ROLLBACK}
    warned = {name for name, policy in on_fail.items() if policy is OnFail.WARN}
    criteria = _criteria(sections)
    promotion = _promotion(sections.rollback, sections.promotion)
    return Plan(
        stages=stages,
        criteria=tuple(criterion for criterion in criteria if criterion.metric not in warned),
        promotion=tuple(criterion for criterion in promotion if criterion.metric not in warned),
        dry_run=tuple(criterion for criterion in criteria if criterion.metric in warned),
        metrics=metrics,
        on_fail=on_fail,
        alpha=sections.alpha,
        alpha_promote=preset.alpha_promote if sections.alpha_promote is None else sections.alpha_promote,
        max_safety_violations=sections.rollback.max_safety_violations,
        max_violation_rate=sections.promotion.max_violation_rate,
        max_duration=sections.max_duration,
        on_inconclusive=sections.on_inconclusive,
        bake=preset.bake if sections.bake is None else sections.bake,
        freeze=tuple(section.window() for section in sections.freeze),
        drain_after=sections.drain_after,
        idle_after=sections.conversation.idle_after,
        pinned={"safety": pinned.safety, "harm": pinned.harm, "manual": pinned.manual},
        sticky=sections.sticky,
        sticky_by=sections.sticky_by,
    )


def _stage(section: StageSection, promotion: PromotionSection, metrics: tuple[Metric, ...]) -> Stage:
    """The stage; below weight 1, ``promotion`` states the minimums that it leaves out."""
    ramp = section.weight < 1
    # No conversation reaches the canary at weight 0, so no minimum is assumed there.
    min_requests = promotion.min_requests if 0 < section.weight < 1 else 0
    return Stage(
        name=section.name,
        weight=section.weight,
        duration=section.duration if section.duration is not None else promotion.min_duration * ramp,
        min_conversations=section.min_requests if section.min_requests is not None else min_requests,
        checks=tuple(parse_check(check, metrics) for check in section.checks),
        auto_rollback=section.auto_rollback,
        advance=section.advance,
    )


def _criteria(sections: FileSection) -> tuple[Criterion, ...]:
    rollback = sections.rollback
    margins = {
        ERROR_RATE.name: rollback.max_error_increase,
        TASK_COMPLETION_RATE.name: rollback.max_completion_drop,
        P95_LATENCY.name: rollback.max_latency_increase,
        USER_SATISFACTION.name: rollback.max_satisfaction_drop,
    }
    margins |= {
        metric.name: metric.rollback_margin for metric in sections.metrics if metric.rollback_margin is not None
    }
    return tuple(Criterion(metric=name, margin=margin) for name, margin in margins.items() if margin is not None)


def _promotion(rollback: RollbackSection, promotion: PromotionSection) -> tuple[Criterion, ...]:
    (default,) = DEFAULT_PROMOTION
    if rollback.max_completion_drop is None:
        return ()
    if promotion.max_completion_regression is not None:
        return (replace(default, margin=promotion.max_completion_regression),)
    return (replace(default, margin=min(default.margin, rollback.max_completion_drop)),)


def _store(url: str, folder: Path) -> str:
    if not url.startswith(_SQLITE):
        return url
    file = url.removeprefix(_SQLITE)
    if file.startswith("/"):
        return url
    # The URL's own path is encoded already; the folder's name is not.
    return f"{_SQLITE}{quote(str(folder))}/{file}"
