"""How sure the comparison of settings is: seeds and phones drawn again, all settings alike.

Every setting is evaluated on the same phones under the same seeds, so differences are paired.
Phones are drawn whole (clips of one phone are not independent), and seeds too where there are
several: one seed's noise and cohorts move all of its phones together, and phones alone would call
that certain. With few seeds the interval is still somewhat narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.evaluation.personalization import RESAMPLES
from simulations.tuning.results import Spread

Matrix = NDArray[np.float64]

SAME_PRICE = 1.005
"""Epsilons of one noise multiplier differ by what rounding costs under each clip norm: no reason to
prefer one."""


@dataclass(frozen=True)
class Choice:
    """Which setting is recommended, and how far chance decided it.

    Attributes:
      best: of the setting with the highest mean among those that may be chosen.
      flattery: by how much being chosen on these phones lifts the figure, on average.
    """

    index: int
    best: int
    share_same: float
    flattery: float
    unresolved: tuple[int, ...]


class Evidence:
    """Mean accuracies of several settings on the same phones, drawn again and again.

    Args:
      accuracies: per seed one matrix, shape (phones of the seed, settings).
      rng: a named stream.

    Raises:
      ValueError: if there is no seed, no phone, or another number of settings per seed.
    """

    def __init__(self, accuracies: Sequence[Matrix], rng: np.random.Generator) -> None:
        """Draws the resamples, the same for all settings."""
        shapes = {found.shape[1] for found in accuracies}
        if len(shapes) != 1 or any(len(found) == 0 for found in accuracies):
            raise ValueError("every seed needs members, and the same settings as the others")
        self.by_seed: Matrix = np.stack([found.mean(axis=0) for found in accuracies])
        self.means: Matrix = self.by_seed.mean(axis=0)
        total = np.zeros((RESAMPLES, *shapes))
        for _ in accuracies:
            drawn = rng.integers(0, len(accuracies), RESAMPLES)
            for seed, found in enumerate(accuracies):
                rows = np.flatnonzero(drawn == seed)
                phones = len(found)
                # How often each phone is drawn, not which: one product then serves all settings,
                # and the figures of a phone stay together, which keeps differences paired.
                counts = rng.multinomial(phones, np.full(phones, 1 / phones), len(rows))
                total[rows] += counts @ found / phones
        self.resampled: Matrix = total / len(accuracies)

    def accuracy(self, index: int) -> Spread:
        """Mean accuracy of a setting: seeds count alike, and so do the phones of a seed."""
        return _spread(self.means[index], self.resampled[:, index])

    def difference(self, index: int, reference: int) -> Spread:
        """Paired difference of two settings."""
        return _spread(
            self.means[index] - self.means[reference],
            self.resampled[:, index] - self.resampled[:, reference],
        )

    def choose(self, eligible: Sequence[int], epsilons: Sequence[float], within: float) -> Choice:
        """Chooses the most private of the settings that are as good as the best, as far as is seen.

        Of the eligible settings whose mean is within `within` of the best one's, or whose paired
        difference from it may be nothing (its 95 % interval holds zero): the smallest epsilon; of
        several, the highest mean. Drawn again, a setting keeps the width of its interval.
        """
        columns = np.array(sorted(eligible))
        prices = np.array([epsilons[index] for index in columns])
        best = int(columns[self.means[columns].argmax()])
        differences = [self.difference(int(index), best) for index in columns]
        margins = np.array([max(within, found.high - found.mean) for found in differences])
        chosen = _chosen(self.means[columns][np.newaxis], prices, margins)[0]
        again = _chosen(self.resampled[:, columns], prices, margins)
        rows = np.arange(RESAMPLES)
        lifted = self.resampled[rows, columns[again]] - self.means[columns[again]]
        index = int(columns[chosen])
        return Choice(
            index=index,
            best=best,
            share_same=float((again == chosen).mean()),
            flattery=max(0.0, float(lifted.mean())),
            unresolved=tuple(
                other
                for other in sorted(eligible)
                if other != index and _holds_zero(self.difference(other, index))
            ),
        )


def _chosen(means: Matrix, prices: Matrix, margins: Matrix) -> NDArray[np.int64]:
    """The rule of `Evidence.choose` for every row of means, shape (rows, settings): shape (rows,).

    `margins` say how far below the best each setting still counts as good, shape (settings,).
    """
    # 1e-12 is far below the share of a single clip: without it rounding could put a setting out of
    # a margin that it meets exactly.
    near = means >= means.max(axis=1, keepdims=True) - margins - 1e-12
    cheapest = np.where(near, prices, np.inf).min(axis=1, keepdims=True)
    allowed = near & (prices <= cheapest * SAME_PRICE)
    found: NDArray[np.int64] = np.where(allowed, means, -np.inf).argmax(axis=1)
    return found


def _spread(mean: float, resampled: Matrix) -> Spread:
    low, high = np.quantile(resampled, [0.025, 0.975])
    # Percentiles of a skewed sample need not enclose the mean that is printed between them.
    return Spread(mean=mean, low=min(low, mean), high=max(high, mean))


def _holds_zero(found: Spread) -> bool:
    return found.low <= 0 <= found.high
