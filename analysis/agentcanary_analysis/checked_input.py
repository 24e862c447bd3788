"""What callers hand in, checked once at the door: numbers, counts, epochs, generators. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
Item = TypeVar("Item")

MOST_UNITS = 10**12
"""More are a slip, not a count; sums of products of such counts are still exact enough."""

_MOST_DRAWS = 10**7


def float_array(name: str, values: ArrayLike) -> FloatArray:
    """Numbers as an array of floats.

    Raises:
        TypeError: If something else is among them: text is not a number, however it looks.
        ValueError: If the shape is ragged.

    >>> float_array("events", [1, 2]).tolist()
    [1.0, 2.0]
    """
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be ordinary numbers, got {values!r:.80}")
    return found.astype(np.float64, copy=False)


def checked_counts(*counts: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Canary events and units, stable events and units, as float arrays of one shape with at least one axis.

    Raises:
        TypeError: If something is not a number.
        ValueError: If a count is negative, broken, infinite or above its units.

    >>> [column.tolist() for column in checked_counts(1, 50, 3, 950)]
    [[1.0], [50.0], [3.0], [950.0]]
    """
    names = ("canary events", "canary units", "stable events", "stable units")
    columns = (np.atleast_1d(float_array(name, count)) for name, count in zip(names, counts, strict=True))
    k_c, n_c, k_s, n_s = np.broadcast_arrays(*columns)
    for arm, events, units in (("canary", k_c, n_c), ("stable", k_s, n_s)):
        legal = (events >= 0) & (events <= units) & (units <= MOST_UNITS) & (events == np.floor(events))
        legal &= units == np.floor(units)
        if not legal.all():
            where = int(np.flatnonzero(~legal.ravel())[0])
            raise ValueError(
                f"{arm} needs whole numbers with 0 <= events <= units <= {MOST_UNITS:.0e}, "
                f"got events={events.ravel()[where]:g}, units={units.ravel()[where]:g}"
            )
    return k_c, n_c, k_s, n_s


def paired_epochs(canary: Sequence[Item], stable: Sequence[Item], kind: type) -> list[tuple[Item, Item]]:
    """The epochs of both arms, side by side.

    Args:
        canary: One item an epoch.
        stable: The same epochs.
        kind: What the items must be.

    Raises:
        TypeError: If an arm is no list of such items.
        ValueError: If the arms have different epochs.

    >>> paired_epochs([{0: 3}], [{0: 9}], Mapping)
    [({0: 3}, {0: 9})]
    """
    for name, arm in (("canary", canary), ("stable", stable)):
        if isinstance(arm, (str, Mapping)) or not isinstance(arm, Sequence):
            raise TypeError(f"{name} must be a list with one {kind.__name__} an epoch, got {arm!r:.80}")
        for item in arm:
            checked_type(f"each epoch of {name}", item, kind)
    if len(canary) != len(stable):
        raise ValueError(f"both arms need the same epochs, got {len(canary)} of the canary and {len(stable)} of stable")
    return list(zip(canary, stable, strict=True))


def checked_type(name: str, value: Item, kind: type) -> Item:
    """``value`` itself, if it is of its kind: a string that looks like an enum's member is none.

    Raises:
        TypeError: Otherwise.

    >>> checked_type("level", 0.5, float)
    0.5
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {value!r:.80}")
    return value


def checked_rng(rng: np.random.Generator) -> np.random.Generator:
    """``rng`` itself, if it is a generator.

    Raises:
        TypeError: Otherwise; a seed is not a generator.

    >>> round(checked_rng(np.random.default_rng(1)).random(), 4)
    0.5118
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r:.80} (write numpy.random.default_rng(7))")
    return rng


def checked_draws(draws: int) -> int:
    """``draws`` itself, if so many can be made.

    Raises:
        ValueError: If it is not a whole number from 1 to ten million.

    >>> checked_draws(1000)
    1000
    """
    if not isinstance(draws, Integral) or isinstance(draws, bool) or not 1 <= draws <= _MOST_DRAWS:
        raise ValueError(f"draws must be at least 1, got {draws!r:.80} (a whole number up to {_MOST_DRAWS:.0e})")
    return draws
