"""Ratios of two noisy counts by cell and segment: shares, rates and means."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import Analytics, rounds_in
from fedspeech.queries.axes import NOWHERE, Codes, Condition, flat_cells, rebuilt
from fedspeech.queries.estimate import Estimate, ExpectedError, Sampling
from fedspeech.queries.event_counts import EventCounts, Events
from fedspeech.queries.fieller import Fraction
from fedspeech.queries.sums import Weights
from fedspeech.queries.truncation import kept, summed
from fedspeech.vectors import FloatVector, GlobalState

Shares = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Quotient(Analytics):
    """Two coordinates per cell, and a ratio of them."""

    @property
    def width(self) -> int:
        """Coordinates of one segment: two per cell."""
        return 2 * self.cells

    @property
    @abc.abstractmethod
    def fraction(self) -> Fraction:
        """How the two coordinates of a cell make the ratio; their values are filled in."""

    @property
    @abc.abstractmethod
    def measured(self) -> str:
        """What the ratio is, in words."""

    def expected_error(
        self, plan: PrivacyPlan, total: float | None = None, ratio: float = 0.5
    ) -> ExpectedError:
        """The error of one ratio, before anybody is asked.

        Args:
          plan: of the release.
          total: events of the denominator at which it is said; None: as many as the bound allows.
          ratio: at which it is said, over the largest worth where it is a mean.
        """
        counts = super().expected_error(plan, total)
        return self.fraction.expected_error(Sampling.of(plan), counts, ratio)

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One ratio per segment and cell."""
        self.check_plan(plan)
        sampling = Sampling.of(plan, max(1, rounds_in(state)))
        pairs = state.parameters.reshape(-1, 2).tolist()
        return tuple(
            self.fraction.of(first, second).estimate(
                sampling, of=self.measured, segment=segment, cell=cell
            )
            for (first, second), (segment, cell) in zip(pairs, self.names, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class EventQuotient(Quotient, EventCounts):
    """Two coordinates per cell, to which an event adds a number in [0, 1] each.

    A phone keeps events, and not coordinates: of too many in a cell it keeps `max_per_cell` at
    random, so that numerator and denominator lose alike.
    """

    @abc.abstractmethod
    def coordinates(self, rows: Codes) -> tuple[Shares, Shares]:
        """What each event adds to the two coordinates, shape (events,) each."""

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Adds up both coordinates of the events that a phone keeps."""
        del model
        cells = flat_cells(self.axes, events.rows)
        pair = self.coordinates(events.rows)
        counted = (cells != NOWHERE) & ((pair[0] > 0) | (pair[1] > 0))
        phone, dimension = events.phone[counted], self.dimension
        cells = events.segment[phone] * self.cells + cells[counted]
        stays = kept(
            cells,
            phone,
            events.rngs,
            dimension=dimension // 2,
            max_cells=self.max_cells,
            most=self.max_per_cell,
        )
        cells, phone = cells[stays], phone[stays]
        both = [
            summed(2 * cells + place, phone, len(events.rngs), dimension, part[counted][stays])
            for place, part in enumerate(pair)
        ]
        return (both[0] + both[1]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Ratio(EventQuotient):
    """Events of one kind over events of another.

    Where the numerator's events are among the denominator's, the ratio is a share: an event adds to
    one of two coordinates, numerator or rest. Else it is a rate.

    Attributes:
      numerator: what an event must fulfil to be of the numerator, beside `where`.
      denominator: likewise; empty: every event is.
      weights: what an event of the denominator is worth, for instance hours; None: 1.
    """

    numerator: tuple[Condition, ...]
    denominator: tuple[Condition, ...] = ()
    weights: Weights | None = None

    def __post_init__(self) -> None:
        """Checks the settings; rebuilds what was read back as plain data."""
        object.__setattr__(self, "numerator", rebuilt(Condition, self.numerator))
        object.__setattr__(self, "denominator", rebuilt(Condition, self.denominator))
        if self.weights is not None:
            object.__setattr__(self, "weights", rebuilt(Weights, [self.weights])[0])
        super().__post_init__()

    @property
    def nested(self) -> bool:
        """Whether every event of the numerator is one of the denominator."""
        return self.weights is None and all(
            any(set(own.codes) <= set(wide.codes) for own in self._of(wide.place))
            for wide in self.denominator
        )

    @property
    def disjoint(self) -> bool:
        """Whether no event of the numerator is one of the denominator."""
        return any(
            not set(own.codes) & set(other.codes)
            for other in self.denominator
            for own in self._of(other.place)
        )

    @property
    def l2_bound(self) -> float:
        """An event adds 1 to one coordinate, or where it may be of both kinds, to both."""
        one = self.nested or self.disjoint
        return super().l2_bound * (1.0 if one else math.sqrt(2))

    @property
    def whole(self) -> bool:
        """Where all events of the denominator are worth the same."""
        return self.weights is None or self.weights.even

    @property
    def fraction(self) -> Fraction:
        """Of counts, or of counts over worths."""
        worth = 1.0 if self.weights is None else self.weights.most
        return Fraction(nested=self.nested, most=self.max_per_cell, other_unit=worth)

    @property
    def measured(self) -> str:
        """A share or a rate."""
        return "share of events" if self.nested else "events per unit of the denominator"

    def coordinates(self, rows: Codes) -> tuple[Shares, Shares]:
        """1 for the numerator, worth over the largest worth for the other."""
        above, below = np.ones(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
        for condition in self.numerator:
            above &= condition.holds(rows)
        for condition in self.denominator:
            below &= condition.holds(rows)
        if self.nested:
            below &= ~above
        worth = 1.0 if self.weights is None else self.weights.share(rows)
        return above.astype(np.float64), below * worth

    def _of(self, place: int) -> Iterator[Condition]:
        return (condition for condition in self.numerator if condition.place == place)


@dataclass(frozen=True, kw_only=True)
class Mean(EventQuotient):
    """Mean worth of the events of a cell.

    An event adds its worth over the largest worth to one coordinate, and the rest of 1 to the
    other, so that both together weigh no more than one event.

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
        """Where events are worth all or nothing."""
        return self.weights.even

    @property
    def fraction(self) -> Fraction:
        """A share of the largest worth."""
        return Fraction(nested=True, most=self.max_per_cell, ratio_unit=self.weights.most)

    @property
    def measured(self) -> str:
        """The mean of a column."""
        return f"mean of {self.weights.name}"

    def coordinates(self, rows: Codes) -> tuple[Shares, Shares]:
        """Worth, and what is missing to the largest one, in units of the largest one."""
        share = self.weights.share(rows)
        return share, 1 - share
