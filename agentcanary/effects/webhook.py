"""Notifications to a URL, as CloudEvents. The URL is often a secret: only its host is ever shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from agentcanary.config.shown_urls import shown_webhook
from agentcanary.effects.events import Notification, cloud_event
from agentcanary.errors import NotificationError

_HEADERS = {"content-type": "application/cloudevents+json; charset=utf-8", "user-agent": "agentcanary"}


class WebhookNotifier:
    """Posts each notification to a URL.

    Args:
        url: Where to; http or https.
        timeout: Seconds that connecting, sending and waiting for the answer may take, each.
        client: Sends the requests; None makes one for each, so that nothing is shared after a fork.

    Raises:
        ValueError: If the URL is none; the message does not show it.
    """

    def __init__(self, url: str, *, timeout: float = 5.0, client: httpx.Client | None = None) -> None:
        try:
            self._url = httpx.URL(url)
            self._shown = shown_webhook(url)
        except (httpx.InvalidURL, ValueError):
            raise ValueError("a webhook needs a URL, https://host/path; this one cannot be read") from None
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise ValueError(f"a webhook needs an http or https URL with a host, got the scheme {self._url.scheme!r}")
        self._timeout = httpx.Timeout(timeout)
        self._client = client

    def __repr__(self) -> str:
        return f"WebhookNotifier({self._shown!r})"

    def __call__(self, told: Notification) -> None:
        """Post it.

        Raises:
            NotificationError: If nobody answers, or the answer is no success. Redirects are not followed.
        """
        try:
            with _hidden_in_logs(self._url, self._shown):
                status = self._post(json.dumps(cloud_event(told), ensure_ascii=False).encode())
        except (httpx.HTTPError, UnicodeError) as error:
            # The cause is not chained: it holds the request, and so the URL.
            reason = f": {error}" if isinstance(error, httpx.ConnectError) else ""
            raise NotificationError(f"webhook {self._shown}: {type(error).__name__}{reason}") from None
        if not 200 <= status < 300:
            raise NotificationError(f"webhook {self._shown}: answered {status}")

    def _post(self, body: bytes) -> int:
        if self._client is not None:
            return _status(self._client, self._url, body, self._timeout)
        with httpx.Client() as client:
            return _status(client, self._url, body, self._timeout)


def _status(client: httpx.Client, url: httpx.URL, body: bytes, timeout: httpx.Timeout) -> int:
    # Streaming leaves the answer's body unread: only the status counts.
    with client.stream(
        "POST", url, content=body, headers=_HEADERS, timeout=timeout, follow_redirects=False
    ) as response:
        return response.status_code


class _Hide(logging.Filter):
    def __init__(self, url: httpx.URL, shown: str) -> None:
        super().__init__()
        self._url = url
        self._shown = shown

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._shown if argument == self._url else argument for argument in record.args)
        return True


@contextmanager
def _hidden_in_logs(url: httpx.URL, shown: str) -> Iterator[None]:
    """Within this, httpx, which logs the whole URL of each request, logs only what may be shown of ours."""
    logger, hide = logging.getLogger("httpx"), _Hide(url, shown)
    logger.addFilter(hide)
    try:
        yield
    finally:
        logger.removeFilter(hide)
