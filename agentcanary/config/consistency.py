"""Mistakes that no section can see by itself: falling weights, unknown metrics, margins that contradict. Pure.

Whatever has a mistake of its own is left out here, so that one slip gives one message.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from agentcanary.config.declared_metrics import Found, floor_mistakes, listed, metric_mistakes, readable_metrics
from agentcanary.config.mistakes import share_remedy, where
from agentcanary.config.sections import (
    ConversationSection,
    FreezeSection,
    MetricSection,
    PromotionSection,
    RetentionSection,
    RollbackSection,
    StageSection,
    TokenSection,
    TrafficSection,
)
from agentcanary.config.values import Place
from agentcanary.config.yaml_lines import Path
from agentcanary.durations import format_duration
from agentcanary.freeze import always_frozen
from agentcanary.plan import DAY
from agentcanary_analysis.checks import Check, CheckError, parse_check
from agentcanary_analysis.metrics import Kind, Metric


def contradictions(data: Mapping[str, Any]) -> Found:
    """Path and message of everything in a file's values that does not fit together."""
    yield from _versions(data)
    yield from _stickiness(data)
    yield from metric_mistakes(data)
    yield from _margins(data)
    yield from _stages(data)
    yield from _freeze(data)
    yield from _tokens(data)
    yield from _retention(data)
    yield from _mesh(data)


def _freeze(data: Mapping[str, Any]) -> Found:
    sections = [FreezeSection.read(raw) for raw in listed(data, "freeze")]
    windows = [section.window() for section in sections if section is not None]
    if len(windows) == len(sections) and always_frozen(windows):
        yield ("freeze",), "freeze leaves no time in the week for a step; make a window shorter, or name its days"


def _retention(data: Mapping[str, Any]) -> Found:
    kept = RetentionSection.readable(data.get("retention", {})).get("conversations")
    metrics, _ = readable_metrics(data)
    stated = {key: data[key] for key in ("horizon", "horizon_minutes") if key in data}
    horizon = MetricSection.readable({"name": "any", **stated}).get("horizon") or 0.0
    longest = max([DAY, horizon, *(metric.horizon for metric in metrics)])
    if kept is not None and kept < longest:
        path: Path = ("retention", "conversations")
        text = f"must be at least {format_duration(longest)}, got {format_duration(kept)}"
        yield path, f"{where(path)} {text}: a conversation must be there when it is counted"


def _tokens(data: Mapping[str, Any]) -> Found:
    stated = data.get("security")
    first: dict[str, int] = {}
    for index, raw in enumerate(listed(stated if isinstance(stated, dict) else {}, "tokens")):
        path: Path = ("security", "tokens", index)
        token = TokenSection.readable(raw)
        if "env" in token and "sha256" in token and (token["env"] is None) == (token["sha256"] is None):
            said = "neither env nor sha256" if token["env"] is None else "both env and sha256"
            yield path, f"{where(path)} has {said}; write one of them: env: NAME_OF_A_VARIABLE"
        name = token.get("name")
        if name in first:
            text = f"token {name!r} has the name of security.tokens[{first[name]}]; choose another"
            yield (*path, "name"), text
        elif name is not None and isinstance(raw, dict) and "name" in raw:
            first[name] = index


def _versions(data: Mapping[str, Any]) -> Found:
    stable, canary = data.get("stable"), data.get("canary")
    if isinstance(stable, str) and stable == canary:
        yield (
            ("canary",),
            f"canary must differ from stable, got {canary!r} for both; name the new version, or leave it out",
        )


def _stickiness(data: Mapping[str, Any]) -> Found:
    conversation = ConversationSection.readable(data.get("conversation", {}))
    ours = [place for place in conversation.get("id_from") or () if place.place is Place.SIGNED_COOKIE]
    if len(ours) > 1:
        yield ("conversation", "id_from"), "conversation.id_from names two signed cookies; keep one of them"
    users = conversation.get("user_from", ())
    if any(place.place is Place.SIGNED_COOKIE for place in users):
        text = "looks in a signed cookie, which holds a conversation; name a header, cookie, query, path or json"
        yield ("conversation", "user_from"), f"conversation.user_from {text}"
    if data.get("sticky_by") != "user":
        return
    if data.get("sticky") is False:
        yield ("sticky_by",), "sticky_by: user contradicts sticky: false; leave one of them out"
    if users == []:
        remedy = "write conversation: {user_from: [header: x-user-id]}"
        yield ("sticky_by",), f"sticky_by: user needs to know where the user is found; {remedy}"


