"""How many events, or phones, fall in each cell of one or more columns, by segment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import Analytics, Events, rounds_in, truncated
from fedspeech.queries.axes import NOWHERE, Axis, flat_cells, labels, rebuilt, size
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.vectors import FloatVector, GlobalState


@dataclass(frozen=True, kw_only=True)
class Histogram(Analytics):
    """Counts by cell. With `max_per_cell` 1 it counts phones that hold at least one such event.

    Attributes:
      axes: columns whose values divide the events; each combination is a cell.
    """

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        """Checks the settings; rebuilds what was read back as plain data."""
        object.__setattr__(self, "axes", rebuilt(Axis, self.axes))
        super().__post_init__()

    @property
    def width(self) -> int:
        """Combinations of values."""
        return size(self.axes)

    @property
    def counted(self) -> str:
        """What a cell counts, in words."""
        return "phones" if self.max_per_cell == 1 else f"events, up to {self.max_per_cell} a phone"

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Counts each phone's events by cell."""
        del model
        cells = flat_cells(self.axes, events.rows)
        counted = cells != NOWHERE
        phone = events.phone[counted]
        return truncated(
            events.segment[phone] * self.width + cells[counted],
            phone,
            events.rngs,
            dimension=self.dimension,
            max_cells=self.max_cells,
            most=self.max_per_cell,
        )

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One estimate per segment and cell, the cells of a segment one after the other."""
        self.check_plan(plan)
        sampling = Sampling.of(plan, max(1, rounds_in(state)))
        names = [(segment, cell) for segment in self.segment_labels for cell in labels(self.axes)]
        return tuple(
            sampling.total(
                mean, of=self.counted, segment=segment, cell=cell, most=self.max_per_cell
            )
            for mean, (segment, cell) in zip(state.parameters.tolist(), names, strict=True)
        )
