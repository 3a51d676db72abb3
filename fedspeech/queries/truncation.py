"""How a phone keeps within its bound: of too many events or cells it keeps some at random.

Each phone looks at its own events alone and draws from its own generator. The generator is opened
only where there is something to choose, so that a block of phones costs little.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.int64]
Generators = Sequence[np.random.Generator]


def kept(
    cells: Cells,
    phone: Cells,
    rngs: Generators,
    *,
    dimension: int,
    max_cells: int,
    most: int | None = None,
) -> NDArray[np.bool_]:
    """Which events phones keep, shape (events,).

    Args:
      cells: of each event, shape (events,), below `dimension`.
      phone: index of the phone that holds each event, shape (events,), not falling.
      rngs: one per phone.
      dimension: number of cells.
      max_cells: that a phone keeps; of more, each set of so many is equally probable.
      most: events that a phone keeps in one cell, likewise; None: all.
    """
    groups, group, sizes = np.unique(
        phone * dimension + cells, return_inverse=True, return_counts=True
    )
    holder = groups // dimension
    held = np.bincount(holder, minlength=len(rngs))
    choosing = held > max_cells
    if most is not None:
        choosing |= np.bincount(holder, sizes > most, minlength=len(rngs)) > 0
    event_order, cell_order = np.zeros(len(cells)), np.zeros(len(groups))
    event_ends = np.cumsum(np.bincount(phone, minlength=len(rngs)))
    cell_ends = np.cumsum(held)
    for index in np.flatnonzero(choosing).tolist():
        rng, first = rngs[index], cell_ends[index] - held[index]
        cell_order[first : cell_ends[index]] = rng.random(int(held[index]))
        if most is not None:
            start = event_ends[index - 1] if index else 0
            event_order[start : event_ends[index]] = rng.random(int(event_ends[index] - start))
    stays = _rank(holder, cell_order)[group] < max_cells
    if most is not None:
        stays &= _rank(group, event_order) < most
    return stays


def _rank(group: Cells, order: NDArray[np.float64]) -> Cells:
    """Place of each entry among those of its group, in an order; groups count from 0."""
    places = np.lexsort((order, group))
    ends = np.cumsum(np.bincount(group)) if len(group) else np.zeros(0, np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    rank = np.empty(len(group), dtype=np.int64)
    rank[places] = np.arange(len(group)) - starts[group[places]]
    return rank


def summed(
    cells: Cells, phone: Cells, phones: int, dimension: int, weights: NDArray[np.float64] | None
) -> NDArray[np.floating]:
    """Sum of the weights of each phone's events in each cell, shape (phones, dimension).

    Weights have shape (events,); None: each event weighs 1, and the sums are float32, which holds
    every count of one phone.
    """
    flat = phone * dimension + cells
    if weights is not None:
        found = np.bincount(flat, weights, minlength=phones * dimension)
        return found.astype(np.float64).reshape(phones, dimension)
    counts = np.zeros(phones * dimension, dtype=np.float32)
    np.add.at(counts, flat, np.float32(1))
    return counts.reshape(phones, dimension)
