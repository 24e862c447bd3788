"""Logarithmic bins hold the values that their edges promise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcanary_analysis.histogram import GROWTH, INFINITE_BIN, LOWEST_BIN, bin_of, edge

SLACK = 1e-10  # an edge is its own bin's although the logarithm is rounded


def test_every_edge_lies_in_its_own_bin() -> None:
    assert [bin_of(edge(number)) for number in range(LOWEST_BIN, INFINITE_BIN)] == list(range(LOWEST_BIN, INFINITE_BIN))


@given(st.floats(1e-8, 1e80))
def test_a_value_lies_between_the_edges_of_its_bin(value: float) -> None:
    number = bin_of(value)
    assert edge(number - 1) * (1 - SLACK) <= value <= edge(number) * (1 + SLACK)


@given(st.floats(0, allow_infinity=True), st.floats(0, allow_infinity=True))
def test_a_larger_value_is_never_in_a_lower_bin(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert LOWEST_BIN <= bin_of(low) <= bin_of(high) <= INFINITE_BIN


def test_what_never_came_has_no_edge_and_zero_is_the_lowest() -> None:
    assert (bin_of(math.inf), bin_of(1e300), bin_of(0.0)) == (INFINITE_BIN, INFINITE_BIN, LOWEST_BIN)
    assert edge(INFINITE_BIN) == math.inf
    assert edge(1) / edge(0) == GROWTH


@pytest.mark.parametrize("value", [-1e-300, -1.0, -math.inf, math.nan])
def test_a_negative_or_missing_value_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="values of 0 and more"):
        bin_of(value)
