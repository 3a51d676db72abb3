"""A model that listens without end, before anything is exported: what it finds, and what falsely.

A wake word is judged by false rejects at so many false accepts per hour, which clips cannot tell.
The base hears keyword-free sound once; any number of adapters then score every hop of it.

    sound = KeywordFree(base, adapter, seconds=1800, targets=("computer",), seed=1)
    words = SpokenKeywords(base, adapter, heard, labels)
    counts = sound.counts(vector) + words.counts(vector)
    counts.at_most(2.0)                             # lowest threshold with 2 an hour, and its FRR
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspeech.corpora.stream_scenes import keyword_free
from fedspeech.evaluation.streaming import Keyword, ListeningCounts, ListeningRules
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base
from fedspeech.vectors import FloatVector

FloatArray = NDArray[np.float32]


class KeywordFree:
    """Synthesized sound in which no target word is said, as the frozen base hears it.

    Args:
      base: that listens.
      adapter: that is scored.
      seconds: of sound, at least.
      targets: words that nobody says.
      seed: other seeds give other speakers, words and rooms.
    """

    def __init__(
        self, base: Base, adapter: Adapter, *, seconds: float, targets: Sequence[str], seed: int
    ) -> None:
        """Hears all of it once; what is kept is one vector of features per hop."""
        self._adapter, self._hop_ms = adapter, base.frontend.hop_ms
        self._scenes = [
            base.listening_output(scene) for scene in keyword_free(seconds, targets, seed)
        ]

    def counts(self, vector: FloatVector) -> ListeningCounts:
        """Counts one adapter's detections, all of them false."""
        rules = ListeningRules()
        found = (
            ListeningCounts.without_keywords(
                _logits(self._adapter, vector, scene), rules, self._hop_ms
            )
            for scene in self._scenes
        )
        return sum(found, ListeningCounts.nothing())


class SpokenKeywords:
    """Target words of one phone after their left context, as the frozen base hears them.

    Args:
      base: that listens.
      adapter: that is scored.
      heard: shape (n, heard_samples), as `Base.heard` gives it.
      labels: of the target words, shape (n,).
    """

    def __init__(
        self, base: Base, adapter: Adapter, heard: FloatArray, labels: NDArray[np.int64]
    ) -> None:
        """Hears each of them once, and the silence in which it may still be found."""
        self._adapter, hop = adapter, base.frontend.hop_samples
        self._rules = ListeningRules()
        after = self._rules.patience_hops * hop
        first, last = base.context_samples // hop, base.heard_samples // hop
        self._words = [
            (base.listening_output(np.pad(sound, (0, after))), Keyword(int(label), first, last))
            for sound, label in zip(heard, labels, strict=True)
        ]

    def counts(self, vector: FloatVector) -> ListeningCounts:
        """Counts the words that one adapter finds."""
        found = (
            ListeningCounts.of_keywords(
                _logits(self._adapter, vector, output), [keyword], self._rules
            )
            for output, keyword in self._words
        )
        return sum(found, ListeningCounts.nothing())


def _logits(adapter: Adapter, vector: FloatVector, output: Tensor) -> FloatArray:
    """Scores every hop of a stream: the encoder's windows (hops, w, f) to (hops, c)."""
    with torch.inference_mode():
        embeddings = adapter.embed(output).numpy()
    logits: FloatArray = score_clips(adapter, vector[np.newaxis], embeddings)[0]
    return logits
