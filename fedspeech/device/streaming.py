"""Inference hop by hop, from the ring buffer through a streaming file, while sound comes in.

    listener = Listener(TfliteModel(file.read_bytes()))
    streaming = Streaming(heard, listener, warm_up_hops=listener.warm_up_hops)
    heard.write(block)
    for logits in streaming.answers(): ...         # a row for each hop that the block filled

The samples stay in the buffer until a hop is full: a row of logits is all that comes out, and the
copies that a model was given are overwritten. Where a phone was busy for longer than the buffer
holds, sound is missing: the model forgets what it heard and warms up again, so that no answer
stands on two pieces of sound that were not beside one another.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.ring_buffer import RingBuffer
from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import require

FULL_SCALE = 32_768.0


class StreamingModel(Protocol):
    """What `tflite_export.listening.Listener` is: an exported file, or a model that answers so."""

    spec: FrontendSpec

    def reset(self) -> None:
        """Forgets what was heard."""
        ...

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes samples (n,), full scale 1; gives logits (hops, c)."""
        ...


class Streaming:
    """Between a ring buffer and a model.

    Attributes:
      missed_samples: samples that were overwritten before they were heard.
    """

    def __init__(self, heard: RingBuffer, model: StreamingModel, *, warm_up_hops: int) -> None:
        """Begins with the oldest sample that the buffer holds.

        Args:
          heard: what the microphone heard last.
          model: a streaming file.
          warm_up_hops: hops after a reset whose answers reach back before it
            (`Listener.warm_up_hops`); they are kept back.

        Raises:
          ValueError: if the buffer has another rate than the model, or holds no hop.
        """
        rate, hop = model.spec.rate_hz, model.spec.hop_samples
        require(heard.rate_hz == rate, f"the model listens at {rate} Hz", rate_hz=heard.rate_hz)
        require(heard.capacity >= hop, f"a hop has {hop} samples", capacity=heard.capacity)
        self._heard, self._model, self._hop = heard, model, hop
        self._warm_up = warm_up_hops
        self.missed_samples = 0
        self._begin()

    def answers(self) -> NDArray[np.float32]:
        """Logits (n, c) of the hops that are full since the last call, less those of a warm-up."""
        oldest = self._heard.written - len(self._heard)
        if self._position < oldest:
            self.missed_samples += oldest - self._position
            self._begin()
        samples = self._heard.since(self._position)
        hops = len(samples) // self._hop
        taken = samples[: hops * self._hop].astype(np.float32) / np.float32(FULL_SCALE)
        logits = self._model.feed(taken)
        samples[:] = 0
        taken[:] = 0
        self._position += hops * self._hop
        cold = min(self._cold, hops)
        self._cold -= cold
        return logits[cold:]

    def _begin(self) -> None:
        """Forgets everything and goes on with the oldest sample that is held."""
        self._model.reset()
        self._position = self._heard.written - len(self._heard)
        self._cold = self._warm_up
