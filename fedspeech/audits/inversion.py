"""Inversion: what a phone's clips sounded like to the encoder, from one update or from a sum.

Two attacks on the features of clips, by the two ways of `gradient_inversion`; both need the frozen
base and the model that was sent. Both answer one vector of features for each label. A clip was in
an update if these look like it; `log_mel` turns them into something to look at. Updates of
sentences have no such form: errors of all frames add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import Auxiliary, Guess, Knowledge, Secret
from fedspeech.audits.gradient_inversion import (
    inputs_of,
    label_means,
    likeness,
    matched,
    outputs,
    ratios,
)
from fedspeech.audits.observed_sums import observed
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

_CLIPS = (
    "the base, the model that was sent, the public background set, and of the clips that it asks "
    "about the labels"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recovered:
    """What was read out of the updates of one model, beside what it is compared with.

    Attributes:
      features: for each update and label, shape (m, labels, ...).
      truth: of the clips that are asked about, shape (n, ...).
      center: public mean of each label, shape (labels, ...).
    """

    features: NDArray[np.floating]
    truth: NDArray[np.floating]
    center: NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Features by one way of recovering them; see the module.

    Attributes:
      name: how tables call it.
      knowledge: what it has besides the transcript.
      recover: reads updates (m, d) of a model (d,), and says what clips and public clips look like
        to it.
      most: rows that are read; the others are given what guessing gives.
    """

    name: str
    knowledge: str
    recover: Callable[
        [NDArray[np.float64], FloatVector, Knowledge, LocalDataset, LocalDataset], Recovered
    ]
    most: int
    secret: ClassVar[Secret] = "clip"
    observers: ClassVar[tuple[Observer, ...]] = ("server", "reader", "cohort_member", "recipient")
    auxiliary: ClassVar[Auxiliary] = "public"

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every clip of `knowledge.clips` by its likeness; see `Attack.guess`.

        What is shown of it: "recovered", the features for each label of each row that was read.

        Raises:
          ValueError: if clips have no single label each.
        """
        del rng
        transcript.require(self.observers)
        clips, public = _asked(knowledge), _public(knowledge)
        rows = observed(transcript, knowledge.optimizer)
        scores, read = np.zeros((len(rows), len(clips))), []
        for place in np.unique(transcript.observed_in[: self.most]):
            own = np.flatnonzero(transcript.observed_in[: self.most] == place)
            sent = transcript.rounds[place].sent
            found = self.recover(rows[own], sent, knowledge, clips, public)
            flat = found.features[:, clips.labels].reshape(len(own), len(clips), -1)
            truth, center = (
                one.reshape(len(clips), -1) for one in (found.truth, found.center[clips.labels])
            )
            scores[own] = likeness(flat, truth, center)
            read.append(found.features)
        return Guess(scores=scores, shown={"recovered": np.concatenate(read)} if read else {})


def _by_ratio(
    updates: NDArray[np.float64],
    sent: FloatVector,
    knowledge: Knowledge,
    clips: LocalDataset,
    public: LocalDataset,
) -> Recovered:
    adapter = knowledge.adapter
    features = ratios(adapter, updates)
    truth, known = (inputs_of(adapter, sent, one) for one in (clips, public))
    return Recovered(
        features=features, truth=truth, center=label_means(known, public.labels, features.shape[1])
    )


def _by_matching(
    updates: NDArray[np.float64],
    sent: FloatVector,
    knowledge: Knowledge,
    clips: LocalDataset,
    public: LocalDataset,
) -> Recovered:
    adapter = knowledge.adapter
    start = label_means(public.embeddings, public.labels, outputs(adapter))
    features = matched(adapter, sent, updates, start, knowledge.background)
    return Recovered(features=features, truth=clips.embeddings, center=start)


def _asked(knowledge: Knowledge) -> LocalDataset:
    if knowledge.clips is None or knowledge.clips.holds_sentences:
        raise ValueError("inversion asks about clips with one label each")
    return knowledge.clips


def _public(knowledge: Knowledge) -> LocalDataset:
    """All clips of public speakers."""
    first, *others = [known.clips for known in knowledge.speakers]
    return LocalDataset(
        np.concatenate([first.embeddings, *(one.embeddings for one in others)]),
        np.concatenate([first.labels, *(one.labels for one in others)]),
    )


RATIO = Inversion(name="gradient ratio", knowledge=_CLIPS, recover=_by_ratio, most=1_000_000)
MATCHING = Inversion(
    name="gradient matching", recover=_by_matching, most=256,
    knowledge=f"{_CLIPS}; public speakers' clips to begin with",
)  # fmt: skip
INVERSION = (RATIO, MATCHING)
"""The attacks on single clips."""
