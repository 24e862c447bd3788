"""canary.yaml → Config, with every mistake named by file, line, value and remedy.

Reading needs pydantic and PyYAML; they are imported when a file is read, not with the package.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from agentcanary.config.values import (
    MESSAGE_FIELDS,
    Apprise,
    Config,
    Conversation,
    Extractor,
    Log,
    Place,
    Privacy,
    Remote,
    Retention,
    Scope,
    Security,
    SpanMode,
    Target,
    Telemetry,
    Token,
    Traffic,
    Webhook,
)

__all__ = [
    "MESSAGE_FIELDS",
    "Apprise",
    "Config",
    "Conversation",
    "Extractor",
    "Log",
    "Place",
    "Privacy",
    "Remote",
    "Retention",
    "Scope",
    "Security",
    "SpanMode",
    "Target",
    "Telemetry",
    "Token",
    "Traffic",
    "Webhook",
    "load_config",
    "parse_config",
]


def load_config(path: str | PathLike[str]) -> Config:
    """The configuration in a file.

    Args:
        path: Usually ``canary.yaml``.

    Raises:
        ConfigError: If the file cannot be read, or with every mistake in it, one message each.
    """
    from agentcanary.config.loading import load

    return load(Path(path))


def parse_config(text: str, filename: str = "canary.yaml") -> Config:
    r"""The configuration in a text.

    Args:
        text: YAML.
        filename: Named in messages; the path of an SQLite store is relative to its folder.

    Raises:
        ConfigError: With every mistake in it, one message each.

    >>> config = parse_config("agent: support\nstable: support-v1\ncanary: support-v2")
    >>> [stage.weight for stage in config.plan.stages]
    [0.05, 0.15, 0.5, 1.0]
    """
    from agentcanary.config.loading import parse

    return parse(text, filename)
