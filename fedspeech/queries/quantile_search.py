"""Quantiles from a search over rounds: each round asks how many events are up to a threshold.

Every round halves the range of cells, and adds one event to one coordinate per quantile: "up to the
threshold" or "above". The noise of a rank then does not grow with the number of cells, but the
budget is shared by the rounds, and each of them takes a window's time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries import replays
from fedspeech.queries.axes import labels, size
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.event_counts import Events
from fedspeech.queries.quantile import Quantiles, TreeQuantiles
from fedspeech.queries.truncation import summed
from fedspeech.vectors import FloatVector, GlobalState, Vector

LOW, HIGH, ASKED, UP_TO, ABOVE = "low", "high", "asked", "up to", "above"


@dataclass(frozen=True, kw_only=True)
class SearchQuantiles(Quantiles):
    """Quantiles from a binary search; the thresholds are the state that phones are sent.

    The interval is of all rounds together: a round that errs near the quantile ends it too early,
    and how many rounds ask near it is learned from replays of the search (`replays`).
    """

    @property
    def rounds(self) -> int:
        """Halvings until one cell is left."""
        return (len(self.axis) - 1).bit_length()

    @property
    def searches(self) -> int:
        """Thresholds of a round: one per segment and quantile."""
        return size(self.segments) * len(self.quantiles)

    @property
    def width(self) -> int:
        """Coordinates of one segment: up to the threshold and above it."""
        return 2 * len(self.quantiles)

    @property
    def event_norm(self) -> float:
        """An event answers for every quantile."""
        return math.sqrt(len(self.quantiles))

    def rank_stddev(self, quantile: float) -> float:
        """Of (1 - quantile) up to the threshold - quantile above it."""
        return math.hypot(quantile, 1 - quantile)

    def initial(self, arrays: PopulationArrays) -> GlobalState:
        """Every search begins in the middle of all cells."""
        del arrays
        low, high = np.zeros(self.searches), np.full(self.searches, len(self.axis) - 1.0)
        return GlobalState(np.floor((low + high) / 2), {LOW: low, HIGH: high})

    def block(self, events: Events, model: FloatVector) -> NDArray[np.float32]:
        """Answers every threshold of a phone's segment for each of its events.

        Raises:
          ValueError: if the model is not one threshold per search.
        """
        if model.shape != (self.searches,):
            raise ValueError(f"expected {self.searches} thresholds, got shape {model.shape}")
        places, phone = self.sample(events)
        found = np.zeros((len(events.rngs), self.dimension))
        for number in range(len(self.quantiles)):
            search = events.segment[phone] * len(self.quantiles) + number
            cells = 2 * search + (places > model[search])
            found += summed(cells, phone, len(events.rngs), self.dimension, None)
        return found.astype(np.float32)

    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """Goes on in the half that the noisy rank points to, and keeps what was asked."""
        asked, (up_to, above) = state.parameters, mean.reshape(-1, 2).T
        rank = (1 - self._levels) * up_to - self._levels * above
        low = np.where(rank < 0, np.minimum(asked + 1, state.moments[HIGH]), state.moments[LOW])
        high = np.where(rank < 0, state.moments[HIGH], asked)
        kept = {
            name: np.append(state.moments.get(name, np.zeros(0)), values)
            for name, values in ((ASKED, asked), (UP_TO, up_to), (ABOVE, above))
        }
        return GlobalState(np.floor((low + high) / 2), {LOW: low, HIGH: high, **kept})

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One estimate per segment and quantile, the quantiles of a segment together."""
        self.check_plan(plan)
        sampling = Sampling.of(plan)
        asked, up_to, above = (
            state.moments.get(name, np.zeros(0)).reshape(-1, self.searches)
            for name in (ASKED, UP_TO, ABOVE)
        )
        names = [(segment, level) for segment in labels(self.segments) for level in self.quantiles]
        return tuple(
            self._estimate(
                int(state.parameters[search]),
                asked[:, search],
                up_to[:, search] * sampling.scale_up,
                above[:, search] * sampling.scale_up,
                sampling,
                segment,
                level,
            )
            for search, (segment, level) in enumerate(names)
        )

    def _estimate(
        self,
        place: int,
        asked: Vector,
        up_to: Vector,
        above: Vector,
        sampling: Sampling,
        segment: tuple[str, ...],
        level: float,
    ) -> Estimate:
        total = float(np.sum(up_to + above)) / max(1, len(asked))
        noise = math.sqrt(sampling.noise_variance) * self.rank_stddev(level)
        drawn = math.sqrt(self.rank_sampling(sampling, total, level))
        stddev, last = math.hypot(noise, drawn), len(self.axis) - 1
        ranks = (1 - level) * up_to - level * above
        reach = stddev * self._strictness(asked, ranks, place, stddev, total, level, sampling.level)
        low = int(max(asked[ranks < -reach], default=-1.0)) + 1
        high = int(min(asked[ranks > reach], default=last))
        events = max(total, 1.0)
        return Estimate(
            of=f"quantile of {self.axis.name}",
            segment=segment,
            cell=(f"{level:g}",),
            value=self.number(place),
            low=self.number(min(low, high, place)),
            high=self.number(max(low, high, place)),
            level=sampling.level,
            count=total,
            noise_stddev=noise / events,
            sampling_stddev=drawn / events,
        )

    def _strictness(
        self,
        asked: Vector,
        ranks: Vector,
        place: int,
        stddev: float,
        total: float,
        quantile: float,
        level: float,
    ) -> float:
        """Deviations from which a round is believed, from replays of a quantile at `place`.

        An end is beyond it where one round about a threshold on its other side is believed.
        """
        last, events, order = len(self.axis) - 1, max(total, 1.0), np.argsort(asked)
        places = np.concatenate([[-1.0], asked[order], [last + 1e-9]])
        known = np.concatenate([[-quantile * events], ranks[order], [(1 - quantile) * events]])
        weights = np.array([1e9, *np.ones(len(asked)), 1e9])  # the ends are no estimates
        rising = isotonic_regression(known, weights=weights).x
        least = []
        rise = replays.slope(places, rising, stddev) / events
        for up_to in replays.lines(last + 1, place, quantile, rise):
            thresholds, noisy = self._replayed((up_to - quantile) * events, stddev)
            away = np.where(thresholds < place, noisy, -noisy) / stddev
            least.append(away.max(axis=1, initial=0.0))
        return replays.strictness(least, level)

    def _replayed(
        self, ranks: Vector, stddev: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Thresholds and noisy ranks of searches, (replays, rounds), where ranks are so by cell."""
        drawn = replays.normal(self.rounds) * stddev
        low: NDArray[np.int64] = np.zeros(len(drawn), np.int64)
        high = np.full(len(drawn), len(ranks) - 1, np.int64)
        thresholds: NDArray[np.int64] = np.zeros(drawn.shape, np.int64)
        for number in range(self.rounds):
            asked = (low + high) // 2
            thresholds[:, number] = asked
            drawn[:, number] += ranks[asked]
            rises = drawn[:, number] < 0
            low = np.where(rises, np.minimum(asked + 1, high), low)
            high = np.where(rises, high, asked)
        return thresholds, drawn

    @property
    def _levels(self) -> Vector:
        return np.tile(np.array(self.quantiles), size(self.segments))


def candidates(**settings: Any) -> Sequence[Quantiles]:
    """Every way of finding quantiles with these settings, the smallest expected error first.

    By the noise of the rank of the quantile that is worst at the same epsilon, one round's noise
    multiplier taken as sqrt(rounds) times smaller than that of all rounds: exact for Gaussian noise
    without sampling. Phones that do not come add the same error to all.
    """
    search = SearchQuantiles(**settings)
    leaves = len(search.axis)
    fanouts = [fanout for fanout in (2, 4, 8, 16, 32) if fanout < leaves] + [leaves]
    trees = [TreeQuantiles(**settings, fanout=fanout) for fanout in fanouts]
    return sorted((*trees, search), key=_worst)


def best(**settings: Any) -> Quantiles:
    """The way of finding quantiles whose rank has the smallest expected error."""
    return candidates(**settings)[0]


def _worst(query: Quantiles) -> float:
    return max(map(query.relative_error, query.quantiles))
