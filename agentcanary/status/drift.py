"""Where the configuration and the newest rollout differ: the rollout keeps what it began with. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentcanary.rollout import Phase, Rollout

if TYPE_CHECKING:
    from agentcanary.config import Config


def differences(config: Config, rollout: Rollout, file: str) -> Iterator[str]:
    """What an operator may not expect, a sentence each.

    Args:
        config: As it is in the file now.
        rollout: The agent's newest.
        file: Name of the file.
    """
    if config.agent != rollout.agent:
        return
    pair, configured = (rollout.stable, rollout.canary), (config.stable, config.canary)
    if rollout.phase.ended:
        promoted = rollout.phase is Phase.PROMOTED
        if promoted and pair != configured and config.stable != rollout.canary:
            yield (
                f"{rollout.canary} was promoted last, but {file} names {config.stable} as stable: once the old version "
                f"is drained, {config.stable} serves"
            )
        return
    if pair != configured:
        named = f"{config.stable} → {config.canary}" if config.canary else f"{config.stable} and no canary"
        yield (
            f"{file} names {named}, but this rollout is of {rollout.stable} → {rollout.canary} and goes on; "
            f"end it first (agentcanary rollback or promote)"
        )
    elif config.plan != rollout.plan:
        yield f"the plan in {file} was changed since; this rollout keeps its own, agentcanary restart takes the new one"
