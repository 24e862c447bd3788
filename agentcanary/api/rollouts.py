"""Rollouts over HTTP: the same data as ``agentcanary rollouts`` and ``status``, and the same actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentcanary.api.bodies import read_json
from agentcanary.api.host import Desk, Host
from agentcanary.api.problems import PRIVATE, Problem
from agentcanary.errors import TransitionError, UnknownError
from agentcanary.operating import decide, restart
from agentcanary.rollout import Rollout, Transition
from agentcanary.security import Scope, new_salt
from agentcanary.state_machine import Action, ActionKind
from agentcanary.status.drift import differences
from agentcanary.status.reading import situation
from agentcanary.status.rollout_data import rollout_data
from agentcanary.status.status_data import status_data

NEWEST = "newest"
_MAX_REASON = 1000
_MAX_BODY = 16_384


class RolloutRoutes:
    """``GET /rollouts``, ``GET /rollouts/{rollout}``, ``POST /rollouts/{rollout}/{action}``.

    Args:
        host: The ``Canary``.
        desk: Asks the store.
    """

    def __init__(self, host: Host, desk: Desk) -> None:
        self._host = host
        self._desk = desk

    async def all(self, request: Request) -> Response:
        """The agent's rollouts, the newest first."""
        self._host.guard.authenticate(request, Scope.READ)
        agent = self._host.config.agent
        found = await self._desk.ask(lambda: [rollout_data(one) for one in self._host.store.rollouts(agent)])
        return JSONResponse(found, headers=PRIVATE)

    async def one(self, request: Request) -> Response:
        """What ``agentcanary status --json`` says."""
        self._host.guard.authenticate(request, Scope.READ)
        name = request.path_params["rollout"]
        return JSONResponse(await self._desk.ask(lambda: self._status(name)), headers=PRIVATE)

    async def act(self, request: Request) -> Response:
        """Advance, promote, pause, resume, roll back, restart: with a reason, by whom the token names."""
        principal = self._host.guard.authenticate(request, Scope.OPERATE)
        name, kind = request.path_params["rollout"], _action(request.path_params["action"])
        body = await read_json(request, max_bytes=_MAX_BODY)
        reason, during_drain = _said(body)
        action = Action(kind=kind, actor=principal.name, reason=reason)
        transition = await self._desk.ask(lambda: self._act(name, action, during_drain=during_drain))
        return JSONResponse(_answer(transition), headers=PRIVATE)

    def _status(self, name: str) -> dict[str, Any]:
        host = self._host
        config, clock = host.config, host.clock
        file = "canary.yaml" if config.file is None else config.file.name

        def changed(newest: Rollout) -> tuple[str, ...]:
            return tuple(differences(config, newest, file))

        rollout = self._find(name)
        return status_data(situation(host.store, rollout, now=clock(), speed=clock.speed, differences=changed))

    def _find(self, name: str) -> Rollout:
        agent = self._host.config.agent
        if name == NEWEST:
            newest = self._host.store.current(agent)
            if newest is None:
                raise UnknownError(f"agent {agent!r} has no rollout yet")
            return newest
        rollout = self._host.store.rollout(name)
        if rollout.agent != agent:
            # Another agent's, of the same store: this token says nothing about those.
            raise UnknownError(f"rollout {name!r} is not in the store")
        return rollout

    def _act(self, name: str, action: Action, *, during_drain: bool) -> Transition:
        store, config, clock = self._host.store, self._host.config, self._host.clock
        before = self._find(name)
        newest = store.current(config.agent)
        if newest is not None and newest.id != before.id:
            raise TransitionError(f"rollout {before.id} is not the newest, which is {newest.id}; nothing was done")
        if action.kind is not ActionKind.RESTART:
            return decide(store, before, action, clock=clock)[1]
        pair = (before.stable, before.canary)
        if pair != (config.stable, config.canary):
            raise TransitionError(
                f"rollout {before.id} is of {before.stable} → {before.canary}, which the configuration does not name "
                f"any more; a restart takes its plan from there"
            )
        planned = Action(kind=action.kind, actor=action.actor, reason=action.reason, plan=config.plan)
        return restart(store, before, planned, clock=clock, new_salt=new_salt(), during_drain=during_drain)


def _action(name: str) -> ActionKind:
    if name not in set(ActionKind):
        raise Problem(404, f"action {name[:60]!r} is unknown; known are {', '.join(ActionKind)}")
    return ActionKind(name)


def _said(body: object) -> tuple[str, bool]:
    """The reason, and whether a restart may move live conversations."""
    if not isinstance(body, dict):
        raise Problem(422, 'the body must be an object: {"reason": "…"}')
    unknown = sorted({str(key) for key in body} - {"reason", "during_drain"})
    if unknown:
        raise Problem(422, f"{unknown[0][:60]!r} is not known here; write reason, and during_drain for a restart")
    reason, during_drain = body.get("reason"), body.get("during_drain", False)
    said = reason.strip() if isinstance(reason, str) else ""
    if not 0 < len(said) <= _MAX_REASON or not "".join(_lines(said)).isprintable():
        raise Problem(422, f"reason must be 1 to {_MAX_REASON} printable characters, for the audit log")
    if not isinstance(during_drain, bool):
        raise Problem(422, "during_drain must be true or false")
    return said, during_drain


def _lines(text: str) -> Iterator[str]:
    yield from text.splitlines()


def _answer(transition: Transition) -> dict[str, Any]:
    audit = transition.audit
    done = None
    if audit is not None:
        done = {name: getattr(audit, name) for name in ("at", "actor", "action", "reason", "before", "after")}
    return {"audit": done, "rollout": rollout_data(transition.rollout)}
