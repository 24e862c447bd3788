"""The recommended plan as canary.yaml: the user's own file with other values, and the reasons as comments. Pure.

Everything else of the file stays as it was written, comments included.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from agentcanary.durations import format_duration
from agentcanary.plan import MINUTE, Advance, Stage
from agentcanary_analysis.metrics import Kind

if TYPE_CHECKING:
    from ruamel.yaml.comments import CommentedMap

    from agentcanary.calibration.findings import MarginAdvice, MetricFindings
    from agentcanary.calibration.result import Calibration

MARK = "calibrated: "
_WIDTH = 98
_OLD = re.compile(rf"^[ \t]*# {MARK}.*\n", re.MULTILINE)
_OURS = re.compile(rf"# {MARK}from .*\n\s*(\w+):")
_INDENT = re.compile(r"^( +)[A-Za-z_]\w*:", re.MULTILINE)
_LIST = re.compile(r"^( *)[A-Za-z_]\w*:[^\n]*\n(?:\s*#[^\n]*\n)*( *)- ", re.MULTILINE)
_ROLLBACK = {
    "error_rate": "max_error_increase",
    "task_completion_rate": "max_completion_drop",
    "p95_latency": "max_latency_increase",
    "user_satisfaction": "max_satisfaction_drop",
}
_PROMOTION = {"task_completion_rate": "max_completion_regression"}


def tuned_yaml(calibration: Calibration, text: str) -> str:
    """The plan as recommended; see ``Calibration.to_yaml``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap

    measured = frozenset(_OURS.findall(text))
    text = _OLD.sub("", text)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    listed = _LIST.search(text)
    yaml.map_indent = min(map(len, _INDENT.findall(text)), default=2)
    offset = len(listed[2]) - len(listed[1]) if listed else 2
    yaml.sequence_indent, yaml.sequence_dash_offset = offset + 2, offset
    data = yaml.load(text) if text.strip() else None
    fresh = data is None
    tuned = _Tuned(calibration, CommentedMap() if data is None else data, yaml.map_indent, offset + 2)
    for advice in calibration.margins:
        tuned.margin(advice)
    tuned.stages(whole=fresh)
    tuned.alpha(whole=fresh)
    tuned.traffic(measured)
    stream = io.StringIO()
    yaml.dump(tuned.data, stream)
    sentences = (
        *calibration.sentences(),
        *(f"Not known: {one}" for one in calibration.unknown),
        *tuned.asides,
    )
    header = "".join(f"# {line}\n" for sentence in sentences for line in _lines(sentence))
    return header + stream.getvalue()


