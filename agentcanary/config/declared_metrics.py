"""The metrics of a file: the built-in ones and those that it declares, and what is wrong with a declaration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from agentcanary.config.mistakes import share_remedy, where
from agentcanary.config.sections import MetricSection, RollbackSection
from agentcanary.config.yaml_lines import Path
from agentcanary.plan import OnFail
from agentcanary_analysis.checks import check_name
from agentcanary_analysis.metrics import BUILT_IN, DEFAULT_FLOOR, DEFAULT_HORIZON, Direction, Kind, Metric

Found = Iterator[tuple[Path, str]]
"""Path and message of what is wrong."""

_OBSERVED = {
    "turn.error": Kind.PROPORTION,
    "turn.aborted": Kind.PROPORTION,
    "turn.latency": Kind.QUANTILE,
    "turn.time_to_first_byte": Kind.QUANTILE,
}
_DIRECTIONS = {"up": Direction.UP_IS_WORSE, "down": Direction.DOWN_IS_WORSE}
_MARGINS = {
    "error_rate": "max_error_increase",
    "task_completion_rate": "max_completion_drop",
    "p95_latency": "max_latency_increase",
    "user_satisfaction": "max_satisfaction_drop",
}


def metric_of(section: MetricSection, horizon: float) -> Metric:
    """The metric that a section declares, or the built-in one of its name with the section's horizon and floor.

    Args:
        section: One without contradictions.
        horizon: The file's horizon for metrics that state none, in seconds.
    """
    built_in = _built_in(section.name)
    # What a judge says later would be missing before.
    horizon = max(section.horizon or horizon, section.maturity or 0.0)
    if built_in is not None:
        floor = built_in.floor if section.floor is None else section.floor
        return replace(built_in, horizon=horizon, floor=floor, early=section.early)
    outcome = section.outcome or section.name
    kind = Kind(section.kind or Kind.PROPORTION)
    return Metric(
        name=section.name,
        kind=kind,
        direction=_DIRECTIONS[section.worse or "up"],
        outcome=outcome,
        horizon=horizon,
        floor=section.floor if section.floor is not None else DEFAULT_FLOOR * (kind is Kind.PROPORTION),
        quantile=section.quantile,
        early=section.early,
        # A turn without a body has no first byte; a conversation without a turn has nothing to divide by.
        always_measured=outcome in _OBSERVED and outcome != "turn.time_to_first_byte" and kind is not Kind.RATIO,
    )


def metrics_of(sections: list[MetricSection], rollback: RollbackSection, horizon: float | None) -> tuple[Metric, ...]:
    """Every metric of a file: the built-in ones, then its own, each with its horizon and floor."""
    seconds = horizon or DEFAULT_HORIZON
    stated = {section.name: metric_of(section, seconds) for section in sections}
    built_in = [stated.pop(metric.name, replace(metric, horizon=seconds, floor=metric.floor)) for metric in BUILT_IN]
    return tuple(_floored(metric, sections, rollback.floor) for metric in (*built_in, *stated.values()))


def _floored(metric: Metric, sections: list[MetricSection], floor: float | dict[str, float] | None) -> Metric:
    """The metric with the floor of ``rollback.floor``, unless its own section states one."""
    if any(section.name == metric.name and section.floor is not None for section in sections):
        return metric
    if isinstance(floor, dict):
        floor = floor.get(metric.name)
    elif metric.kind is not Kind.PROPORTION:
        floor = None
    return metric if floor is None else replace(metric, floor=floor)


def _built_in(name: str) -> Metric | None:
    return next((metric for metric in BUILT_IN if metric.name == name), None)


def listed(data: Mapping[str, Any], key: str) -> list[Any]:
    """The list under a key; empty when there is none or it is no list."""
    value = data.get(key, [])
    return value if isinstance(value, list) else []


def metric_mistakes(data: Mapping[str, Any]) -> Found:
    """What is wrong with the declared metrics."""
    spoken = {check_name(metric): metric.name for metric in BUILT_IN}
    seen: set[str] = set()
    for index, raw in enumerate(listed(data, "metrics")):
        path: Path = ("metrics", index)
        stated = MetricSection.readable(raw)
        problems = list(_problems(stated, path))
        yield from problems
        name = stated.get("name")
        if name in seen:
            yield (*path, "name"), f"{where(path)}.name {name!r} is declared twice; keep one of them"
            continue
        seen.add(str(name))
        section = MetricSection.read(raw)
        if section is None or problems or _built_in(section.name) is not None:
            continue
        spoken_as = check_name(metric_of(section, DEFAULT_HORIZON))
        other = spoken.setdefault(spoken_as, section.name)
        if other != section.name:
            yield (*path, "name"), f"{where(path)}.name {name!r} reads like {other!r} in checks; choose another"


def _problems(stated: Mapping[str, Any], path: Path) -> Found:
    """What is wrong with one section; ``stated`` is without its keys that cannot be read."""
    built_in = _built_in(stated.get("name", ""))
    found = _own(stated, path) if built_in is None else _of_built_in(stated, built_in, path)
    yield from ((at, f"{where(at)} {text}") for at, text in found)
    outcome = stated.get("outcome") or stated.get("name", "") if built_in is None else built_in.outcome
    if stated.get("maturity") is not None and outcome.startswith("turn."):
        yield (
            (*path, "maturity"),
            f"{where((*path, 'maturity'))} is for outcomes that are reported later; write horizon",
        )
    if stated.get("floor") is None:
        return
    at = (*path, "floor")
    if built_in is not None:
        yield from floor_mistakes(built_in.kind, built_in.direction, stated["floor"], at)
    elif stated.get("kind") is not None and stated.get("worse") is not None:
        yield from floor_mistakes(Kind(stated["kind"]), _DIRECTIONS[stated["worse"]], stated["floor"], at)


def _of_built_in(stated: Mapping[str, Any], metric: Metric, path: Path) -> Found:
    for key in ("kind", "worse", "outcome", "quantile", "rollback_margin"):
        if stated.get(key) is not None:
            instead = f"; write rollback.{_MARGINS[metric.name]}" if metric.name in _MARGINS else ""
            can = "only horizon, maturity, floor, early and on_fail can"
            text = f"cannot be stated for the built-in {metric.name!r}, {can}"
            yield (*path, key), text + (instead if key == "rollback_margin" else "; leave it out")
    if stated.get("early"):
        yield from _early(metric.kind, metric.direction, path)
    if metric.kind is Kind.COUNT and stated.get("on_fail", OnFail.ROLLBACK) is not OnFail.ROLLBACK:
        yield (*path, "on_fail"), f"cannot be {stated['on_fail'].value}: a safety stop is never disarmed; leave it out"


def _early(kind: Kind, worse: Direction, path: Path) -> Found:
    if kind is not Kind.PROPORTION or worse is not Direction.UP_IS_WORSE:
        yield (*path, "early"), "is for a proportion that is worse when up only; leave it out"


def _own(stated: Mapping[str, Any], path: Path) -> Found:
    def unstated(key: str) -> bool:
        return key in stated and stated[key] is None

    kind, margin = stated.get("kind"), stated.get("rollback_margin")
    if unstated("kind"):
        yield (*path, "kind"), "is missing; write kind: proportion, mean, ratio or quantile"
    if unstated("worse"):
        yield (*path, "worse"), "is missing; write worse: up or worse: down"
    if kind == "quantile" and unstated("quantile"):
        yield (*path, "quantile"), "is missing; write quantile: 0.95"
    if kind not in (None, "quantile") and stated.get("quantile") is not None:
        yield (*path, "quantile"), "is for kind: quantile only; leave it out"
    if stated.get("early") and kind is not None and stated.get("worse") is not None:
        yield from _early(Kind(kind), _DIRECTIONS[stated["worse"]], path)
    if margin is not None and stated.get("worse") == "down" and margin >= 1:
        yield (*path, "rollback_margin"), f"must be below 1 where down is worse, got {margin:g}; write 0.05 for 5 %"
    outcome = stated.get("outcome") or ""
    if outcome.startswith("turn.") and kind is not None and _OBSERVED.get(outcome) != kind:
        if kind == "ratio" and outcome in _OBSERVED:
            return
        known = ", ".join(f"{name} ({observed.value} or ratio)" for name, observed in _OBSERVED.items())
        yield (*path, "outcome"), f"{outcome!r} is not observed as a {kind}; known: {known}"


def floor_mistakes(kind: Kind, worse: Direction, floor: float, path: Path) -> Found:
    """A floor that a metric of that kind cannot have."""
    if kind is Kind.COUNT:
        yield path, f"{where(path)} cannot be stated: a count takes no floor; leave it out"
    elif kind is Kind.QUANTILE and worse is Direction.DOWN_IS_WORSE and floor > 0:
        yield path, f"{where(path)} cannot be stated: a quantile that is worse when down takes no floor; leave it out"
    elif kind is Kind.PROPORTION and floor >= 1:
        yield path, f"{where(path)} must be a share below 1, got {floor:g}; {share_remedy(floor)}"


def readable_metrics(data: Mapping[str, Any]) -> tuple[tuple[Metric, ...], set[str]]:
    """The metrics that can be read, and the names of those that cannot."""
    good, bad = [], set()
    for raw in listed(data, "metrics"):
        section = MetricSection.read(raw)
        if section is not None and not any(_problems(MetricSection.readable(raw), ())):
            good.append(section)
        elif isinstance(raw, dict) and _built_in(str(raw.get("name"))) is None:
            bad.add(str(raw.get("name")))
    return metrics_of(good, RollbackSection(), None), bad
