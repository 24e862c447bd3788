"""One-look tests and intervals by cluster, for tables whose conversations share users or tasks. Pure.

The estimate is the one without clusters (epochs weighted by Mantel and Haenszel); its variance is that of the clusters'
influences, so a cluster may have conversations in both arms and in many epochs: what it has in common cancels. With c
standing for the canary and s for stable, a cluster g adds to ``canary - r * stable``

    u_g = sum over epochs of w_e (sum of (y - mean_ce) of its canary conversations / n_ce - r * the same of stable)

and the variance is ``G / (G - 1) * sum(u_g ** 2)``.

**Source**: Binder (1983), International Statistical Review 51:279-292, for the influences; Kish (1965), Survey
Sampling, section 11.7, for the effective number of clusters, which gives the degrees of freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from agentcanary_analysis.bootstrap_intervals import FEWEST_CLUSTERS
from agentcanary_analysis.checks import Boundary
from agentcanary_analysis.metrics import Direction
from agentcanary_analysis.one_look import Limits, Unknown

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clustered:
    """Values by cluster, arm and epoch; arrays of shape (cells,), a cell being what a cluster has in one arm and epoch.

    Attributes:
        arm: 0 for stable, 1 for the canary.
        epoch: Index of the epoch.
        cluster: Number of the cluster.
        n: Conversations with a value.
        total: Sum of their values.
    """

    arm: IntArray
    epoch: IntArray
    cluster: IntArray
    n: FloatArray
    total: FloatArray

    @property
    def sizes(self) -> FloatArray:
        """Conversations with a value of each cluster, shape (2, clusters)."""
        return self._by_cluster(self.n)

    @property
    def clusters(self) -> tuple[int, int]:
        """Clusters with values in stable and in the canary."""
        there = (self.sizes > 0).sum(axis=1)
        return int(there[0]), int(there[1])

    @property
    def effective(self) -> float:
        """Kish's number of clusters, of the arm that has fewer."""
        sizes = self.sizes
        squares = (sizes**2).sum(axis=1)
        return float(np.min(np.where(squares > 0, sizes.sum(axis=1) ** 2 / np.where(squares > 0, squares, 1.0), 0.0)))

    @property
    def shared(self) -> bool:
        """True when some cluster has conversations in both arms."""
        return bool((self.sizes > 0).all(axis=0).any())

    def sums(self, column: FloatArray) -> FloatArray:
        """Of a column by epoch, shape (epochs, 2)."""
        epochs = int(self.epoch.max(initial=0)) + 1
        return (
            np.bincount(self.epoch * 2 + self.arm, weights=column, minlength=2 * epochs)
            .astype(np.float64)
            .reshape(epochs, 2)
        )

    def _by_cluster(self, column: FloatArray) -> FloatArray:
        clusters = int(self.cluster.max(initial=0)) + 1
        address = self.arm * clusters + self.cluster
        return np.bincount(address, weights=column, minlength=2 * clusters).astype(np.float64).reshape(2, clusters)

    def influences(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Levels of both arms and each cluster's influence on them, of shapes (2,) and (2, clusters).

        Args:
            weight: Of each epoch, adding up to 1; zero where an arm has no value. Shape (epochs,).
        """
        sizes = self.sums(self.n)
        means = self.sums(self.total) / np.maximum(sizes, 1)
        here = self.epoch * 2 + self.arm
        deviation = self.total - means.ravel()[here] * self.n
        scale = weight[self.epoch] / np.maximum(sizes.ravel()[here], 1)
        return weight @ means, self._by_cluster(scale * deviation)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """Both arms over the same mix of epochs, and each cluster's influence on them.

    Attributes:
        stable: Level of stable.
        canary: Level of the canary.
        pull: Influences on stable and on the canary, shape (2, clusters).
        freedom: Effective clusters less one.
    """

    stable: float
    canary: float
    pull: FloatArray
    freedom: float

    def variance(self, of_canary: float, of_stable: float) -> float:
        """Of ``of_canary * canary + of_stable * stable``."""
        together = of_canary * self.pull[1] + of_stable * self.pull[0]
        clusters = int((self.pull != 0).any(axis=0).sum())
        return float((together**2).sum()) * clusters / max(clusters - 1, 1)


def levels(values: Clustered) -> Levels | Unknown:
    """Both arms over the epochs with values in both, or why they cannot be compared by cluster.

    Args:
        values: Of one metric.
    """
    sizes = values.sums(values.n)
    weight = sizes.prod(axis=1) / np.maximum(sizes.sum(axis=1), 1)
    if not weight.any():
        return Unknown.EMPTY_ARM
    effective = values.effective
    if effective < FEWEST_CLUSTERS:
        return Unknown.TOO_FEW_CLUSTERS
    (at_s, at_c), pull = values.influences(weight / weight.sum())
    if not (pull[0].any() and pull[1].any()):
        return Unknown.CONSTANT
    return Levels(stable=float(at_s), canary=float(at_c), pull=pull, freedom=effective - 1)


def clustered_p_values(found: Levels, boundary: Boundary) -> tuple[float, float]:
    """One-sided p-values for "beyond the boundary" and for "within the boundary".

    Args:
        found: Of ``levels``.
        boundary: The line.
    """
    distance = found.canary - boundary.ratio * found.stable - boundary.shift
    t = distance / math.sqrt(found.variance(1.0, -boundary.ratio))
    above, below = float(stdtr(found.freedom, -t)), float(stdtr(found.freedom, t))
    return (above, below) if boundary.direction is Direction.UP_IS_WORSE else (below, above)


def clustered_ratio_interval(found: Levels, *, confidence: float = 0.95) -> Limits | Unknown:
    """Interval of the relative change, symmetric on the logarithm, so never below -1.

    Args:
        found: Of ``levels``.
        confidence: Two-sided coverage in (0, 1).

    Returns:
        ``NOT_POSITIVE`` where a level has no logarithm.
    """
    if found.canary <= 0 or found.stable <= 0:
        return Unknown.NOT_POSITIVE
    spread = math.sqrt(found.variance(1 / found.canary, -1 / found.stable))
    half = float(stdtrit(found.freedom, (1 + confidence) / 2)) * min(spread, 50.0)
    ratio = found.canary / found.stable
    return Limits(ratio * math.exp(-half) - 1, ratio * math.exp(half) - 1)
