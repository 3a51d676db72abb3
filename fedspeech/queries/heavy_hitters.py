"""The words that most phones hold, from a vocabulary that nobody lists beforehand.

A prefix tree over rounds (Zhu, Kairouz, McMahan, Sun, Li 2020, arXiv:1902.08534, with noisy counts
instead of votes): each round counts the ways in which the prefixes found so far go on, and the
prefixes with the largest noisy counts go on. A last round counts the words that were found, on
phones that are drawn anew, so that a word's estimate is not the draw by which it was chosen.

Why no sketch: a sketch of hashed words in one round names no word. To find the words in it, it must
hold a sketch of the prefixes of every length, which moves the sum by sqrt(lengths) for each word:
the noise of sqrt(rounds) at the same epsilon, and collisions beside. It saves rounds, not error.

Nothing goes on, and no word comes out, whose noisy count is below `least`: `k_min` plus a margin of
noise that all counts of a search exceed together with probability `FAILURE` at most (by the normal
approximation). So a string that fewer than `k_min` phones hold is as good as never named, not even
to the phones, which are sent the prefixes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Alphabet
from fedspeech.errors import require
from fedspeech.limits import Count, NotNegative
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import ROUNDS, Analytics, rounds_in
from fedspeech.queries.axes import NOWHERE, flat_cells, labels, size
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.event_counts import BLOCK
from fedspeech.queries.truncation import Generators, kept, summed
from fedspeech.queries.words import FREE, UNKNOWN, Digits, Spelling, distinct, known_digits, tree
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector, GlobalState, Vector

FAILURE = 0.01
"""Chance that a search names a string that fewer than k_min phones hold."""

COUNTS = "counts"


@dataclass(frozen=True, kw_only=True)
class HeavyHitters(Analytics):
    """Counts phones by the words of their sentences; a phone adds 1 to `max_cells` words at most.

    The words are those of a phone's labels, sentences as `corpora.Alphabet` writes them. A phone
    that holds more words that are asked for keeps some at random, in each round anew.

    Attributes:
      max_length: letters of a word; longer words are not counted.
      letters: that a round finds.
      beam: prefixes that go on in a segment.
      least: decoded mean below which nothing goes on; see `under`. 0: not set yet.

    Raises:
      ValueError: if columns of events are given, which sentences do not have.
    """

    max_length: Count = 12
    letters: Count = 2
    beam: Count = 16
    least: NotNegative = 0.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        require(not self.axes and not self.where, "axes and where must be empty: words have none")
        require(self.max_per_cell == 1, "max_per_cell must be 1", max_per_cell=self.max_per_cell)

    @property
    def spelling(self) -> Spelling:
        """How words are written."""
        letters = tuple(letter for letter in Alphabet().characters if letter != " ")
        steps = math.ceil(self.max_length / self.letters)
        return Spelling(letters=letters, digits=steps * self.letters, step=self.letters)

    @property
    def rounds(self) -> int:
        """Steps of the search, and one that counts what was found."""
        return math.ceil(self.max_length / self.letters) + 1

    @property
    def cells(self) -> int:
        """Ways in which the prefixes of a segment go on."""
        return self.beam * self.spelling.children

    @property
    def how(self) -> frozenset[str]:
        """Shape of the search."""
        return super().how | {"max_length", "letters", "beam"}

    @property
    def additive(self) -> bool:
        """A phone may hold several of the words."""
        return False

    def under(self, plan: PrivacyPlan, k_min: float) -> Self:
        """The query that names no string which fewer than `k_min` phones hold, under a plan."""
        sampling = Sampling.of(plan)
        looks = self.rounds * self.dimension
        reach = NormalDist().inv_cdf(1 - FAILURE / looks)
        stddev = math.sqrt(sampling.noise_variance + sampling.sampling_variance(k_min))
        return dataclasses.replace(self, least=(k_min + reach * stddev) / sampling.scale_up)

    def unbounded(self, events: int) -> Self:
        """The query for which a phone adds all of its words."""
        del events
        return dataclasses.replace(self, max_cells=self.dimension)

    def smallest_found(self, plan: PrivacyPlan, probability: float = 0.9) -> float:
        """How many phones must hold a word for it to be found with a probability."""
        sampling = Sampling.of(plan)
        least = self.least * sampling.scale_up
        reach = NormalDist().inv_cdf(probability ** (1 / self.rounds))
        stddev = math.sqrt(sampling.noise_variance + sampling.sampling_variance(least))
        return least + reach * stddev

    def initial(self, arrays: PopulationArrays) -> GlobalState:
        """The empty prefix in every segment.

        Raises:
          ValueError: if `least` is not set.
        """
        del arrays
        require(self.least > 0, "least must be set before anybody is asked: under(plan, k_min)")
        prefixes = np.full((size(self.segments), self.beam, self.spelling.digits), float(FREE))
        prefixes[:, 0] = UNKNOWN
        return GlobalState(prefixes.reshape(-1))

    def contributions(
        self, phones: Sequence[LocalDataset], model: FloatVector, rngs: Generators
    ) -> list[FloatVector]:
        """The ways in which words of each phone go on from the prefixes that it was sent.

        Raises:
          ValueError: if the model is not the prefixes of this query.
        """
        shape, spelling = (size(self.segments), self.beam, -1), self.spelling
        if model.shape != (size(self.segments) * self.beam * spelling.digits,):
            raise ValueError(f"expected the prefixes of this query, got shape {model.shape}")
        prefixes = model.reshape(shape).astype(np.int64)
        found: list[FloatVector] = []
        for start in range(0, len(phones), BLOCK):
            block = slice(start, start + BLOCK)
            found += list(self._ways(phones[block], prefixes, rngs[block]))
        return found

    def _ways(
        self, phones: Sequence[LocalDataset], prefixes: Digits, rngs: Generators
    ) -> NDArray[np.float32]:
        """Adds 1 to each way that a phone keeps, shape (phones, dimension)."""
        spelling, known = self.spelling, known_digits(prefixes)
        trees = [tree(own, known) for own in prefixes]
        ways: list[int] = []
        phone: list[int] = []
        for index, dataset in enumerate(phones):
            (segment,) = flat_cells(self.segments, dataset.attributes[np.newaxis]).tolist()
            if segment == NOWHERE:
                continue
            found = {
                (segment * self.beam + place) * spelling.children + spelling.child(word, known)
                for word in self._written(dataset)
                if (place := trees[segment].get(tuple(word[:known].tolist()))) is not None
            }
            ways += sorted(found)
            phone += [index] * len(found)
        cells, holder = np.array(ways, np.int64), np.array(phone, np.int64)
        size = self.dimension
        stays = kept(cells, holder, rngs, dimension=size, max_cells=self.max_cells)
        return summed(cells[stays], holder[stays], len(phones), size, None).astype(np.float32)

    def update(self, state: GlobalState, mean: Vector) -> GlobalState:
        """Lets the largest counts go on; of the last round, keeps them."""
        spelling, rounds = self.spelling, np.array([rounds_in(state) + 1.0])
        prefixes = state.parameters.reshape(-1, self.beam, spelling.digits).astype(np.int64)
        table = mean.reshape(-1, self.beam, spelling.children)
        if rounds[0] > self.rounds - 1:
            counts = table[:, :, 0].reshape(-1)
            return GlobalState(state.parameters, {ROUNDS: rounds, COUNTS: counts})
        known = (int(rounds[0]) - 1) * self.letters
        found = np.full(prefixes.shape, FREE)
        for segment, own in enumerate(prefixes):
            ways = table[segment].copy()
            for place, prefix in enumerate(own):
                alive = prefix[0] != FREE
                ways[place, ~(spelling.possible(prefix, known) & alive)] = -np.inf
            best = np.argsort(-ways, axis=None, kind="stable")[: self.beam]
            going_on = [way for way in best.tolist() if ways.reshape(-1)[way] >= self.least]
            for rank, way in enumerate(going_on):
                place, child = divmod(way, spelling.children)
                found[segment, rank] = spelling.grown(own[place], known, child)
        return GlobalState(found.reshape(-1).astype(np.float64), {ROUNDS: rounds})

    def estimates(self, state: GlobalState, plan: PrivacyPlan) -> tuple[Estimate, ...]:
        """One estimate per segment and word that was found, the largest first.

        Unbiased for a word whatever it was chosen by; but a word whose last count is below `least`
        is left out, so that of words near it the lucky ones are seen.
        """
        self.check_plan(plan)
        sampling, spelling = Sampling.of(plan), self.spelling
        counts = state.moments.get(COUNTS, np.zeros(0)).reshape(-1, self.beam)
        prefixes = state.parameters.reshape(-1, self.beam, spelling.digits).astype(np.int64)
        return tuple(
            sampling.total(
                float(own[place]),
                of="phones that hold the word",
                segment=segment,
                cell=(spelling.read(words[place]),),
            )
            for own, words, segment in zip(counts, prefixes, labels(self.segments), strict=False)
            for place in np.argsort(-own).tolist()
            if words[place, 0] != FREE and own[place] >= self.least
        )

    def _written(self, dataset: LocalDataset) -> list[NDArray[np.int64]]:
        """The words of a phone's sentences, those that can be written."""
        if not dataset.holds_sentences:
            return []
        said = [Alphabet().decode(row) for row in dataset.labels]
        written = (self.spelling.write(word) for word in distinct(said))
        return [word for word in written if word is not None]
