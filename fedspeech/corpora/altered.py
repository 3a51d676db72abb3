"""Altered copies of clips as a corpus, so that their embeddings are cached like any others.

    copies = AlteredCorpus(corpus, rate_hz=16_000, copies=6)
    clips = copies.of(shots)                    # six altered utterances of each, copy after copy
    copies.waveforms(clips)                     # (6 n, samples)

What a copy sounds like follows from the clip's fingerprint and the number of the copy alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.alteration import Alteration, altered
from fedspeech.corpora.corpus import Corpus, Skipped, Speaker, Utterance
from fedspeech.seeds import canonical, stream

_RECIPE = "altered copy 1"  # raise it when the same draws give another sound


class AlteredCorpus:
    """A `Corpus` of altered copies of another one's clips."""

    def __init__(
        self, corpus: Corpus, *, rate_hz: int, copies: int, spec: Alteration | None = None
    ) -> None:
        """Wraps a corpus of waveforms; `copies` of each clip.

        Raises:
          ValueError: if there is not at least one copy.
        """
        if copies < 1:
            raise ValueError(f"copies must be at least 1, got copies={copies}")
        self._corpus, self._rate_hz, self._copies = corpus, rate_hz, copies
        self._spec = spec or Alteration()
        self._originals: dict[str, tuple[Utterance, int]] = {}
        self.name = f"{corpus.name}, altered"
        self.license = corpus.license
        self.speakers: Mapping[str, Speaker] = corpus.speakers
        self.skipped: Sequence[Skipped] = ()

    @property
    def utterances(self) -> Sequence[Utterance]:
        """The copies that were asked for."""
        return tuple(
            Utterance(name, clip.speaker_id, clip.word)
            for name, (clip, _) in self._originals.items()
        )

    def of(self, clips: Sequence[Utterance]) -> list[Utterance]:
        """Returns the copies of some clips, `copies` of each side by side."""
        copied = []
        for clip in clips:
            for number in range(self._copies):
                name = f"{clip.utterance_id}~{number}"
                self._originals[name] = (clip, number)
                copied.append(Utterance(name, clip.speaker_id, clip.word))
        return copied

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the original's fingerprint, the number of the copy and the ranges."""
        clip, number = self._originals[utterance.utterance_id]
        recipe = canonical(
            _RECIPE, self._corpus.fingerprint(clip), number, self._rate_hz, repr(self._spec)
        )
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns altered clips, shape (n, samples), float32; see `Corpus.waveforms`.

        Raises:
          ValueError: if the corpus holds features, which these alterations do not apply to.
        """
        clips = self._corpus.waveforms([self._originals[one.utterance_id][0] for one in utterances])
        if clips.ndim != 2:
            raise ValueError(
                f"altered copies are made of waveforms, and {self._corpus.name} holds features"
            )
        return np.stack(
            [
                # Not the run's seed: a copy is the same in every run, so it is embedded once.
                altered(clip, self._rate_hz, stream(0, _RECIPE, self.fingerprint(one)), self._spec)
                for one, clip in zip(utterances, clips, strict=True)
            ]
        )
