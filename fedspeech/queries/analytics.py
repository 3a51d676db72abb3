"""Counts of what phones remember, by segment: the frame of every query of analytics.

A phone selects the events of the window that the query counts, puts each in a cell, and truncates:
a cell holds at most `max_per_cell`, and of more than `max_cells` cells the phone keeps some at
random, by its own generator. So the L2 norm of what it adds is at most `l2_bound`, which is the
plan's clip norm, and the plan's clip never bites. What a cohort adds up to, the plan clips, noises
and sums like any other contribution; `estimates` says what the sum says of the population.
"""

from __future__ import annotations

import abc
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.telemetry import LAST_DAY
from fedspeech.errors import require
from fedspeech.limits import Count, WholeNumber, check_limits
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.privacy.spending import Purpose
from fedspeech.queries.axes import (
    NOWHERE,
    Axis,
    Cells,
    Codes,
    Condition,
    flat_cells,
    labels,
    rebuilt,
    size,
)
from fedspeech.queries.estimate import Estimate, ExpectedError, Sampling
from fedspeech.queries.query import Query
from fedspeech.queries.truncation import Generators
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, GlobalState, Vector

DAY = 0
"""Place of the day in an event."""

BLOCK = 1024
"""Phones that are counted at once."""

ROUNDS = "rounds"


@dataclass(frozen=True, kw_only=True)
class Events:
    """Events of a block of phones, those that a query counts.

    Attributes:
      rows: shape (events, columns), int16.
      phone: index within the block of the phone that holds each, shape (events,), not falling.
      segment: of each phone in the block, shape (phones,); -1: of none, and nothing is counted.
      rngs: one per phone in the block.
    """

    rows: Codes
    phone: Cells
    segment: Cells
    rngs: Generators


