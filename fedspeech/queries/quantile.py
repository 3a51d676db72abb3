"""Quantiles of an ordered column by segment, from a tree of counts in one round.

A phone adds each event to one node on each level of a tree of intervals. The counts, fitted to one
another, say how many events are up to a cell, and so where a quantile is. The interval inverts a
test: the quantile is at a cell unless the counts up to it, or up to the one before, say otherwise
(Woodruff 1952). One test alone errs in 2.5 % to either side; an interval from the first cell that
is not rejected to the last errs less, the more cells lie within the noise. So the test is made as
strict as replays of the release say it may be (`replays`). Where cells are coarse the interval
still holds the quantile more often than it says: there is no cell between two.

`quantile_search` asks for one threshold per round instead; its `best` says which errs less.
"""

from __future__ import annotations

import abc
import functools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from fedspeech.errors import require
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries import replays
from fedspeech.queries.analytics import rounds_in
from fedspeech.queries.axes import NOWHERE, Axis, Cells, labels, rebuilt, size
from fedspeech.queries.estimate import Estimate, ExpectedError, Sampling
from fedspeech.queries.event_counts import EventCounts, Events
from fedspeech.queries.tree import Tree
from fedspeech.queries.truncation import kept, summed
from fedspeech.vectors import FloatVector, GlobalState


