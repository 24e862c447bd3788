"""Tidying up: what the configuration says, by whoever holds the lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentcanary import ConfigError
from agentcanary.config import Retention, parse_config
from agentcanary.controller import Controller
from agentcanary.housekeeping import BOOKS_KEPT, tidy_up
from agentcanary.store import Store
from agentcanary.testing import FrozenClock

DAY = 86_400.0


class Shelves:
    def __init__(self) -> None:
        self.asked: dict[str, float] = {}

    def prune(self, before: float, *, slices: int = 1) -> int:
        self.asked["conversations"] = before
        return 3

    def prune_nameless(self) -> int:
        return 0

    def prune_looks(self, before: float) -> int:
        self.asked["looks"] = before
        return 0

    def prune_books(self, before: float) -> None:
        self.asked["books"] = before


def test_each_thing_is_kept_as_long_as_is_configured() -> None:
    shelves = Shelves()
    tidy_up(shelves, Retention(conversations=90 * DAY, looks=365 * DAY), now=1000 * DAY)
    assert shelves.asked == {"conversations": 910 * DAY, "looks": 635 * DAY, "books": 1000 * DAY - BOOKS_KEPT}


def test_what_is_not_configured_is_kept_for_ever() -> None:
    shelves = Shelves()
    tidy_up(shelves, Retention(), now=1000 * DAY)
    assert set(shelves.asked) == {"books"}


def test_a_file_states_it_in_days_and_is_refused_what_would_lose_conversations_before_they_count() -> None:
    text = "agent: support\nstable: v1\nretention: {{conversations: {}}}\n"
    assert parse_config(text.format("90d")).retention.conversations == 90 * DAY
    with pytest.raises(ConfigError, match=r"retention\.conversations must be at least 1d, got 2h"):
        parse_config(text.format("2h"))
    with pytest.raises(ConfigError, match="must be at least 3d, got 2d"):
        parse_config(text.format("2d") + "horizon: 3d\n")


def test_only_the_worker_with_the_lease_tidies_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config("agent: support\nstable: v1\n", filename=str(tmp_path / "canary.yaml"))
    store, clock = Store(config.store), FrozenClock()
    asked: list[str] = []

    def controller(owner: str) -> Controller:
        return Controller(
            store,
            agent="support",
            stable="v1",
            canary=None,
            plan=config.plan,
            clock=clock,
            owner=owner,
            notify=lambda _: None,
        )

    monkeypatch.setattr(store, "prune_books", lambda _before: asked.append("tidied"))
    first, second = controller("a"), controller("b")
    first.tidy()
    for one in (first, second):
        one.look()
        one.tidy()
    assert asked == ["tidied"]
    store.close()
