"""``Canary``: what an application holds. It wires the pieces of one agent, starts them and stops them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from os import PathLike
from pathlib import Path
from time import perf_counter

import structlog
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from sqlalchemy.engine import make_url
from starlette.applications import Starlette

from agentcanary.aliases import AliasKeeper
from agentcanary.assignment import Assignment, RolloutView, bucket
from agentcanary.clock import Clock, SystemClock
from agentcanary.config import Config, Place, Privacy, load_config
from agentcanary.context import set_stable_version
from agentcanary.controller import Controller, ControlThread
from agentcanary.conversation import Finder, SignedCookie, finder
from agentcanary.degraded import Degraded
from agentcanary.deployment import deployed_arm, mesh_weights, remote_versions
from agentcanary.direct import DirectTurn
from agentcanary.effects.notifications import Notifier, NotifyAll, notifiers_from
from agentcanary.errors import AgentCanaryError, StoreError
from agentcanary.outcome_shapes import Reported
from agentcanary.outcomes import Judge, Outcome, Record
from agentcanary.pins import PinKeeper
from agentcanary.protocols import protocol_of
from agentcanary.recorder import Recorder
from agentcanary.security import Forcing, Guard, Pseudonyms, new_secret
from agentcanary.segments import segment
from agentcanary.settled import Settling
from agentcanary.shared_secrets import shared_secrets
from agentcanary.snapshot import SnapshotKeeper
from agentcanary.store import DEAD_AFTER, Store
from agentcanary.telemetry import Telemetry
from agentcanary.versions import Registry
from agentcanary.watching import Watching
from agentcanary_analysis.aggregates import Arm

_DISABLED = "AGENTCANARY_DISABLED"
_STORED_WITHIN = 5.0
# A worker stores its turns every tenth of a second; one that is so many seconds behind has them in its journal.
_BEHIND = 10.0
_ASK_SECRETS_EVERY = 1.0

log = structlog.get_logger("agentcanary")


class Canary:
    """The canary release of one agent, in this process.

    Made at import, it touches nothing; threads and connections start with the application's lifespan or its first
    request. Several share a store.

    Args:
        config: What canary.yaml says.
        tracer_provider: For spans; by default the global one.
        meter_provider: For metrics; by default the global one.
        clock: The time of rollouts.
        notifiers: Who is told; by default what the configuration names.

    Raises:
        ConfigError: If a token in the environment cannot be used, or a mesh's Deployment does not say which it is.

    Attributes:
        config: The configuration.
        guard: Who is believed: the tokens of the configuration and the environment.
        forcing: Who may force an arm, or None.
        pseudonym: What stands for a conversation id that a client sent, or None where ids are kept as they are.
        disabled: True where ``AGENTCANARY_DISABLED=1`` switches agentcanary off.
        registry: Agent objects by version.
        versions: What serves the versions that run in another Deployment.
        without: Requests without a usable conversation id in this process, by their problem.
    """

    def __init__(
        self,
        config: Config,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
        notifiers: Sequence[Notifier] | None = None,
    ) -> None:
        self.config = config
        self.registry = Registry(config.agent)
        self.versions = remote_versions(config)
        self.clock: Clock = clock or SystemClock()
        self.cookie: SignedCookie | None = None
        self.without: Counter[str] = Counter()
        self.guard = Guard.configured(config.security, os.environ)
        self._deployed = deployed_arm(config, os.environ)
        self.forcing = self._forcing(None)
        self._pseudonyms: Pseudonyms | None = None
        # Nothing may be hashed with a key that other processes do not have: it would be another conversation there.
        self.pseudonym: Callable[[str], str | None] | None = self._pseudonym if config.privacy is Privacy.HASH else None
        self.disabled = os.environ.get(_DISABLED, "") not in ("", "0")
        self._lock = threading.Lock()
        self._pid = 0
        self.store = Store(config.store)
        self.telemetry = Telemetry(
            config.agent,
            span=config.telemetry.span.value,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            shown_id=self._shown if config.telemetry.privacy is Privacy.HASH else None,
        )
        self.degraded = Degraded(config.agent, count=self.telemetry.degraded)
        self.pins = PinKeeper(self.store, idle_after=config.plan.idle_after, degraded=self.degraded)
        self.aliases = AliasKeeper(self.store, agent=config.agent, clock=self.clock, degraded=self.degraded)
        self.watching = watching_of(config)
        self.snapshots = SnapshotKeeper(
            self.store,
            agent=config.agent,
            stable=config.stable,
            canary=config.canary,
            clock=self.clock,
            stale_after=config.stale_after / self.clock.speed,
            on_failure=self.degraded,
            settling=Settling(self.store, agent=config.agent, tell=self.pins.settle, speed=self.clock.speed),
            deployed=self._deployed,
        )
        self.recorder = Recorder(
            self.store,
            clock=self.clock,
            journal_path=journals_folder(config),
            worker_id=f"{socket.gethostname()}-{os.getpid()}",
            agent=config.agent,
            config_hash=configuration_hash(config),
            degraded=self.degraded,
            totals=self._totals,
        )
        # Takes a turn or an outcome; an attribute, because every request calls it twice.
        self.put: Callable[[Record], None] = self.recorder.put
        notify = NotifyAll(notifiers_from(config) if notifiers is None else notifiers)
        self.controller = Controller(
            self.store,
            agent=config.agent,
            stable=config.stable,
            canary=config.canary,
            plan=config.plan,
            clock=self.clock,
            owner=f"{socket.gethostname()}:{uuid.uuid4().hex}",
            notify=notify,
            on_verdict=self.telemetry.verdict,
            set_weight=mesh_weights(config),
            retention=config.retention,
        )
        self._control = ControlThread(
            self.controller, every=config.look_every / self.clock.speed, on_failure=self.degraded
        )
        self.finder = self._finder()
        users = [extractor.named for extractor in config.conversation.user_from]
        self.user_finder = self._finder(users) if config.sticky_by == "user" else None
        self.telemetry.observe(weight=lambda: self.snapshots.view.weight, queue=lambda: self.recorder.counters["queue"])
        set_stable_version(config.agent, config.stable)

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str] = "canary.yaml",
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
        notifiers: Sequence[Notifier] | None = None,
    ) -> Canary:
        """The canary that a file describes.

        Raises:
            ConfigError: With every mistake in the file, one message each.
        """
        return cls(
            load_config(path),
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            clock=clock,
            notifiers=notifiers,
        )

    @property
    def agent(self) -> str:
        """Name of the agent."""
        return self.config.agent

    def view(self) -> tuple[RolloutView, bool]:
        """The rollout as this process knows it, and whether that is fresh. No lock, no I/O."""
        snapshots = self.snapshots
        return snapshots.view, perf_counter() < snapshots.fresh_until

    def without_conversation(self, problem: str) -> None:
        """Count a request without a usable conversation id, by its problem."""
        self.without[problem] += 1

    def record(
        self,
        conversation_id: str,
        name: str,
        value: float | None,
        *,
        id: str | None = None,  # noqa: A002 (the field's name everywhere)
        label: str | None = None,
        kind: Judge = Judge.CODE,
        explanation: str | None = None,
        turn_id: str | None = None,
        confirmed: bool = True,
    ) -> None:
        """Record an outcome of a conversation: at any time, in any process that shares the store.

        A confirmed safety violation of the canary is on disk and has stopped the canary in this process before this
        returns; every other process follows at its next poll. Any other outcome is stored within a tenth of a second.

        Args:
            conversation_id: The conversation.
            name: ``task_completion``, ``safety_violation``, ``satisfaction`` or any other.
            value: The number; None when there is none, which is missing and never 0.
            id: Makes it idempotent: the same id is counted once. By default a new one.
            label: A category, such as the kind of violation.
            kind: Who judged.
            explanation: For people.
            turn_id: The turn that it is about.
            confirmed: False for what a classifier suspects: counted, but it stops nothing.

        Raises:
            ValueError: If the value is no number or not finite, or the name or the conversation is empty.
        """
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError):
            raise ValueError(f"value of {name} must be a finite number or None for missing, got {value!r}") from None
        reported = Reported(
            conversation_id=conversation_id,
            name=name,
            value=number,
            id=id,
            label=label,
            kind=Judge(kind),
            explanation=explanation,
            turn_id=turn_id,
            confirmed=confirmed,
        )
        self.take(reported)

    def take(self, reported: Reported, *, shown: bool = True) -> None:
        """``record`` for an outcome that was sent.

        Args:
            reported: The outcome; it is received now, whenever it was made.
            shown: False for one that a span shows already.

        Raises:
            ValueError: As from ``record``.
        """
        outcome = Outcome(
            id=reported.id or uuid.uuid4().hex,
            agent=self.agent,
            conversation_id=self.unit_of(reported.conversation_id),
            name=reported.name,
            value=reported.value,
            at=self.clock(),
            label=reported.label,
            kind=reported.kind,
            explanation=reported.explanation,
            turn_id=reported.turn_id,
            confirmed=reported.confirmed,
        )
        if self.disabled:
            return
        known = self._known(outcome.conversation_id)
        if outcome.is_safety_violation:
            # First this worker, then the disk: nothing may be given to the canary meanwhile.
            tolerant = self.snapshots.rollout is not None and self.snapshots.rollout.plan.max_safety_violations > 0
            if known is not None and known.arm is Arm.CANARY and not tolerant:
                self.snapshots.stop_canary()
        self.recorder.put(outcome)
        self.telemetry.outcome(outcome, variant="" if known is None else known.arm.value, shown=shown)

    def unit_of(self, conversation_id: str) -> str:
        """The unit of a conversation id: itself, or its pseudonym with ``privacy: hash``.

        Raises:
            StoreError: With ``privacy: hash``, while its key could not be read from the store.
        """
        if self.pseudonym is None:
            return conversation_id
        if self._pseudonyms is None:
            self.start_blocking()
        if self._pseudonyms is None:
            raise StoreError("privacy: hash needs its key, which the store did not give yet; or set security.id_secret")
        return self._pseudonyms.known_as(conversation_id)

    def known_units(self, units: Sequence[str]) -> frozenset[str]:
        """Those of some units that have had a turn with this agent.

        Raises:
            StoreError: If that cannot be told: the store does not answer, or a worker has yet to bring its turns there.
        """
        known = self.store.known_units(self.agent, units)
        known |= {unit for unit in units if unit not in known and self._known(unit) is not None}
        if len(known) < len(set(units)):
            now, speed = self.clock(), self.clock.speed
            behind = now - self.store.watermark(self.agent, now, dead_after=DEAD_AFTER * speed)
            if behind > _BEHIND * speed:
                raise StoreError(
                    f"a worker has turns of the last {behind:.0f} s that are not stored yet; send it again"
                )
        return known

    def confirm(self, outcome_id: str, *, violation: bool, explanation: str | None = None) -> bool:
        """Say, as a person, whether what a classifier reported is a safety violation.

        A confirmed one stops the canary that served the conversation, as one that was reported as confirmed does; one
        that is none counts as 0 from now on. What is counted stays counted.

        Args:
            outcome_id: The ``id`` under which it was recorded.
            violation: True when it is one.
            explanation: For people.

        Returns:
            False if there is no such outcome.

        Raises:
            StoreError: If the store cannot be asked.
        """
        self.recorder.flush_and_wait(_STORED_WITHIN)
        found = self.store.outcome(self.agent, outcome_id)
        if found is None:
            return False
        self.take(
            Reported(
                conversation_id=found.conversation_id,
                name=found.name,
                value=(found.value or 1.0) if violation else 0.0,
                id=found.id,
                label=found.label,
                kind=Judge.HUMAN,
                explanation=explanation or found.explanation,
                turn_id=found.turn_id,
                confirmed=violation,
            )
        )
        return True

    def withdraw(self, outcome_id: str) -> bool:
        """Take an outcome back: its value is missing from now on. What was counted with it stays counted.

        Args:
            outcome_id: The ``id`` under which it was recorded.

        Returns:
            False if there is none.

        Raises:
            StoreError: If the store does not take it.
        """
        self.recorder.flush_and_wait(_STORED_WITHIN)
        return self.store.withdraw(self.agent, outcome_id, self.clock())

    def api(self) -> Starlette:
        """The JSON API as an ASGI application, behind tokens: ``app.mount("/canary", canary.api())``."""
        from agentcanary.api import application

        if self.guard.closed:
            log.warning("agentcanary.api_closed", agent=self.agent, remedy="set AGENTCANARY_TOKEN; agentcanary token")
        return application(self)

    async def arecord(self, conversation_id: str, name: str, value: float | None, **details: object) -> None:
        """``record``, and wait until the store has it.

        Args:
            conversation_id: The conversation.
            name: As in ``record``.
            value: As in ``record``.
            **details: The other arguments of ``record``.

        Raises:
            StoreError: If the store does not have it after five seconds. It is kept, and stored when that is possible.
        """
        self.record(conversation_id, name, value, **details)  # type: ignore[arg-type] # checked by record itself
        if not self.disabled and not await asyncio.to_thread(self.recorder.flush_and_wait, _STORED_WITHIN):
            raise StoreError(
                f"the store has not taken {name} of the conversation within {_STORED_WITHIN:g} s; it is kept in the "
                "journal and follows"
            )

    def segment(self, conversation_id: str, **segments: str) -> None:
        """Say to which segments a conversation belongs: ``canary.segment(id, language="de", tenant="acme")``.

        Metrics are then reported for each segment too, beside the whole; nothing is decided by them. A conversation
        is counted under what was known when it came of age; a name told twice counts with its later value.

        Args:
            conversation_id: The conversation.
            **segments: Name and value of each; up to five names and twenty values of each are counted.

        Raises:
            ValueError: If a name or a value cannot be one.
        """
        for told in [segment(name, value) for name, value in segments.items()]:
            self.record(conversation_id, told.outcome, 1.0)

    def dashboard(self) -> Starlette:
        """The pages and the JSON API as an ASGI application: ``app.mount("/canary", canary.dashboard())``.

        Behind the tokens of the configuration and the environment; needs the extra ``dashboard``.

        Raises:
            AgentCanaryError: If the extra is not installed.
        """
        from agentcanary.api import routes
        from agentcanary.dashboard import Source, application

        if self.guard.closed:
            log.warning(
                "agentcanary.dashboard_closed", agent=self.agent, remedy="set AGENTCANARY_TOKEN; agentcanary token"
            )
        source = Source(store=self.store, clock=self.clock, guard=self.guard, agent=self.agent, config=self.config)
        return application(source, api=routes(self))

    def conversation(self, key: str) -> DirectTurn:
        """One turn of a conversation that is not HTTP: ``with canary.conversation(key) as turn:``, sync or async.

        Args:
            key: The conversation id.
        """
        try:
            unit = self.unit_of(key)
        except StoreError as error:
            self.degraded("secrets", error)
            # On stable, in no statistic: nothing may be kept under a name that is not its own.
            unit = ""
        return DirectTurn(self, unit)

    async def start(self) -> None:
        """Start threads and connections, unless they run. Waits at most until the store answered once."""
        loop = asyncio.get_running_loop()
        started = asyncio.Event()

        def run() -> None:
            try:
                self.start_blocking()
            finally:
                with suppress(RuntimeError):  # The loop was closed meanwhile.
                    loop.call_soon_threadsafe(started.set)

        # Not the event loop's own pool: the agent's work may fill it.
        threading.Thread(target=run, name="agentcanary-start", daemon=True).start()
        await started.wait()

    def start_blocking(self) -> None:
        """``start`` for code without an event loop. Raises nothing: what fails is tried again."""
        if self.disabled:
            return
        with self._lock:
            if self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._prepare_secrets()
            self.recorder.start()
            self.snapshots.poll()
            self.snapshots.start()
            if self.config.controller:
                self._control.start()

    async def stop(self) -> None:
        """Store what is left and end the threads."""
        await asyncio.to_thread(self.stop_blocking)

    def stop_blocking(self) -> None:
        """``stop`` for code without an event loop."""
        with self._lock:
            if self._pid != os.getpid():
                return
            self._pid = 0
            self._control.stop()
            self.snapshots.stop()
            self.recorder.close()
            self.pins.close()
            self.aliases.close()
            self.store.close()

    def _totals(self) -> dict[str, int]:
        """What went wrong in this process, for the heartbeat."""
        return {**self.degraded.totals, **{f"no_conversation_id:{problem}": n for problem, n in self.without.items()}}

    def _known(self, unit: str) -> Assignment | None:
        """The assignment of a unit that this process has seen lately, by its id or by one that a server made."""
        view, unit = self.snapshots.view, self.aliases.known(unit) or unit
        return self.pins.known(view, unit, bucket(view.salt, unit))

    def _shown(self, unit: str) -> str:
        """What traces show of a unit with ``telemetry.privacy: hash``."""
        return "" if self._pseudonyms is None else self._pseudonyms.known_as(unit)

    def _pseudonym(self, conversation_id: str) -> str | None:
        """The pseudonym of an id that a client sent; None, and on stable, while its key is not known."""
        if self._pseudonyms is None:
            self.without_conversation("no_key")
            return None
        return self._pseudonyms.of(conversation_id)

    def _forcing(self, secret: str | None) -> Forcing | None:
        """Who may force an arm; None where nobody may, so that no request is looked at for it."""
        security = self.config.security
        # A mesh has obeyed the header by the time a request is here: whoever sent it is no user who was drawn.
        trust_header = security.trust_header or self._deployed is not None
        if not (security.testers or trust_header or security.trusted_peers):
            return None
        return Forcing(self.agent, secret=secret, trust_header=trust_header, trusted_peers=security.trusted_peers)

    def _finder(self, users: Sequence[tuple[str, object]] | None = None) -> Finder:
        """What finds conversations; with the places of users, what finds them."""
        conversation = self.config.conversation
        find = partial(finder, max_body=conversation.max_body_bytes, max_length=conversation.max_id_length)
        if users is not None:
            return find(users)
        return find(
            [extractor.named for extractor in conversation.id_from],
            cookie=self.cookie,
            presets=conversation.presets,
            turn=[extractor.named for extractor in conversation.turn_from],
            every=self.watching is not None,
        )

    def _prepare_secrets(self) -> None:
        """Take the secrets that all workers share; while the store does not give them, some of this process."""
        if self._take_secrets():
            return
        self._use_cookie(self.config.security.cookie_secret or new_secret())
        process = self._pid

        def again() -> None:
            while self._pid == process and not self._take_secrets():
                time.sleep(_ASK_SECRETS_EVERY)

        threading.Thread(target=again, name=f"agentcanary-secrets-{self.agent}", daemon=True).start()

    def _take_secrets(self) -> bool:
        try:
            secrets = shared_secrets(self.config.security, os.environ, self.store)
        except AgentCanaryError as error:
            self.degraded("secrets", error)
            return False
        self._pseudonyms = secrets.ids
        self.forcing = self._forcing(secrets.testers if self.config.security.testers else None)
        self._use_cookie(secrets.cookie)
        return True

    def _use_cookie(self, secret: str) -> None:
        places = self.config.conversation.id_from
        names = [extractor.name for extractor in places if extractor.place is Place.SIGNED_COOKIE]
        self.cookie = SignedCookie(secret, name=names[0]) if names else None
        self.finder = self._finder()


def watching_of(config: Config) -> Watching | None:
    """How responses are watched, or None where nothing is read in them."""
    responses, conversation = config.responses, config.conversation
    if not (responses.watched or conversation.presets or conversation.turn_from):
        return None
    own = protocol_of(responses.error_if) if responses.error_if else None
    return Watching(responses.protocols, own, measures=responses.measure)


def journals_folder(config: Config) -> Path:
    """The folder of the journals: beside an SQLite file, else beside the configuration."""
    database = make_url(config.store)
    if database.get_backend_name() == "sqlite" and database.database:
        return Path(f"{database.database}.journals")
    beside = config.file.parent if config.file is not None else Path.cwd()
    # What waits for one database must never be adopted for another one.
    which = blake2b(database.set(password=None).render_as_string().encode(), digest_size=6).hexdigest()
    return beside / ".agentcanary" / f"{database.database or 'store'}-{which}.journals"


def configuration_hash(config: Config) -> str:
    """The same in two workers that would make the same rollout."""
    meaning = json.dumps([config.agent, config.stable, config.canary, config.plan.to_dict()], sort_keys=True)
    return blake2b(meaning.encode(), digest_size=6).hexdigest()
