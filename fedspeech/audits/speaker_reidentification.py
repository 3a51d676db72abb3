"""Whose update is it, and are two updates of one speaker?

`Reidentification` scores every candidate of every observation: the attacker has other utterances of
the candidates (a voice message, a call), trains the adapter on them as a phone would, and compares.
`UpdateLinking` has nothing of anybody and compares observations with one another: it links phones
over rounds though their identities changed.

Observations are single updates, where secure aggregation is off; personalized adapters that left
their phones; sums of many phones, where every phone in it is a true candidate. Where the observer
knows which observations one phone sent, scores are averaged over them: k rounds are k samples of
the same voice.

Published attacks of this kind: Tomashenko et al. 2022 (arXiv:2111.03777) on personalized acoustic
models, by weights and by footprints; Dang et al. 2021 (arXiv:2104.07815) on gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import Auxiliary, Guess, Knowledge, Secret
from fedspeech.audits.linkers import CosineLinker, GaussianLinker, Link, Linker
from fedspeech.audits.network_linker import NetworkLinker
from fedspeech.audits.observed_sums import observed
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.audits.update_views import FootprintView, View, WeightView, as_seen
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """What both attacks are: a view, and a linker fit on public speakers.

    Attributes:
      view: what is looked at.
      linker: what compares; fit anew in every attack.
      name: how tables call the attack.
    """

    view: View
    linker: Linker
    name: str
    observers: tuple[Observer, ...] = ("server", "recipient", "reader", "cohort_member")


@dataclass(frozen=True, kw_only=True)
class Reidentification(_Comparison):
    """Scores observations against candidates of whom the attacker has other utterances.

    Attributes:
      fits: most times that the linker is fit: rounds are cut into so many stretches, and each has
        one of its middle model. Updates change while the model converges, if slowly.
    """

    fits: int = 4
    secret: ClassVar[Secret] = "speaker"
    auxiliary: ClassVar[Auxiliary] = "enrollment"
    knowledge: ClassVar[str] = (
        "other utterances of every candidate, labelled public speakers to train on, the plan and "
        "the settings of training"
    )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores (observations, candidates); see `Attack.guess`."""
        transcript.require(self.observers)
        seen = observed(transcript, knowledge.optimizer)
        scores = np.zeros((len(transcript.observations), len(knowledge.candidates)))
        places = np.unique(transcript.observed_in)
        for stretch in np.array_split(places, min(self.fits, len(places)) or 1):
            if not len(stretch):
                continue
            middle = transcript.rounds[stretch[len(stretch) // 2]].sent
            link = self._fit(transcript, middle, knowledge, rng)
            number = -1
            for place in stretch:
                rows, model = transcript.observed_in == place, transcript.rounds[place].sent
                if transcript.rounds[place].number != number:  # sums of a round are of one model
                    number = transcript.rounds[place].number
                    clips = [who.clips for who in knowledge.candidates]
                    enrolled = self.view.of(
                        contributed(clips, model, knowledge, rng), model, knowledge
                    )
                scores[rows] = link(self.view.of(seen[rows], model, knowledge), enrolled)
        return Guess(scores=pooled(scores, transcript.senders))

    def _fit(
        self,
        transcript: Transcript,
        model: FloatVector,
        knowledge: Knowledge,
        rng: np.random.Generator,
    ) -> Link:
        """A linker of updates of one model, some of them as the observer would see them."""
        one, other = (contributed(side, model, knowledge, rng) for side in _halves(knowledge, rng))
        one = rehearsed(one, transcript, rng)
        return self.linker.fit(
            self.view.of(one, model, knowledge), self.view.of(other, model, knowledge), rng
        )


@dataclass(frozen=True, kw_only=True)
class UpdateLinking(_Comparison):
    """Scores observations against one another."""

    secret: ClassVar[Secret] = "link"
    auxiliary: ClassVar[Auxiliary] = "public"
    knowledge: ClassVar[str] = (
        "labelled public speakers to train on, the plan and the settings of training; nothing of "
        "those it attacks"
    )

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores (observations, observations); see `Attack.guess`."""
        transcript.require(self.observers)
        models = [seen.sent for seen in transcript.rounds]
        # Of two rounds, as the updates that are compared are: the first and the last.
        one, other = (
            self.view.of(
                rehearsed(contributed(side, model, knowledge, rng), transcript, rng),
                model,
                knowledge,
            )
            for side, model in zip(_halves(knowledge, rng), (models[0], models[-1]), strict=True)
        )
        link = self.linker.fit(one, other, rng)
        seen = np.concatenate(
            [
                self.view.of(
                    transcript.observations[transcript.observed_in == place], model, knowledge
                )
                for place, model in enumerate(models)
            ]
        )
        return Guess(scores=link(seen, seen))


def rehearsed(updates: Matrix, transcript: Transcript, rng: np.random.Generator) -> Matrix:
    """Updates of training speakers as the observer of a transcript would have seen them.

    Adapters that left their phones were neither clipped nor noised, whatever the plan says.
    """
    if transcript.observer == "recipient":
        return updates
    others = 0 if transcript.single else max(0, round(transcript.plan.expected_in_sum) - 1)
    return as_seen(updates, transcript.plan, others, rng)


def contributed(
    clips: Sequence[LocalDataset],
    model: FloatVector,
    knowledge: Knowledge,
    rng: np.random.Generator,
) -> Matrix:
    """What speakers with these clips would contribute, shape (speakers, d)."""
    found = knowledge.contributions(clips, model, [rng] * len(clips))
    return np.stack([np.asarray(vector, dtype=np.float64) for vector in found])


def pooled(scores: Matrix, senders: NDArray[np.int64]) -> Matrix:
    """Scores averaged over the observations of each sender; an unknown sender (-1) has one each."""
    known = senders >= 0
    units = np.where(known, senders, -1 - np.arange(len(senders)))
    _, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), scores.shape[1]))
    np.add.at(sums, place, scores)
    return np.asarray((sums / counts[:, None])[place])


def _halves(
    knowledge: Knowledge, rng: np.random.Generator
) -> tuple[list[LocalDataset], list[LocalDataset]]:
    """The clips of every public speaker who has two, dealt into two halves label by label."""
    sides: tuple[list[LocalDataset], list[LocalDataset]] = ([], [])
    for known in knowledge.speakers:
        if len(known.clips) < 2:
            continue
        order = rng.permutation(len(known.clips))
        first = known.clips.labels[order]
        order = order[np.argsort(first if first.ndim == 1 else first[:, 0], kind="stable")]
        for side, start in zip(sides, (0, 1), strict=True):
            side.append(known.clips.take(order[start::2]))
    return sides


_LINKERS: tuple[tuple[str, View, Linker], ...] = (
    ("weight cosine", WeightView(), CosineLinker()),
    ("footprint cosine", FootprintView(), CosineLinker()),
    ("learned linker", WeightView(), GaussianLinker()),
)

REIDENTIFICATION = tuple(
    Reidentification(name=name, view=view, linker=linker) for name, view, linker in _LINKERS
)
"""For development: whoever tunes a defence may use them."""

UPDATE_LINKING = tuple(
    UpdateLinking(name=name, view=view, linker=linker) for name, view, linker in _LINKERS
)

EVALUATION = (
    Reidentification(name="network", view=WeightView(), linker=NetworkLinker(), fits=1),
    UpdateLinking(name="network", view=WeightView(), linker=NetworkLinker()),
)
"""For evaluation alone, of another kind than the others and retrained from scratch each time."""
