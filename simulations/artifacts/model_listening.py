"""A run's model in torch that listens, where no file of it streams.

    listener = ModelListener.of_run(Path("runs/wake"))
    logits = listener.feed(samples)                         # (hops, c)

An encoder from elsewhere is exported as a file that answers whole clips. In torch a stream costs
one pass where the encoder allows it (`fedspeech.models.exported.one_pass`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import FedspeechError
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base
from fedspeech.tasks.kws import Kws
from simulations.artifacts.loaded_run import trained_model
from simulations.results.run_folder import RunFolder

if TYPE_CHECKING:  # LiteRT, which help does without
    from tflite_export.weights import Trained

FloatArray = NDArray[np.float32]


class ModelListener:
    """A model, what it still hears, and the samples that do not yet fill a hop.

    Attributes:
      labels: of its answers.
      spec: how recordings are read for it, and its hop.

    Raises:
      ValueError: if the model does not spot words.
    """

    def __init__(self, trained: Trained) -> None:
        Kws.known(trained.base)  # sentences are no detections
        self._base, self._adapter = trained.base, trained.adapter
        self._vector = trained.adapter.spec.flatten(trained.parameters)[np.newaxis]
        self._encoder = trained.adapter.encoder(trained.base)
        self.labels: tuple[str, ...] = trained.base.vocabulary.labels
        hop, reading = self._encoder.hop_samples, trained.base.reading
        window = max(hop, reading.window_samples)
        self.spec = dataclasses.replace(reading, hop_samples=hop, window_samples=window)
        # As many whole hops as reach back to the beginning of the clip that the next hop ends.
        length = self._encoder.context_samples + self._encoder.clip_samples
        self._remembered = -(-max(length - hop, 0) // hop) * hop
        self.reset()

    @classmethod
    def of_run(cls, run: Path) -> ModelListener:
        """Opens the global adapter of a run folder.

        Raises:
          FedspeechError: if the folder has no usable base or adapter, or it is of sentences.
        """
        folder = RunFolder(run)
        try:
            return cls(trained_model(folder, Base.load(folder.base)))
        except (OSError, ValueError) as error:
            raise FedspeechError(f"{run} holds no model that listens: {error}") from error

    def reset(self) -> None:
        """Forgets what was heard."""
        self._before = np.empty(0, dtype=np.float32)
        self._waiting = np.empty(0, dtype=np.float32)

    def feed(self, samples: FloatArray) -> FloatArray:
        """Takes samples (n,), full scale 1; returns logits (hops, c) of the hops that they fill."""
        hop = self.spec.hop_samples
        heard = np.concatenate([self._waiting, samples])
        filled = len(heard) // hop * hop
        self._waiting = heard[filled:]
        if not filled:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        stream = np.concatenate([self._before, heard[:filled]])
        frames = self._encoder.listening(stream)[len(self._before) // hop :]
        self._before = stream[max(0, len(stream) - self._remembered) :]
        embeddings = self._adapter.embed_frames(self._base, frames).numpy()
        logits: FloatArray = score_clips(self._adapter, self._vector, embeddings)[0]
        return logits
