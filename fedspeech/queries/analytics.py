"""Counts of phones by segment: the frame of every query of analytics.

A phone truncates by itself: a cell holds at most `max_per_cell`, and of more than `max_cells` cells
it keeps some at random, by its own generator. So the L2 norm of what it adds is at most `l2_bound`,
which is the plan's clip norm, and the plan's clip never bites. What a cohort adds up to, the plan
noises and sums like any other contribution; `estimates` says what the sum says of the population.

Most queries count what phones remember: those are `event_counts.EventCounts`.
"""

from __future__ import annotations

import abc
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fedspeech.device.telemetry import LAST_DAY
from fedspeech.errors import require
from fedspeech.limits import Count, WholeNumber, check_limits
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.release_window import ReleaseWindow
from fedspeech.privacy.spending import Purpose
from fedspeech.queries.axes import Axis, Condition, Meaning, labels, rebuilt, size
from fedspeech.queries.estimate import Estimate, ExpectedError, Sampling
from fedspeech.queries.query import Query
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, GlobalState, Vector

ROUNDS = "rounds"


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
    def whole(self) -> bool:
        """Whether a phone adds whole numbers: its plan then neither rotates nor rounds them."""
        return True

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
    def kind(self) -> str:
        """What of its class belongs to the question: ways of finding the same figure share it."""
        return str(self.described()["class"])

    @property
    def how(self) -> frozenset[str]:
        """Fields that say how a question is asked and not what: with others it is the same."""
        return frozenset({"first_day", "last_day", "max_cells", "max_per_cell", "least"})

    @property
    def release_window(self) -> ReleaseWindow:
        """Days and question; in other words, order or bounds it is the same question."""
        settings = self.settings()
        asked = {
            name: _meaning(getattr(self, name, None), settings[name])
            for name in settings.keys() - self.how
        }
        segments = "".join(f" by {axis.name}" for axis in self.segments)
        written = json.dumps([self.kind, asked], sort_keys=True)
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


def _meaning(value: Any, plain: Any) -> Any:
    """What a field says, without names and order that say nothing; else its plain value."""
    if isinstance(value, Meaning):
        return value.meaning
    if isinstance(value, tuple) and all(isinstance(part, Meaning) for part in value):
        return sorted((part.meaning for part in value), key=json.dumps)
    return plain


def rounds_in(state: GlobalState) -> int:
    """Rounds that are in a state."""
    return int(state.moments[ROUNDS][0]) if ROUNDS in state.moments else 0
