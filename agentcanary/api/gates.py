"""Answers in the shapes that other rollout tools ask for: an Argo Rollouts web metric, and Flagger webhooks.

Who releases the Deployment with one of them lets it wait for, or be taken back by, what agentcanary found out.

Source:
    Argo Rollouts, ``provider.web``: a GET whose JSON is read with ``jsonPath``; neither condition true is inconclusive.
    Flagger, ``spec.analysis.webhooks``: a POST with name, namespace, phase and metadata; a status of 2xx passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentcanary.api.bodies import read_json
from agentcanary.api.host import Desk, Host
from agentcanary.api.problems import PRIVATE, Problem
from agentcanary.rollout import Rollout
from agentcanary.security import Scope
from agentcanary.status.conclusion import conclusion

_MAX_BODY = 65_536
_VALUES = {"promote": 1.0, "hold": 0.5, "rollback": 0.0}


class FlaggerHook(StrEnum):
    """Flagger's types of webhooks that ask whether to go on."""

    CONFIRM_ROLLOUT = "confirm-rollout"
    ROLLOUT = "rollout"
    CONFIRM_TRAFFIC_INCREASE = "confirm-traffic-increase"
    CONFIRM_PROMOTION = "confirm-promotion"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class _Presented:
    """A token that stands where a header should."""

    headers: dict[str, str]


class GateRoutes:
    """``GET /gates/argo`` and ``POST /gates/flagger/{hook}``.

    Args:
        host: The ``Canary``.
        desk: Asks the store.
    """

    def __init__(self, host: Host, desk: Desk) -> None:
        self._host = host
        self._desk = desk

    async def argo(self, request: Request) -> Response:
        """The agent's newest rollout as a measurement.

        ``verdict`` is ``promote``, ``hold`` or ``rollback``, and ``value`` 1, 0.5 or 0 for conditions on numbers.
        """
        self._host.guard.authenticate(request, Scope.READ)
        rollout = await self._desk.ask(self._newest)
        return JSONResponse(_measurement(rollout), headers=PRIVATE)

    async def flagger(self, request: Request) -> Response:
        """200 for going on; for ``rollback``, 200 for taking the canary back. Everything else halts.

        The token may stand in the webhook's ``metadata`` as ``token``: Flagger sends no headers of one's own.
        """
        name = request.path_params["hook"]
        if name not in set(FlaggerHook):
            raise Problem(404, f"webhook {name[:60]!r} is unknown; known are {', '.join(FlaggerHook)}")
        if "authorization" in request.headers:
            self._host.guard.authenticate(request, Scope.READ)
            await read_json(request, max_bytes=_MAX_BODY)
        else:
            token = _token(await read_json(request, max_bytes=_MAX_BODY))
            self._host.guard.authenticate(_Presented({"authorization": f"Bearer {token}"}), Scope.READ)
        rollout = await self._desk.ask(self._newest)
        if not _passes(FlaggerHook(name), rollout):
            raise Problem(409, _why(rollout), verdict=_verdict(rollout))
        return JSONResponse(_measurement(rollout), headers=PRIVATE)

    def _newest(self) -> Rollout | None:
        return self._host.store.current(self._host.config.agent)


def _passes(hook: FlaggerHook, rollout: Rollout | None) -> bool:
    verdict = _verdict(rollout)
    match hook:
        case FlaggerHook.ROLLBACK:
            return verdict == "rollback"
        case FlaggerHook.CONFIRM_PROMOTION:
            return verdict == "promote"
        case _:
            return verdict != "rollback"


def _verdict(rollout: Rollout | None) -> str:
    """Without a rollout nothing is known, which holds."""
    return "hold" if rollout is None else conclusion(rollout)


def _why(rollout: Rollout | None) -> str:
    if rollout is None:
        return "the agent has no rollout yet"
    return f"{rollout.canary} is {rollout.phase.value}: {rollout.stop_reason or rollout.reason or 'not decided yet'}"


def _measurement(rollout: Rollout | None) -> dict[str, Any]:
    verdict = _verdict(rollout)
    named = None if rollout is None else {"id": rollout.id, "stable": rollout.stable, "canary": rollout.canary}
    phase, weight = ("none", 0.0) if rollout is None else (rollout.phase.value, rollout.weight)
    return {
        "verdict": verdict,
        "value": _VALUES[verdict],
        "phase": phase,
        "weight": weight,
        "reason": _why(rollout),
        "rollout": named,
    }


def _token(body: object) -> str:
    metadata = body.get("metadata") if isinstance(body, dict) else None
    token = metadata.get("token") if isinstance(metadata, dict) else None
    # An empty one is nobody's.
    return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""
