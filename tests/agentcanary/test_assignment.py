"""Unit → arm: shares, independence, and that no live conversation ever changes its arm but by a rollback."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agentcanary.assignment import (
    NOWHERE,
    Assignment,
    Buckets,
    Pin,
    Reason,
    RolloutView,
    assign,
    bucket,
    fall_back,
    follow,
    force,
    must_store,
    needs_pin,
    on_stable,
    place,
)
from agentcanary_analysis.aggregates import RESAMPLING_BUCKETS, Arm

OPEN = RolloutView(
    agent="support",
    rollout="r-1",
    salt=b"a salt",
    stable="v1",
    canary="v2",
    epoch=2,
    weight=0.5,
    max_weight=0.5,
    previous_epoch=1,
    previous_weight=0.05,
    open=True,
)
# One false alarm in a hundred thousand runs, shared by all the tests of a share.
CONFIDENCE = 1 - 1e-5


def units(count: int, prefix: str = "conversation") -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


class TestBuckets:
    @pytest.mark.parametrize("weight", [0.005, 0.01, 0.05, 0.15, 0.5])
    def test_the_share_below_a_weight_is_the_weight(self, weight: float) -> None:
        count = 100_000
        below = sum(bucket(b"a salt", unit).assignment < weight for unit in units(count))
        low, high = stats.binom.interval(CONFIDENCE, count, weight)
        assert low <= below <= high

    def test_two_rollouts_select_independently(self) -> None:
        # The unsalted md5 % 1000 of the source article selects exactly the same users for every canary.
        count = 100_000
        both = sum(
            bucket(b"one", unit).assignment < 0.1 and bucket(b"two", unit).assignment < 0.1 for unit in units(count)
        )
        low, high = stats.binom.interval(CONFIDENCE, count, 0.01)
        assert low <= both <= high

    def test_the_resampling_bucket_says_nothing_about_the_arm(self) -> None:
        canary = Counter(
            found.resampling
            for found in (bucket(b"a salt", unit) for unit in units(100_000))
            if found.assignment < 0.05
        )
        assert set(canary) == set(range(RESAMPLING_BUCKETS))
        assert stats.chisquare(list(canary.values())).pvalue > 1e-5

    def test_salt_and_unit_are_kept_apart(self) -> None:
        assert bucket(b"ab", "c") != bucket(b"a", "bc")

    def test_the_answer_is_the_same_in_every_process(self) -> None:
        # The digest by b2sum of GNU coreutils 9.1: printf 'salt\0conversation-1' | b2sum -l 128
        high, low = 0xA0A4E170FB3650E5, 0x7E17A159CA2EE488
        assert bucket(b"salt", "conversation-1") == Buckets((high >> 11) / 2**53, low % 200)

    def test_half_a_percent_is_half_a_percent(self) -> None:
        # Flipt's % 100 rounds 0.5 % up to 1 %; iter8's weight × hash gave 2.6 % at 5 %.
        count = 100_000
        view = replace(OPEN, weight=0.005, max_weight=0.005)
        taken = sum(place(view, unit, unit, 0.0, True) is None for unit in units(count))
        low, high = stats.binom.interval(CONFIDENCE, count, 0.005)
        assert low <= taken <= high

    @given(st.text(), st.binary(max_size=32))
    def test_any_text_has_buckets(self, unit: str, salt: bytes) -> None:
        found = bucket(salt, unit)
        assert 0 <= found.assignment < 1
        assert 0 <= found.resampling < RESAMPLING_BUCKETS


class TestOneUnit:
    def test_a_new_unit_is_split_by_its_bucket(self) -> None:
        low = assign(OPEN, "u", Buckets(0.4999, 1), now=0.0, fresh=True)
        high = assign(OPEN, "u", Buckets(0.5, 1), now=0.0, fresh=True)
        assert (low.arm, low.version, low.reason, low.epoch, low.excluded) == (Arm.CANARY, "v2", Reason.SPLIT, 2, None)
        assert (high.arm, high.version, high.epoch) == (Arm.STABLE, "v1", 2)

    def test_until_the_hand_over_is_over_new_units_belong_to_the_epoch_before(self) -> None:
        view = replace(OPEN, handover_until=100.0)
        during = assign(view, "u", Buckets(0.3, 1), now=99.9, fresh=True)
        after = assign(view, "u", Buckets(0.3, 1), now=100.0, fresh=True)
        assert (during.arm, during.epoch) == (Arm.STABLE, 1)
        assert (after.arm, after.epoch) == (Arm.CANARY, 2)
        assert must_store(during), "another worker, past the hand-over, would give it to the canary"

    def test_in_the_hand_over_of_the_first_epoch_units_are_in_no_statistic(self) -> None:
        view = replace(OPEN, handover_until=100.0, previous_epoch=-1)
        made = assign(view, "u", Buckets(0.3, 1), now=50.0, fresh=True)
        assert (made.arm, made.excluded) == (Arm.STABLE, Reason.HANDOVER.value)

    def test_with_a_stale_snapshot_new_units_go_to_stable_and_live_pins_are_followed(self) -> None:
        new = assign(OPEN, "u", Buckets(0.1, 1), now=0.0, fresh=False)
        assert (new.arm, new.excluded) == (Arm.STABLE, Reason.STALE_SNAPSHOT.value)
        assert follow(OPEN, "u", Pin(Arm.CANARY, 1), Buckets(0.1, 1)).version == "v2"

    def test_without_a_rollout_turns_are_history(self) -> None:
        made = assign(RolloutView(agent="support", stable="v1", canary="v1"), "u", NOWHERE, now=0.0, fresh=True)
        assert (made.version, made.reason, made.rollout) == ("v1", Reason.NO_ROLLOUT, "")

    def test_after_a_promotion_new_units_get_the_new_version(self) -> None:
        view = replace(OPEN, open=False, new_units=Arm.CANARY)
        assert assign(view, "u", Buckets(0.9, 1), now=0.0, fresh=True).version == "v2"
        assert follow(view, "u", Pin(Arm.STABLE, 1), Buckets(0.9, 1)).version == "v1", "it drains on its version"

    def test_a_canary_that_is_taken_back_serves_no_further_turn(self) -> None:
        view = replace(OPEN, open=False, taken_back=True, canary="v1", weight=0.0)
        moved = follow(view, "u", Pin(Arm.CANARY, 2), Buckets(0.1, 1))
        assert (moved.arm, moved.version, moved.reason) == (Arm.CANARY, "v1", Reason.TAKEN_BACK)

    def test_a_tester_is_in_no_statistic_and_gets_no_canary_where_none_runs(self) -> None:
        forced = force(OPEN, "u", Arm.CANARY, NOWHERE)
        assert (forced.version, forced.excluded, forced.reason) == ("v2", "forced", Reason.FORCED)
        assert force(replace(OPEN, open=False), "u", Arm.CANARY, NOWHERE).version == "v1"
        assert force(replace(OPEN, taken_back=True), "u", Arm.CANARY, NOWHERE).version == "v1"

    def test_a_unit_that_falls_back_is_served_by_stable_and_counted_for_the_canary(self) -> None:
        made = assign(OPEN, "u", Buckets(0.1, 1), now=0.0, fresh=True)
        fallen = fall_back(made)
        assert (fallen.arm, fallen.version, fallen.epoch, fallen.excluded) == (Arm.CANARY, "v1", 2, None)
        later = follow(OPEN, "u", fallen.pin, Buckets(0.1, 1))
        assert (later.arm, later.version, later.reason) == (Arm.CANARY, "v1", Reason.FALLBACK)

    def test_what_is_excluded_for_another_reason_keeps_that_reason_when_it_falls_back(self) -> None:
        stale = assign(OPEN, "u", Buckets(0.1, 1), now=0.0, fresh=False)
        assert fall_back(stale) == stale
        promoted = assign(replace(OPEN, open=False, new_units=Arm.CANARY), "u", Buckets(0.9, 1), now=0.0, fresh=True)
        assert fall_back(promoted).version == "v1"
        assert fall_back(promoted).rollout == ""

    def test_nothing_is_looked_up_where_nothing_depends_on_it(self) -> None:
        assert needs_pin(OPEN, Buckets(0.4999, 1))
        assert not needs_pin(OPEN, Buckets(0.5, 1))
        assert not needs_pin(replace(OPEN, sticky=False), Buckets(0.1, 1))
        assert not needs_pin(replace(OPEN, canary="v1"), Buckets(0.1, 1))

    def test_a_unit_without_a_name_is_on_stable(self) -> None:
        made = on_stable(OPEN, "", Reason.NO_CONVERSATION)
        assert (made.version, made.excluded) == ("v1", "no_conversation_id")

    @given(
        st.builds(
            replace,
            st.just(OPEN),
            weight=st.floats(0, 1),
            handover_until=st.floats(0, 2),
            open=st.booleans(),
            sticky=st.booleans(),
            previous_epoch=st.integers(-1, 1),
        ),
        st.text(min_size=1),
        st.floats(0, 2),
        st.booleans(),
    )
    def test_the_shortcut_gives_what_bucket_and_assign_give(
        self, view: RolloutView, unit: str, now: float, fresh: bool
    ) -> None:
        view = replace(view, max_weight=max(view.weight, view.previous_weight))
        found = bucket(view.salt, unit)
        expected = None if needs_pin(view, found) else assign(view, unit, found, now=now, fresh=fresh)
        assert place(view, unit, unit, now, fresh) == expected


@dataclass
class Fleet:
    """Workers with views of their own on one store, as the middleware and ``pins.py`` would run them."""

    views: list[RolloutView]
    fresh: list[bool]
    pins: dict[str, Pin] = field(default_factory=dict)
    rows: dict[str, Pin] = field(default_factory=dict)

    def turn(self, worker: int, unit: str, *, now: float, key: str | None = None) -> Assignment:
        view = self.views[worker]
        buckets = bucket(view.salt, key or unit)
        pin = (self.pins.get(unit) or self.rows.get(unit)) if needs_pin(view, buckets) else None
        if pin is not None:
            made = follow(view, unit, pin, buckets)
        else:
            made = assign(view, unit, buckets, now=now, fresh=self.fresh[worker])
            if must_store(made):
                winner = self.pins.setdefault(unit, made.pin)
                if winner != made.pin:
                    made = follow(view, unit, winner, buckets)
        self.rows.setdefault(unit, made.pin)
        return made


WORKERS = 3


@settings(max_examples=70, deadline=None)
@given(st.data())
def test_no_live_conversation_changes_its_arm_while_weights_rise(data: st.DataObject) -> None:
    """Any rising weights, pauses, restarted workers, and workers that see a change up to a second late."""
    base = replace(OPEN, weight=0.0, max_weight=0.0, epoch=-1, previous_epoch=-1, previous_weight=0.0)
    fleet = Fleet([base] * WORKERS, [True] * WORKERS)
    published = base
    behind = [0.0] * WORKERS
    served: dict[str, str] = {}
    arms: dict[str, Arm] = {}
    now, changed_at, top = 0.0, -10.0, 0.0
    for _ in range(data.draw(st.integers(5, 40))):
        now += data.draw(st.floats(0.0, 1.0))
        if now - changed_at > 3.0 and data.draw(st.integers(0, 3)) == 0:
            paused = published.weight > 0 and data.draw(st.integers(0, 4)) == 0
            weight = 0.0 if paused else data.draw(st.floats(top, 1.0))
            rising = weight >= published.weight
            top, changed_at = max(top, weight), now
            published = replace(
                published,
                epoch=published.epoch + 1,
                weight=weight,
                max_weight=top,
                previous_epoch=published.epoch,
                previous_weight=published.weight,
                handover_until=now + 2.0 if rising else 0.0,
            )
            behind = [now + data.draw(st.floats(0.0, 1.0)) for _ in range(WORKERS)]
        worker = data.draw(st.integers(0, WORKERS - 1))
        if now >= behind[worker]:
            fleet.views[worker] = published
        fleet.fresh[worker] = data.draw(st.integers(0, 9)) > 0
        unit = f"c-{data.draw(st.integers(0, 30))}"
        made = fleet.turn(worker, unit, now=now)
        assert arms.setdefault(unit, made.arm) is made.arm, unit
        assert served.setdefault(unit, made.version) == made.version, unit


def test_a_rollback_moves_the_canarys_conversations_once_and_no_others() -> None:
    fleet = Fleet([OPEN], [True])
    names = units(1000)
    before = {unit: fleet.turn(0, unit, now=10.0) for unit in names}
    fleet.views[0] = replace(OPEN, open=False, taken_back=True, canary="v1", weight=0.0)
    after = {unit: fleet.turn(0, unit, now=20.0) for unit in names}
    moved = [unit for unit in names if after[unit].version != before[unit].version]
    assert moved == [unit for unit in names if before[unit].arm is Arm.CANARY]
    assert {made.version for made in after.values()} == {"v1"}


def test_the_share_of_conversations_does_not_depend_on_their_length() -> None:
    # Flagger's affinity draws stable users again at every request: 65 % captured after 10 requests at 10 %.
    view = replace(OPEN, weight=0.1, max_weight=0.1)
    fleet = Fleet([view], [True])
    names = units(20_000)
    first = {unit: fleet.turn(0, unit, now=10.0).arm for unit in names}
    for turn in range(9):
        assert all(fleet.turn(0, unit, now=11.0 + turn).arm is first[unit] for unit in names[:500])
    low, high = stats.binom.interval(CONFIDENCE, len(names), 0.1)
    assert low <= sum(arm is Arm.CANARY for arm in first.values()) <= high


def test_with_sticky_false_every_request_is_drawn_by_itself() -> None:
    view = replace(OPEN, sticky=False, weight=0.3, max_weight=0.3)
    made = [place(view, f"request-{number}", f"request-{number}", 10.0, True) for number in range(20_000)]
    assert all(one is not None for one in made), "a request that is its own unit has no pin"
    low, high = stats.binom.interval(CONFIDENCE, len(made), 0.3)
    assert low <= sum(one.arm is Arm.CANARY for one in made if one is not None) <= high


def test_by_user_the_share_of_active_users_follows_the_weight_over_a_ramp() -> None:
    """A user has one conversation after the other: each keeps its version, the next one follows the weight."""
    people = units(4000, "user")
    fleet = Fleet([OPEN], [True])
    versions: dict[str, list[str]] = {user: [] for user in people}
    for epoch, weight in enumerate([0.05, 0.15, 0.5, 1.0]):
        fleet.views[0] = replace(OPEN, epoch=epoch, weight=weight, max_weight=weight, previous_weight=0.0)
        for user in people:
            unit = f"{user}/{epoch}"
            made = fleet.turn(0, unit, now=10.0, key=user)
            assert fleet.turn(0, unit, now=11.0, key=user).version == made.version
            versions[user].append(made.version)
        on_canary = sum(seen[-1] == "v2" for seen in versions.values())
        low, high = stats.binom.interval(CONFIDENCE, len(people), weight)
        assert low <= on_canary <= high
    moves = [sum(a != b for a, b in itertools.pairwise(seen)) for seen in versions.values()]
    assert max(moves) == 1, "a user moves to the canary at most once, between conversations"
    assert math.isclose(sum(moves) / len(moves), 0.95, abs_tol=0.02)
