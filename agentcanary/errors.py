"""The exception tree.

AgentCanaryError
├── ConfigError        canary.yaml cannot be used; carries every mistake with file, line, value and remedy
├── StoreError         the store cannot be reached, read or written
│   ├── ConflictError      somebody else changed the rollout first (compare-and-set on its revision)
│   ├── ContentionError    another transaction was in the way; the same may be tried again at once
│   └── StoreRefusedError  the store must not be used: wrong schema, corrupted, on a network file system
├── VersionError       a version that cannot serve: its factory or its lifespan failed
├── ManifestError      a resource in a cluster that is not what our manifests render
├── NotificationError  somebody could not be told; it is tried again
├── AccessError        a request that may not do what it asks for
│   ├── UnauthenticatedError  nobody known makes it
│   └── ForbiddenError        whoever makes it does not have the scope
├── TransitionError    an action that the rollout's phase does not allow
└── UnknownError       an agent, rollout, version or conversation that does not exist
"""

from __future__ import annotations


class AgentCanaryError(Exception):
    """Base class of everything that agentcanary raises for a state that a caller may handle."""


class ConfigError(AgentCanaryError):
    """A configuration that cannot be used.

    Attributes:
        mistakes: One message a mistake, each with file, line, value and remedy.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class StoreError(AgentCanaryError):
    """The store cannot be reached, read or written. Requests are served on stable meanwhile."""


class ConflictError(StoreError):
    """The rollout was changed by somebody else since it was loaded: load it again and decide again."""


class ContentionError(StoreError):
    """Another transaction was in the way, and nothing was stored: the same may be tried again at once."""


class StoreRefusedError(StoreError):
    """The store must not be used as it is: wrong schema, corrupted, or on a network file system."""


class VersionError(AgentCanaryError):
    """A version that cannot serve: its factory or its lifespan failed."""


class ManifestError(AgentCanaryError):
    """A resource in a cluster that is not what our manifests render, or that could not be set."""


class NotificationError(AgentCanaryError):
    """Somebody could not be told about a rollout. The outbox tries again."""


class AccessError(AgentCanaryError):
    """A request that may not do what it asks for."""


class UnauthenticatedError(AccessError):
    """A request without a token that is known."""


class ForbiddenError(AccessError):
    """A request whose token does not have the scope."""


class TransitionError(AgentCanaryError):
    """An action that the rollout's present phase does not allow."""


class UnknownError(AgentCanaryError):
    """An agent, rollout, version or conversation that does not exist."""
