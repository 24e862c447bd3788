"""A rollout is changed by compare-and-set, in one transaction with its audit, look and effects."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agentcanary.errors import ConflictError, StoreError, UnknownError
from agentcanary.rollout import Audit, Effect, EffectKind, Phase, Rollout, Transition, Verdict
from agentcanary.store import Revision, Store

if TYPE_CHECKING:
    from tests.agentcanary.store.conftest import Make

ENTRY = Audit(at=5.0, actor="ada", action="pause", reason="lunch", before="progressing", after="paused")
TELL = Effect(kind=EffectKind.NOTIFY, event="paused", message="paused for lunch", severity="warning")
WEIGH = Effect(kind=EffectKind.WEIGHT, event="paused", message="", weight=0.25)


def paused(rollout: Rollout) -> Transition:
    following = replace(rollout, phase=Phase.PAUSED, paused_for="manual", revision=rollout.revision + 1)
    return Transition(rollout=following, verdict=Verdict.HOLD, reasons=("lunch",), audit=ENTRY, effects=(WEIGH, TELL))


def test_a_rollout_is_read_as_it_was_stored(store: Store, make: Make) -> None:
    assert store.current("support") is None
    assert store.revision("support") is None
    store.start(make.rollout(), replace(ENTRY, action="create"), (TELL,))
    assert store.current("support") == make.rollout()
    assert store.rollout("r-1") == make.rollout()
    assert store.revision("support") == Revision("r-1", 0, None)
    assert [entry.action for entry in store.audit("r-1")] == ["create"]
    assert [pending.effect for pending in store.due(make.start)] == [TELL]


def test_a_transition_is_stored_with_its_audit_look_and_effects(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    saved = store.save(paused(rollout), expected_revision=0, now=5.0, look={"e": 0.5})
    assert saved == replace(rollout, phase=Phase.PAUSED, paused_for="manual", revision=1)
    assert store.current("support") == saved
    assert store.audit("r-1") == [ENTRY]
    assert store.looks("r-1") == [(5.0, "hold", {"e": 0.5})]
    assert [(pending.id, pending.effect) for pending in store.due(5.0)] == [("r-1:1:0", WEIGH), ("r-1:1:1", TELL)]


def test_a_look_that_changes_nothing_keeps_the_revision(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    holds = Transition(rollout=rollout, verdict=Verdict.HOLD, reasons=("wait",))
    for at in (1.0, 2.0, 3.0):
        assert store.save(holds, expected_revision=0, now=at, look={"at": at}).revision == 0
    assert [look.look for look in store.looks("r-1", limit=2)] == [{"at": 2.0}, {"at": 3.0}]
    assert [look.at for look in store.looks("r-1", since=2.0)] == [3.0]
    assert store.revision("support") == Revision("r-1", 0, None)


def test_whoever_decided_about_an_old_revision_stores_nothing(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    store.save(paused(rollout), expected_revision=0, now=5.0)
    with pytest.raises(ConflictError, match="revision 1, not 0"):
        store.save(paused(rollout), expected_revision=0, now=6.0, look={})
    assert len(store.audit("r-1")) == 1
    assert store.looks("r-1") == []
    assert len(store.due(9.0)) == 2


def test_a_transition_that_fails_halfway_leaves_nothing_behind(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    with store._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE looks")
    with pytest.raises(StoreError, match="a table is missing"):
        store.save(paused(rollout), expected_revision=0, now=5.0, look={})
    assert store.current("support") == rollout
    assert store.audit("r-1") == []
    assert store.due(9.0) == []


def test_a_controller_that_lost_its_lease_stores_nothing(store: Store, make: Make) -> None:
    rollout = make.rollout()
    store.start(rollout)
    old = store.acquire("support", "one", 0.0, 10.0)
    new = store.acquire("support", "two", 11.0, 10.0)
    with pytest.raises(ConflictError, match="another controller took over"):
        store.save(paused(rollout), expected_revision=0, now=12.0, fence=old)
    assert store.save(paused(rollout), expected_revision=0, now=12.0, fence=new).revision == 1


def test_an_unknown_rollout_cannot_be_changed(store: Store, make: Make) -> None:
    with pytest.raises(UnknownError, match="'r-1' is not in the store"):
        store.save(paused(make.rollout()), expected_revision=0, now=5.0)
    with pytest.raises(UnknownError, match="'r-1' is not in the store"):
        store.rollout("r-1")


def test_an_agent_has_one_rollout_at_a_time(store: Store, make: Make) -> None:
    store.start(make.rollout("r-1"))
    with pytest.raises(ConflictError, match=r"already has the rollout r-1 \(progressing\)"):
        store.start(make.rollout("r-2"))
    store.start(replace(make.rollout("r-3"), agent="sales"))
    assert store.agents() == ["sales", "support"]


def test_an_attempt_is_made_once(store: Store, make: Make) -> None:
    store.start(make.rollout("r-1", phase=Phase.ROLLED_BACK))
    with pytest.raises(ConflictError, match="attempt 1 from v1 to v2 was already made"):
        store.start(make.rollout("r-2"))
    second = replace(make.rollout("r-2"), attempt=2, created_at=make.start + 1)
    store.start(second)
    assert store.current("support") == second
    assert [rollout.id for rollout in store.rollouts("support")] == ["r-2", "r-1"]
    assert store.rollouts("sales") == []


def test_the_database_itself_refuses_a_second_rollout(store: Store, make: Make) -> None:
    store.start(make.rollout("r-1"))
    with pytest.raises(ConflictError, match="stored the same first"), store._database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO rollouts SELECT 'r-2', agent, revision, phase, stable, 'v3', attempt, created_at, stopped_at, "
            "stop_reason, admitted_until, state FROM rollouts"
        )


def test_the_outbox_keeps_an_effect_until_it_is_done(store: Store, make: Make) -> None:
    store.start(make.rollout(), None, (WEIGH, TELL))
    store.failed("r-1:0:0", "no answer", make.start + 30.0)
    assert [pending.id for pending in store.due(make.start)] == ["r-1:0:1"]
    store.done("r-1:0:1", make.start)
    store.done("r-1:0:1", make.start + 1.0)
    assert store.due(make.start) == []
    (again,) = store.due(make.start + 30.0)
    assert (again.id, again.attempts, again.error, again.effect) == ("r-1:0:0", 1, "no answer", WEIGH)
    assert [pending.id for pending in store.undone("r-1")] == ["r-1:0:0"]
    assert store.due(make.start + 30.0, "sales") == []
    with pytest.raises(UnknownError, match="ROLLOUT:REVISION:POSITION"):
        store.done("nonsense", make.start)


def test_what_is_stored_is_json_and_holds_no_objects(store: Store, make: Make) -> None:
    store.start(make.rollout())
    with store._database.read() as connection:
        state = connection.exec_driver_sql("SELECT state FROM rollouts").scalar_one()
    assert json.loads(state)["plan"]["stages"][0]["name"] == "first"


def test_prune_deletes_what_ended_and_keeps_what_runs(store: Store, make: Make) -> None:
    store.start(make.rollout("r-1"))
    for rollout in ("r-1", "r-0", ""):
        store.apply(f"b{rollout}", make.turn(make.assignment(f"c{rollout}", rollout=rollout), 10.0))
        store.apply(f"o{rollout}", [make.outcome(f"c{rollout}", 20.0)])
        store.put_pin("support", rollout, f"c{rollout}", make.assignment("c", rollout="r").pin, make.start)
    assert store.prune(make.start + 5.0) == 0
    assert store.prune(make.start + 1000.0) == 2
    assert [store.conversation("support", unit) is None for unit in ("cr-1", "cr-0", "c")] == [False, True, True]
    found = store.conversation("support", "cr-1")
    assert found is not None
    assert len(found.outcomes) == 1
    assert found.parts[0].pin is not None


def test_a_secret_is_random_and_the_same_for_everybody(new_store: Callable[[], Store]) -> None:
    one, other = new_store(), new_store()
    assert one.secret("cookie") == one.secret("cookie")
    assert len({one.secret("cookie"), one.secret("id"), other.secret("cookie")}) == 3
    assert len(one.secret("cookie")) == 32
