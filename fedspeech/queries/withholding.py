"""What of a table of noisy counts is shown: nothing small, and nothing that gives a small one away.

A cell or a margin whose noisy count is below `k_min` is withheld. Every margin of the table counts
as known, for whoever has a total and all cells but one has the one by subtraction. So more cells
are withheld until no hidden figure follows from the shown ones by any linear combination, and no
group of hidden cells in one margin adds up to less than `k_min` (complementary suppression: Cox
1980). Which ones follows from noisy counts alone: a decision by true counts would tell about them
what no noise hides. Server and readers see the same figures. A small total that follows from other
totals takes no cells along: whoever has those has it, whatever is shown here.

Epsilon holds whatever is shown: withholding is no privacy mechanism. It keeps readers from taking a
figure about few people for one about a group.

Segments that are too small for any figure are merged before anybody is asked, by what is publicly
known of their sizes: `merged`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.queries.axes import NOWHERE, Axis
from fedspeech.queries.estimate import Estimate

TOO_FEW = "withheld: its noisy count is below k_min"
GIVES_AWAY = "withheld: with it, one below k_min would follow from the totals"

_RESIDUAL = 1e-6  # of a combination of zeros and ones that gives a figure exactly

Flags = NDArray[np.bool_]


def withhold(
    estimates: Sequence[Estimate], k_min: float, *, additive: bool = True
) -> tuple[Estimate, ...]:
    """The same estimates, in order, some of them without their numbers.

    Args:
      estimates: of one table: each combination of segment and cell once.
      k_min: smallest noisy count that is shown.
      additive: whether the counts of a table's cells add up to those of its margins; false where
        the cells of a segment are figures of the same events, as quantiles are.

    Raises:
      ValueError: if k_min is not positive, or a cell is there twice.
    """
    require(k_min > 0, "k_min must be positive", k_min=k_min)
    counts = np.array([-np.inf if one.count is None else one.count for one in estimates])
    hidden = counts < k_min
    too_few = hidden.copy()
    if additive and hidden.any():
        _complement(_margins(estimates), np.where(np.isfinite(counts), counts, 0), hidden, k_min)
    return tuple(
        one.without(TOO_FEW if few else GIVES_AWAY) if gone else one
        for one, gone, few in zip(estimates, hidden.tolist(), too_few.tolist(), strict=True)
    )


def _margins(estimates: Sequence[Estimate]) -> Flags:
    """Which cells each margin of the table adds up, shape (margins, cells)."""
    keys = [(*one.segment, *one.cell) for one in estimates]
    require(len(set(keys)) == len(keys), "each cell must be there once", cells=len(keys))
    axes = range(len(keys[0]))
    found: dict[bytes, Flags] = {}
    for fixed in itertools.chain.from_iterable(
        itertools.combinations(axes, number) for number in range(len(axes))
    ):
        places: dict[tuple[str, ...], list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(tuple(key[axis] for axis in fixed), []).append(place)
        for group in places.values():
            row = np.zeros(len(keys), dtype=bool)
            row[group] = True
            if len(group) > 1:
                found[row.tobytes()] = row  # a margin over an axis of one value is there once
    return np.array(list(found.values())).reshape(-1, len(keys))


def _complement(margins: Flags, counts: NDArray[np.float64], hidden: Flags, k_min: float) -> None:
    """Hides more cells until nothing small follows; changes `hidden`."""
    # A margin that is small itself is not shown, and need not be: it tells nothing then.
    known = np.where(margins, counts, 0).sum(axis=1) >= k_min
    while True:
        margin = _betrayed(margins, counts, hidden, known, k_min)
        if margin is None:
            return
        shown = np.flatnonzero(margins[margin] & ~hidden)
        if len(shown):
            # A cell that is alone in its other margins would take more cells along.
            whole = margins[known & ~(margins & hidden).any(axis=1)][:, shown].sum(axis=0)
            hidden[shown[np.lexsort((counts[shown], whole))[0]]] = True
        else:
            known[margin] = False


def _betrayed(
    margins: Flags, counts: NDArray[np.float64], hidden: Flags, known: Flags, k_min: float
) -> int | None:
    """A known margin that helps to tell a small hidden figure; None: there is none."""
    inside = margins & hidden
    number, rest = inside.sum(axis=1), np.where(inside, counts, 0).sum(axis=1)
    # What the shown cells leave of a margin is one figure, of one cell or of several.
    few = (number < margins.sum(axis=1)) & (rest < k_min)
    told = known & (number > 0) & ((number == 1) | few)
    if told.any():
        return int(np.argmax(told))
    rows = np.flatnonzero(known & (number > 0))
    if not len(rows):
        return None
    columns = np.flatnonzero(hidden)
    system = inside[np.ix_(rows, columns)].astype(np.float64)
    small = ~known & ~_follow(margins, known)
    secret = np.concatenate([np.eye(len(columns)), inside[small][:, columns].astype(np.float64)])
    secret = secret[secret.any(axis=1)]
    weights = np.linalg.pinv(system.T) @ secret.T
    exact = np.abs(system.T @ weights - secret.T).max(axis=0) < _RESIDUAL
    for item in np.flatnonzero(exact).tolist():
        used = rows[np.abs(weights[:, item]) > _RESIDUAL]
        # One with a cell that can still be hidden; the one whose cell costs readers least.
        cheapest = np.where(margins[used] & ~hidden, counts, np.inf).min(axis=1)
        return int(used[np.argmin(cheapest)])
    return None


def _follow(margins: Flags, known: Flags) -> Flags:
    """Which margins follow from known ones without any cell: hiding cells keeps none of them."""
    whole = margins.astype(np.float64)
    weights = np.linalg.pinv(whole[known].T) @ whole.T
    follows: Flags = np.abs(whole[known].T @ weights - whole.T).max(axis=0) < _RESIDUAL
    return follows


def merged(
    segments: Sequence[Axis],
    shares: Mapping[str, Mapping[str, float]],
    *,
    population: int,
    least: float,
) -> tuple[Axis, ...]:
    """Segments of which each combination is expected to hold enough phones.

    Of the axis with the smallest value, the two smallest values become one, again and again.

    Args:
      segments: attributes that divide the phones.
      shares: what is publicly known: share of the phones by attribute and value. Attributes are
        taken as independent.
      population: phones.
      least: phones that the smallest combination must be expected to hold.

    Raises:
      ValueError: if a share is missing, or even one segment would be too small.
    """
    found = [(axis, _known(axis, shares)) for axis in segments]
    while population * np.prod([min(sizes.values()) for _, sizes in found]) < least:
        many = [pair for pair in found if len(pair[1]) > 1]
        require(bool(many), "population must hold the fewest phones", population=population)
        axis, sizes = min(many, key=lambda pair: min(pair[1].values()))
        joined = sorted(sizes, key=lambda name: (sizes[name], name))[:2]
        place = found.index((axis, sizes))
        found[place] = _joined(axis, sizes, joined)
    return tuple(axis for axis, _ in found)


def _known(axis: Axis, shares: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    known = shares.get(axis.name, {})
    missing = [name for name in axis.names if name not in known]
    require(not missing, f"shares of {axis.name} must name every value", missing=missing)
    return {name: float(known[name]) for name in axis.names}


def _joined(
    axis: Axis, sizes: dict[str, float], joined: Sequence[str]
) -> tuple[Axis, dict[str, float]]:
    """Two values of an axis as one, at the place of the first of them."""
    first, second = sorted(axis.names.index(name) for name in joined)
    label = f"{axis.names[first]} + {axis.names[second]}"
    moved = [first if place == second else place - (place > second) for place in range(len(axis))]
    names = [name for place, name in enumerate(axis.names) if place != second]
    names[first] = label
    together = {name: sizes.get(name, 0.0) for name in names}
    together[label] = sum(sizes[name] for name in joined)
    cells = tuple(NOWHERE if cell == NOWHERE else moved[cell] for cell in axis.cells)
    return dataclasses.replace(axis, names=tuple(names), cells=cells), together