@dataclass(frozen=True, kw_only=True)
class Quantiles(EventCounts):
    """What both ways of finding quantiles share; a phone keeps `max_per_cell` events at random.

    The value of an estimate is a place among the cells, or the number that stands for it. Its
    deviations, and the errors that are expected, are of its rank, as a share of the events.

    Attributes:
      axis: the column, its cells in order.
      quantiles: that are asked for, each in (0, 1).
      numbers: what stands for each cell, ascending; empty: its place, from 0.

    Raises:
      ValueError: if a quantile is out of range, numbers do not fit the cells, or `axes` are given.
    """

    axis: Axis
    quantiles: tuple[float, ...] = (0.5,)
    numbers: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Checks the settings; rebuilds what was read back as plain data."""
        object.__setattr__(self, "axis", rebuilt(Axis, [self.axis])[0])
        object.__setattr__(self, "quantiles", tuple(self.quantiles))
        object.__setattr__(self, "numbers", tuple(self.numbers))
        super().__post_init__()
        inside = bool(self.quantiles) and 0 < min(self.quantiles) <= max(self.quantiles) < 1
        require(inside, "quantiles must be in (0, 1)", quantiles=self.quantiles)
        ascending = list(self.numbers) == sorted(self.numbers)
        fits = not self.numbers or (len(self.numbers) == len(self.axis) and ascending)
        require(fits, "numbers must be ascending, one per cell", numbers=self.numbers)
        require(not self.axes, "axes must be empty: a quantile has one `axis`", axes=len(self.axes))

    @property
    def kind(self) -> str:
        """A tree and a search ask the same."""
        return "quantiles"

    @property
    def how(self) -> frozenset[str]:
        """Every quantile of a column is a figure of the same counts."""
        return super().how | {"quantiles", "numbers", "fanout"}

    @property
    def additive(self) -> bool:
        """Quantiles of a segment are figures of the same events."""
        return False

    @property
    @abc.abstractmethod
    def event_norm(self) -> float:
        """L2 norm of what one event adds in a round."""

    @abc.abstractmethod
    def rank_stddev(self, quantile: float) -> float:
        """Noise of a rank over that of one count, at most."""

    @property
    def l2_bound(self) -> float:
        """All events of a phone may be alike."""
        return self.max_per_cell * self.event_norm

    def relative_error(self, quantile: float) -> float:
        """Noise of a rank over that of one count in one round, at the same epsilon.

        R rounds take sqrt(R) times the noise (Gaussian mechanisms compose so: Dong, Roth, Su 2019).
        """
        return self.event_norm * math.sqrt(self.rounds) * self.rank_stddev(quantile)

    def expected_error(self, plan: PrivacyPlan, total: float | None = None) -> ExpectedError:
        """The error of a rank as a share of the events, at the first quantile.

        Args:
          plan: of the release.
          total: events of the segment; None: as many as the bound allows, evenly.
        """
        counts, quantile = super().expected_error(plan, total), self.quantiles[0]
        sampling, events = Sampling.of(plan), max(counts.total, 1.0)
        noise = counts.noise_stddev * self.rank_stddev(quantile) / events
        drawn = math.sqrt(self.rank_sampling(sampling, events, quantile)) / events
        width = sampling.deviations * math.hypot(noise, drawn)
        return replace(counts, noise_stddev=noise, sampling_stddev=drawn, half_width=width)

    def rank_sampling(self, sampling: Sampling, events: float, quantile: float) -> float:
        """Sampling variance of a rank; where a phone adds several events, at most."""
        most = sampling.spread * self.max_per_cell * quantile * (1 - quantile)
        return most * max(0.0, events)

    def sample(self, events: Events) -> tuple[Cells, Cells]:
        """Place and phone of each event that phones keep."""
        places = self.axis.find(events.rows)
        counted = places != NOWHERE
        phone, places = events.phone[counted], places[counted]
        stays = kept(
            events.segment[phone],
            phone,
            events.rngs,
            dimension=size(self.segments),
            max_cells=1,
            most=self.max_per_cell,
        )
        return places[stays], phone[stays]

    def number(self, place: int) -> float:
        """What stands for a cell."""
        return self.numbers[place] if self.numbers else float(place)


@dataclass(frozen=True, kw_only=True)
class TreeQuantiles(Quantiles):
    """Quantiles from a tree of counts, in one round; how many are asked for costs nothing.

    Attributes:
      fanout: children of a node; as many as cells make a plain histogram.
    """

    fanout: int = 2

    @functools.cached_property
    def tree(self) -> Tree:
        """The intervals."""
        return Tree(leaves=len(self.axis), fanout=self.fanout)

    @property
    def width(self) -> int:
        """Nodes of the tree."""
        return self.tree.nodes

    @property
    def event_norm(self) -> float:
        """An event counts on every level."""
        return math.sqrt(self.tree.levels)

    def rank_stddev(self, quantile: float) -> float:
        """Of the prefix whose noise is largest."""
        return math.sqrt(float(self.tree.rank_variances(quantile)[:-1].max()))

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Adds each event to one node of each level."""
        del model
        places, phone = self.sample(events)
        nodes = (events.segment[phone] * self.width + self.tree.nodes_of(places)).reshape(-1)
        phones = np.tile(phone, self.tree.levels)
        return summed(nodes, phones, len(events.rngs), self.dimension, None).astype(np.float32)

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One estimate per segment and quantile, the quantiles of a segment together."""
        self.check_plan(plan)
        sampling = Sampling.of(plan, max(1, rounds_in(state)))
        counts = state.parameters.reshape(-1, self.width) * sampling.scale_up
        return tuple(
            self._estimate(np.cumsum(self.tree.fitted(own)), sampling, quantile, segment)
            for own, segment in zip(counts, labels(self.segments), strict=True)
            for quantile in self.quantiles
        )

    def _estimate(
        self,
        prefixes: NDArray[np.float64],
        sampling: Sampling,
        quantile: float,
        segment: tuple[str, ...],
    ) -> Estimate:
        """Where the prefixes pass a share of their total."""
        total = float(prefixes[-1])
        ranks, last = prefixes - quantile * total, len(prefixes) - 1
        noise = sampling.noise_variance * self.tree.rank_variances(quantile)
        drawn = self.rank_sampling(sampling, total, quantile)
        stddev = np.sqrt(noise + drawn)
        rising = isotonic_regression(ranks).x
        place = min(int(np.searchsorted(rising, 0.0)), last)
        rise = replays.slope(
            np.arange(-1.0, last + 1), np.append(-quantile * total, rising), float(stddev[place])
        )
        strict = self._strictness(sampling, stddev, place, quantile, total, rise)
        reached = np.flatnonzero(ranks >= -strict * stddev)  # the last is, or nothing is known
        low = int(reached[0]) if len(reached) else last
        before = np.flatnonzero(ranks[:-1] <= strict * stddev[:-1])
        high = int(before[-1]) + 1 if len(before) else 0
        events = max(total, 1.0)
        return Estimate(
            of=f"quantile of {self.axis.name}",
            segment=segment,
            cell=(f"{quantile:g}",),
            value=self.number(place),
            low=self.number(min(low, place)),
            high=self.number(max(high, place)),
            level=sampling.level,
            count=total,
            noise_stddev=math.sqrt(float(noise[place])) / events,
            sampling_stddev=math.sqrt(drawn) / events,
        )

    def _strictness(
        self,
        sampling: Sampling,
        stddev: NDArray[np.float64],
        place: int,
        quantile: float,
        total: float,
        rise: float,
    ) -> float:
        """Deviations from which the test rejects, from replays of a quantile at `place`.

        The lower end is beyond it where all cells up to it are rejected, the upper one where all
        from the one before are.
        """
        cells, events = len(stddev), max(total, 1.0)
        drawn = math.sqrt(sampling.noise_variance) * self._drawn_prefixes
        least = []
        for up_to in replays.lines(cells, place, quantile, rise / events):
            shares = np.diff(up_to, prepend=0.0)
            came = np.sqrt(sampling.spread * self.max_per_cell * events * shares)
            prefixes = drawn + np.cumsum(replays.normal(cells) * came, axis=1)
            ranks = (up_to - quantile) * events + prefixes - quantile * prefixes[:, -1:]
            away = ranks / stddev
            needed = -away[:, : place + 1].max(axis=1)
            if place:
                needed = np.maximum(needed, away[:, place - 1 : -1].min(axis=1))
            least.append(needed)
        return replays.strictness(least, sampling.level)

    @functools.cached_property
    def _drawn_prefixes(self) -> NDArray[np.float64]:
        """Noise of the prefixes in each replay, where that of one count is 1."""
        nodes = replays.normal(self.tree.nodes, "noise")
        drawn: NDArray[np.float64] = nodes @ self.tree.prefix_weights.T
        return drawn
