"""Counts of what phones remember: which events a query counts, a block of phones at a time.

A phone selects the events of the window that fulfil the query's conditions, puts each in a cell of
its segment, and truncates. Phones are counted a block at a time, each by its own events and its own
generator, so that a million of them take seconds.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedspeech.population import PopulationArrays
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.axes import NOWHERE, Cells, Codes, flat_cells
from fedspeech.queries.truncation import Generators
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

DAY = 0
"""Place of the day in an event."""

BLOCK = 256
"""Phones that are counted at once."""


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
class EventCounts(Analytics):
    """A query of counts of events; its fields are those of `Analytics`."""

    @abc.abstractmethod
    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """What each phone of a block contributes, truncated, shape (phones, dimension)."""

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

    def contributions_of(
        self,
        arrays: PopulationArrays,
        phones: NDArray[np.int64],
        model: FloatVector,
        rngs: Generators,
    ) -> NDArray[np.float32]:
        """The same of phones of a population, whose events are taken from its arrays at once."""
        if not (arrays.event_offsets.size and arrays.attributes.size):
            return super().contributions_of(arrays, phones, model, rngs)
        found = [np.zeros((0, self.dimension), dtype=np.float32)]
        for start in range(0, len(phones), BLOCK):
            block = phones[start : start + BLOCK]
            first = arrays.event_offsets[block]
            lengths = arrays.event_offsets[block + 1] - first
            skipped = np.repeat(first - np.cumsum(lengths) + lengths, lengths)
            rows = arrays.events[skipped + np.arange(len(skipped))]
            own = rngs[start : start + len(block)]
            found.append(self.of_block(rows, lengths, arrays.attributes[block], own, model))
        return np.concatenate(found)

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
