"""How recognized sentences are scored: word errors, names, with and without a biasing list.

Every model's transcripts are searched for by beam with the public bigram language model. CTC
hedges where it is unsure, so the likeliest labels frame by frame say little of what an adapter has
learned. Transcripts are compared here and go no further: what is handed on is counts, and examples
only where the speech is synthetic.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import MAX_CHARACTERS, Alphabet
from fedspeech.evaluation.asr import (
    RATES,
    AsrCounts,
    decoding_section,
    rate_metric,
    word_errors,
)
from fedspeech.evaluation.metric import MODELS, Metric, Model, Section, Segment, Texts
from fedspeech.models.adapters.adapter import Adapter, present_windows
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.decoding import BeamDecoder, BeamSettings, BigramLanguageModel, greedy
from fedspeech.seeds import stream
from fedspeech.synthesis.names import by_kind
from fedspeech.tasks.evaluation import HeldOutPhone
from fedspeech.training.corrections import corrected
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.objectives import ctc
from fedspeech.vectors import FloatVector, Vector

WORDS, CHARACTERS = RATES


@dataclass(frozen=True, kw_only=True, eq=False)
class AsrEvaluation:
    """Transcripts of sentences, scored as an `Asr` says; the seed is of intervals."""

    adapter: Adapter
    alphabet: Alphabet
    language_model: BigramLanguageModel
    beam: BeamSettings
    each_round: int | None
    examples: int
    seed: int
    # Several figures are of the same transcripts, and a search takes longer than their logits.
    _written: dict[tuple[bytes, bytes], list[str]] = field(default_factory=dict, init=False)

    error = WORDS
    accuracy = "sentences right"
    shots = "own sentences"

    @functools.cached_property
    def _without_list(self) -> BeamDecoder:
        """One decoder for all phones remembers what the language model says."""
        return BeamDecoder(self.alphabet, self.language_model, settings=self.beam)

    def validation(self, vector: FloatVector, clips: LocalDataset) -> tuple[float, float]:
        """Share of sentences without an error, and CTC loss per character, on public speakers."""
        logits, frames = self._logits(vector, clips)
        heard = self._searched(logits, frames, ())
        losses = ctc(
            torch.from_numpy(logits), torch.from_numpy(frames), torch.from_numpy(clips.labels)
        )
        right = [a == b for a, b in zip(heard, self._said(clips), strict=True)]
        return float(np.mean(right)), float(losses.mean())

    def validation_error(self, vector: FloatVector, clips: LocalDataset) -> float | None:
        """Word error rate on public sentences."""
        heard = self._searched(*self._logits(vector, clips), ())
        return AsrCounts.of(self._said(clips), heard).wer

    def mistakes(self, vector: FloatVector, clips: LocalDataset) -> NDArray[np.int64]:
        """Word errors of each sentence."""
        return word_errors(self._said(clips), self._heard(vector, clips))

    def score(self, vector: FloatVector, phone: HeldOutPhone) -> AsrCounts:
        """Errors in a phone's sentences and names of its list."""
        return AsrCounts.of(
            self._said(phone.judged), self._heard(vector, phone.judged), phone.contacts
        )

    def error_on(self, scores: Sequence[AsrCounts]) -> str:
        """Nothing but what the phones' users say."""
        return ""

    def error_metric(
        self,
        scores: Sequence[AsrCounts],
        model: Model,
        *,
        variant: str = "",
        segment: Segment | None = None,
    ) -> Metric | None:
        """Word error rate over phones."""
        return rate_metric(
            scores,
            WORDS,
            stream(self.seed, "bootstrap", RATES[WORDS][0], "corrections" if variant else model),
            model,
            variant=variant,
            segment=segment,
            headline=True,
        )

    def error_rates(self, scores: Sequence[AsrCounts], times: Vector) -> Vector:
        """Word error rate of phones drawn so many times."""
        errors, words = (
            times @ np.array([getattr(phone, count) for phone in scores]) for count in RATES[WORDS]
        )
        rates: Vector = np.where(words > 0, errors / np.maximum(words, 1), np.nan)
        return rates

    def sections(
        self,
        scores: Mapping[Model, Sequence[AsrCounts]],
        vectors: Mapping[Model, Sequence[FloatVector]],
        phones: Sequence[HeldOutPhone],
    ) -> Iterator[Section]:
        """Characters, ways of decoding, examples."""
        yield Section(
            key="characters",
            title="Character errors",
            says="Substitutions, deletions and insertions, over what was said.",
            metrics=tuple(
                rate_metric(
                    found,
                    CHARACTERS,
                    stream(self.seed, "bootstrap", RATES[CHARACTERS][0], model),
                    model,
                )
                for model, found in scores.items()
            ),
        )
        ways = self._ways(vectors["personalized"], phones, scores["personalized"])
        if decoding := decoding_section(ways):
            yield decoding
        if self.examples:
            yield self._example_section(vectors, phones)

    def heard_words(self, vector: FloatVector, clips: LocalDataset) -> None:
        """Sentences have labels of their own: `weak_labels`."""

    def weak_labels(
        self, vector: FloatVector, phone: HeldOutPhone, shots: int
    ) -> LocalDataset | None:
        """A phone's own sentences as it wrote them with its list, wrong names corrected.

        Where a name is wrong its user says which was meant, and `corrected` puts it in its place.
        Other mistakes stay in the label.
        """
        if not phone.contacts:
            return None
        clips, labels = phone.own[shots], []
        logits, frames = self._logits(vector, clips)
        for said, heard in zip(
            self._said(clips), self._searched(logits, frames, phone.contacts), strict=True
        ):
            names = [name for name in said.split() if name in phone.contacts]
            missing = [name for name in names if name not in heard.split()]
            meant = corrected(heard, f"no i said {missing[0]}") if missing else None
            # What was heard, and more so a correction, may be longer than labels can be.
            labels.append((meant or heard)[:MAX_CHARACTERS])
        return LocalDataset(clips.embeddings, self.alphabet.encode(labels))

    def _ways(
        self,
        vectors: Sequence[FloatVector],
        phones: Sequence[HeldOutPhone],
        searched: Sequence[AsrCounts],
    ) -> dict[str, AsrCounts]:
        """The same sentences of the personalized phones, decoded in three ways."""
        plain, listed = AsrCounts(), AsrCounts()
        for vector, phone in zip(vectors, phones, strict=True):
            logits, frames = self._logits(vector, phone.judged)
            said, names = self._said(phone.judged), phone.contacts
            plain += AsrCounts.of(said, greedy(logits, frames, self.alphabet), names)
            if names:
                listed += AsrCounts.of(said, self._searched(logits, frames, names), names)
        return {
            "greedy": plain,
            "bigram language model": sum(searched, AsrCounts()),
            "bigram language model and contextual biasing list": listed,
        }

    def _example_section(
        self, vectors: Mapping[Model, Sequence[FloatVector]], phones: Sequence[HeldOutPhone]
    ) -> Section:
        """The first sentence of a few phones, as each model writes it."""
        shown = phones[: self.examples]
        rows = tuple(
            (
                self._said(phone.judged)[0],
                *(self._heard(vectors[model][place], phone.judged)[0] for model in MODELS),
            )
            for place, phone in enumerate(shown)
        )
        texts = Texts(name="Examples, of synthetic speech", header=("said", *MODELS), rows=rows)
        return Section(key="examples", title="Examples", texts=(texts,))

    def _heard(self, vector: FloatVector, clips: LocalDataset) -> list[str]:
        """Transcripts of sentences by the language model, kept for the next figure of them."""
        key = (hashlib.sha256(clips.embeddings.tobytes()).digest(), vector.tobytes())
        if key not in self._written:
            self._written[key] = self._searched(*self._logits(vector, clips), ())
        return self._written[key]

    def _searched(
        self,
        logits: NDArray[np.float32],
        frames: NDArray[np.int64],
        biasing_list: Collection[str],
    ) -> list[str]:
        """Transcripts by beam search."""
        search = (
            BeamDecoder(self.alphabet, self.language_model, by_kind(biasing_list), self.beam)
            if biasing_list
            else self._without_list
        )
        return [search(rows[:count]) for rows, count in zip(logits, frames, strict=True)]

    def _said(self, clips: LocalDataset) -> list[str]:
        """The transcripts behind the labels."""
        return [self.alphabet.decode(row) for row in clips.labels]

    def _logits(
        self, vector: FloatVector, clips: LocalDataset
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores sentences with one adapter: (n, w, c), and the frames of each that count."""
        logits = score_clips(self.adapter, vector[np.newaxis], clips.embeddings)[0]
        return logits, present_windows(torch.from_numpy(clips.embeddings)).numpy()
