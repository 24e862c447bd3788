"""``Canary``: what an application holds. It wires the pieces of one agent, starts them and stops them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike
from time import perf_counter

import structlog
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from starlette.applications import Starlette

from agentcanary.aliases import AliasKeeper
from agentcanary.assignment import RolloutView
from agentcanary.clock import Clock, SystemClock
from agentcanary.config import Config, Place, Privacy, load_config
from agentcanary.config.fingerprint import configuration_hash
from agentcanary.config.journals import journals_folder
from agentcanary.context import set_stable_version
from agentcanary.controller import Controller, ControlThread
from agentcanary.conversation import Finder, SignedCookie, finder
from agentcanary.degraded import Degraded
from agentcanary.deployment import deployed_arm, mesh_weights, remote_versions
from agentcanary.direct import DirectTurn
from agentcanary.effects.notifications import Notifier, NotifyAll, notifiers_from
from agentcanary.errors import AgentCanaryError, StoreError
from agentcanary.outcomes import Record
from agentcanary.pins import PinKeeper
from agentcanary.recorder import Recorder
from agentcanary.recording import Recording
from agentcanary.security import Forcing, Guard, Pseudonyms, new_secret
from agentcanary.settled import Settling
from agentcanary.shared_secrets import shared_secrets
from agentcanary.snapshot import SnapshotKeeper
from agentcanary.store import Store
from agentcanary.telemetry import Telemetry
from agentcanary.versions import Registry
from agentcanary.watching import Watching

_DISABLED = "AGENTCANARY_DISABLED"
_ASK_SECRETS_EVERY = 1.0

log = structlog.get_logger("agentcanary")


class Canary(Recording):
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
        self.watching = Watching.configured(config)
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

    def view(self) -> tuple[RolloutView, bool]:
        """The rollout as this process knows it, and whether that is fresh. No lock, no I/O."""
        snapshots = self.snapshots
        return snapshots.view, perf_counter() < snapshots.fresh_until

    def without_conversation(self, problem: str) -> None:
        """Count a request without a usable conversation id, by its problem."""
        self.without[problem] += 1

    def api(self) -> Starlette:
        """The JSON API as an ASGI application, behind tokens: ``app.mount("/canary", canary.api())``."""
        from agentcanary.api import application

        if self.guard.closed:
            log.warning("agentcanary.api_closed", agent=self.agent, remedy="set AGENTCANARY_TOKEN; agentcanary token")
        return application(self)

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
