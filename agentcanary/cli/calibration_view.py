"""A calibration in lines, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentcanary.cli.output import Line, columns
from agentcanary.plan import HOUR
from agentcanary_analysis.figures import value

if TYPE_CHECKING:
    from agentcanary.calibration import Calibration
    from agentcanary.calibration.findings import MetricFindings
    from agentcanary.calibration.rates import Rate

_BOLD, _DIM, _WARNING = "bold", "dim", "yellow"


def calibration_lines(found: Calibration) -> Iterator[Any]:
    """What a person reads of it: the outcome, the curve, the variance, the advice, and what is not known."""
    for sentence in found.sentences():
        yield Line(sentence)
    if found.false_rollbacks.between_low is not None and found.false_rollbacks.between_high is not None:
        yield Line(
            f"Over {found.blocks} disjoint blocks of days: {found.false_rollbacks.between_low:.1%} to "
            f"{found.false_rollbacks.between_high:.1%}; the interval above is of this history alone.",
            indent=2,
        )
    yield Line("")
    yield Line(("What becomes of canaries, by injected harm", _BOLD))
    rows = [("", "", "rolled back", "promoted", "rolled back after")]
    for one in found.detection:
        name = one.metric or "harmless"
        note = " tolerated" if one.metric and one.tolerated else ""
        after = "–" if one.hours is None else f"{one.hours:.0f} h"
        rows.append((name, f"× {one.ratio:g}{note}", _share(one.rolled_back), _share(one.promoted), after))
    yield from columns(rows, indent=2, styles=[_DIM])
    yield Line("")
    yield Line(("How much the metrics vary without any change", _BOLD))
    variances: list[tuple[str, ...]] = [
        ("", "value", "between days", "between hours", "split", "users", "representative after")
    ]
    variances += [_variance(one) for one in found.metrics]
    yield from columns(variances, indent=2, styles=[_DIM])
    meaning = (
        "as multiples of what chance explains: a comparison of one day with another understates its variance so many "
        "times; a split by hash does not"
    )
    yield Line((meaning, _DIM), indent=2)
    yield Line("")
    yield Line(("Recommended", _BOLD))
    for advice in found.margins:
        change = "" if advice.recommended == advice.own else f" → {advice.recommended:g}"
        yield Line(f"{advice.metric} margin {advice.own:g}{change}: {advice.reason}", indent=2)
    for stage in found.stages:
        longer = "" if stage.recommended == stage.own else f" → {stage.recommended / HOUR:g} h"
        yield Line(f"stage {stage.name} {stage.own / HOUR:g} h{longer}: {stage.reason}", indent=2)
    alpha = found.alpha
    lower = "" if alpha.recommended == alpha.own else f" → {alpha.recommended:g}"
    yield Line(f"alpha {alpha.own:g}{lower}: {alpha.reason}", indent=2)
    if alpha.shares and alpha.caught is not None and alpha.caught_equal is not None:
        split = ", ".join(f"{name} {share:.0%}" for name, share in alpha.shares.items())
        yield Line(
            f"alpha split: {split} would catch the hardest of canaries twice as bad in {alpha.caught:.0%} of the "
            f"replays; equal shares, which the engine spends, do in {alpha.caught_equal:.0%}",
            indent=2,
        )
    if found.unknown:
        yield Line("")
        yield Line(("Not known from this history", _BOLD))
        for sentence in found.unknown:
            yield Line((sentence, _WARNING), indent=2)
    for note in found.notes:
        yield Line((f"Note: {note}", _DIM))


def _share(rate: Rate) -> str:
    return f"{rate.share:.0%} ({rate.low:.0%}–{rate.high:.0%})"


def _variance(found: MetricFindings) -> tuple[str, ...]:
    ratios = (
        found.by_day and found.by_day.ratio,
        found.by_hour and found.by_hour.ratio,
        found.split and found.split.ratio,
        found.design_effect,
    )
    unit = "s" if found.metric.outcome == "turn.latency" else ""
    return (
        found.metric.name,
        value(found.value, found.metric.kind, unit),
        *("–" if ratio is None else f"× {ratio:.2f}" for ratio in ratios),
        "–" if found.representative_hours is None else f"{found.representative_hours} h",
    )
