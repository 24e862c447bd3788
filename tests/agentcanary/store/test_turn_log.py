from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary.store import turn_log
from agentcanary.store.turn_log import ABORTED, ERROR, LATER, OK, STARTED, Entry, open_at

NAN = math.nan


def started(at: float) -> Entry:
    return Entry(at, NAN, NAN, NAN, STARTED)


def whole(at: float, until: float, code: int = OK) -> Entry:
    return Entry(at, until, until - at, NAN, code)


def text(*entries: Entry) -> str:
    return "".join(turn_log.to_text(turn_log.pack(*entry)) for entry in entries)


OPEN = {
    "a turn that never ends": ([started(1.0)], 5.0, True),
    "a turn that starts at that moment": ([started(5.0)], 5.0, True),
    "a turn that starts later": ([started(5.1)], 5.0, False),
    "a turn that ended before": ([whole(1.0, 4.0)], 5.0, False),
    "a turn that ends at that moment": ([whole(1.0, 5.0)], 5.0, False),
    "a turn that ends later": ([whole(1.0, 5.1)], 5.0, True),
    "a start and its end before": ([started(1.0), whole(1.0, 4.0, ERROR + LATER)], 5.0, False),
    "a start and its end later": ([started(1.0), whole(1.0, 6.0, OK + LATER)], 5.0, True),
    "an end that was stored before its start": ([whole(1.0, 4.0, OK + LATER), started(1.0)], 5.0, False),
    "an end whose start was lost hides no other turn": ([whole(1.0, 4.0, OK + LATER), started(2.0)], 5.0, True),
    "two turns that started together, one has ended": (
        [started(1.0), started(1.0), whole(1.0, 2.0, OK + LATER)],
        5.0,
        True,
    ),
    "two that started together, one of them whole": ([started(1.0), whole(1.0, 2.0)], 5.0, True),
}


@pytest.mark.parametrize(("entries", "at", "expected"), OPEN.values(), ids=OPEN)
def test_a_turn_is_open_from_its_start_until_it_ends(entries: list[Entry], at: float, expected: bool) -> None:
    assert open_at(turn_log.read(text(*entries)), at) is expected


def test_an_entry_is_read_as_it_was_written() -> None:
    entry = Entry(1_732_312_345.123456, 1_732_312_347.25, 2.126544, 0.5, ABORTED + LATER)
    assert turn_log.read(text(entry, whole(2.0, 3.0))) == [
        entry,
        (*whole(2.0, 3.0)[:3], pytest.approx(NAN, nan_ok=True), OK),
    ]
    assert entry.outcome == ABORTED


def test_the_first_turn_is_the_earliest_and_counts_only_once_it_has_ended() -> None:
    entries = [whole(3.0, 4.0), started(1.0), whole(1.0, 6.0, OK + LATER)]
    assert turn_log.first_turn(entries, 5.0) is None
    assert turn_log.first_turn(entries, 6.0) == entries[2]


def test_a_text_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="44 characters a turn, got 43"):
        turn_log.read(text(started(1.0))[:-1])


turns = st.tuples(
    st.floats(0, 100, width=16),
    st.floats(0, 100, width=16) | st.none(),
    st.booleans(),
    st.sampled_from([OK, ERROR, ABORTED]),
)


@given(st.lists(turns, max_size=12), st.floats(0, 120, width=16), st.randoms())
def test_whether_a_turn_was_open_does_not_depend_on_how_it_was_stored(
    turns: list[tuple[float, float | None, bool, int]], at: float, shuffle: object
) -> None:
    entries = []
    for start, seconds, in_one_batch, code in turns:
        if seconds is None:
            entries.append(started(start))
        elif in_one_batch:
            entries.append(whole(start, start + seconds, code))
        else:
            entries += [started(start), whole(start, start + seconds, code + LATER)]
    shuffle.shuffle(entries)  # type: ignore[attr-defined] # Hypothesis' Random
    expected = any(start <= at and (seconds is None or start + seconds > at) for start, seconds, _, _ in turns)
    assert open_at(turn_log.read(text(*entries)), at) is expected
    failed = any(code == ERROR and seconds is not None and start + seconds <= at for start, seconds, _, code in turns)
    assert turn_log.ended_with(entries, ERROR, at) is failed
