"""The most likely rates of two arms on the line ``canary = ratio * stable + shift``. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

_TINY = 1e-140  # its square is still a positive double


def constrained_rates(
    canary_events: FloatArray,
    canary_units: FloatArray,
    stable_events: FloatArray,
    stable_units: FloatArray,
    *,
    ratio: ArrayLike,
    shift: ArrayLike,
) -> tuple[FloatArray, FloatArray]:
    """The most likely rates of both arms on the line ``canary = ratio * stable + shift``.

    The likelihood is concave along the line, so its score has one root: that of a quadratic without shift, otherwise
    found by Newton's method inside a bracket.

    Args:
        canary_events: Checked counts, any shapes that broadcast.
        canary_units: The same.
        stable_events: The same.
        stable_units: The same; where both arms are empty the rates are arbitrary points of the line.
        ratio: Positive.
        shift: In (-ratio, 1).

    Returns:
        The canary's and stable's rates, in [0, 1], of the broadcast shape.

    Raises:
        ValueError: If the line leaves no room in [0, 1].

    >>> c, s = constrained_rates(*(np.array([x]) for x in (850.0, 1000.0, 900.0, 1000.0)), ratio=1.0, shift=-0.1)
    >>> c.round(4).tolist(), s.round(4).tolist()
    ([0.8169], [0.9169])
    """
    k_c, n_c, k_s, n_s, r, a = np.broadcast_arrays(
        canary_events, canary_units, stable_events, stable_units, np.asarray(ratio, float), np.asarray(shift, float)
    )
    if not (np.all(r > 0) and np.all(a > -r) and np.all(a < 1) and np.all(np.isfinite(r))):
        raise ValueError(f"ratio * rate + shift must be possible for some rate in [0, 1], got {ratio=}, {shift=}")
    if not a.any():
        # r (n_c + n_s) s² - (r (n_c + k_s) + n_s + k_c) s + k_c + k_s = 0, with no difference of nearly equal numbers.
        one, other = r * (n_c + k_s), n_s + k_c
        b = one + other
        discriminant = (one - other) ** 2 + 4 * r * (n_c - k_c) * (n_s - k_s)
        s = np.minimum(2 * (k_c + k_s) / np.maximum(b + np.sqrt(discriminant), _TINY), np.minimum(1, 1 / r))
        return np.minimum(r * s, 1.0), s
    # The arm whose rate may be zero while the other's is not is the unknown: then the score has no pole near the root.
    swap = a < 0
    r_x, a_x = np.where(swap, 1 / r, r), np.where(swap, -a / r, a)
    k_y, n_y = np.where(swap, k_s, k_c), np.where(swap, n_s, n_c)
    k_x, n_x = np.where(swap, k_c, k_s), np.where(swap, n_c, n_s)
    x = _root_of_score(k_y, n_y, k_x, n_x, r_x, a_x)
    y = np.clip(r_x * x + a_x, 0, 1)
    return np.where(swap, x, y), np.where(swap, y, x)


def _root_of_score(
    k_y: FloatArray, n_y: FloatArray, k_x: FloatArray, n_x: FloatArray, r: FloatArray, a: FloatArray
) -> FloatArray:
    """The most likely x on ``y = r x + a`` with ``a >= 0``."""
    top = np.minimum(1.0, (1 - a) / r)
    # The score at an end has no pole only where the cells that vanish there are empty; then the end may be the root.
    y_bottom, y_top = np.clip(a, _TINY, 1), np.clip(r * top + a, _TINY, 1)
    rest_y, rest_x = np.maximum(1 - y_top, _TINY), np.maximum(1 - top, _TINY)
    at_bottom = (k_x == 0) & (r * (k_y - n_y * y_bottom) <= n_x * y_bottom * (1 - y_bottom))
    at_top = r * (k_y / y_top - (n_y - k_y) / rest_y) + k_x / top - (n_x - k_x) / rest_x >= 0
    low, high = np.zeros_like(top), top
    x = np.clip((k_x + k_y - n_y * a) / np.maximum(n_x + r * n_y, _TINY), 1e-3 * top / (n_x + n_y + 1), 0.999 * top)
    x = np.where(at_bottom, 0.0, np.where(at_top, top, x))
    fixed = at_bottom | at_top
    for step in range(120):
        y, x_1 = np.clip(r * x + a, _TINY, 1), np.maximum(1 - x, _TINY)
        y_var = y * np.maximum(1 - y, _TINY)
        residual = k_y - n_y * y
        scale = x * x_1 / y_var
        # The score times x (1 - x): straight in the limit of rare events, where Newton then needs one step.
        score = r * scale * residual + k_x - n_x * x
        slope = r * residual * ((1 - 2 * x) - scale * r * (1 - 2 * y)) / y_var - n_x - r * r * n_y * scale
        low, high = np.where(score >= 0, x, low), np.where(score <= 0, x, high)
        newton = x - score / np.where(slope < 0, slope, -1.0)
        # Relative to the nearer end: where nearly all units have the event, the rest is as small as a rate near zero.
        near = 1e-9 * np.minimum(x, top - x) + 1e-15 * x
        # At rest on an end of the bracket Newton has found the root: a bisection would start all over.
        resting = np.abs(newton - x) <= near
        inside = (slope < 0) & (((newton > low) & (newton < high)) | resting) & (step < 40)
        following = np.where(fixed, x, np.where(inside, newton, (low + high) / 2))
        settled = fixed | (np.abs(following - x) <= near)
        x = following
        if settled.all():
            break
    return x
