"""What a shell offers after Tab: the rollouts of the store, the words of the command line."""

from __future__ import annotations

from pathlib import Path

import typer

from agentcanary.cli.options import CONFIG_FILE


def rollouts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ids of the store's rollouts, the newest first; none where the store cannot be read."""
    from agentcanary.cli.seat import seat

    try:
        with seat(Path(ctx.params.get("config") or CONFIG_FILE)) as at:
            found = at.store.rollouts(ctx.params.get("agent"))
    except Exception:  # noqa: BLE001 (a shell that completes shows no errors, and then has nothing to offer)
        return []
    return [rollout.id for rollout in found if rollout.id.startswith(incomplete)]