@dataclass(frozen=True, kw_only=True)
class Analytics(Query):
    """A query of counts.

    Attributes:
      first_day: of the window.
      last_day: of the window, included.
      where: what an event must fulfil to be counted, all of it.
      segments: attributes that divide the phones; each combination of values is a segment.
      axes: columns that divide the events; each combination of values is a cell of the segment.
        Empty: one cell.
      max_cells: cells to which one phone adds at most.
      max_per_cell: what one phone adds to a cell at most.

    Raises:
      ValueError: if a bound is not positive, or the window ends before it begins.
    """

    first_day: WholeNumber = 0
    last_day: WholeNumber = LAST_DAY
    where: tuple[Condition, ...] = ()
    segments: tuple[Axis, ...] = ()
    axes: tuple[Axis, ...] = ()
    max_cells: Count = 1
    max_per_cell: Count = 1

    def __post_init__(self) -> None:
        """Checks bounds and window; rebuilds what was read back as plain data."""
        object.__setattr__(self, "where", rebuilt(Condition, self.where))
        object.__setattr__(self, "segments", rebuilt(Axis, self.segments))
        object.__setattr__(self, "axes", rebuilt(Axis, self.axes))
        check_limits(self)
        ordered = self.first_day <= self.last_day
        require(
            ordered,
            "first_day must be at most last_day",
            first_day=self.first_day,
            last_day=self.last_day,
        )

    # What each query of counts says of itself.

    @abc.abstractmethod
    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """What each phone of a block contributes, truncated, shape (phones, dimension)."""

    @abc.abstractmethod
    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """What the released state says of the population, with intervals.

        Nothing is withheld here and nothing is clamped: see `queries.withholding`.

        Raises:
          ValueError: if the plan's sums do not estimate totals, or another bound was clipped to.
        """

    # What all of them share.

    @property
    def cells(self) -> int:
        """Cells of one segment."""
        return size(self.axes)

    @property
    def width(self) -> int:
        """Coordinates of one segment."""
        return self.cells

    @property
    def dimension(self) -> int:
        """Coordinates of all segments."""
        return size(self.segments) * self.width

    @property
    def rounds(self) -> int:
        """Rounds that one answer takes."""
        return 1

    @property
    def additive(self) -> bool:
        """Whether counts of cells add up to those of margins: what `withholding` asks."""
        return True

    @property
    def l2_bound(self) -> float:
        """L2 norm of what one phone adds, at most: the clip norm of the plan."""
        return self.max_per_cell * math.sqrt(min(self.max_cells, self.cells))

    @property
    def names(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Labels of segment and cell, the cells of a segment one after the other."""
        return [(segment, cell) for segment in labels(self.segments) for cell in labels(self.axes)]

    @property
    def truncation(self) -> str:
        """What the bound does to an estimate, in words."""
        return (
            f"counts beyond {self.max_per_cell} in a cell and beyond {self.max_cells} cells of a "
            "phone are not in the estimate: it is unbiased for the truncated counts, and at most "
            "the untruncated ones"
        )

    def expected_error(self, plan: PrivacyPlan, total: float | None = None) -> ExpectedError:
        """The error of one cell, before anybody is asked.

        Args:
          plan: of the release.
          total: true total at which it is said; None: every phone's, spread over all cells.
        """
        self.check_plan(plan)
        if total is None:
            most = min(self.max_cells, self.cells) * self.max_per_cell
            total = plan.population * most / (size(self.segments) * self.cells)
        return Sampling.of(plan).expected_error(total, self.truncation, self.max_per_cell)

    def check_plan(self, plan: PrivacyPlan) -> None:
        """Refuses a plan that clips to another norm than this query's bound.

        Raises:
          ValueError: naming both.
        """
        if not math.isclose(plan.clip_norm, self.l2_bound, rel_tol=1e-9):
            raise ValueError(
                f"clip_norm must be the bound of the query, {self.l2_bound:g}: a smaller one cuts "
                f"counts, a larger one adds noise for nothing, got clip_norm={plan.clip_norm:g}"
            )

    def under(self, plan: PrivacyPlan, k_min: float) -> Self:
        """The query as phones are asked under a plan: most queries do not depend on either."""
        del plan, k_min
        return self

    def unbounded(self, events: int) -> Self:
        """The query with a bound that no phone with so many events reaches: for a simulation."""
        return replace(self, max_cells=self.dimension, max_per_cell=max(1, events))

    def counts(
        self, dataset: LocalDataset, rng: np.random.Generator, model: FloatVector
    ) -> FloatVector:
        """What one phone adds, shape (dimension,): a block of one."""
        return self.contributions([dataset], model, [rng])[0]

    def contributions(
        self, phones: Sequence[LocalDataset], model: FloatVector, rngs: Generators
    ) -> list[FloatVector]:
        """What phones add, each truncated by itself."""
        found: list[FloatVector] = []
        for start in range(0, len(phones), BLOCK):
            block = phones[start : start + BLOCK]
            lengths = np.array([len(phone.events) for phone in block], dtype=np.int64)
            held = [phone.events for phone in block if len(phone.events)]
            rows = np.concatenate(held) if held else np.zeros((0, 0), np.int16)
            attributes = np.stack([phone.attributes for phone in block])
            own = rngs[start : start + len(block)]
            found += list(self.of_block(rows, lengths, attributes, own, model))
        return found

    def of_block(
        self,
        rows: Codes,
        lengths: NDArray[np.int64],
        attributes: Codes,
        rngs: Generators,
        model: FloatVector,
    ) -> NDArray[np.float32]:
        """What each phone of a block adds, shape (phones, dimension).

        Args:
          rows: events of all of them, one phone after the other, shape (events, columns).
          lengths: how many each holds, shape (phones,).
          attributes: shape (phones, attributes).
          rngs: one per phone; opened only where a phone holds more than it may add.
          model: what the server sent.
        """
        if not len(rows):
            return np.zeros((len(lengths), self.dimension), dtype=np.float32)
        phone = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        segment = flat_cells(self.segments, attributes)
        counted = (rows[:, DAY] >= self.first_day) & (rows[:, DAY] <= self.last_day)
        for condition in self.where:
            counted &= condition.holds(rows)
        counted &= segment[phone] != NOWHERE
        events = Events(rows=rows[counted], phone=phone[counted], segment=segment, rngs=rngs)
        return self.block(events, model)

    def initial(self, arrays: PopulationArrays) -> GlobalState:
        """Nothing is known."""
        del arrays
        return GlobalState(np.zeros(self.dimension))

    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """Keeps the mean of all rounds: a decoded sum over the expected cohort."""
        before = rounds_in(state)
        together = (state.parameters * before + mean) / (before + 1)
        return GlobalState(together, {ROUNDS: np.array([before + 1.0])})

    @property
    def purpose(self) -> Purpose:
        """Counts."""
        return "analytics"

    @property
    def release_window(self) -> ReleaseWindow:
        """Days and question; another bound of a phone asks the same question."""
        described = self.described()
        bounds = {"first_day", "last_day", "max_cells", "max_per_cell", "least"}
        asked = {key: described["settings"][key] for key in described["settings"].keys() - bounds}
        segments = "".join(f" by {axis.name}" for axis in self.segments)
        written = json.dumps([described["class"], asked], sort_keys=True)
        return ReleaseWindow(
            question=hashlib.sha256(written.encode()).hexdigest(),
            says=f"{type(self).__name__}{segments}",
            first_day=self.first_day,
            last_day=self.last_day,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Inverts `settings`, also where they were read from a file."""
        return cls(**settings)


def rounds_in(state: GlobalState) -> int:
    """Rounds that are in a state."""
    return int(state.moments[ROUNDS][0]) if ROUNDS in state.moments else 0
