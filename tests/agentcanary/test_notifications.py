from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from agentcanary.config import parse_config
from agentcanary.effects.backoff import next_attempt
from agentcanary.effects.events import Notification, cloud_event, notification
from agentcanary.effects.notifications import LogNotifier, NotifyAll, notifiers_from
from agentcanary.effects.webhook import WebhookNotifier
from agentcanary.errors import NotificationError
from agentcanary.plan import Plan, Stage
from agentcanary.rollout import Effect, EffectKind, Phase, Rollout
from agentcanary_analysis.aggregates import Epoch

SECRET = "T0-hunter2"
TOLD = Notification(
    id="support-1:7:1",
    event="rolled_back",
    at=1_790_000_000.25,
    agent="support agent",
    rollout="support-1",
    stable="support-v1",
    canary="support-v2",
    phase="rolled_back",
    stage="initial",
    weight=0.0,
    message="support: support-v2 is rolled back",
    severity="warning",
    reasons=("harm is proven: error_rate", "3.1 times the errors"),
)


@dataclass
class Receiver:
    """A real HTTP server on this machine that keeps what it gets."""

    url: str
    statuses: list[int] = field(default_factory=list)
    delay: float = 0.0
    got: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.got.append((self.path, {key.lower(): value for key, value in self.headers.items()}, json.loads(body)))
            time.sleep(kept.delay)
            self.send_response(kept.statuses.pop(0) if kept.statuses else 204)
            self.send_header("location", f"http://127.0.0.1:{port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = server.server_address[1]
    kept = Receiver(f"http://127.0.0.1:{port}/hooks/{SECRET}?key={SECRET}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield kept
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_a_webhook_gets_a_cloud_event(receiver: Receiver) -> None:
    WebhookNotifier(receiver.url)(TOLD)
    ((path, headers, event),) = receiver.got
    assert path == f"/hooks/{SECRET}?key={SECRET}"
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert event == {
        "specversion": "1.0",
        "id": "support-1:7:1",
        "source": "/agentcanary/support%20agent",
        "type": "agentcanary.rollout.rolled_back",
        "subject": "support-1",
        "time": "2026-09-21T14:13:20.250000Z",
        "datacontenttype": "application/json",
        "data": {
            "agent": "support agent",
            "rollout": "support-1",
            "stable": "support-v1",
            "canary": "support-v2",
            "phase": "rolled_back",
            "stage": "initial",
            "weight": 0.0,
            "message": "support: support-v2 is rolled back",
            "severity": "warning",
            "reasons": ["harm is proven: error_rate", "3.1 times the errors"],
        },
    }


def test_every_attempt_sends_the_same_id(receiver: Receiver) -> None:
    receiver.statuses = [503]
    notifier = WebhookNotifier(receiver.url)
    with pytest.raises(NotificationError, match="answered 503"):
        notifier(TOLD)
    notifier(TOLD)
    assert [event["id"] for _, _, event in receiver.got] == ["support-1:7:1"] * 2


@pytest.mark.parametrize("status", [302, 400, 404, 410, 429, 500])
def test_an_answer_that_is_no_success_is_a_failure(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    with pytest.raises(NotificationError, match=f"answered {status}"):
        WebhookNotifier(receiver.url)(TOLD)
    assert len(receiver.got) == 1


def test_a_receiver_that_hangs_is_given_up(receiver: Receiver) -> None:
    receiver.delay = 1.0
    began = time.monotonic()
    with pytest.raises(NotificationError, match="ReadTimeout"):
        WebhookNotifier(receiver.url, timeout=0.1)(TOLD)
    assert time.monotonic() - began < 0.9


def test_a_receiver_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(NotificationError, match=r"http://127\.0\.0\.1:9/…: ConnectError"):
        WebhookNotifier(f"http://127.0.0.1:9/{SECRET}")(TOLD)


def test_a_client_that_was_handed_in_is_used_and_left_open(receiver: Receiver) -> None:
    with httpx.Client(headers={"x-team": "agents"}) as client:
        notifier = WebhookNotifier(receiver.url, client=client)
        notifier(TOLD)
        notifier(TOLD)
        assert not client.is_closed
    assert [headers["x-team"] for _, headers, _ in receiver.got] == ["agents", "agents"]


@pytest.mark.parametrize("status", [204, 500])
def test_the_url_is_in_no_log_and_no_error(receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.statuses = [status]
    notifier = WebhookNotifier(receiver.url)
    shown = repr(notifier)
    with contextlib.suppress(NotificationError):
        notifier(TOLD)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert "HTTP Request: POST http://127.0.0.1" in logged, "httpx logs requests; the test must see that"
    assert SECRET not in logged + shown


def test_the_url_is_hidden_only_while_it_is_sent() -> None:
    before = list(logging.getLogger("httpx").filters)
    with pytest.raises(NotificationError):
        WebhookNotifier("http://127.0.0.1:9/")(TOLD)
    assert logging.getLogger("httpx").filters == before


@pytest.mark.parametrize("answers", [True, False])
def test_an_error_does_not_carry_the_request(receiver: Receiver, answers: bool) -> None:
    url = receiver.url if answers else f"http://127.0.0.1:9/{SECRET}"
    receiver.statuses = [500]
    with pytest.raises(NotificationError) as failed:
        WebhookNotifier(url)(TOLD)
    assert SECRET not in "".join(traceback.format_exception(failed.value))


def test_a_host_that_cannot_be_looked_up_is_a_failure_and_no_crash() -> None:
    with pytest.raises(NotificationError):
        WebhookNotifier("http://" + "a" * 300 + "/", timeout=0.2)(TOLD)


@pytest.mark.parametrize("url", ["http://[::1", "nonsense", "ftp://host/T0-hunter2", "https:///T0-hunter2", ""])
def test_a_webhook_without_a_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="a webhook needs") as refused:
        WebhookNotifier(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(("severity", "level"), [("info", "info"), ("warning", "warning"), ("critical", "critical")])
def test_the_log_has_the_level_of_the_severity(severity: str, level: str) -> None:
    structlog.reset_defaults()
    with capture_logs() as entries:
        LogNotifier()(replace(TOLD, severity=severity))
    assert entries == [
        {
            "event": "agentcanary.notification",
            "log_level": level,
            "id": "support-1:7:1",
            "what": "rolled_back",
            "message": "support: support-v2 is rolled back",
            "agent": "support agent",
            "rollout": "support-1",
            "phase": "rolled_back",
            "stage": "initial",
            "weight": 0.0,
            "reasons": ["harm is proven: error_rate", "3.1 times the errors"],
        }
    ]


class Listener:
    """Keeps what it is told; fails as often as it was told to."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.told: list[str] = []

    def __call__(self, told: Notification) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.told.append(told.id)


def test_one_failure_keeps_nobody_else_from_being_told_and_only_it_is_tried_again() -> None:
    broken = Listener(NotificationError("webhook a: answered 500"), ZeroDivisionError(SECRET))
    first, last = Listener(), Listener()
    everybody = NotifyAll([first, broken, last])
    with pytest.raises(NotificationError, match="webhook a: answered 500"):
        everybody(TOLD)
    with pytest.raises(NotificationError, match=r"^Listener: ZeroDivisionError$"):
        everybody(TOLD)
    everybody(TOLD)
    assert (first.told, broken.told, last.told) == ([TOLD.id], [TOLD.id], [TOLD.id])
    other = replace(TOLD, id="support-1:8:1")
    everybody(other)
    assert (first.told, broken.told, last.told) == ([TOLD.id, other.id],) * 3


def test_the_configuration_names_who_is_told(receiver: Receiver) -> None:
    names = "agent: a\nstable: v1\n"
    log, webhook = notifiers_from(parse_config(f"{names}notify: [log, {{webhook: '{receiver.url}'}}]"))
    assert isinstance(log, LogNotifier)
    webhook(TOLD)
    assert len(receiver.got) == 1
    assert notifiers_from(parse_config(f"{names}notify: []")) == ()
    assert len(notifiers_from(parse_config(names))) == 1


def test_a_notification_says_what_the_transition_made_of_the_rollout() -> None:
    full = Stage(name="full", weight=1.0, duration=0.0)
    rollout = Rollout(
        id="support-1",
        agent="support",
        stable="v1",
        canary="v2",
        plan=Plan(stages=(Stage(name="ramp", weight=0.1, duration=60.0), full)),
        salt=b"secret-salt",
        phase=Phase.PROGRESSING,
        created_at=0.0,
        epochs=(Epoch(number=0, weight=0.1, stage=0),),
        reason="every condition of the stage is met",
    )
    effect = Effect(kind=EffectKind.NOTIFY, event="stage_entered", message="v2 enters stage ramp")
    told = notification(effect, rollout, effect_id="7", at=5.0)
    assert told == Notification(
        id="7",
        event="stage_entered",
        at=5.0,
        agent="support",
        rollout="support-1",
        stable="v1",
        canary="v2",
        phase="progressing",
        stage="ramp",
        weight=0.1,
        message="v2 enters stage ramp",
        reasons=("every condition of the stage is met",),
    )
    assert notification(effect, rollout, effect_id="7", at=5.0, reasons=("b",)).reasons == ("b",)
    assert "secret-salt" not in json.dumps(cloud_event(told))


def test_waiting_doubles_up_to_a_quarter_of_an_hour() -> None:
    waits = [next_attempt(attempts, 1000.0) - 1000.0 for attempts in range(1, 12)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]
    assert next_attempt(10**9, 0.0) == 900.0


def test_there_is_no_next_attempt_without_a_first() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        next_attempt(0, 0.0)


def test_the_cases_name_a_webhook() -> None:
    case = (Path(__file__).parent / "cases" / "everything.yaml").read_text(encoding="utf-8")
    assert "webhook" in repr(notifiers_from(parse_config(case))[1]).lower()
