"""What of a URL may be shown: passwords, tokens and options may not. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit


def shown_url(url: str) -> str:
    """A URL without its password and options.

    >>> shown_url("postgresql+psycopg://agent:secret@db/canary")
    'postgresql+psycopg://agent:***@db/canary'
    """
    parts = urlsplit(url)
    if parts.password is None:
        return url.partition("?")[0]
    place = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{parts.username or ''}:***@{place}{parts.path}"


def shown_webhook(url: str) -> str:
    """A webhook's scheme and host; the rest is often a secret.

    >>> shown_webhook("https://hooks.example.com/services/T0/B0/secret")
    'https://hooks.example.com/…'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"
