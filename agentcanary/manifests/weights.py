"""A share as the whole numbers that meshes take: relative weights, never both 0. Pure."""

from __future__ import annotations

from decimal import Decimal

# HTTPRoute's largest weight (Gateway API v1, backendRefs[].weight); Istio's is larger.
LARGEST = 1_000_000


def relative_weights(weight: float) -> tuple[int, int]:
    """Weights of stable and canary whose ratio is the canary's share.

    They add up to 100, or to the next power of ten in which the share is a whole number. A share that is smaller than
    one in a million is rounded up to it: a canary that has a share gets traffic.

    Args:
        weight: Share of the canary in [0, 1].

    Raises:
        ValueError: If it is no share.

    >>> [relative_weights(weight) for weight in (0.0, 0.005, 0.05, 0.125, 1.0)]
    [(100, 0), (995, 5), (95, 5), (875, 125), (0, 100)]
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is a share in 0..1, got {weight} (write 0.05, not 5)")
    share = Decimal(repr(float(weight)))
    total = 100
    while total < LARGEST and share * total != int(share * total):
        total *= 10
    canary = round(share * total)
    if 0 < weight < 1:
        canary = min(max(canary, 1), total - 1)
    return total - canary, canary
