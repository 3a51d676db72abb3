"""From utterances to what the frozen trunk makes of them, computed once and kept in the cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance
from fedspeech.corpora.partition import Phone, utterances_of
from fedspeech.errors import ScenarioError
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.base import Base
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.encoder_cache import trunk_outputs

PARITY_CLIPS = 250
Progress = Callable[[int, int], None]


def cache_folder(given: Path | None = None) -> Path:
    """Where features are kept between runs, as an absolute path: nodes start in other folders.

    Args:
      given: by the user; None: $FEDSPEECH_CACHE, or the user's cache folder.

    Raises:
      ScenarioError: if neither is given and this user has no home folder.
    """
    named = given or os.environ.get("FEDSPEECH_CACHE")
    if named:
        return Path(named).absolute()
    try:
        folder = platformdirs.user_cache_path("fedspeech").expanduser()
        if folder.is_absolute():
            return folder
    except RuntimeError:  # nor does the list of users know one
        pass
    raise ScenarioError("there is no home folder to keep features in: name one with --cache")


class Embedder:
    """Turns utterances into embeddings with labels, through the cache."""

    def __init__(
        self,
        base: Base,
        adapter: Adapter,
        cache: Path,
        workers: int,
        progress: Progress,
    ) -> None:
        self._base, self._adapter = base, adapter
        self._cache, self._workers, self._progress = cache, workers, progress

    def __call__(self, corpus: Corpus, clips: Sequence[Utterance]) -> LocalDataset:
        """Returns one embedding and label, or row of characters, per clip, in order."""
        labels = self._base.vocabulary.encode([clip.word for clip in clips])
        if not clips:
            return LocalDataset(np.zeros((0, *self._adapter.embedding_shape), np.float32), labels)
        outputs = trunk_outputs(
            self._base, corpus, clips, self._cache, workers=self._workers, progress=self._progress
        )
        blocks = [
            self._adapter.embed(torch.from_numpy(np.array(outputs[start : start + 4096]))).numpy()
            for start in range(0, len(outputs), 4096)
        ]
        return LocalDataset(np.concatenate(blocks), labels)


def parity_speech(base: Base, corpus: Corpus, phones: Sequence[Phone]) -> NDArray[np.float32]:
    """Public speech, or features, on which an exported file is held against the trained model.

    Args:
      base: of the model, which says how much left context a clip has.
      corpus: of the phones.
      phones: public ones.
    """
    clips = [clip for clip in utterances_of(phones) if clip.word != SILENCE]
    return base.heard(corpus, clips[:PARITY_CLIPS])
