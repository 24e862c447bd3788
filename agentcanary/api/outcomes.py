"""Outcomes over HTTP: one or many, ours or of another shape, with a token of scope ``record``."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentcanary.api.bodies import read_json
from agentcanary.api.host import Desk, Host
from agentcanary.api.problems import PRIVATE, Problem
from agentcanary.errors import StoreError, UnknownError
from agentcanary.outcome_shapes import Refused, Reported, ShapeError, outcomes_in
from agentcanary.outcome_shapes.reading import prose
from agentcanary.outcome_shapes.shapes import OWN
from agentcanary.outcomes import SAFETY_VIOLATION
from agentcanary.security import Scope

# A turn is stored a tenth of a second after it, by whichever worker had it: a judge may be faster.
_ASKED_AGAIN_AFTER = (0.15, 0.35)
_MAX_CONFIRMATION = 16_384
_UNKNOWN = "the conversation had no turn with this agent, or it is deleted already"


class OutcomeRoutes:
    """``POST /outcomes`` and ``DELETE /outcomes/{outcome}``.

    Args:
        host: The ``Canary``.
        desk: Asks the store.
    """

    def __init__(self, host: Host, desk: Desk) -> None:
        self._host = host
        self._desk = desk

    async def add(self, request: Request) -> Response:
        """Record what was sent; what cannot be taken is refused item by item.

        Conversations that never had a turn with this agent are refused: whoever may record still cannot fill the
        store, or speak about another agent.
        """
        self._host.guard.authenticate(request, Scope.RECORD)
        if self._host.disabled:
            raise Problem(503, "agentcanary is switched off in this process; nothing is recorded")
        body = await read_json(request)
        shape = request.query_params.get("shape", OWN)
        try:
            found, refused = outcomes_in(body, shape=shape, headers=request.headers)
        except ShapeError as error:
            raise Problem(422, str(error)) from None
        mine, foreign = self._of_agent(found)
        taken, unknown = await self._of_known(mine)
        await self._take(taken)
        refused = sorted([*refused, *foreign, *unknown])
        listed = [{"index": index, "reason": reason} for index, reason in refused]
        if refused and not taken:
            raise Problem(422, refused[0].reason, refused=listed)
        return JSONResponse({"accepted": len(taken), "refused": listed}, status_code=202, headers=PRIVATE)

    async def confirm(self, request: Request) -> Response:
        """A person's word on what a classifier reported: a violation, which stops the canary, or none."""
        principal = self._host.guard.authenticate(request, Scope.RECORD)
        outcome = request.path_params["outcome"]
        body = await read_json(request, max_bytes=_MAX_CONFIRMATION)
        said = body.get("violation") if isinstance(body, dict) else None
        if not isinstance(said, bool) or set(body) - {"violation", "explanation"}:
            raise Problem(422, 'the body must be {"violation": true} or false, and an explanation at most')
        why = prose(body, "explanation")
        explanation = f"{principal.name}: {why}" if why else principal.name
        if not await self._desk.ask(lambda: self._host.confirm(outcome, violation=said, explanation=explanation)):
            raise UnknownError(f"outcome {outcome[:60]!r} is not in the store")
        return JSONResponse({"id": outcome, "violation": said}, headers=PRIVATE)

    async def delete(self, request: Request) -> Response:
        """Take an outcome back. What was counted with it stays counted, and a verdict stays."""
        self._host.guard.authenticate(request, Scope.RECORD)
        outcome = request.path_params["outcome"]
        if not await self._desk.ask(lambda: self._host.withdraw(outcome)):
            raise UnknownError(f"outcome {outcome[:60]!r} is not in the store")
        return Response(status_code=204, headers=PRIVATE)

    def _of_agent(self, found: Sequence[tuple[int, Reported]]) -> tuple[list[tuple[int, Reported]], list[Refused]]:
        """Those about this agent, and those about another one."""
        agent = self._host.config.agent
        foreign = [
            Refused(place, f"this is the API of agent {agent!r}, the outcome is about {outcome.agent!r}")
            for place, outcome in found
            if outcome.agent not in (None, agent)
        ]
        return [(place, outcome) for place, outcome in found if outcome.agent in (None, agent)], foreign

    async def _of_known(
        self, found: Sequence[tuple[int, Reported]]
    ) -> tuple[list[tuple[int, Reported]], list[Refused]]:
        """Those of conversations that had a turn, and the others."""
        units = sorted({self._host.unit_of(outcome.conversation_id) for _, outcome in found})
        try:
            known = await self._known(units)
        except StoreError:
            # A safety stop must not depend on the store: it is kept in the journal. Everything else can be sent again.
            urgent = [(index, outcome) for index, outcome in found if _stops(outcome)]
            if len(urgent) < len(found):
                await self._take(urgent)
                raise
            return urgent, []
        taken, refused = [], []
        for index, outcome in found:
            if self._host.unit_of(outcome.conversation_id) in known:
                taken.append((index, outcome))
            else:
                refused.append(Refused(index, _UNKNOWN))
        return taken, refused

    async def _take(self, outcomes: Sequence[tuple[int, Reported]]) -> None:
        """Record; a confirmed safety violation is on the disk when this returns."""
        if outcomes:
            await self._desk.ask(lambda: self._take_all(outcomes))

    def _take_all(self, outcomes: Sequence[tuple[int, Reported]]) -> None:
        for _, outcome in outcomes:
            self._host.take(outcome)

    async def _known(self, units: Sequence[str]) -> frozenset[str]:
        known = await self._desk.ask(lambda: self._host.known_units(units))
        for pause in _ASKED_AGAIN_AFTER:
            missing = [unit for unit in units if unit not in known]
            if not missing:
                break
            await anyio.sleep(pause)
            known |= await self._desk.ask(lambda missing=missing: self._host.known_units(missing))  # type: ignore[misc] # bound at once
        return known


def _stops(outcome: Reported) -> bool:
    return outcome.name == SAFETY_VIOLATION and bool(outcome.value) and outcome.confirmed
