"""Speech recognition: sentences, character by character, by CTC."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.corpus import Alphabet, Corpus, Utterance
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.corpora.shots import Shots, split_sentences
from fedspeech.models.adapters.adapter import present_windows
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.models.decoding import BeamSettings, BigramLanguageModel
from fedspeech.seeds import stream
from fedspeech.tasks.asr_evaluation import AsrEvaluation
from fedspeech.tasks.evaluation import Scored
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.objectives import ctc
from fedspeech.training.pretrain_sentences import synthetic_sentence_base, tuned_base


@dataclass(frozen=True)
class Asr:
    """Recognizing sentences.

    Attributes:
      language_model: of public sentences, the same on every phone.
      beam: how a phone searches for transcripts.
      each_round: sentences of a phone that are scored after every round; None: all.
      examples: transcripts that are shown, one of a phone each; 0 where people said them.
    """

    name: ClassVar[str] = "asr"
    adapters: ClassVar[tuple[str, ...]] = ("frame_affine", "frame_bottleneck")

    language_model: BigramLanguageModel = field(
        default_factory=lambda: BigramLanguageModel.of(()), repr=False
    )
    labels: Alphabet = field(default_factory=Alphabet)
    beam: BeamSettings = field(default_factory=BeamSettings)
    each_round: int | None = None
    examples: int = 0

    @property
    def negatives(self) -> str:
        """Nothing: every sentence is meant for the phone that hears it."""
        return ""

    def split(self, phone: Phone, count: int, *, seed: int, reserve: int) -> Shots:
        """Draws own sentences; see `Task.split`."""
        return split_sentences(phone, count, seed=seed, reserve=reserve)

    def public_clips(
        self, phones: Sequence[Phone], recorded: Collection[str], taught: Collection[str], seed: int
    ) -> tuple[list[Utterance], list[Utterance]]:
        """Public sentences: half to train on, half for the guard; the halves share nobody."""
        del recorded, taught
        halves = []
        for part in (phones[::2], phones[1::2]):
            clips = utterances_of(part)
            order = stream(seed, "public sentences").permutation(len(clips))
            halves.append([clips[index] for index in order])
        return halves[0], halves[1]

    def evaluation_negatives(
        self, judged: Sequence[LocalDataset], validation: LocalDataset
    ) -> LocalDataset:
        """None."""
        del judged
        return validation.first(0)

    def check_base(self, base: Base) -> None:
        """Refuses a base that spots words; see `Task.check_base`."""
        if base.vocabulary != self.labels:
            raise ValueError(
                "it spots words, the scenario wants sentences; `fedspeech pretrain --task asr` "
                "makes one"
            )

    def evaluation(self, scored: Scored) -> AsrEvaluation:
        """By beam search with the language model."""
        return AsrEvaluation(
            adapter=scored.adapter,
            alphabet=self.labels,
            language_model=self.language_model,
            beam=self.beam,
            each_round=self.each_round,
            examples=self.examples,
            seed=scored.seed,
        )

    @classmethod
    def shipped_base(cls) -> Path:
        """English letters, synthetic speakers."""
        return sentence_base_path()

    @classmethod
    def alphabet_of(cls, base: Base, otherwise: Alphabet) -> Alphabet:
        """The alphabet of a base for sentences; of one for words, which `check_base` refuses, none.

        Args:
          base: any base.
          otherwise: what is answered for one of words.
        """
        return base.vocabulary if isinstance(base.vocabulary, Alphabet) else otherwise

    def synthetic_base(
        self,
        *,
        seed: int,
        cache: Path,
        lexicon: Mapping[str, str],
        encoder: str = "standard",
        hard_negative_hours: float = 0.0,
    ) -> Base:
        """Makes one of the grammar's sentences; see `Task.synthetic_base`."""
        del lexicon
        if encoder != "standard":
            raise ValueError(f"encoder {encoder!r} spots words; sentences have the standard one")
        if hard_negative_hours:
            raise ValueError("hard negatives are of words: a sentence has nothing to wake to")
        return synthetic_sentence_base(seed=seed, cache_dir=cache)

    def taught_base(
        self, base: Base, corpus: Corpus, clips: Sequence[Utterance], *, seed: int, cache: Path
    ) -> Base:
        """Tunes encoder and head; see `Task.taught_base`."""
        return tuned_base(base, corpus, clips, seed=seed, cache_dir=cache)

    def folds(self, labels: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
        """Deals sentences in turn; the only one of a phone is never held back."""
        # Without its only sentence a phone would adapt on nothing, which says nothing of adapting
        # on it.
        order = np.arange(len(labels) if len(labels) > 1 else 0)
        return [order[fold::count] for fold in range(min(count, len(order)))]

    def coverage(self, labels: NDArray[np.int64]) -> float:
        """1: no sentence stands for a word that could be missing."""
        del labels
        return 1.0

    def mistakes(self, logits: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss of each sentence: it moves before a transcript does."""
        return ctc(logits, present_windows(embeddings), labels).double()

    def false_accepts(self, logits: Tensor) -> float:
        """0: every sentence is meant for the phone that hears it."""
        del logits
        return 0.0
