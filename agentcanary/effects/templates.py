"""The words of a notification, where a team writes its own. Pure."""

from __future__ import annotations

from dataclasses import replace

from agentcanary.config import MESSAGE_FIELDS
from agentcanary.effects.events import Notification


def worded(told: Notification, template: str | None) -> Notification:
    """The notification with its message written by a template; without one as it is.

    Args:
        told: The notification; its weight is shown in percent.
        template: Text with fields in braces, checked by the configuration.
    """
    if template is None:
        return told
    values = {name: getattr(told, name) for name in MESSAGE_FIELDS}
    values["weight"] = f"{100 * told.weight:g} %"
    values["reasons"] = "; ".join(told.reasons)
    return replace(told, message=template.format(**values))