def _mesh(data: Mapping[str, Any]) -> Found:
    mesh = data.get("kubernetes")
    if isinstance(mesh, dict) and mesh.get("mode") == "mesh" and data.get("sticky") is not False:
        text = "kubernetes.mode: mesh draws every request by itself, so no conversation keeps its version"
        yield ("kubernetes", "mode"), f"{text}; write sticky: false beside it, or mode: process"


def _margins(data: Mapping[str, Any]) -> Found:
    rollback = RollbackSection.readable(data.get("rollback", {}))
    promotion = PromotionSection.readable(data.get("promotion", {}))
    drop, regression = rollback.get("max_completion_drop"), promotion.get("max_completion_regression")
    if regression is not None and "max_completion_drop" in rollback and (drop is None or regression > drop):
        limit = "null, so completion is not judged" if drop is None else f"{drop:g}"
        path: Path = ("promotion", "max_completion_regression")
        text = f"must be within rollback.max_completion_drop ({limit}), got {regression:g}; make it smaller"
        yield path, f"{where(path)} {text}"
    yield from _floors(rollback.get("floor"), data)
    metrics, bad = readable_metrics(data)
    known = {metric.name: metric for metric in metrics}
    for name, stated in TrafficSection.readable(data.get("traffic", {})).get("stable", {}).items():
        path = ("traffic", "stable", name)
        if name in known:
            if known[name].kind is Kind.PROPORTION and stated > 1:
                yield path, f"{where(path)} is a share of conversations, got {stated:g}; {share_remedy(stated)}"
        elif name not in bad:
            yield path, f"traffic.stable names an unknown metric {name!r}; {_nearest(name, list(known))}"


def _floors(floor: float | dict[str, float] | None, data: Mapping[str, Any]) -> Found:
    metrics, bad = readable_metrics(data)
    known = {metric.name: metric for metric in metrics}
    path: Path = ("rollback", "floor")
    if not isinstance(floor, dict):
        if floor is not None and floor >= 1:
            yield path, f"{where(path)} is a share of conversations, got {floor:g}; {share_remedy(floor)}"
        return
    for name, stated in floor.items():
        if name in known:
            yield from floor_mistakes(known[name].kind, known[name].direction, stated, (*path, name))
        elif name not in bad:
            yield (*path, name), f"rollback.floor names an unknown metric {name!r}; {_nearest(name, list(known))}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _stages(data: Mapping[str, Any]) -> Found:
    metrics, bad = readable_metrics(data)
    stages = [StageSection.readable(raw) for raw in listed(data, "canary_stages")]
    first: dict[str, int] = {}
    largest = 0.0
    for index, stage in enumerate(stages):
        path: Path = ("canary_stages", index)
        name, weight = stage.get("name"), stage.get("weight")
        if name in first:
            yield (*path, "name"), f"stage {name!r} has the name of canary_stages[{first[name]}]; choose another"
        elif name is not None:
            first[name] = index
        yield from _checks(stage, path, metrics, bad)
        if weight is None:
            continue
        if weight < largest:
            text = f"must not fall, got {weight:g} after {largest:g}; put the stages in order"
            yield (*path, "weight"), f"{where(path)}.weight {text}"
        largest = max(largest, weight)
        if weight == 0 and (stage.get("min_requests") or stage.get("checks")):
            text = "no conversation can ever meet its min_requests or checks; write a weight such as 0.01"
            yield (*path, "weight"), f"{where(path)}.weight is 0, so {text}"
        if index + 1 == len(stages) and weight != 1:
            text = f"the last stage must have weight 1.0, got {weight:g}; add a stage with weight 1.0"
            yield (*path, "weight"), text


def _checks(stage: Mapping[str, Any], path: Path, metrics: tuple[Metric, ...], bad: set[str]) -> Found:
    kinds = {metric.name: metric.kind for metric in metrics}
    asked: dict[str, Check] = {}
    for index, text in enumerate(stage.get("checks", ())):
        at = (*path, "checks", index)
        if any(text.strip().startswith(f"{name}_") for name in bad):
            continue
        try:
            check = parse_check(text, metrics)
        except CheckError as error:
            yield at, str(error)
            continue
        if check.metric in asked:
            yield at, f"check {text!r} asks about the same metric as {asked[check.metric].text!r}; keep one of them"
        asked.setdefault(check.metric, check)
        if stage.get("weight") == 1 and kinds[check.metric] is not Kind.COUNT:
            problem = "cannot be met at weight 1, where nobody is on stable to compare with"
            yield at, f"check {text!r} {problem}; move it to the stage before"
