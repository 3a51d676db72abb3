"""Embeddings of utterances by the frozen encoder, computed once and kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray

from fedspeech.anonymization.voices import AnonymizedCorpus, Anonymizer
from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.errors import ArgumentRefused
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.base import Base
from fedspeech.seeds import NoiseEntropy
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.encoder_cache import encoder_outputs
from simulations.scenario.schema import Scenario

# Of the 500 probes of a parity check; the other half is no speech (docs/export.md).
PARITY_CLIPS = 250
Progress = Callable[[int, int], None]


def cache_folder(given: Path | None = None) -> Path:
    """The folder given, else $FEDSPEECH_CACHE, else the user's cache folder, as an absolute path.

    Raises:
      ArgumentRefused: if neither of the first two is set and the user has no home folder.
    """
    # Absolute, since nodes start in other folders.
    named = given or os.environ.get("FEDSPEECH_CACHE")
    if named:
        return Path(named).absolute()
    try:
        folder = platformdirs.user_cache_path("fedspeech").expanduser()
        if folder.is_absolute():
            return folder
    except RuntimeError:  # the list of users names no home folder either
        pass
    raise ArgumentRefused("there is no home folder to keep features in: name one with `cache`")


@dataclass(frozen=True, eq=False)
class Embedder:
    """Turns utterances into embeddings with labels, through the cache."""

    base: Base
    adapter: Adapter
    cache: Path
    workers: int
    progress: Progress
    anonymizer: Anonymizer | None = None

    def __call__(self, corpus: Corpus, clips: Sequence[Utterance]) -> LocalDataset:
        """Returns one embedding and label, or row of characters, per clip."""
        labels = self.base.vocabulary.encode([clip.word for clip in clips])
        if not clips:
            return LocalDataset(np.zeros((0, *self.adapter.embedding_shape), np.float32), labels)
        if self.anonymizer:
            rate_hz = self.base.encoder.rate_hz
            corpus = AnonymizedCorpus(corpus, self.anonymizer, rate_hz=rate_hz)
        outputs = encoder_outputs(
            self.base,
            corpus,
            clips,
            self.cache,
            adapter=self.adapter,
            workers=self.workers,
            progress=self.progress,
        )
        # In blocks: encoder outputs of a whole population do not fit into memory.
        blocks = [
            self._embed(np.array(outputs[start : start + 4096]))
            for start in range(0, len(outputs), 4096)
        ]
        return LocalDataset(np.concatenate(blocks), labels)

    def _embed(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the adapter keeps of frames of the encoder."""
        embedded: NDArray[np.float32] = self.adapter.embed_frames(
            self.base, torch.from_numpy(frames)
        ).numpy()
        return embedded


def anonymizer_of(scenario: Scenario) -> Anonymizer | None:
    """What every clip of a run goes through before the encoder hears it; None: nothing."""
    chosen = scenario.anonymization
    if chosen is None:
        return None
    entropy = NoiseEntropy.seeded(scenario.seed, "anonymized speech")
    return Anonymizer(method=chosen.method, per=chosen.per, entropy=entropy)


def parity_speech(base: Base, corpus: Corpus, phones: Sequence[Phone]) -> NDArray[np.float32]:
    """Clips of public phones after their left context, for parity checks of an exported file."""
    clips = [clip for clip in utterances_of(phones) if clip.word != SILENCE]
    return base.heard(corpus, clips[:PARITY_CLIPS])
