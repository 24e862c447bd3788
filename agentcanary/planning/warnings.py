"""What a plan's author should know before it starts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentcanary.durations import format_duration
from agentcanary.plan import OnInconclusive
from agentcanary.planning.expectations import Expectations
from agentcanary.planning.outlook import Outlook
from agentcanary.planning.proofs import StageProof

_OFTEN = 0.8
_CERTAIN = 2.0  # as bad as this a canary should be caught


def warnings(expectations: Expectations, proofs: Sequence[StageProof], outlooks: Sequence[Outlook]) -> tuple[str, ...]:
    """A sentence or two each.

    Args:
        expectations: The plan and what is taken for granted.
        proofs: Of every stage.
        outlooks: Of every simulated canary.
    """
    return (*_stages(expectations, proofs), *_endings(expectations, outlooks))


def _stages(expectations: Expectations, proofs: Sequence[StageProof]) -> Iterator[str]:
    if not expectations.plan.proof_weight:
        yield "No stage lies between weight 0 and 1: the versions are never compared, and nothing is proven."
    never = []
    for found in proofs:
        name = found.stage.name
        if found.stage.weight == 0 and found.stage.min_conversations:
            least = found.stage.min_conversations
            yield f"Stage {name} never ends: at weight 0 it never gets its {least:,} canary conversations."
        undecidable = [proof for proof in found.checks if not proof.decidable]
        if not undecidable:
            continue
        if not found.asks_for_proof:
            never.append(f"{name} ({', '.join(proof.check.text for proof in undecidable)})")
            continue
        for proof in undecidable:
            text = f"Stage {name} waits for the proof of {proof.check.text}"
            if proof.hours is None or proof.needed is None:
                yield f"{text}, which never comes: a canary like stable is on that line. Loosen it, or give it a floor."
            else:
                lasts = format_duration(round(proof.hours) * 3600.0)
                yield f"{text}: about {proof.needed:,.0f} canary conversations, {lasts} and not {_lasting(found)}."
    if never:
        yield (
            f"Checks that can never be decided within their stage, which has too few conversations: "
            f"{'; '.join(never)}. "
            f"Such a check still holds back a canary that stands out, but that it is quiet proves nothing. "
            f"More conversations (a longer stage, a larger weight) or a looser limit would change that."
        )


def _lasting(found: StageProof) -> str:
    return format_duration(round(found.stage.duration / 60) * 60.0)


def _endings(expectations: Expectations, outlooks: Sequence[Outlook]) -> Iterator[str]:
    for found in outlooks:
        case = found.case
        if case.metric is None:
            if found.promoted.share < _OFTEN:
                yield (
                    f"Only {found.promoted.share:.0%} of the harmless canaries are promoted: "
                    f"the others are rolled back, or still wait for proof at the end."
                )
            if found.stopped.count:
                yield (
                    f"{found.stopped.share:.0%} of the canaries that are as safe as stable are stopped by a violation; "
                    f"max_safety_violations: {expectations.plan.max_safety_violations} tolerates no more."
                )
            policy = expectations.plan.on_inconclusive
            if found.inconclusive.count and policy is OnInconclusive.ROLLBACK:
                yield (
                    f"{found.inconclusive.share:.0%} of the harmless canaries are rolled back only because "
                    f"max_duration passes before they are proven."
                )
        elif case.ratio == _CERTAIN and not case.tolerated and found.harmed.share < _OFTEN:
            yield (
                f"A canary {case.ratio:g} times as bad in {case.metric} is rolled back in only "
                f"{found.harmed.share:.0%} of the cases."
            )
