"""How many events, or phones, fall in each cell of one or more columns, by segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import rounds_in
from fedspeech.queries.axes import NOWHERE, flat_cells
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.event_counts import EventCounts, Events
from fedspeech.queries.truncation import kept, summed
from fedspeech.vectors import FloatVector, GlobalState


@dataclass(frozen=True, kw_only=True)
class Histogram(EventCounts):
    """Counts by cell. With `max_per_cell` 1 it counts phones that hold at least one such event."""

    @property
    def counted(self) -> str:
        """What a cell counts, in words."""
        return "phones" if self.max_per_cell == 1 else f"events, up to {self.max_per_cell} a phone"

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Counts each phone's events by cell."""
        del model
        cells = flat_cells(self.axes, events.rows)
        counted = cells != NOWHERE
        phone, size = events.phone[counted], self.dimension
        cells = events.segment[phone] * self.width + cells[counted]
        stays = kept(cells, phone, events.rngs, dimension=size, max_cells=self.max_cells)
        counts = summed(cells[stays], phone[stays], len(events.rngs), size, None)
        within: NDArray[np.float32] = np.minimum(counts, self.max_per_cell).astype(np.float32)
        return within

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One estimate per segment and cell, the cells of a segment one after the other."""
        self.check_plan(plan)
        sampling = Sampling.of(plan, max(1, rounds_in(state)))
        return tuple(
            sampling.total(
                mean, of=self.counted, segment=segment, cell=cell, most=self.max_per_cell
            )
            for mean, (segment, cell) in zip(state.parameters.tolist(), self.names, strict=True)
        )
