"""The union of two corpora: recorded target words, synthetic unknown words and silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Corpus, Skipped, Speaker, Utterance


class JoinedCorpus:
    """A `Corpus` with the speakers and utterances of two others.

    Raises:
      ValueError: if an utterance id or a speaker id stands in both.
    """

    def __init__(self, first: Corpus, second: Corpus) -> None:
        self._parts = (first, second)
        self._home = {clip.utterance_id: part for part in self._parts for clip in part.utterances}
        self.utterances: Sequence[Utterance] = (*first.utterances, *second.utterances)
        self.speakers: Mapping[str, Speaker] = {**first.speakers, **second.speakers}
        clash = set(first.speakers) & set(second.speakers)
        if clash or len(self._home) != len(self.utterances):
            raise ValueError(f"corpora that are joined must share no id, got {sorted(clash)[:3]}")
        self.name = f"{first.name} and {second.name}"
        self.license = f"{first.license}; {second.license}"
        self.skipped: Sequence[Skipped] = (*first.skipped, *second.skipped)

    def fingerprint(self, utterance: Utterance) -> str:
        """Returns the fingerprint in the utterance's own corpus."""
        return self._home[utterance.utterance_id].fingerprint(utterance)

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns clips, shape (n, clip_samples), each from its own corpus."""
        rows: dict[int, NDArray[np.float32]] = {}
        for part in self._parts:
            own = [
                row for row, clip in enumerate(utterances) if self._home[clip.utterance_id] is part
            ]
            if own:
                clips = part.waveforms([utterances[row] for row in own])
                rows |= dict(zip(own, clips, strict=True))
        return np.stack([rows[row] for row in range(len(utterances))])
