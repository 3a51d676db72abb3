"""Sums of what events are worth, by cell and segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.device.telemetry import Schema
from fedspeech.errors import require
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import rounds_in
from fedspeech.queries.axes import NOWHERE, Codes, Meaning, flat_cells, rebuilt
from fedspeech.queries.estimate import Estimate, ExpectedError, Sampling
from fedspeech.queries.event_counts import EventCounts, Events
from fedspeech.queries.truncation import kept, summed
from fedspeech.vectors import FloatVector, GlobalState


@dataclass(frozen=True, kw_only=True)
class Weights(Meaning):
    """What an event is worth, by the code of a column.

    Attributes:
      name: of the column.
      place: of the column in an event.
      worth: of each code, from code 0; other codes are worth nothing.

    Raises:
      ValueError: if a worth is negative, or all are 0.
    """

    name: str
    place: int
    worth: tuple[float, ...]

    def __post_init__(self) -> None:
        """Checks the worths; rebuilds what was read back as plain data."""
        object.__setattr__(self, "worth", tuple(float(worth) for worth in self.worth))
        fits = bool(self.worth) and min(self.worth) >= 0 and 0 < max(self.worth) < float("inf")
        require(fits, "worth must be finite, not negative, and not all 0", worth=self.worth)

    @classmethod
    def of(cls, schema: Schema, name: str, worth: Mapping[str, float]) -> Self:
        """Worths by the names of a column's values; a value without one is worth nothing.

        Raises:
          ScenarioError: if the schema has no such column or value.
        """
        by_code = {schema.code(name, value): number for value, number in worth.items()}
        codes = range(max(by_code, default=-1) + 1)
        return cls(
            name=name,
            place=schema.place(name),
            worth=tuple(by_code.get(code, 0.0) for code in codes),
        )

    @property
    def meaning(self) -> list[Any]:
        """Worths over the largest: in another unit they are the same counts."""
        return [self.place, [worth / self.most for worth in self.worth]]

    @property
    def most(self) -> float:
        """Largest worth: of an event that adds 1 to a coordinate."""
        return max(self.worth)

    @property
    def even(self) -> bool:
        """Whether events that are worth anything are worth the same."""
        return set(self.worth) <= {0.0, self.most}

    def share(self, events: Codes) -> NDArray[np.float64]:
        """Worth of each event over the largest, in [0, 1], shape (events,)."""
        table = np.array([*self.worth, 0.0]) / self.most
        codes = events[:, self.place].astype(np.int64)
        known = (codes >= 0) & (codes < len(self.worth))
        found: NDArray[np.float64] = table[np.where(known, codes, len(self.worth))]
        return found


@dataclass(frozen=True, kw_only=True)
class Sum(EventCounts):
    """Sum of the worth of the events in each cell; of too many events a phone keeps some at random.

    Attributes:
      weights: what an event is worth.
    """

    weights: Weights

    def __post_init__(self) -> None:
        """Checks the settings; rebuilds what was read back as plain data."""
        object.__setattr__(self, "weights", rebuilt(Weights, [self.weights])[0])
        super().__post_init__()

    @property
    def whole(self) -> bool:
        """Where every event that counts is worth the same."""
        return self.weights.even

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Adds up worths over the largest worth: one event adds at most 1."""
        del model
        cells, worth = flat_cells(self.axes, events.rows), self.weights.share(events.rows)
        counted = (cells != NOWHERE) & (worth > 0)
        phone, size = events.phone[counted], self.dimension
        cells = events.segment[phone] * self.width + cells[counted]
        stays = kept(
            cells,
            phone,
            events.rngs,
            dimension=size,
            max_cells=self.max_cells,
            most=self.max_per_cell,
        )
        kept_worth = worth[counted][stays]
        return summed(cells[stays], phone[stays], len(events.rngs), size, kept_worth).astype(
            np.float32
        )

    def expected_error(self, plan: PrivacyPlan, total: float | None = None) -> ExpectedError:
        """The error of one sum, in the unit of the weights."""
        unit = self.weights.most
        return super().expected_error(plan, None if total is None else total / unit).times(unit)

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One estimate per segment and cell, in the unit of the weights."""
        self.check_plan(plan)
        sampling = Sampling.of(plan, max(1, rounds_in(state)))
        return tuple(
            sampling.total(
                mean,
                of=f"sum of {self.weights.name}",
                segment=segment,
                cell=cell,
                most=self.max_per_cell,
                unit=self.weights.most,
            )
            for mean, (segment, cell) in zip(state.parameters.tolist(), self.names, strict=True)
        )
