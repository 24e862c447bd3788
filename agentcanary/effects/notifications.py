"""Who is told about a rollout: the log, webhooks, all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

import structlog

from agentcanary.config import Apprise, Config, Log, Target, Webhook
from agentcanary.effects.events import Notification
from agentcanary.effects.templates import worded
from agentcanary.errors import NotificationError


class Notifier(Protocol):
    """Tells somebody."""

    def __call__(self, told: Notification) -> None:
        """Send one message, once or more. May raise: a lost message is retried, and is never a lost rollback."""


class LogNotifier:
    """Writes to the structured log, at the level of the notification's severity."""

    def __call__(self, told: Notification) -> None:
        """Write it."""
        log = structlog.get_logger("agentcanary")
        write = {"info": log.info, "warning": log.warning}.get(told.severity, log.critical)
        write(
            "agentcanary.notification",
            id=told.id,
            what=told.event,
            message=told.message,
            agent=told.agent,
            rollout=told.rollout,
            phase=told.phase,
            stage=told.stage,
            weight=told.weight,
            reasons=list(told.reasons),
        )


class NotifyAll:
    """Tells each of several notifiers. When some fail, the next attempt goes to those only.

    What was delivered is remembered in this process: after its end, the others may be told a second time, under the
    same id.
    """

    def __init__(self, notifiers: Sequence[Notifier]) -> None:
        self._notifiers = tuple(notifiers)
        self._missing: dict[str, tuple[Notifier, ...]] = {}

    def __call__(self, told: Notification) -> None:
        """Tell everybody who has not been told yet.

        Raises:
            NotificationError: If somebody could not be told; after all others were.
        """
        failed: list[tuple[Notifier, str]] = []
        for notifier in self._missing.pop(told.id, self._notifiers):
            try:
                notifier(told)
            except NotificationError as error:
                failed.append((notifier, str(error)))
            except Exception as error:  # noqa: BLE001 (a notifier may be the user's, and must not silence the others)
                failed.append((notifier, f"{type(notifier).__name__}: {type(error).__name__}"))
        if failed:
            self._missing[told.id] = tuple(notifier for notifier, _ in failed)
            raise NotificationError("; ".join(reason for _, reason in failed))


def notifiers_from(config: Config) -> tuple[Notifier, ...]:
    """One notifier for each target of ``notify``."""
    return tuple(_notifier(target) for target in config.notify)


class _Chosen:
    """Tells of some events only, in a team's own words."""

    def __init__(self, notifier: Notifier, events: tuple[str, ...], template: str | None) -> None:
        self._notifier = notifier
        self._events = events
        self._template = template

    def __repr__(self) -> str:
        return repr(self._notifier)

    def __call__(self, told: Notification) -> None:
        """Send it, if it is chosen."""
        if not self._events or told.event in self._events:
            self._notifier(worded(told, self._template))


def _notifier(target: Target) -> Notifier:
    match target:
        case Log():
            return LogNotifier()
        case Webhook():
            # httpx is loaded only where a webhook is configured.
            from agentcanary.effects.webhook import WebhookNotifier

            return _Chosen(WebhookNotifier(target.url), target.events, target.template)
        case Apprise():
            from agentcanary.effects.apprise_urls import AppriseNotifier

            return _Chosen(AppriseNotifier(target.url), target.events, target.template)
        case _:
            assert_never(target)
