"""By what workers with different configurations are told apart. Pure."""

from __future__ import annotations

import json
from hashlib import blake2b

from agentcanary.config.values import Config


def configuration_hash(config: Config) -> str:
    """The same in two workers that would make the same rollout."""
    meaning = json.dumps([config.agent, config.stable, config.canary, config.plan.to_dict()], sort_keys=True)
    return blake2b(meaning.encode(), digest_size=6).hexdigest()
