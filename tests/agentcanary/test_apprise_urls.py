"""Notifications through apprise, to a server of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from agentcanary.config import parse_config
from agentcanary.effects.apprise_urls import AppriseNotifier
from agentcanary.effects.events import Notification
from agentcanary.effects.notifications import NotifyAll, notifiers_from
from agentcanary.effects.templates import worded
from agentcanary.errors import ConfigError, NotificationError

TOLD = Notification(
    id="r-1:3:1",
    event="rolled_back",
    at=1_760_000_000.0,
    agent="support",
    rollout="support-0123456789",
    stable="support-v1",
    canary="support-v2",
    phase="rolled_back",
    stage="ramp_25",
    weight=0.05,
    message="support: support-v2 is rolled back: errors",
    severity="warning",
    reasons=("error_rate: harm is proven", "p95_latency: suspect"),
)
NAMES = "agent: support\nstable: support-v1\ncanary: support-v2\n"


class Receiver:
    """An HTTP server that keeps what it is sent, and answers with a status."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.status = 200
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.bodies.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/hook-secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_service_gets_title_message_and_severity(receiver: Receiver) -> None:
    AppriseNotifier(receiver.url)(TOLD)
    (body,) = receiver.bodies
    assert body["title"] == "support: rolled back"
    assert body["message"] == TOLD.message
    assert body["type"] == "warning"


def test_a_service_that_refuses_is_tried_again_and_its_secret_is_shown_nowhere(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.status = 503
    notifier = AppriseNotifier(receiver.url)
    everybody = NotifyAll([notifier])
    with pytest.raises(NotificationError, match=r"^apprise json://…: the message was not taken$"):
        everybody(TOLD)
    receiver.status = 200
    everybody(TOLD)
    assert len(receiver.bodies) == 2
    shown = repr(notifier) + caplog.text + "".join(capfd.readouterr())
    assert "secret" not in shown


def test_an_url_that_apprise_does_not_know_is_named_without_what_it_hides() -> None:
    with pytest.raises(NotificationError, match=r"^apprise slak://… is no URL that apprise knows") as raised:
        AppriseNotifier("slak://TokenA/hunter2")(TOLD)
    assert "hunter2" not in str(raised.value)


def test_without_apprise_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcanary.effects.apprise_urls.find_spec", lambda _: None)
    with pytest.raises(NotificationError, match=r"needs apprise: pip install 'agentcanary\[notify\]'"):
        AppriseNotifier("slack://TokenA/TokenB/TokenC")


def test_a_target_hears_of_the_events_that_it_asked_for_in_its_own_words(receiver: Receiver) -> None:
    text = f"""notify:
- apprise: {receiver.url}
  events: [rolled_back, safety_stop]
  template: "[{{severity}}] {{agent}} {{canary}} at {{weight}}: {{reasons}}"
"""
    (notifier,) = notifiers_from(parse_config(NAMES + text))
    notifier(TOLD)
    notifier(Notification(**{name: getattr(TOLD, name) for name in Notification.__slots__} | {"event": "promoted"}))
    (body,) = receiver.bodies
    assert body["message"] == "[warning] support support-v2 at 5 %: error_rate: harm is proven; p95_latency: suspect"
    assert worded(TOLD, None) is TOLD


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{apprise: 7}", "has an apprise that is no URL of apprise"),
        ("{apprise: 'hunter2'}", "has an apprise that is no URL of apprise"),
        ("{apprise: 'slack://a', webhook: 'https://a/b'}", "must be 'log' or 'webhook: https://…' or 'apprise: slack"),
        ("{apprise: 'slack://a', event: [x]}", "must be 'log' or 'webhook"),
        (
            "{apprise: 'slack://a', events: [exploded]}",
            "has the event 'exploded', which there is not; events are",
        ),
        ("{apprise: 'slack://a', events: promoted}", "has events that are no list, got 'promoted'; write events: ["),
        ("{apprise: 'slack://a', template: '{agnet}'}", "has a template with {agnet}, which is no field; fields are"),
        ("{apprise: 'slack://a', template: '{agent.x}'}", "has a template with {agent.x}, which is no field"),
        ("{apprise: 'slack://a', template: '{agent!r}'}", "has a template with {agent!r}, which is no field"),
        ("{apprise: 'slack://a', template: '{'}", "has a template with a stray brace"),
        ("{apprise: 'slack://a', template: ''}", "has a template that is no text"),
    ],
)
def test_a_mistake_in_a_target_is_named_with_its_remedy(entry: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(NAMES + f"notify: [{entry}]")
    (mistake,) = raised.value.mistakes
    assert message in mistake
    assert mistake.startswith("canary.yaml:4: notify[0]")
    assert "hunter2" not in mistake
