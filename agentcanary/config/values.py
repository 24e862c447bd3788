"""What a configuration means, as values: everything resolved, every default filled in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from agentcanary.manifests.mesh import Mesh
from agentcanary.plan import MINUTE, Plan
from agentcanary.protocols import ErrorRule


class Place(StrEnum):
    """Where in a request an id is looked for."""

    HEADER = "header"
    COOKIE = "cookie"
    QUERY = "query"
    PATH = "path"
    JSON = "json"
    FORM = "form"
    WEBSOCKET_FIRST_FRAME = "websocket_first_frame"
    FIRST_MESSAGE = "first_message"
    COMPOSITE = "composite"
    SIGNED_COOKIE = "signed_cookie"


@dataclass(frozen=True, slots=True)
class Extractor:
    """One place to look for an id.

    Attributes:
        place: Header, cookie, …
        name: Name of the header (lower case), cookie, query parameter or form field; for a path a template with
            placeholders, ``/threads/{thread_id}/runs``, which the beginning of the path must match; for JSON, also
            in the first frame of a WebSocket, the keys from the top, joined by dots: ``params.message.contextId``;
            for the first messages of a history the keys of its list; for our own signed cookie its name. Empty for
            a composite key.
        parts: The places of a composite key, in their order.
    """

    place: Place
    name: str
    parts: tuple[Extractor, ...] = ()

    @property
    def named(self) -> tuple[str, object]:
        """The place as it is written in a file: a word, and a name or such pairs."""
        return self.place.value, [part.named for part in self.parts] if self.parts else self.name


class SpanMode(StrEnum):
    """Where a turn shows in traces."""

    TURN = "turn"
    ANNOTATE = "annotate"
    OFF = "off"


class Privacy(StrEnum):
    """How conversation ids are kept, and how they appear in traces."""

    PLAIN = "plain"
    HASH = "hash"


class Scope(StrEnum):
    """What a bearer token may do."""

    READ = "read"
    OPERATE = "operate"
    RECORD = "record"


SIGNED_COOKIE_NAME = "agentcanary"
DEFAULT_ID_FROM = (
    Extractor(Place.HEADER, "x-conversation-id"),
    Extractor(Place.JSON, "conversation_id"),
    Extractor(Place.JSON, "session_id"),
    Extractor(Place.JSON, "thread_id"),
    Extractor(Place.SIGNED_COOKIE, SIGNED_COOKIE_NAME),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """How a request's conversation, and its user, are found.

    Attributes:
        id_from: Where the conversation id is looked for, in this order; the first one found counts.
        presets: Names of frameworks whose places are looked at after these; see ``conversation.PRESETS``.
        turn_from: Where a turn is named, so that a request that is sent once more counts once.
        user_from: Where the user is looked for, for ``sticky_by: user``.
        max_body_bytes: Bodies larger than this are passed on without being looked into.
        max_id_length: Longer ids, in characters, are not accepted.
        idle_after: A conversation without a turn for this many seconds has ended.
    """

    id_from: tuple[Extractor, ...] = DEFAULT_ID_FROM
    presets: tuple[str, ...] = ()
    turn_from: tuple[Extractor, ...] = ()
    user_from: tuple[Extractor, ...] = ()
    max_body_bytes: int = 1_048_576
    max_id_length: int = 256
    idle_after: float = 30 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """What is read in responses.

    Attributes:
        protocols: Names of the protocols in which responses are written; see ``protocols.PROTOCOLS``.
        error_if: What else makes a turn an error.
        measure: True to record the time to the first token, tokens and cost as outcomes.
    """

    protocols: tuple[str, ...] = ()
    error_if: tuple[ErrorRule, ...] = ()
    measure: bool = True

    @property
    def watched(self) -> bool:
        """True when responses are looked into at all."""
        return bool(self.protocols or self.error_if)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token, of which only where it stands or its hash is known.

    Attributes:
        name: Whose it is: the actor in the audit log.
        scopes: What it may do.
        env: The environment variable that holds it, or None.
        sha256: Its SHA-256, 64 hexadecimal digits, or None.
    """

    name: str
    scopes: frozenset[Scope]
    env: str | None = None
    sha256: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who is believed.

    Attributes:
        trust_header: True lets the header ``x-canary: true`` force the canary, whoever sends it.
        trusted_peers: Addresses and networks from which it is believed, without ``trust_header``.
        cookie_secret: Signs our conversation cookie; None takes a random one that the store keeps.
        id_secret: The key of hashed conversation ids; None takes a random one that the store keeps beside them.
        testers: True believes the signed tokens with which testers force an arm.
        tester_secret: Signs those tokens; None takes one that the store keeps.
        tokens: For API, pages and outcomes, beside those of the environment.
    """

    trust_header: bool = False
    trusted_peers: tuple[str, ...] = ()
    cookie_secret: str | None = field(default=None, repr=False)
    id_secret: str | None = field(default=None, repr=False)
    testers: bool = False
    tester_secret: str | None = field(default=None, repr=False)
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What traces show.

    Attributes:
        span: A span of its own for each turn, attributes on the current span, or neither.
        privacy: Conversation ids as they are, or hashed.
    """

    span: SpanMode = SpanMode.TURN
    privacy: Privacy = Privacy.PLAIN