class _Tuned:
    """A file's values on their way to the recommended ones.

    Args:
        calibration: What is recommended.
        data: The file.
        nested: Indentation of a section.
        listed: Indentation of a stage's keys.
    """

    def __init__(self, calibration: Calibration, data: CommentedMap, nested: int, listed: int) -> None:
        self._calibration, self._plan = calibration, calibration.plan
        self._nested, self._listed = nested, listed
        self.data = data
        self.asides: list[str] = []
        """Reasons for which there is no place above their value, because it stands in one line with others."""

    def margin(self, advice: MarginAdvice) -> None:
        """The margin where the file states it, or where it would; what is kept and not stated stays unstated."""
        name = advice.metric
        if name not in _ROLLBACK:
            for own in self.data.get("metrics") or ():
                if own.get("name") == name:
                    self._put(own, "rollback_margin", advice.recommended, advice.reason, self._listed)
            return
        promoted = any(one.metric == name for one in self._plan.promotion) and name in _PROMOTION
        section, key = ("promotion", _PROMOTION[name]) if promoted else ("rollback", _ROLLBACK[name])
        if advice.recommended != advice.own or self._stated(section, key):
            self._put(self._section(section), key, advice.recommended, advice.reason, self._nested)
        before = next(one.margin for one in self._plan.criteria if one.metric == name)
        if promoted and advice.criterion != before:
            reason = "no tighter than what can be proven"
            self._put(self._section("rollback"), _ROLLBACK[name], advice.criterion, reason, self._nested)

    def stages(self, *, whole: bool) -> None:
        """The durations; stages of a preset are written out when one of them is to last longer, or on a new page."""
        advice = {one.name: one for one in self._calibration.stages}
        if "canary_stages" not in self.data:
            if not whole and all(one.recommended == one.own for one in self._calibration.stages):
                return
            from ruamel.yaml.comments import CommentedSeq

            self.data["canary_stages"] = CommentedSeq([_stage(stage) for stage in self._plan.stages])
        for stage in self.data["canary_stages"]:
            found = advice[str(stage["name"])]
            key = "duration_minutes" if "duration_minutes" in stage else "duration"
            if found.recommended == found.own:
                if key in stage:
                    self._put(stage, key, stage[key], found.reason, self._listed)
                continue
            minutes = found.recommended / MINUTE
            number = int(minutes) if minutes == int(minutes) else minutes
            written = number if key == "duration_minutes" else format_duration(found.recommended)
            self._put(stage, key, written, found.reason, self._listed)

    def alpha(self, *, whole: bool) -> None:
        """The budget of false rollbacks, and how the metrics would best share it."""
        found = self._calibration.alpha
        reason = found.reason
        if found.shares and found.caught is not None and found.caught_equal is not None:
            split = ", ".join(f"{name} {share:.0%}" for name, share in found.shares.items())
            reason += (
                f"; shared equally it catches the hardest of canaries twice as bad in one metric in "
                f"{found.caught_equal:.0%} of the replays, and shared as {split} in {found.caught:.0%}"
            )
        if found.recommended != found.own or "alpha" in self.data or whole:
            if "alpha" not in self.data:
                self.data["alpha"] = found.recommended
            self._put(self.data, "alpha", found.recommended, reason, 0)
        else:
            self.asides.append(f"alpha {found.own:g}: {reason}")

    def traffic(self, measured: Collection[str]) -> None:
        """What ``plan`` and ``validate`` speak of, measured; what the file states itself is kept.

        Args:
            measured: Keys whose values an earlier calibration wrote.
        """
        from ruamel.yaml.comments import CommentedMap

        found, traffic = self._calibration, self._section("traffic")
        why = f"from {found.conversations} conversations in {found.days:.1f} days"
        if "stable" not in traffic or "stable" in measured:
            values = {one.metric.name: float(f"{one.value:.3g}") for one in found.metrics if _possible(one)}
            if values:
                self._put(traffic, "stable", CommentedMap(values), why, self._nested)
        if "conversations_per_hour" not in traffic or "conversations_per_hour" in measured:
            self._put(traffic, "conversations_per_hour", float(f"{found.per_hour:.3g}"), why, self._nested)

    def _stated(self, section: str, key: str) -> bool:
        return isinstance(self.data.get(section), dict) and key in self.data[section]

    def _section(self, name: str) -> CommentedMap:
        from ruamel.yaml.comments import CommentedMap

        if not isinstance(self.data.get(name), dict):
            self.data[name] = CommentedMap()
        found: CommentedMap = self.data[name]
        return found

    def _put(self, section: CommentedMap, key: str, value: Any, reason: str, column: int) -> None:
        """A value with its reason above it. A new key comes first: comments at the end belong to what follows."""
        if key not in section:
            section.insert(0, key, value)
        elif section[key] != value:
            section[key] = value
        if section.fa.flow_style():
            name = section.get("name")
            self.asides.append(f"{f'{name}: ' if name else ''}{key} {value}: {reason}")
            return
        column = section.lc.col if section.lc.data else column
        section.yaml_set_comment_before_after_key(key, before="\n".join(_lines(reason)), indent=column)


def _stage(stage: Stage) -> CommentedMap:
    from ruamel.yaml.comments import CommentedMap

    written: dict[str, Any] = {
        "name": stage.name,
        "weight": stage.weight,
        "duration": format_duration(stage.duration),
        "min_requests": stage.min_conversations,
        "auto_rollback": stage.auto_rollback,
    }
    if stage.advance is Advance.PROVEN:
        written["advance"] = stage.advance.value
    if stage.checks:
        written["checks"] = [check.text for check in stage.checks]
    return CommentedMap(written)


def _possible(found: MetricFindings) -> bool:
    """A value that a forecast can start from."""
    return 0 < found.value < 1 if found.metric.kind is Kind.PROPORTION else 0 < found.value < float("inf")


def _lines(reason: str) -> list[str]:
    return [f"{MARK}{line}" for line in textwrap.wrap(reason, _WIDTH)]
