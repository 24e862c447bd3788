"""The middleware on ASGI messages: what reaches the application, on which version, and what is recorded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentcanary import current, current_version
from agentcanary.assignment import Pin, Reason, bucket
from agentcanary.context import set_stable_version
from agentcanary.conversation import Finder, Header, JsonField, SignedCookie, finder
from agentcanary.errors import StoreError
from agentcanary.middleware import CanaryMiddleware
from agentcanary.mounted import is_ours
from agentcanary.outcomes import TurnOutcome
from agentcanary.security import Forcing, Pseudonyms
from agentcanary_analysis.aggregates import Arm

if TYPE_CHECKING:
    from tests.agentcanary.conftest import Exchange, FakeHost, Receive, Send

MakeScope = Callable[..., dict[str, Any]]
MakeExchange = Callable[..., "Exchange"]
JSON = (b"content-type", b"application/json")


class Agent:
    """An application that answers with the version that serves it, and keeps what it was given."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.versions: list[str] = []
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.reads = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.versions.append(current_version())
        if self.reads:
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{self.name}{current_version()}".encode()})


@pytest.fixture
def agent() -> Agent:
    return Agent()


def unit_on(host: FakeHost, arm: Arm, below: float = 1.0) -> str:
    """A conversation id whose hash falls on an arm."""
    view = host.shown
    for number in range(10_000):
        share = bucket(view.salt, f"c-{number}").assignment
        if (share < view.weight) is (arm is Arm.CANARY) and share < below:
            return f"c-{number}"
    raise AssertionError("no such unit")


def call(app: Any, scope: dict[str, Any], talk: Exchange) -> Exchange:
    asyncio.run(app(scope, talk.receive, talk.send))
    return talk


