"""A model that listens without end, before anything is exported: what it finds, and what falsely.

A wake word is judged by false rejects at so many false accepts per hour, which clips cannot tell.

    sound = HeardStreams.keyword_free(base, adapter, seconds=1800, targets=("computer",), seed=1)
    words = HeardStreams.of_keywords(base, adapter, heard, labels)
    counts = sound.counts(vector) + words.counts(vector)
    counts.at_most(2.0)                             # lowest threshold with 2 an hour, and its FRR
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.evaluation.streaming import Keyword, ListeningCounts, ListeningRules, scored
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base
from fedspeech.vectors import FloatVector


@dataclass(frozen=True, eq=False)
class HeardStreams:
    """Sounds that the frozen base hears once; any number of adapters then score every hop.

    A sound is frames before the adapter, (hops, w, f), and the target word in it, if there is one.
    """

    base: Base
    adapter: Adapter
    hop_ms: float
    sounds: Sequence[tuple[Tensor, Keyword | None]]

    @classmethod
    def keyword_free(
        cls,
        base: Base,
        adapter: Adapter,
        *,
        seconds: float,
        targets: Sequence[str],
        seed: int,
        lexicon: Mapping[str, str] = MappingProxyType({}),
    ) -> HeardStreams:
        """At least so much synthesized sound in which nobody says a target word.

        A `lexicon` has pronunciations that are not built in, of targets that have near misses.
        """
        scenes = negative_scenes(seconds, targets, seed, lexicon)
        sounds = [(adapter.encoder(base).listening(scene.sound), None) for scene in scenes]
        return cls(base, adapter, _hop_ms(base), sounds)

    @classmethod
    def of_keywords(
        cls, base: Base, adapter: Adapter, heard: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> HeardStreams:
        """Target words, labels (n,), after their left context: `Base.heard`, (n, heard_samples)."""
        hop = base.encoder.hop_samples
        first, last = base.encoder.context_samples // hop, base.heard_samples // hop
        # A word may be found some time after its end, and needs sound to be found in.
        after = ListeningRules.every(_hop_ms(base)).patience_hops * hop
        padded = np.pad(heard, ((0, 0), (0, after)))
        sounds = [
            (adapter.encoder(base).listening(sound), Keyword(int(label), first, last))
            for sound, label in zip(padded, labels, strict=True)
        ]
        return cls(base, adapter, _hop_ms(base), sounds)

    @classmethod
    def of_sounds(cls, base: Base, adapter: Adapter, sounds: NDArray[np.float32]) -> HeardStreams:
        """Sounds of one length, (n, samples), in which nothing is looked for."""
        heard = [(adapter.encoder(base).listening(sound), None) for sound in sounds]
        return cls(base, adapter, _hop_ms(base), heard)

    def peaks(self, vector: FloatVector) -> NDArray[np.float64]:
        """Highest score of any target word in each sound, shape (n,).

        At this threshold and below, the detector wakes.
        """
        rules = ListeningRules.every(self.hop_ms)
        return np.array([scored(logits, rules)[1].max() for logits, _ in self._scored(vector)])

    def counts(self, vector: FloatVector) -> ListeningCounts:
        """Counts what one adapter finds, and what it finds falsely where nothing is said."""
        rules = ListeningRules.every(self.hop_ms)
        return sum(
            (
                ListeningCounts.without_keywords(logits, rules, self.hop_ms)
                if keyword is None
                else ListeningCounts.of_keywords(logits, [keyword], rules)
                for logits, keyword in self._scored(vector)
            ),
            ListeningCounts.nothing(),
        )

    def _scored(self, vector: FloatVector) -> Iterator[tuple[NDArray[np.float32], Keyword | None]]:
        """Yields logits of every hop of each sound, shape (hops, c)."""
        for frames, keyword in self.sounds:
            with torch.inference_mode():
                embeddings = self.adapter.embed_frames(self.base, frames).numpy()
            yield score_clips(self.adapter, vector[np.newaxis], embeddings)[0], keyword


def _hop_ms(base: Base) -> float:
    """Milliseconds between answers of a stream."""
    return 1000 * base.encoder.hop_samples / base.encoder.rate_hz
