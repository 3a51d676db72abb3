"""Counts on a tree of intervals, and the leaves that fit all of them best.

Level l of a tree over `leaves` cells has intervals of fanout^(levels - l) cells. A leaf's event
counts once on each level, so one event moves the counts by sqrt(levels); a tree of one level is a
plain histogram. Each prefix of the leaves is then a sum of few counts instead of many.

The counts of a parent and of its children disagree by their noise. Least squares over all of them
is the best linear unbiased estimate, and post-processing (Hay, Rastogi, Miklau, Suciu 2010,
arXiv:0904.0942, Theorem 3). It is computed in two passes, for nodes of any number of children:
upwards, a node's own count and the sum of its children are weighted by their inverse variances;
downwards, what a parent then differs from its children is shared among them by their variances.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import is_integer, require

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Intervals over cells in order.

    Attributes:
      leaves: number of cells.
      fanout: children of a node, at most; at least 2, and no more than there are leaves.

    Raises:
      ValueError: if they are out of range.
    """

    leaves: int
    fanout: int

    def __post_init__(self) -> None:
        """Checks both."""
        fits = is_integer(self.fanout) and 2 <= self.fanout <= max(2, self.leaves)
        require(fits, "fanout must be from 2 to the number of cells", fanout=self.fanout)
        require(self.leaves >= 2, "a tree needs two cells or more", leaves=self.leaves)

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Nodes of each level, from the children of the root to the leaves."""
        found = [self.leaves]
        while found[0] > self.fanout:
            found.insert(0, -(-found[0] // self.fanout))
        return tuple(found)

    @property
    def levels(self) -> int:
        """Nodes to which an event adds 1."""
        return len(self.sizes)

    @property
    def nodes(self) -> int:
        """Nodes of all levels, the root left out."""
        return sum(self.sizes)

    def nodes_of(self, leaf: NDArray[np.int64]) -> NDArray[np.int64]:
        """Nodes above each leaf and the leaf itself, shape (levels, leaves)."""
        starts = np.cumsum([0, *self.sizes[:-1]])
        above = [
            start + leaf // self.fanout ** (self.levels - 1 - level)
            for level, start in enumerate(starts.tolist())
        ]
        return np.array(above)

    def fitted(self, counts: Array) -> Array:
        """Least squares over noisy counts of equal variance.

        Args:
          counts: shape (nodes, ...), levels one after the other.

        Returns:
          The leaves, shape (leaves, ...).
        """
        own = np.split(counts, np.cumsum(self.sizes)[:-1])
        value, variance = own[-1], np.ones(self.leaves)
        upwards = [(value, variance)]
        for level in reversed(own[:-1]):
            below, spread = self._over_children(value), self._over_children(variance)
            weight = (spread / (1 + spread)).reshape(-1, *[1] * (counts.ndim - 1))
            value, variance = weight * level + (1 - weight) * below, spread / (1 + spread)
            upwards.append((value, variance))
        best = upwards[-1][0]  # nobody counts the root, so nothing corrects its children
        for value, variance in reversed(upwards[:-1]):
            parent = np.arange(len(value)) // self.fanout
            share = (variance / self._over_children(variance)[parent]).reshape(
                -1, *[1] * (counts.ndim - 1)
            )
            best = value + share * (best - self._over_children(value))[parent]
        return best

    @functools.cached_property
    def prefix_weights(self) -> Array:
        """Weight of each node's count in each prefix of the fitted leaves, (leaves, nodes)."""
        return np.cumsum(self.fitted(np.eye(self.nodes)), axis=0)

    def rank_variances(self, quantile: float) -> Array:
        """Variance of (prefix - quantile total) over that of one count, shape (leaves,)."""
        weights = self.prefix_weights
        found: Array = np.sum((weights - quantile * weights[-1]) ** 2, axis=1)
        return found

    def _over_children(self, values: Array) -> Array:
        summed: Array = np.add.reduceat(values, np.arange(0, len(values), self.fanout), axis=0)
        return summed
