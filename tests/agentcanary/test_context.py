"""The current assignment, in and outside of turns, and as a FastAPI dependency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from agentcanary import Assignment, CanaryMiddleware, current, current_assignment, current_version
from agentcanary.assignment import bucket
from agentcanary.context import current_turn, outbound_headers, set_stable_version

if TYPE_CHECKING:
    from tests.agentcanary.conftest import FakeHost


def conversation(host: FakeHost, *, canary: bool) -> str:
    view = host.shown
    return next(
        f"c-{number}" for number in range(1000) if (bucket(view.salt, f"c-{number}").assignment < view.weight) is canary
    )


def test_outside_of_a_turn_there_is_no_assignment() -> None:
    assert current() is None
    assert current_turn() is None
    assert outbound_headers() == {}


def test_outside_of_a_turn_the_version_is_stables() -> None:
    set_stable_version("support", "support-v1")
    assert current_version() == "support-v1"


@pytest.mark.parametrize("agents", [[], ["search", "support"]], ids=["none", "several"])
def test_where_the_version_is_unknown_that_is_an_error_which_names_the_agents(agents: list[str]) -> None:
    for agent in agents:
        set_stable_version(agent, f"{agent}-v1")
    with pytest.raises(LookupError, match="search, support" if agents else "none"):
        current_version()


@pytest.mark.parametrize(("canary", "version"), [(True, "support-v2"), (False, "support-v1")])
def test_fastapi_takes_it_as_a_dependency(host: FakeHost, canary: bool, version: str) -> None:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.add_middleware(CanaryMiddleware, canary=host)

    @app.get("/async")
    async def in_the_loop(
        assignment: Annotated[Assignment | None, Depends(current_assignment)],
        name: Annotated[str, Depends(current_version)],
    ) -> dict[str, Any]:
        return {"arm": assignment and assignment.arm, "version": name, "headers": outbound_headers()}

    @app.get("/sync")
    def in_a_thread(name: Annotated[str, Depends(current_version)]) -> dict[str, Any]:
        assignment = current()
        return {"arm": assignment and assignment.arm, "version": name, "headers": outbound_headers()}

    expected = {
        "arm": "canary" if canary else "stable",
        "version": version,
        "headers": {"x-canary": "true"} if canary else {},
    }
    headers = {"x-conversation-id": conversation(host, canary=canary)}
    with TestClient(app) as client:
        for path in ("/async", "/sync"):
            # Parameters of a request must not reach what chooses the agent.
            assert client.get(path, params={"agent": "other"}, headers=headers).json() == expected
        assert client.get("/openapi.json").json()["paths"]["/async"]["get"].get("parameters") is None
