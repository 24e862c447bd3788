"""Notifications to a URL, as CloudEvents. The URL is often a secret: only its host is ever shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from agentcanary.config.words import shown_webhook
from agentcanary.effects.events import Notification, cloud_event
from agentcanary.errors import NotificationError

_HEADERS = {"content-type": "application/cloudevents+json; charset=utf-8", "user-agent": "agentcanary"}


class WebhookNotifier:
    """Posts each notification to a URL.

    Args:
        url: Where to; http or https.
        timeout: Seconds that connecting, sending and waiting for the answer may take, each.
        client: Sends the requests; None makes one for each, so that nothing is shared after a fork.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, client: httpx.Client | None = None) -> None:
        self._url = url
        self._timeout = httpx.Timeout(timeout)
        self._client = client

    def __repr__(self) -> str:
        return f"WebhookNotifier({shown_webhook(self._url)!r})"

    def __call__(self, told: Notification) -> None:
        """Post it.

        Raises:
            NotificationError: If nobody answers, or the answer is no success. Redirects are not followed.
        """
        try:
            with _url_hidden_in_logs(self._url):
                status = self._post(json.dumps(cloud_event(told), ensure_ascii=False).encode())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The cause is not chained: it holds the request, and so the URL.
            reason = f": {error}" if isinstance(error, httpx.ConnectError) else ""
            raise NotificationError(f"webhook {shown_webhook(self._url)}: {type(error).__name__}{reason}") from None
        if not 200 <= status < 300:
            raise NotificationError(f"webhook {shown_webhook(self._url)}: answered {status}")

    def _post(self, body: bytes) -> int:
        if self._client is not None:
            return _status(self._client, self._url, body, self._timeout)
        with httpx.Client() as client:
            return _status(client, self._url, body, self._timeout)


def _status(client: httpx.Client, url: str, body: bytes, timeout: httpx.Timeout) -> int:
    # Streaming leaves the answer's body unread: only the status counts.
    with client.stream(
        "POST", url, content=body, headers=_HEADERS, timeout=timeout, follow_redirects=False
    ) as response:
        return response.status_code


class _HideUrl(logging.Filter):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx.URL(url)
        self._shown = shown_webhook(url)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._shown if argument == self._url else argument for argument in record.args)
        return True


@contextmanager
def _url_hidden_in_logs(url: str) -> Iterator[None]:
    """Httpx logs the whole URL of each request; within this, our host only."""
    logger, hide = logging.getLogger("httpx"), _HideUrl(url)
    logger.addFilter(hide)
    try:
        yield
    finally:
        logger.removeFilter(hide)
