"""Notifications to Slack, Teams, PagerDuty, mail and a hundred more, through apprise. The URLs hold secrets."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from agentcanary.effects.events import Notification
from agentcanary.errors import NotificationError

if TYPE_CHECKING:
    from apprise import NotifyBase

_EXTRA = "pip install 'agentcanary[notify]'"


class AppriseNotifier:
    """Sends each notification to one apprise URL.

    Args:
        url: As apprise reads it, such as ``slack://TokenA/TokenB/TokenC``. Only its scheme is ever shown.

    Raises:
        NotificationError: If apprise is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._shown = f"apprise {url.partition('://')[0]}://…"
        self._service: NotifyBase | None = None
        if find_spec("apprise") is None:
            raise NotificationError(f"{self._shown} needs apprise: {_EXTRA}")

    def __repr__(self) -> str:
        return f"AppriseNotifier({self._shown!r})"

    def __call__(self, told: Notification) -> None:
        """Send it.

        Raises:
            NotificationError: If apprise does not know the URL, or the service did not take it.
        """
        if self._service is None:
            # Not before it is needed: apprise loads more than a hundred plugins.
            self._service = _service(self._url, self._shown)
        from apprise import NotifyType

        kinds = {"info": NotifyType.INFO, "warning": NotifyType.WARNING}
        with _silenced():
            try:
                taken = self._service.notify(
                    title=f"{told.agent}: {told.event.replace('_', ' ')}",
                    body=told.message,
                    notify_type=kinds.get(told.severity, NotifyType.FAILURE),
                )
            except Exception as error:  # noqa: BLE001 (a plugin may raise anything, with the URL in it)
                raise NotificationError(f"{self._shown}: {type(error).__name__}") from None
        if not taken:
            raise NotificationError(f"{self._shown}: the message was not taken")


def _service(url: str, shown: str) -> NotifyBase:
    with _silenced(), warnings.catch_warnings():
        # A plugin imports imghdr, which Python 3.13 no longer has; apprise brings its own there.
        warnings.simplefilter("ignore", DeprecationWarning)
        from apprise import Apprise

        service = Apprise.instantiate(url)
    if service is None:
        raise NotificationError(f"{shown} is no URL that apprise knows; its own documentation lists them by service")
    return service


@contextmanager
def _silenced() -> Iterator[None]:
    """Within this, apprise logs nothing: its messages hold URLs."""
    logger = logging.getLogger("apprise")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
