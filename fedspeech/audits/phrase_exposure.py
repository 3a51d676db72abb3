"""Phrase exposure: which name did one phone's sentences hold?

Exposure (Carlini et al. 2019, "The Secret Sharer", arXiv:1802.08232, Definition 2) counts by how
many bits a trained model narrows a secret down: log2 of the number of phrases that it may be, minus
log2 of the true one's rank. An acoustic adapter holds no text of its own, so the attacker says
every phrase itself, by public voices, and asks the releases about what it said:

* `LossDrop`: which phrase is recognized more surely than before the first round?
* `PhraseAlignment`: whose would-be update points where the sums of the rounds point?
* `Recognition`: which phrase does beam search write down more often than before, with a contextual
  biasing list of all phrases or without one? (The list itself is private and never trained on.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from fedspeech.audits.attack import Auxiliary, Guess, Knowledge, Secret
from fedspeech.audits.membership import alignments
from fedspeech.audits.observed_sums import observed
from fedspeech.audits.shadow import clipped
from fedspeech.audits.shadow_ratio import confidences
from fedspeech.audits.transcript import Observer, Transcript
from fedspeech.corpora.corpus import Alphabet
from fedspeech.models.adapters.adapter import present_windows
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.decoding import BeamDecoder, BigramLanguageModel
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector

_SPOKEN = "every phrase spoken by public voices"


def exposures(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits by which scores narrow each phrase down, if it is the true one; same shape.

    log2 n - log2 rank over the last axis; phrases with one score share their mean rank. Guessing
    among many has 1.44 bits in the mean, and more than b bits with probability 2^-b.
    """
    ranks = rankdata(-scores, axis=-1)
    return np.asarray(np.log2(scores.shape[-1]) - np.log2(ranks), dtype=np.float64)


def by_chance(phrases: int) -> float:
    """Mean exposure of guessing among so many phrases, in bits."""
    return float(np.log2(phrases) - np.log2(np.arange(1, phrases + 1)).mean())


@dataclass(frozen=True, kw_only=True)
class LossDrop:
    """How much surer the last release is of a phrase than the first; see the module."""

    name: ClassVar[str] = "loss drop"
    secret: ClassVar[Secret] = "phrase"
    observers: ClassVar[tuple[Observer, ...]] = ("reader", "server", "cohort_member")
    auxiliary: ClassVar[Auxiliary] = "public"
    knowledge: ClassVar[str] = f"the first and the last release, and {_SPOKEN}"

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every phrase; see `Attack.guess`."""
        del rng
        spoken = _by_phrase(knowledge)
        before, after = (
            confidences(knowledge.adapter, transcript.releases[place], spoken) for place in (0, -1)
        )
        return Guess(scores=(after - before)[np.newaxis])


@dataclass(frozen=True, kw_only=True)
class PhraseAlignment:
    """Cosine of would-be updates with the sums, over rounds; see the module."""

    name: ClassVar[str] = "phrase alignment"
    secret: ClassVar[Secret] = "phrase"
    observers: ClassVar[tuple[Observer, ...]] = ("reader", "server", "cohort_member")
    auxiliary: ClassVar[Auxiliary] = "public"
    knowledge: ClassVar[str] = f"what was decoded of every round, and {_SPOKEN}"

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every phrase; see `Attack.guess`."""
        spoken = _by_phrase(knowledge)
        rows = observed(transcript, knowledge.optimizer)
        scores = np.zeros((1, len(spoken)))
        for place, seen in enumerate(transcript.rounds):
            said = knowledge.contributions(spoken, seen.sent, [rng] * len(spoken))
            own = clipped(said, transcript.plan.clip_norm)
            mean, here = own.mean(axis=0), rows[transcript.observed_in == place]
            scores += alignments(own - mean, here, mean).max(axis=0)
        return Guess(scores=scores)


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """How much more often a phrase is written down than before; see the module.

    Attributes:
      listed: whether beam search has all phrases in its biasing list.
    """

    secret: ClassVar[Secret] = "phrase"
    observers: ClassVar[tuple[Observer, ...]] = ("reader", "server", "cohort_member")
    auxiliary: ClassVar[Auxiliary] = "public"
    listed: bool = False

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"recognition, {'with' if self.listed else 'without'} a biasing list"

    @property
    def knowledge(self) -> str:
        """What the attacker has."""
        return f"the first and the last release, a decoder that knows the phrases, and {_SPOKEN}"

    def guess(
        self, transcript: Transcript, knowledge: Knowledge, rng: np.random.Generator
    ) -> Guess:
        """Scores every phrase; see `Attack.guess`.

        Raises:
          ValueError: if the base writes no text.
        """
        del rng
        spoken = _by_phrase(knowledge)
        before, after = (
            self._hits(knowledge, transcript.releases[place], spoken) for place in (0, -1)
        )
        return Guess(scores=(after - before)[np.newaxis])

    def _hits(
        self, knowledge: Knowledge, model: FloatVector, spoken: Sequence[LocalDataset]
    ) -> NDArray[np.float64]:
        """Share of a phrase's voices in which it is written down, shape (phrases,)."""
        if knowledge.base.per_clip:
            raise ValueError("recognition of phrases needs a base that writes text")
        alphabet = cast("Alphabet", knowledge.base.vocabulary)
        names = {"phrases": knowledge.phrases}
        said = [alphabet.decode(row) for clips in spoken for row in clips.labels]
        language_model = BigramLanguageModel.of(said, names)
        search = BeamDecoder(alphabet, language_model, names if self.listed else None)
        found = []
        for phrase, clips in zip(knowledge.phrases, spoken, strict=True):
            logits = score_clips(knowledge.adapter, model[np.newaxis], clips.embeddings)[0]
            frames = present_windows(torch.tensor(clips.embeddings)).tolist()
            written = [
                search(rows[:count]).split() for rows, count in zip(logits, frames, strict=True)
            ]
            found.append(np.mean([phrase in words for words in written]))
        return np.array(found)


def _by_phrase(knowledge: Knowledge) -> list[LocalDataset]:
    """What public voices said of each phrase: `Knowledge.clips`, all phrases voice by voice.

    Raises:
      ValueError: if that is no whole number of voices.
    """
    count, clips = len(knowledge.phrases), knowledge.clips
    if clips is None or not count or not len(clips) or len(clips) % count:
        said = 0 if clips is None else len(clips)
        raise ValueError(f"expected every phrase as often, got {said} clips of {count} phrases")
    return [clips.take(np.arange(place, len(clips), count)) for place in range(count)]


PHRASE_EXPOSURE = (
    LossDrop(), PhraseAlignment(), Recognition(), Recognition(listed=True),
)  # fmt: skip
"""The attacks on phrases."""
