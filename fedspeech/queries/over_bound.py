"""How many phones a bound would cut: what the truncation of another query takes, as a release.

    Histogram(axes=axes, max_cells=4, max_per_cell=2)               # the query
    PhonesOverBound(axes=axes, checked_cells=4, checked_per_cell=2) # whom its bound cuts

Where hardly any phone is over the bound, an estimate of truncated counts is one of all counts.
Where every phone holds at most h counts, those beyond the bound are at most h per phone over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import require
from fedspeech.limits import Count
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import rounds_in
from fedspeech.queries.axes import NOWHERE, flat_cells, labels
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.event_counts import EventCounts, Events
from fedspeech.queries.fieller import Fraction
from fedspeech.vectors import FloatVector, GlobalState


@dataclass(frozen=True, kw_only=True)
class PhonesOverBound(EventCounts):
    """Share of the phones with such events that hold more than a bound lets them add, by segment.

    A phone adds 1 to one of two coordinates, over the bound or within it.

    Attributes:
      checked_cells: the `max_cells` of the query in question.
      checked_per_cell: its `max_per_cell`.

    Raises:
      ValueError: if the own bound of this query is not one count.
    """

    checked_cells: Count = 1
    checked_per_cell: Count = 1

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        one = self.max_cells == self.max_per_cell == 1
        require(one, "max_cells and max_per_cell must be 1: a phone says one thing of itself")

    def unbounded(self, events: int) -> Self:
        """Its own bound cuts nobody."""
        del events
        return self

    @property
    def width(self) -> int:
        """Over the bound, and within it."""
        return 2

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Compares what each phone holds with the bound."""
        del model
        cells = flat_cells(self.axes, events.rows)
        counted = cells != NOWHERE
        places, counts = np.unique(
            events.phone[counted] * self.cells + cells[counted], return_counts=True
        )
        phones, holder = len(events.rngs), places // self.cells
        held = np.bincount(holder, minlength=phones)
        most = np.zeros(phones, dtype=np.int64)
        np.maximum.at(most, holder, counts)
        over = (held > self.checked_cells) | (most > self.checked_per_cell)
        holding = np.flatnonzero(held)
        found = np.zeros((phones, self.dimension), dtype=np.float32)
        found[holding, 2 * events.segment[holding] + ~over[holding]] = 1
        return found

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One share per segment; the count is that of the phones with such events."""
        self.check_plan(plan)
        sampling = Sampling.of(plan, max(1, rounds_in(state)))
        pairs = state.parameters.reshape(-1, 2).tolist()
        return tuple(
            Fraction(nested=True)
            .of(over, within)
            .estimate(sampling, of="share of phones over the bound", segment=segment)
            for (over, within), segment in zip(pairs, labels(self.segments), strict=True)
        )