# What notifications may be about, and what a message may be made of.
EVENTS = (
    "started",
    "stage_entered",
    "paused",
    "resumed",
    "undecided",
    "invalid",
    "dry_run",
    "degraded",
    "promoted",
    "rolled_back",
    "safety_stop",
)
MESSAGE_FIELDS = (
    "agent",
    "rollout",
    "stable",
    "canary",
    "phase",
    "stage",
    "weight",
    "message",
    "severity",
    "event",
    "reasons",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long what is stored is kept, in seconds; None for ever.

    Attributes:
        conversations: Single conversations with their outcomes, after their last turn. Sums are kept for good.
        looks: The evidence over time of rollouts that have ended.
    """

    conversations: float | None = None
    looks: float | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """Notifications go to the structured log."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Notifications are posted to a URL, which may contain a secret.

    Attributes:
        url: Where to.
        events: Which ones; none stands for all.
        template: The message, with the notification's fields in braces; None for ours.
    """

    url: str = field(repr=False)
    events: tuple[str, ...] = ()
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Apprise:
    """Notifications go to a service that apprise knows, by a URL that contains a secret.

    Attributes:
        url: As apprise reads it.
        events: As for a webhook.
        template: As for a webhook.
    """

    url: str = field(repr=False)
    events: tuple[str, ...] = ()
    template: str | None = None


Target = Log | Webhook | Apprise


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A version that runs in another Deployment.

    Attributes:
        url: Where.
        connect_timeout: Seconds to connect.
        read_timeout: Seconds without a byte of its answer.
    """

    url: str
    connect_timeout: float = 5.0
    read_timeout: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What is known of the agent's traffic, for statements about the plan; nothing is decided by it.

    Attributes:
        conversations_per_hour: New conversations, of both arms, or None when it was not stated.
        stable: Values of metrics on the stable version: ``{"error_rate": 0.05}``.
    """

    conversations_per_hour: float | None = None
    stable: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that canary.yaml says. All durations are seconds.

    Attributes:
        agent: Name of the agent.
        stable: The version that serves now.
        canary: The version that is to replace it; None records history only.
        plan: What a rollout is going to do.
        store: SQLAlchemy URL; the path of an SQLite file is absolute.
        conversation: How conversations are found.
        responses: What is read in responses.
        security: Who is believed.
        telemetry: What traces show.
        privacy: Conversation ids as they are, or hashed before anything else is done with them.
        retention: How long what is stored is kept.
        notify: Where notifications go.
        traffic: What is known of the traffic.
        versions: Versions that run in another Deployment, by name.
        kubernetes: How the Deployments are reached in a cluster, or None when it was not stated.
        look_every: Time between two looks of the controller.
        stale_after: A snapshot older than this gives new conversations to stable.
        controller: False when another process controls the rollout.
        preset: The preset that the stages came from, or None when the file states its own.
        file: The file it was read from, or None.
    """

    agent: str
    stable: str
    canary: str | None = None
    plan: Plan
    store: str = field(repr=False)
    conversation: Conversation = field(default_factory=Conversation)
    responses: Responses = field(default_factory=Responses)
    security: Security = field(default_factory=Security)
    telemetry: Telemetry = field(default_factory=Telemetry)
    privacy: Privacy = Privacy.PLAIN
    retention: Retention = field(default_factory=Retention)
    notify: tuple[Target, ...] = (Log(),)
    traffic: Traffic = field(default_factory=Traffic)
    versions: Mapping[str, Remote] = field(default_factory=dict)
    kubernetes: Mesh | None = None
    look_every: float = 10.0
    stale_after: float = 10.0
    controller: bool = True
    preset: str | None = None
    file: Path | None = None

    @property
    def sticky(self) -> bool:
        """False when every request is its own unit."""
        return self.plan.sticky

    @property
    def sticky_by(self) -> str:
        """``conversation`` or ``user``: whose hash decides."""
        return self.plan.sticky_by
