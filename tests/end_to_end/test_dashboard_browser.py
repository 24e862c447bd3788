"""The pages in a real browser, over an agent that serves conversations: seen, followed, and acted on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from agentcanary import Canary, CanaryMiddleware, current_version
from agentcanary.config import parse_config
from agentcanary.rollout import Phase
from agentcanary.state_machine import Action, ActionKind, advance

pytestmark = pytest.mark.needs("chromium")

TOKEN = "anna-token-of-many-characters"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
CONFIG = """
agent: support
stable: support-v1
canary: support-v2
look_every: 500ms
canary_stages:
  - {name: half, weight: 0.5, duration: 1h, min_requests: 100, checks: ["error_rate_increase < 0.10"]}
  - {name: full, weight: 1.0}
security:
  tokens: [{name: anna, scopes: [operate], env: ANNA_TOKEN}]
""".replace("500ms", "0.5s")


async def chat(_request: Request) -> JSONResponse:
    return JSONResponse({"version": current_version()})


@dataclass
class Agent:
    """A running agent with its pages."""

    canary: Canary
    url: str
    asked: int = 0

    def versions(self, conversations: int) -> list[str]:
        """The version of the first turn of each of some new conversations."""
        found = []
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            for _ in range(conversations):
                self.asked += 1
                headers = {"x-conversation-id": f"c{self.asked}"}
                found.append(client.post("/chat", headers=headers).json()["version"])
        return found


@contextmanager
def serving(canary: Canary) -> Iterator[str]:
    app = Starlette(
        routes=[Route("/chat", chat, methods=["POST"]), Mount("/canary", canary.dashboard())],
        middleware=[Middleware(CanaryMiddleware, canary=canary)],
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10.0)
        listener.close()


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANNA_TOKEN", TOKEN)
        patch.delenv("AGENTCANARY_DISABLED", raising=False)
        folder = tmp_path_factory.mktemp("agent")
        canary = Canary(parse_config(CONFIG, str(folder / "canary.yaml")), notifiers=[])
        with serving(canary) as url:
            made = Agent(canary, url)
            until(lambda: "support-v2" in made.versions(10))
            yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Seat:
    """A person at a browser, and everything that the browser complained about or asked for."""

    page: Page
    context: BrowserContext
    complaints: list[str]
    asked: list[str]


@contextmanager
def seat(chromium: Browser, agent: Agent, **look: Any) -> Iterator[Seat]:
    """A browser of its own, signed in, on the page of the newest rollout."""
    context = chromium.new_context(**look)
    page = context.new_page()
    page.set_default_timeout(15_000)
    one = Seat(page, context, [], [])
    page.on("console", lambda said: one.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: one.complaints.append(str(error)))
    page.on("request", lambda request: one.asked.append(request.url))
    rollout = agent.canary.store.rollouts("support")[0]
    page.goto(f"{agent.url}/canary/rollout/{rollout.id}")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector("#verdict")
    yield one
    context.close()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to hold within {seconds:g} s"
        time.sleep(0.05)


def test_pages_are_strict_ask_nobody_else_and_fit_a_phone(agent: Agent, chromium: Browser, tmp_path: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 780}, "color_scheme": "dark"}
    with seat(chromium, agent, **phone) as at:
        page = at.page
        widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1]
        # Nothing is smaller than a finger, and what has the focus can be seen.
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        heights = page.evaluate("[...document.querySelectorAll('button, .do > summary')].map(e => e.offsetHeight)")
        assert min(height for height in heights if height) >= 40
        # Colours follow the person's choice.
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.emulate_media(color_scheme="light")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        # A chart of the page is drawn, and shown although the policy forbids nearly everything.
        page.wait_for_function(
            "() => { const i = document.querySelector('#evidence img'); i.scrollIntoView(); return i.naturalWidth > 0 }"
        )
        page.screenshot(path=tmp_path / "phone.png")
        assert at.complaints == []
        assert {url.split("/canary")[0] for url in at.asked} == {agent.url}


def test_a_page_follows_the_rollout_without_being_loaded_again(agent: Agent, chromium: Browser) -> None:
    with seat(chromium, agent) as at:
        page = at.page
        page.evaluate("window.stayed = true")
        page.wait_for_selector("#liveness[data-state=live]")
        # A form that somebody fills in is not taken from under their hands.
        page.click("#do-pause summary")
        page.fill("#reason-pause", "half a sent")
        store, clock = agent.canary.store, agent.canary.clock
        act(store, clock, ActionKind.PAUSE)
        page.wait_for_selector("#verdict >> text=paused")
        assert page.input_value("#reason-pause") == "half a sent"
        page.keyboard.press("Escape")
        page.evaluate("document.activeElement.blur()")
        page.wait_for_selector("#do-resume")
        act(store, clock, ActionKind.RESUME)
        page.wait_for_selector("#verdict >> text=in progress")
        assert page.evaluate("window.stayed")
        assert at.complaints == []


def act(store: Any, clock: Any, kind: ActionKind) -> None:
    """What somebody else does meanwhile."""
    until(lambda: _acted(store, clock, kind))


def _acted(store: Any, clock: Any, kind: ActionKind) -> bool:
    from agentcanary.errors import ConflictError

    before = store.current("support")
    transition = advance(before, Action(kind=kind, actor="eve", reason="meanwhile"), now=clock())
    try:
        store.save(transition, expected_revision=before.revision, now=clock())
    except ConflictError:
        return False
    return True


def test_a_page_works_without_a_script_and_by_keyboard_and_its_rollback_stops_the_canary(
    agent: Agent, chromium: Browser
) -> None:
    assert "support-v2" in agent.versions(40)
    with seat(chromium, agent, java_script_enabled=False) as at, seat(chromium, agent) as other:
        page = at.page
        other.page.wait_for_selector("#liveness[data-state=live]")
        page.focus("#do-rollback summary")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.type("it answers in the wrong language")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Done: rollback")
        clicked = time.monotonic()
        rollout = agent.canary.store.current("support")
        assert rollout is not None
        assert (rollout.phase, rollout.reason) == (Phase.ROLLED_BACK, "it answers in the wrong language")
        until(lambda: agent.canary.view()[0].weight == 0)
        assert time.monotonic() - clicked < 3
        assert set(agent.versions(60)) == {"support-v1"}
        # Whoever else looks sees it without doing anything.
        other.page.wait_for_selector("#verdict >> text=rolled back")
        assert "anna" in other.page.inner_text("#audit")
        assert other.complaints == []
    assert agent.canary.without == {}
