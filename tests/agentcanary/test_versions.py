"""Agent objects from factories: built once, on first use; a canary that cannot be built costs no user an answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentcanary import context
from agentcanary.assignment import Reason, RolloutView, on_stable
from agentcanary.errors import UnknownError, VersionError
from agentcanary.observe import Turn
from agentcanary.outcomes import TurnOutcome
from agentcanary.versions import Registry

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FakeHost

VIEW = RolloutView(agent="support", rollout="r-1", stable="v1", canary="v2", open=True)


class Factory:
    """Counts its calls; fails while told to."""

    def __init__(self, made: object, *, fails: bool = False) -> None:
        self.made = made
        self.fails = fails
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        if self.fails:
            raise ConnectionError("no model")
        return self.made

    async def slowly(self) -> object:
        await asyncio.sleep(0)
        return self()


def turn_on(host: FakeHost, version: str) -> Turn:
    assignment = on_stable(VIEW, "c-1", Reason.SPLIT)._replace(version=version)
    return Turn(host, assignment, 0.0, 0.0, None, None)  # type: ignore[arg-type] # it sends nothing


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_version_is_built_once_on_first_use(kind: str) -> None:
    registry, factory = Registry("support"), Factory("an agent")
    registry.register("v1", factory if kind == "plain" else factory.slowly)
    assert factory.calls == 0

    async def many() -> list[Any]:
        return await asyncio.gather(*(registry.get("v1") for _ in range(20)))

    assert asyncio.run(many()) == ["an agent"] * 20
    assert asyncio.run(many()) == ["an agent"] * 20
    assert factory.calls == 1


def test_one_who_leaves_does_not_take_the_object_away_from_the_others() -> None:
    registry, factory = Registry("support"), Factory("an agent")
    registry.register("v1", factory.slowly)

    async def run() -> Any:
        first = asyncio.create_task(registry.get("v1"))
        second = asyncio.create_task(registry.get("v1"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(run()) == "an agent"
    assert factory.calls == 1


def test_a_version_without_a_factory_is_named_with_those_that_have_one() -> None:
    registry = Registry("support")
    registry.register("v1", Factory("x"))
    with pytest.raises(UnknownError, match=r"'v3' of agent 'support' has no factory; registered: v1"):
        asyncio.run(registry.get("v3"))


def test_a_version_has_one_factory() -> None:
    registry = Registry("support")
    registry.register("v1", Factory("x"))
    with pytest.raises(ValueError, match="'v1' of agent 'support' has a factory already"):
        registry.register("v1", Factory("y"))


def test_a_factory_that_fails_is_an_error_that_names_it() -> None:
    registry = Registry("support")
    registry.register("v1", Factory("x", fails=True))
    with pytest.raises(VersionError, match="'v1' of agent 'support' could not be built: ConnectionError: no model"):
        asyncio.run(registry.get("v1"))


def test_a_factory_that_returns_nothing_fails() -> None:
    registry = Registry("support")
    registry.register("v1", lambda: None)
    with pytest.raises(VersionError, match="returned None"):
        asyncio.run(registry.get("v1"))


def test_a_factory_that_failed_is_called_again_after_a_while() -> None:
    now = [0.0]
    registry = Registry("support", retry_after=10.0, monotonic=lambda: now[0])
    factory = Factory("an agent", fails=True)
    registry.register("v1", factory)
    for _ in range(3):
        with pytest.raises(VersionError):
            asyncio.run(registry.get("v1"))
    assert factory.calls == 1
    factory.fails = False
    now[0] = 10.0
    assert asyncio.run(registry.get("v1")) == "an agent"


@pytest.mark.parametrize("missing", [True, False], ids=["no factory", "failing factory"])
def test_a_canary_that_cannot_be_built_is_served_by_stable_and_is_an_error(host: FakeHost, missing: bool) -> None:
    registry = Registry("support")
    registry.register("v1", Factory("the stable agent"))
    if not missing:
        registry.register("v2", Factory("x", fails=True))
    turn = turn_on(host, "v2")

    async def run() -> Any:
        bound = context.enter(turn)
        try:
            return await registry.get(context.current_version()), context.current_version()
        finally:
            context.leave(bound)

    assert asyncio.run(run()) == ("the stable agent", "v1")
    turn.end(TurnOutcome.OK)
    ended = turn.end_at(speed=1.0)
    assert (ended.outcome, ended.error_type) == (
        TurnOutcome.ERROR,
        "UnknownError" if missing else "ConnectionError",
    )
    assert ended.assignment.version == "v2", "it stays the canary's turn"


def test_a_stable_version_that_cannot_be_built_is_raised(host: FakeHost) -> None:
    registry = Registry("support")
    registry.register("v1", Factory("x", fails=True))

    async def run() -> Any:
        bound = context.enter(turn_on(host, "v1"))
        try:
            return await registry.get("v1")
        finally:
            context.leave(bound)

    with pytest.raises(VersionError):
        asyncio.run(run())
