"""The secrets that all workers of a store share: from the configuration, the environment, or the store itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Protocol

from agentcanary.config import Security
from agentcanary.errors import ConfigError
from agentcanary.security import Pseudonyms

SHORTEST = 16
COOKIE, IDS, TESTERS = "AGENTCANARY_COOKIE_SECRET", "AGENTCANARY_ID_SECRET", "AGENTCANARY_TESTER_SECRET"


class SecretStore(Protocol):
    """Keeps secrets."""

    def secret(self, name: str) -> bytes:
        """A random secret, made at the first request, the same in every worker.

        Raises:
            StoreError: If it cannot be asked.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSecrets:
    """What all workers of a store sign and hash with.

    Attributes:
        cookie: Signs our conversation cookie.
        ids: Hashes conversation ids.
        testers: Signs the tokens of testers.
    """

    cookie: str = field(repr=False)
    ids: Pseudonyms = field(repr=False)
    testers: str = field(repr=False)


def shared_secrets(security: Security, environment: Mapping[str, str], store: SecretStore) -> SharedSecrets:
    """Every secret: the file's, else the environment's, else one that the store makes and keeps.

    Args:
        security: The section of the configuration.
        environment: Usually ``os.environ``.
        store: Asked only for what neither of them has.

    Raises:
        ConfigError: If one in the environment is too short.
        StoreError: If the store must be asked, and does not answer.
    """
    stated = security.id_secret or _in_environment(environment, IDS)
    return SharedSecrets(
        cookie=security.cookie_secret or _in_environment(environment, COOKIE) or store.secret("cookie").hex(),
        ids=Pseudonyms(sha256(stated.encode()).digest() if stated else store.secret("conversation-id")),
        testers=security.tester_secret or _in_environment(environment, TESTERS) or store.secret("tester").hex(),
    )


def _in_environment(environment: Mapping[str, str], variable: str) -> str | None:
    value = environment.get(variable, "")
    if value and len(value) < SHORTEST:
        raise ConfigError([f"the environment's {variable} must have at least {SHORTEST} characters, got {len(value)}"])
    return value or None