class TestAssigning:
    @pytest.mark.parametrize(("arm", "version"), [(Arm.STABLE, "support-v1"), (Arm.CANARY, "support-v2")])
    def test_the_application_sees_the_version_of_the_conversations_arm(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange, arm: Arm, version: str
    ) -> None:
        unit = unit_on(host, arm)
        talk = call(CanaryMiddleware(agent, canary=host), scope(unit), exchange())
        assert talk.body.decode() == version
        state = agent.scopes[0]["state"]["agentcanary"]
        assert (state.unit, state.arm, state.version) == (unit, arm, version)
        started, ended = host.records
        assert started.assignment is ended.assignment is state  # type: ignore[union-attr] # turns, see FakeHost
        assert host.ended[0].outcome is TurnOutcome.OK
        assert host.failures == []

    def test_a_pinned_conversation_keeps_its_version_when_the_weight_changes(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(agent, canary=host)
        unit = unit_on(host, Arm.CANARY)
        for weight in (0.5, 0.0, 1.0, 0.0):
            host.shown = replace(host.shown, weight=weight, max_weight=1.0, epoch=host.shown.epoch + 1)
            call(app, scope(unit), exchange())
        assert agent.versions == ["support-v2"] * 4
        assert {record.assignment.epoch for record in host.started} == {1}

    def test_a_pin_of_another_worker_is_followed(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        unit = unit_on(host, Arm.CANARY)
        host.store.pins["support", "r-1", unit] = Pin(Arm.STABLE, 0)
        talk = call(CanaryMiddleware(agent, canary=host), scope(unit), exchange())
        assert talk.body == b"support-v1"
        assert host.started[0].assignment.reason is Reason.PINNED

    def test_a_conversation_that_cannot_be_ambiguous_never_touches_the_store(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(agent, canary=host)
        for _ in range(3):
            call(app, scope(unit_on(host, Arm.STABLE)), exchange())
        assert (host.store.reads, host.store.writes) == ([], [])

    def test_a_canary_conversation_asks_the_store_once_in_a_process(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(agent, canary=host)
        unit = unit_on(host, Arm.CANARY)
        for _ in range(3):
            call(app, scope(unit), exchange())
        assert (host.store.reads, host.store.writes) == ([unit], [])

    def test_after_a_rollback_the_next_turn_is_stables_without_asking_the_store(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(agent, canary=host)
        unit = unit_on(host, Arm.CANARY)
        call(app, scope(unit), exchange())
        host.shown = replace(host.shown, open=False, taken_back=True, canary="support-v1", weight=0.0)
        call(app, scope(unit), exchange())
        assert agent.versions == ["support-v2", "support-v1"]
        assert host.started[1].assignment.reason is Reason.TAKEN_BACK
        assert host.store.reads == [unit]

    def test_with_sticky_false_each_request_is_a_unit(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.shown = replace(host.shown, sticky=False)
        app = CanaryMiddleware(agent, canary=host)
        for _ in range(64):
            call(app, scope("the same conversation"), exchange())
        units = {record.assignment.unit for record in host.started}
        assert len(units) == 64
        assert set(agent.versions) == {"support-v1", "support-v2"}
        assert host.store.reads == []

    def test_by_user_all_conversations_of_a_user_fall_alike(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.user_finder = Finder((Header("x-user"), JsonField("user")))
        app = CanaryMiddleware(agent, canary=host)
        canary_user = unit_on(host, Arm.CANARY)
        for number in range(20):
            call(app, scope(f"conversation {number}", (b"x-user", canary_user.encode())), exchange())
        assert set(agent.versions) == {"support-v2"}
        body = b'{"user": "%s"}' % canary_user.encode()
        agent.reads = True
        message = {"type": "http.request", "body": body, "more_body": False}
        call(app, scope("another", JSON, method="POST"), exchange(message))
        assert (agent.versions[-1], agent.bodies) == ("support-v2", [body])

    def test_by_user_a_conversation_without_a_user_is_drawn_by_itself(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.user_finder = Finder((Header("x-user"),))
        call(CanaryMiddleware(agent, canary=host), scope(unit_on(host, Arm.CANARY)), exchange())
        assert agent.versions == ["support-v2"]

    @pytest.mark.parametrize(("trusted", "version"), [(True, "support-v2"), (False, "support-v1")])
    def test_the_testers_header_forces_the_canary_where_it_is_trusted(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange, trusted: bool, version: str
    ) -> None:
        host.forcing = Forcing("support", secret=None, trust_header=trusted)
        unit = unit_on(host, Arm.STABLE)
        call(CanaryMiddleware(agent, canary=host), scope(unit, (b"x-canary", b"true")), exchange())
        assert agent.versions == [version]
        assert host.started[0].assignment.excluded == ("forced" if trusted else None)

    def test_the_testers_header_must_say_true(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.forcing = Forcing("support", secret=None, trust_header=True)
        call(CanaryMiddleware(agent, canary=host), scope(unit_on(host, Arm.STABLE), (b"x-canary", b"1")), exchange())
        assert agent.versions == ["support-v1"]

    @pytest.mark.parametrize("arm", list(Arm))
    def test_a_testers_token_forces_its_arm_until_it_expires(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange, arm: Arm
    ) -> None:
        forcing = host.forcing = Forcing("support", secret="0123456789abcdef")
        now = host.clock()
        other = next(one for one in Arm if one is not arm)
        unit = unit_on(host, other)
        for expires_at in (now + 60.0, now):
            token = forcing.token("ann", arm, expires_at=expires_at, now=now - 1.0)
            call(CanaryMiddleware(agent, canary=host), scope(unit, (b"x-canary", token.encode())), exchange())
        assert agent.versions == [host.shown.version(arm), host.shown.version(other)]
        assert [turn.assignment.excluded for turn in host.started] == ["forced", None]

    def test_what_of_ours_is_mounted_is_no_turn(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        set_stable_version("support", "support-v1")
        ours = Agent("ours")
        is_ours(ours)
        app = Starlette(routes=[Mount("/canary", ours), Mount("/", agent)])
        middleware = CanaryMiddleware(app, canary=host)
        for path in ("/canary/outcomes", "/canary/rollouts", "/canary", "/canary-chat"):
            call(middleware, scope("c-1", path=path), exchange())
        assert len(ours.versions) + len(agent.versions) == 4
        assert [record.assignment.unit for record in host.started] == ["c-1"]


class TestPrivacy:
    def test_with_pseudonyms_no_raw_id_is_recorded(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.pseudonym = Pseudonyms(b"0123456789abcdef").of
        call(CanaryMiddleware(agent, canary=host), scope("customer-77"), exchange())
        call(CanaryMiddleware(agent, canary=host), scope("customer-77"), exchange())
        units = [record.assignment.unit for record in host.started]
        assert units[0] == units[1] == host.pseudonym("customer-77")
        assert "customer-77" not in repr(host.records) + repr(host.store.pins)

    def test_an_id_that_looks_like_a_pseudonym_is_hashed_all_the_same(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.pseudonym = Pseudonyms(b"0123456789abcdef").of
        theirs = host.pseudonym("customer-77") or ""
        call(CanaryMiddleware(agent, canary=host), scope(theirs), exchange())
        assert host.started[0].assignment.unit != theirs

    def test_without_the_key_a_conversation_is_on_stable_and_nowhere_else(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.pseudonym = lambda _: None
        call(CanaryMiddleware(agent, canary=host), scope(unit_on(host, Arm.CANARY)), exchange())
        assert agent.versions == ["support-v1"]
        assert [record.assignment.unit for record in host.started] == [""]


class TestConversationIds:
    def test_a_request_without_one_is_served_by_stable_and_counted(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        call(CanaryMiddleware(agent, canary=host), scope(None), exchange())
        call(CanaryMiddleware(agent, canary=host), scope(b"\xff"), exchange())
        assert agent.versions == ["support-v1", "support-v1"]
        assert host.without == {"absent": 1, "invalid_utf8": 1}
        assert [record.assignment.unit for record in host.started] == ["", ""]
        assert {record.assignment.excluded for record in host.started} == {"no_conversation_id"}
        assert host.failures == []

    def test_the_body_that_was_looked_into_reaches_the_application(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        agent.reads = True
        unit = unit_on(host, Arm.CANARY)
        body = b'{ "conversation_id" : "%s"}' % unit.encode()
        message = {"type": "http.request", "body": body, "more_body": False}
        call(CanaryMiddleware(agent, canary=host), scope(None, JSON, method="POST"), exchange(message))
        assert (agent.bodies, agent.versions) == ([body], ["support-v2"])

    def test_a_browser_gets_our_cookie_and_is_recognised_by_it(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.cookie = SignedCookie("a secret of sixteen")
        host.finder = finder(cookie=host.cookie)
        app = CanaryMiddleware(agent, canary=host)
        browser = (b"sec-fetch-mode", b"navigate")
        first = call(app, scope(None, browser), exchange())
        pair = first.headers[b"set-cookie"].partition(b";")[0]
        second = call(app, scope(None, browser, (b"cookie", pair)), exchange())
        assert b"set-cookie" not in second.headers
        one, two = (record.assignment.unit for record in host.started)
        assert one == two != ""

    def test_no_cookie_is_given_to_what_is_no_browser_or_sends_something_unusable(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.cookie = SignedCookie("a secret of sixteen")
        host.finder = finder(cookie=host.cookie)
        app = CanaryMiddleware(agent, canary=host)
        assert b"set-cookie" not in call(app, scope(None), exchange()).headers
        too_long = scope(b"x" * 300, (b"sec-fetch-mode", b"cors"))
        assert b"set-cookie" not in call(app, too_long, exchange()).headers
        assert host.without == {"absent": 1, "too_long": 1}

    def test_excluded_paths_are_no_turns(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        set_stable_version("support", "support-v1")
        app = CanaryMiddleware(agent, canary=host, exclude=["/health"])
        call(app, scope(path="/health/live"), exchange())
        assert host.records == []
        assert "state" not in agent.scopes[0]


class TestNothingOfOursBreaksARequest:
    def test_a_broken_store_serves_stable_and_keeps_the_unit_in_its_arm(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.store.failing_reads = StoreError("disk full")
        app = CanaryMiddleware(agent, canary=host)
        call(app, scope(unit_on(host, Arm.CANARY)), exchange())
        call(app, scope(unit_on(host, Arm.STABLE)), exchange())
        assert agent.versions == ["support-v1", "support-v1"]
        canary, stable = (record.assignment for record in host.started)
        assert (canary.arm, canary.reason, canary.excluded) == (Arm.CANARY, Reason.FALLBACK, None)
        assert (stable.arm, stable.reason, stable.excluded) == (Arm.STABLE, Reason.SPLIT, None)
        assert host.kinds == ["pin_lookup"]

    def test_a_bug_in_an_extractor_is_counted_and_the_request_served(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        def broken(_: object) -> str | None:
            raise ZeroDivisionError

        host.finder = Finder((broken,))
        assert call(CanaryMiddleware(agent, canary=host), scope(), exchange()).body == b"support-v1"
        assert host.kinds == ["extractor"]
        assert host.without == {"extractor_failed": 1}

    def test_a_bug_of_ours_before_the_application_serves_stable(
        self,
        host: FakeHost,
        agent: Agent,
        scope: MakeScope,
        exchange: MakeExchange,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def broken(*_: object, **__: object) -> object:
            raise RuntimeError("a bug")

        monkeypatch.setattr("agentcanary.middleware.place", broken)
        assert call(CanaryMiddleware(agent, canary=host), scope(), exchange()).body == b"support-v1"
        assert host.kinds == ["assignment"]

    def test_even_without_a_view_the_application_is_called(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(_: object) -> object:
            raise RuntimeError("a bug")

        async def app(_: object, __: object, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        monkeypatch.setattr(type(host), "view", property(broken))
        talk = call(CanaryMiddleware(app, canary=host), scope(), exchange())
        assert talk.sent[0]["status"] == 204

    def test_a_recorder_that_raises_is_counted_and_the_request_served(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.failing_put = OSError(28, "No space left on device")
        talk = call(CanaryMiddleware(agent, canary=host), scope(unit_on(host, Arm.STABLE)), exchange())
        assert talk.body == b"support-v1"
        assert host.kinds == ["record"]

    def test_a_start_that_fails_is_counted_and_the_request_served(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        host.failing_start = StoreError("no such folder")
        app = CanaryMiddleware(agent, canary=host)
        call(app, scope(unit_on(host, Arm.STABLE)), exchange())
        call(app, scope(unit_on(host, Arm.STABLE)), exchange())
        assert agent.versions == ["support-v1", "support-v1"]
        assert host.kinds == ["start"]

    def test_what_the_application_raises_is_raised_on_and_recorded(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        async def app(*_: object) -> None:
            raise LookupError("of the agent")

        with pytest.raises(LookupError, match="of the agent"):
            call(CanaryMiddleware(app, canary=host), scope(), exchange())
        assert [(turn.outcome, turn.error_type) for turn in host.ended] == [(TurnOutcome.ERROR, "LookupError")]
        assert current() is None

    @pytest.mark.parametrize("value", ["1", "true"])
    def test_disabled_everything_is_passed_on_untouched(
        self,
        host: FakeHost,
        agent: Agent,
        scope: MakeScope,
        exchange: MakeExchange,
        monkeypatch: pytest.MonkeyPatch,
        value: str,
    ) -> None:
        monkeypatch.setenv("AGENTCANARY_DISABLED", value)
        set_stable_version("support", "support-v1")
        app = CanaryMiddleware(agent, canary=host)
        request = scope(unit_on(host, Arm.CANARY))
        call(app, request, exchange())
        assert agent.versions == ["support-v1"]
        assert agent.scopes[0] is request
        assert "state" not in request
        assert (host.records, host.starts, host.store.reads) == ([], 0, [])


class TestStarting:
    def test_nothing_starts_before_the_first_request_and_then_once(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(agent, canary=host)
        assert host.starts == 0

        async def many() -> None:
            talks = [exchange() for _ in range(10)]
            await asyncio.gather(*(app(scope(), talk.receive, talk.send) for talk in talks))

        asyncio.run(many())
        asyncio.run(many())
        assert host.starts == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_it_starts_again_in_a_forked_process_with_turn_ids_of_its_own(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        app = CanaryMiddleware(agent, canary=host)
        call(app, scope(unit_on(host, Arm.STABLE)), exchange())
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            call(app, scope(unit_on(host, Arm.STABLE)), exchange())
            os.write(writer, f"{host.starts} {host.started[-1].turn_id}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        starts, turn_id = os.read(reader, 100).decode().split()
        assert starts == "2"
        assert turn_id.partition("-")[0] != host.started[0].turn_id.partition("-")[0]

    def test_turn_ids_are_unique(self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange) -> None:
        apps = [CanaryMiddleware(agent, canary=host) for _ in range(2)]
        for app in apps:
            for _ in range(5):
                call(app, scope(), exchange())
        assert len({record.turn_id for record in host.started}) == 10


class TestVersionsWithTheirOwnApplications:
    def test_each_version_goes_to_its_own_and_the_others_to_the_main_one(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        second = Agent("app two: ")
        app = CanaryMiddleware(agent, canary=host, versions={"support-v2": second})
        assert call(app, scope(unit_on(host, Arm.CANARY)), exchange()).body == b"app two: support-v2"
        assert call(app, scope(unit_on(host, Arm.STABLE)), exchange()).body == b"support-v1"

    def test_two_agents_nest(self, host: FakeHost, scope: MakeScope, exchange: MakeExchange) -> None:
        seen: dict[str, Any] = {}

        async def app(scope: Any, _: Receive, send: Send) -> None:
            seen.update(inner=current(), outer=current(agent="support"), none=current(agent="other"))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        inner = type(host)(host.clock, host.store)
        inner.shown = replace(host.shown, agent="search", stable="search-v1", canary="search-v2", salt=b"other")
        call(CanaryMiddleware(CanaryMiddleware(app, canary=inner), canary=host), scope(), exchange())
        inner.pins.close()
        assert seen["inner"].version.startswith("search")
        assert seen["outer"].version.startswith("support")
        assert seen["none"] is None


class TestLifespan:
    def run(self, app: Any) -> list[Any]:
        async def serve() -> list[Any]:
            sent: list[Any] = []
            messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

            async def receive() -> Any:
                return messages.pop(0)

            async def send(message: Any) -> None:
                sent.append(message["type"])

            await app({"type": "lifespan", "state": {}}, receive, send)
            return sent

        return asyncio.run(serve())

    def lived(self, log: list[str], name: str, *, fails: bool = False) -> Any:
        async def app(scope: Any, receive: Receive, send: Send) -> None:
            if scope["type"] != "lifespan":
                log.append(f"{name} serves with {scope['state'].get('model')}")
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
            await receive()
            if fails:
                await send({"type": "lifespan.startup.failed", "message": "no model"})
                return
            log.append(f"{name} up")
            scope["state"]["model"] = f"model of {name}"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            log.append(f"{name} down")
            await send({"type": "lifespan.shutdown.complete"})

        return app

    def test_all_lifespans_run_and_ours_around_them(self, host: FakeHost) -> None:
        log: list[str] = []
        app = CanaryMiddleware(self.lived(log, "main"), canary=host, versions={"support-v2": self.lived(log, "two")})
        assert self.run(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert log == ["two up", "main up", "main down", "two down"]
        assert (host.starts, host.stops) == (1, 1)

    def test_applications_that_know_no_lifespan_are_served_all_the_same(self, host: FakeHost) -> None:
        async def raises(scope: Any, *_: object) -> None:
            assert scope["type"] == "http", "no lifespan here"

        async def returns(*_: object) -> None:
            return

        for app in (raises, returns):
            assert self.run(CanaryMiddleware(app, canary=host, versions={"support-v2": app})) == [
                "lifespan.startup.complete",
                "lifespan.shutdown.complete",
            ]
        assert (host.starts, host.stops) == (2, 2)

    def test_a_canary_that_does_not_start_is_an_error_of_the_canary_that_no_user_sees(
        self, host: FakeHost, agent: Agent, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        log: list[str] = []
        app = CanaryMiddleware(agent, canary=host, versions={"support-v2": self.lived(log, "two", fails=True)})

        async def serve() -> Exchange:
            ready, done = asyncio.Event(), asyncio.Event()
            messages = [{"type": "lifespan.startup"}]

            async def receive() -> Any:
                if messages:
                    return messages.pop(0)
                await done.wait()
                return {"type": "lifespan.shutdown"}

            async def send(_: Any) -> None:
                ready.set()

            lifespan = asyncio.create_task(app({"type": "lifespan", "state": {}}, receive, send))
            await ready.wait()
            talk = exchange()
            await app(scope(unit_on(host, Arm.CANARY)), talk.receive, talk.send)
            done.set()
            await lifespan
            return talk

        assert asyncio.run(serve()).body == b"support-v1"
        (ended,) = host.ended
        assert (ended.outcome, ended.error_type) == (TurnOutcome.ERROR, "VersionError")
        assert (ended.assignment.arm, ended.assignment.version) == (Arm.CANARY, "support-v2")
        assert host.kinds == ["version"]

    def test_a_stable_version_that_does_not_start_keeps_the_server_from_starting(self, host: FakeHost) -> None:
        log: list[str] = []
        app = CanaryMiddleware(
            self.lived(log, "main"), canary=host, versions={"support-v1": self.lived(log, "one", fails=True)}
        )
        assert self.run(app) == ["lifespan.startup.failed"]
        assert (log, host.stops) == ([], 1)

    def test_what_a_versions_lifespan_yields_is_in_its_requests_state(
        self, host: FakeHost, scope: MakeScope, exchange: MakeExchange
    ) -> None:
        log: list[str] = []
        app = CanaryMiddleware(self.lived(log, "main"), canary=host, versions={"support-v2": self.lived(log, "two")})

        async def serve() -> None:
            done, ready = asyncio.Event(), asyncio.Event()
            messages = [{"type": "lifespan.startup"}]

            async def receive() -> Any:
                if messages:
                    return messages.pop(0)
                await done.wait()
                return {"type": "lifespan.shutdown"}

            async def send(_: Any) -> None:
                ready.set()

            lifespan = asyncio.create_task(app({"type": "lifespan", "state": {}}, receive, send))
            await ready.wait()
            talk = exchange()
            await app(scope(unit_on(host, Arm.CANARY)), talk.receive, talk.send)
            done.set()
            await lifespan

        asyncio.run(serve())
        assert "two serves with model of two" in log
