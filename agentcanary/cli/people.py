"""Under which names, and with which agents, a store may know one person's conversation."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentcanary.cli.seat import Seat


def agents_of(at: Seat, agent: str | None) -> list[str]:
    """The agent that was named; else every agent that the store knows."""
    if agent is not None:
        return [agent]
    return sorted({at.config.agent, *at.store.agents(), *(worker.agent for worker in at.store.workers())} - {""})


def names_of(at: Seat, conversation: str) -> list[str]:
    """The id as it is, and its pseudonym: ``privacy: hash`` may have been switched on or off since."""
    from agentcanary.shared_secrets import shared_secrets

    secrets = shared_secrets(at.config.security, os.environ, at.store)
    return list(dict.fromkeys([conversation, secrets.ids.known_as(conversation)]))


def unit_named(at: Seat, conversation: str) -> str:
    """The unit of a conversation that an operator names: itself, or its pseudonym with ``privacy: hash``."""
    from agentcanary.config import Privacy

    return names_of(at, conversation)[-1] if at.config.privacy is Privacy.HASH else conversation
