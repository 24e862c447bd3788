"""The demo: what it is made of, and all of it on real processes."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentcanary.config import parse_config
from agentcanary.demo.arrivals import DAY, OPENS, arrivals, intensity
from agentcanary.demo.behaviour import CLOSING, INJECTION, Behaviour, answer
from agentcanary.demo.conversations import scripts
from agentcanary.demo.post import parse
from agentcanary.demo.results import rule_of_thumb, why_not
from agentcanary.demo.run import run
from agentcanary.demo.scenarios import CANARY, SCENARIOS, STABLE, Promise, canary_yaml, scenario
from agentcanary.demo.stickiness import Stickiness, stickiness, stop_of
from agentcanary.demo.story import events_of, taken_back_at
from agentcanary.demo.timing import SPEED, Timing
from agentcanary.demo.turns import SeenTurn
from agentcanary.rollout import Audit, Phase, Rollout
from agentcanary.state_machine import new_rollout
from agentcanary_analysis.aggregates import Arm, Epoch


def turns(*served: tuple[str, float], conversation: str = "c-1") -> list[SeenTurn]:
    """Turns of one conversation: version and time of each."""
    return [
        SeenTurn(
            scenario="better",
            conversation=conversation,
            turn=number,
            sent_at=at,
            started_at=at,
            version=version,
            worker=number % 2,
            status=200,
            complete=True,
        )
        for number, (version, at) in enumerate(served, 1)
    ]


class TestArrivals:
    def test_they_are_as_many_as_the_day_asks_for(self) -> None:
        hours = 9 * 3600 / SPEED
        found = list(arrivals(40.0, hours, speed=SPEED, rng=random.Random(1)))
        expected = 40.0 * hours * statistics.fmean(intensity(OPENS + step / 100) for step in range(900))
        assert abs(len(found) - expected) < 4 * expected**0.5
        assert found == sorted(found)
        assert 0 < found[0] < found[-1] < hours

    def test_busy_hours_have_more(self) -> None:
        a_day = 86_400 / SPEED
        found = list(arrivals(40.0, a_day, speed=SPEED, rng=random.Random(2)))
        hours = [int(OPENS + at * SPEED / 3600) % 24 for at in found]
        assert hours.count(10) > 5 * hours.count(3) > 0

    def test_the_pattern_has_a_mean_of_one_over_the_hours_of_business(self) -> None:
        assert len(DAY) == 24
        assert statistics.fmean(DAY[8:18]) == pytest.approx(1.0, abs=0.02)

    def test_the_same_seed_gives_the_same_day(self) -> None:
        one, two = (scripts(SCENARIOS, 5.0, speed=SPEED, rng=random.Random(3)) for _ in range(2))
        assert one == two

    def test_conversations_have_two_turns_or_more_and_one_closing(self) -> None:
        found = scripts(SCENARIOS, 20.0, speed=SPEED, rng=random.Random(4))
        assert {one.scenario for one in found} == {one.name for one in SCENARIOS}
        assert len({one.conversation for one in found}) == len(found)
        for one in found:
            assert len(one.messages) >= 2
            assert [said.text for said in one.messages].count(CLOSING) == 1
        assert any(said.streams for one in found for said in one.messages)
        assert any(sum(said.thinks for said in one.messages) > 7.0 for one in found), "some live across a weight change"


class TestStandIn:
    def test_a_version_fails_as_many_conversations_as_it_was_told_to(self) -> None:
        behaviour = Behaviour(failing=0.36, solving=0.88, latency=0.1)
        names = [f"c-{number}" for number in range(4000)]
        failed = [any(answer(behaviour, "v2", name, turn, "?").fails for turn in (1, 2, 3)) for name in names]
        assert sum(failed) / 4000 == pytest.approx(0.36, abs=4 * (0.36 * 0.64 / 4000) ** 0.5)
        closing = [answer(behaviour, "v2", name, 3, CLOSING) for name in names]
        assert not any(one.solved for one, bad in zip(closing, failed, strict=True) if bad)
        share = sum(one.solved for one in closing) / 4000
        assert share == pytest.approx(0.64 * 0.88, abs=0.032)
        assert statistics.median(one.seconds for one in closing) == pytest.approx(0.1, rel=0.06)

    def test_the_same_turn_is_always_answered_alike_and_versions_differ(self) -> None:
        behaviour = scenario("same").canary
        one, again, other = (answer(behaviour, version, "c-1", 1, "?") for version in ("v1", "v1", "v2"))
        assert one == again
        assert one.seconds != other.seconds

    def test_only_the_unsafe_version_gives_in(self) -> None:
        violating = [
            (one.name, version)
            for one in SCENARIOS
            for version in (STABLE, CANARY)
            if answer(one.behaviour(version), version, "c-1", 3, INJECTION).violates
        ]
        assert violating == [("unsafe", CANARY)]


class TestConfiguration:
    def test_each_is_the_articles_plan_with_its_criteria(self) -> None:
        for one in SCENARIOS:
            config = parse_config(canary_yaml(one.name))
            plan = config.plan
            assert (config.agent, config.stable, config.canary) == (one.name, STABLE, CANARY)
            assert [(stage.name, stage.duration / 60) for stage in plan.stages] == [
                ("initial", 30),
                ("low_traffic", 60),
                ("medium_traffic", 120),
                ("full_rollout", 0),
            ]
            margins = {criterion.metric: criterion.margin for criterion in plan.criteria}
            assert margins == {"error_rate": 0.10, "task_completion_rate": 0.05, "p95_latency": 0.50}
            assert (plan.alpha, plan.alpha_promote, plan.max_safety_violations) == (0.05, 0.05, 0)


class TestStickiness:
    def test_a_conversation_that_lives_across_a_weight_change_is_counted(self) -> None:
        found = stickiness(
            [*turns((CANARY, 1.0), (CANARY, 3.0)), *turns((STABLE, 1.0), (STABLE, 1.5), conversation="c-2")],
            stable=STABLE,
            weight_changes=[2.0],
            taken_back_at=None,
        )
        assert found == Stickiness(conversations=2, kept=2, across_a_change=1, both_workers=2)
        assert found.share == 1.0

    def test_one_that_a_rollback_moved_is_counted_apart(self) -> None:
        found = stickiness(
            turns((CANARY, 1.0), (STABLE, 5.1), (STABLE, 9.0)), stable=STABLE, weight_changes=[], taken_back_at=5.0
        )
        assert (found.moved, found.broken, found.share) == (1, (), None)

    def test_workers_may_disagree_for_two_seconds_after_a_rollback_and_no_longer(self) -> None:
        seen = turns((CANARY, 1.0), (STABLE, 5.1), (CANARY, 6.9), (STABLE, 7.1))
        late = turns((CANARY, 1.0), (STABLE, 5.1), (CANARY, 7.1), (STABLE, 7.2))
        for found, moved in ((seen, 1), (late, 0)):
            assert stickiness(found, stable=STABLE, weight_changes=[], taken_back_at=5.0).moved == moved

    @pytest.mark.parametrize(
        ("served", "taken_back_at"),
        [
            ([(CANARY, 1.0), (STABLE, 2.0)], None),
            ([(STABLE, 1.0), (CANARY, 2.0)], None),
            ([(CANARY, 1.0), (STABLE, 2.0)], 3.0),
            ([(STABLE, 1.0), (CANARY, 5.5), (STABLE, 8.0)], 5.0),
        ],
        ids=["canary to stable", "stable to canary", "before the rollback", "to the canary after the rollback"],
    )
    def test_any_other_change_is_a_broken_promise(
        self, served: list[tuple[str, float]], taken_back_at: float | None
    ) -> None:
        found = stickiness(turns(*served), stable=STABLE, weight_changes=[], taken_back_at=taken_back_at)
        assert found.broken == ("c-1",)
        assert found.share == 0.0

    def test_turns_whose_server_is_unknown_count_for_nothing(self) -> None:
        seen = [replace(turn, version="") if turn.turn == 2 else turn for turn in turns((STABLE, 1.0), (CANARY, 2.0))]
        assert stickiness(seen, stable=STABLE, weight_changes=[], taken_back_at=None) == Stickiness()

    def test_rollouts_add_up(self) -> None:
        one = stickiness(turns((STABLE, 1.0), (STABLE, 2.0)), stable=STABLE, weight_changes=[], taken_back_at=None)
        two = stickiness(turns((STABLE, 1.0), (CANARY, 2.0)), stable=STABLE, weight_changes=[], taken_back_at=None)
        assert (one + two).share == 0.5


class TestStop:
    def test_the_last_turn_on_the_canary_after_the_violation_tells_how_fast_it_was(self) -> None:
        first, second, third = turns((CANARY, 1.0), (CANARY, 2.25), (STABLE, 3.0))
        found = stop_of([replace(first, violation_at=2.0), second, third], CANARY)
        assert found is not None
        assert (found.seconds, found.after) == (0.25, 1)

    def test_none_after_it_is_zero(self) -> None:
        (first,) = turns((CANARY, 1.0))
        found = stop_of([replace(first, violation_at=1.5)], CANARY)
        assert found is not None
        assert (found.seconds, found.after) == (0.0, 0)

    def test_without_a_violation_there_is_nothing_to_tell(self) -> None:
        assert stop_of(turns((CANARY, 1.0)), CANARY) is None


class TestPromises:
    def rollout(self, phase: Phase, cause: str = "", stages: int = 1) -> Rollout:
        plan = parse_config(canary_yaml("better")).plan
        began = new_rollout("better", STABLE, CANARY, plan, now=0.0, new_salt=b"salt")
        epochs = tuple(Epoch(number=n, weight=plan.stages[n].weight, stage=n) for n in range(stages))
        return replace(began, phase=phase, cause=cause, epochs=epochs, stage=stages - 1)

    @pytest.mark.parametrize(
        ("name", "phase", "cause", "stages", "kept"),
        [
            ("better", Phase.PROMOTED, "", 4, True),
            ("better", Phase.PROMOTED, "", 2, False),
            ("better", Phase.PROGRESSING, "", 4, False),
            ("worse", Phase.ROLLED_BACK, "harm", 1, True),
            ("worse", Phase.ROLLED_BACK, "safety", 1, False),
            ("unsafe", Phase.ROLLED_BACK, "safety", 1, True),
            ("unsafe", Phase.ROLLED_BACK, "harm", 1, False),
            ("same", Phase.PROGRESSING, "", 2, True),
            ("same", Phase.PROMOTED, "", 4, True),
            ("same", Phase.ROLLED_BACK, "harm", 1, False),
        ],
    )
    def test_each_rollout_is_held_to_its_promise(
        self, name: str, phase: Phase, cause: str, stages: int, kept: bool
    ) -> None:
        stop = stop_of([replace(turn, violation_at=1.0) for turn in turns((CANARY, 1.0))], CANARY)
        sticky = Stickiness(conversations=2, kept=2, across_a_change=1)
        rollout = self.rollout(phase, cause, stages)
        found = why_not(scenario(name), rollout, {Arm.CANARY: 100, Arm.STABLE: 100}, sticky, stop)
        assert (found == ()) is kept

    def test_a_rollout_with_hardly_any_traffic_shows_nothing(self) -> None:
        sticky = Stickiness(conversations=2, kept=2, across_a_change=1)
        units = {Arm.CANARY: 19, Arm.STABLE: 100}
        (sentence,) = why_not(scenario("same"), self.rollout(Phase.PROGRESSING), units, sticky, None)
        assert "only 19" in sentence

    def test_a_conversation_that_changed_its_version_breaks_every_promise(self) -> None:
        sticky = Stickiness(conversations=2, kept=1, across_a_change=1, broken=("c-7",))
        units = {Arm.CANARY: 100, Arm.STABLE: 100}
        (sentence,) = why_not(scenario("same"), self.rollout(Phase.PROGRESSING), units, sticky, None)
        assert "c-7" in sentence

    def test_the_rule_of_thumb_is_asked_at_the_same_looks(self) -> None:
        def look(change: float | None, units: int) -> dict[str, Any]:
            evidence = {"metric": "error_rate", "relative_change": change, "canary": {"units": units}}
            return {"findings": {"evidence": [evidence]}}

        looks = [(1.0, look(0.5, 19)), (2.0, look(0.11, 20)), (3.0, look(0.10, 30)), (4.0, look(None, 40))]
        found = rule_of_thumb(looks, at_least=20)
        assert (found.looks, found.beyond, found.first_at) == (2, 1, 2.0)


class TestStory:
    def entry(self, action: str, at: float, reason: str = "") -> Audit:
        return Audit(at=at, actor="agentcanary", action=action, reason=reason, before="", after="")

    def test_stages_are_told_with_their_weights_and_housekeeping_is_not(self) -> None:
        rollout = TestPromises().rollout(Phase.PROMOTED, stages=4)
        actions = ("create", "start", "epoch", "advance", "advance", "advance", "promote", "drained")
        found = events_of(rollout, [self.entry(action, float(at)) for at, action in enumerate(actions)])
        texts = [event.text for event in found]
        assert [event.at for event in found] == [1.0, 3.0, 4.0, 5.0, 6.0]
        assert texts[0] == "begins: 15 % of new conversations to support-v2"
        assert texts[3] == "proven safe; stage full_rollout: 100 % of new conversations"
        assert texts[4].startswith("PROMOTED")

    def test_a_violation_takes_back_before_the_rollback_is_written(self) -> None:
        rollout = replace(TestPromises().rollout(Phase.ROLLED_BACK, "safety"), stopped_at=4.0, ended_at=5.0)
        assert taken_back_at(rollout) == 4.0
        assert taken_back_at(replace(rollout, stopped_at=None)) == 5.0
        assert taken_back_at(TestPromises().rollout(Phase.PROMOTED)) is None


class TestTiming:
    def test_the_clocks_meet_and_times_convert_back(self) -> None:
        timing = Timing(meets=1_000.0, speed=360.0)
        assert timing.real(timing.meets) == timing.meets
        assert timing.real(timing.meets - 720.0) == timing.meets - 2.0


class TestPost:
    def test_a_whole_chunked_body_is_complete(self) -> None:
        found = parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert found == (200, b"abcde", True)

    @pytest.mark.parametrize("body", [b"ab", b"abcd"])
    def test_a_body_of_another_length_is_not(self, body: bytes) -> None:
        assert not parse(b"HTTP/1.1 500 Oops\r\ncontent-length: 3\r\n\r\n" + body).complete

    @pytest.mark.parametrize("received", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"])
    def test_anything_else_is_refused(self, received: bytes) -> None:
        with pytest.raises(ValueError, match="not an HTTP response"):
            parse(received)


class TestRun:
    def test_two_of_its_rollouts_come_out_as_promised_on_real_processes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code = run(seconds=65.0, json_output=True, keep=tmp_path / "demo", only=("unsafe", "same"))
        summary = json.loads(capsys.readouterr().out)
        assert summary["why_not"] == []
        assert code == 0
        unsafe, same = summary["rollouts"]
        assert (unsafe["phase"], unsafe["cause"]) == ("rolled_back", "safety")
        assert unsafe["violation_to_last_canary_turn_ms"] < 1000.0
        assert same["phase"] == "progressing"
        assert summary["stickiness"]["share_kept"] == 1.0
        assert summary["stickiness"]["in_both_workers"] > 0
        assert summary["requests"]["streamed"] > 0

    def test_a_folder_with_an_earlier_demo_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "demo.sqlite3").write_bytes(b"")
        assert run(keep=tmp_path) == 2
        assert "earlier demo" in " ".join(capsys.readouterr().err.split())

    @pytest.mark.slow
    def test_all_four_come_out_as_promised_in_a_hundred_seconds(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code = run(json_output=True, keep=tmp_path / "demo")
        summary = json.loads(capsys.readouterr().out)
        assert summary["why_not"] == []
        assert code == 0
        assert summary["seconds"] < 100.0
        assert [one["promised"] for one in summary["rollouts"]] == [one.promise.value for one in SCENARIOS]
        assert all(one["as_promised"] for one in summary["rollouts"])
        assert summary["stickiness"]["share_kept"] == 1.0
        assert summary["stickiness"]["across_a_weight_change"] > 20


def test_every_promise_is_in_the_demo() -> None:
    assert {one.promise for one in SCENARIOS} == set(Promise)
