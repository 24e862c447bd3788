"""The statuses of all metrics, safety and validity → what the evidence says at one look. Pure.

The order in which a rollout acts on it, and its durations and minimums, are the state machine's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agentcanary_analysis.checks import Check
from agentcanary_analysis.evidence import Evidence, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFinding:
    """What one look says of one check of the current stage.

    Attributes:
        check: The check.
        status: ``SUSPECT``, ``NO_DATA``, ``SAFE`` (proven against the check's own boundary) or ``UNDECIDED``
            (neither suspect nor proven: enough for a stage that asks its checks to be quiet).
        reason: In words, with numbers.
        evidence: Against the check's own boundary; None for counts.
    """

    check: Check
    status: Status
    reason: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Is the split what was asked for.

    Attributes:
        log_e_assigned: Natural logarithm of the e-value on assigned conversations.
        log_e_counted: The same on counted ones.
        alarm: True when either reached 1000.
        reason: In words, with numbers, when it alarms.
    """

    log_e_assigned: float = 0.0
    log_e_counted: float = 0.0
    alarm: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the evidence says at one look.

    Attributes:
        unsafe: Why the canary must stop at once, or empty.
        harmed: Metrics that prove harm, the largest term first. Empty: no harm is proven.
        log_e_harm: Natural logarithm of the combined e-value against "within every boundary".
        log_e_harm_boundary: The value that it must reach.
        invalid: Why the data cannot be trusted, or empty.
        evidence: One for each criterion.
        checks: One for each check of the current stage.
        sample_ratio: See ``SampleRatio``.
        stage_conversations: Counted canary conversations that began in the current stage.
        thresholds: Per quantile metric the histogram edge that an epoch starting now would use.
        warnings: For people: nobody reports safety, the stages' estimates disagree, …
    """

    unsafe: str = ""
    harmed: tuple[str, ...] = ()
    log_e_harm: float = 0.0
    log_e_harm_boundary: float = 3.0
    invalid: str = ""
    evidence: tuple[Evidence, ...] = ()
    checks: tuple[CheckFinding, ...] = ()
    sample_ratio: SampleRatio = field(default_factory=SampleRatio)
    stage_conversations: int = 0
    thresholds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


# The functions that compute Findings follow here.
