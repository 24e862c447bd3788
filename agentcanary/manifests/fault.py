"""What is wrong with a manifest, as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        where: The resource and the place in it: ``VirtualService ai-agent: spec.http[0]``.
        what: What is wrong, and what follows from it.
        remedy: What to write instead.
    """

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"
