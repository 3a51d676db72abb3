"""Which accent, sex, age band, microphone or room is behind an update?

Two classifiers of different kinds, each trained on what labelled public speakers would contribute,
as spoiled by clip and noise as what is attacked (that weight differences of adapted models betray
accent, sex and age: arXiv:2510.13357):

* `RidgeClassifier` on parameters: linear, fit to all speakers at once.
* `NeighborClassifier` on footprints: nothing is fit, the nearest speakers decide.

Every value counts alike in both, however many speakers have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import TRAITS, Auxiliary, Guess, Knowledge, Secret
from fedspeech.audits.linkers import Directions
from fedspeech.audits.speaker_reidentification import contributed, pooled, rehearsed
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.audits.update_views import FootprintView, View, WeightView
from fedspeech.errors import require
from fedspeech.vectors import FloatVector

Matrix = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Classifier(Protocol):
    """Learns values of updates and scores them."""

    def scores(self, updates: Matrix, values: IntArray, seen: Matrix) -> Matrix:
        """Scores each value of each update that was seen, higher for more belief.

        Args:
          updates: of training speakers, shape (s, f).
          values: of the trait, from 0, every one of them at least once, shape (s,).
          seen: attacked, shape (m, f).

        Returns:
          Shape (m, values).

        Raises:
          ValueError: if there are fewer than 3 training speakers or a number is not finite.
        """
        ...


@dataclass(frozen=True)
class RidgeClassifier:
    """Ridge regression to the values' indicators; the penalty by leaving one out.

    The error of leaving one speaker out has a closed form (Golub, Heath and Wahba 1979, PRESS).

    Attributes:
      penalties: tried, in units of the mean squared length of updates, which is 1.
    """

    penalties: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

    def scores(self, updates: Matrix, values: IntArray, seen: Matrix) -> Matrix:
        """See `Classifier.scores`."""
        directions = Directions.of(updates, updates)
        rows, weights = directions(updates), np.sqrt(_balanced(values))[:, None]
        targets = np.eye(values.max() + 1)[values]
        center, mean = (weights**2 * rows).sum(axis=0), (weights**2 * targets).sum(axis=0)
        left, right = weights * (rows - center), weights * (targets - mean)
        eigenvalues, vectors = np.linalg.eigh(left @ left.T)
        best, chosen = np.inf, np.zeros_like(right)
        for penalty in self.penalties:
            kept = (vectors / (np.maximum(eigenvalues, 0) + penalty / len(rows))) @ vectors.T
            solved = kept @ right
            left_out = solved / np.diag(kept)[:, None]  # what each row misses its target by
            if (error := float((left_out**2).sum())) < best:
                best, chosen = error, solved
        return np.asarray((directions(seen) - center) @ (left.T @ chosen) + mean - mean.mean())


@dataclass(frozen=True)
class NeighborClassifier:
    """Mean cosine to the nearest training speakers of each value.

    The same share of each value's speakers: of equally many, the nearest of a frequent value would
    be nearer by its number alone.

    Attributes:
      share: of the speakers of each value; at least one.
    """

    share: float = 0.1

    def scores(self, updates: Matrix, values: IntArray, seen: Matrix) -> Matrix:
        """See `Classifier.scores`."""
        directions = Directions.of(updates, updates)
        cosines = directions(seen) @ directions(updates).T
        columns = []
        for value in range(values.max() + 1):
            near = -np.sort(-cosines[:, values == value], axis=1)
            columns.append(near[:, : max(1, round(self.share * near.shape[1]))].mean(axis=1))
        return np.asarray(np.stack(columns, axis=1))


def _balanced(values: IntArray) -> Matrix:
    """Weights of sum 1 in which every value weighs alike, shape (s,)."""
    counts = np.bincount(values)
    found: Matrix = 1 / (counts[values] * len(counts))
    return found


@dataclass(frozen=True, kw_only=True)
class TraitAttack:
    """Scores the values of one trait of every observation."""

    secret: Secret
    name: str
    view: View
    classifier: Classifier
    observers: tuple[Observer, ...] = ("server", "recipient")
    auxiliary: ClassVar[Auxiliary] = "public"
    knowledge: ClassVar[str] = (
        "public speakers labelled with the trait, the plan and the settings of training; nothing "
        "of those it attacks"
    )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores (observations, values of the trait); see `Attack.guess`.

        Raises:
          ValueError: if the observer has no single contributions, or fewer than two values of the
            trait are known.
        """
        if transcript.observer not in self.observers or not transcript.single:
            raise ValueError(
                f"{self.name} needs single contributions, and observer "
                f"{transcript.observer!r} has none in this transcript"
            )
        named = knowledge.values(self.secret)
        require(len(named) > 1, f"at least two values of {self.secret} are needed", known=named)
        scores = np.zeros((len(transcript.observations), len(named)))
        for place in np.unique(transcript.observed_in):
            rows = transcript.observed_in == place
            seen, model = transcript.observations[rows], transcript.rounds[place].sent
            scores[rows] = self._round(transcript, seen, model, knowledge, rng)
        return Guess(scores=pooled(scores, transcript.senders))

    def _round(
        self,
        transcript: Transcript,
        seen: Matrix,
        model: FloatVector,
        knowledge: Knowledge,
        rng: np.random.Generator,
    ) -> Matrix:
        """Of the observations of one round."""
        named = knowledge.values(self.secret)
        labelled = [known for known in knowledge.speakers if self.secret in known.traits]
        values = np.array([named.index(known.traits[self.secret]) for known in labelled])
        updates = contributed([known.clips for known in labelled], model, knowledge, rng)
        updates = rehearsed(updates, transcript, rng)
        updates, seen = (self.view.of(rows, model, knowledge) for rows in (updates, seen))
        return self.classifier.scores(updates, values, seen)


TRAIT_ATTACKS = tuple(
    TraitAttack(secret=trait, name=f"{trait.replace('_', ' ')}, {name}", view=view,
                classifier=classifier)
    for trait in TRAITS
    for name, view, classifier in (
        ("ridge on weights", WeightView(), RidgeClassifier()),
        ("neighbors by footprint", FootprintView(), NeighborClassifier()),
    )
)  # fmt: skip
