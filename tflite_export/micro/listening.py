"""Streams sound through a file for microcontrollers: one row of logits per call.

The file for ESPHome gives the probability of one word in place of logits; rows of logits whose
softmax is that probability stand for it, so that both are detected by the same rules.

listener = MicroListener(content)
for logits in listener.feed(samples): ...
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from tflite_export.evidence import log_mel
from tflite_export.flatbuffer import read_card
from tflite_export.interpreter import TfliteModel
from tflite_export.micro.checks import MicroStream
from tflite_export.micro.runtime import MicroModel

FloatArray = NDArray[np.float32]


LEAST_LOGIT = -50.0
"""Of silence, whose probability no file for ESPHome tells."""


class MicroListener:
    """A file for microcontrollers in LiteRT, and the samples that do not yet fill a call.

    A front end that remembers the noise (the kind "pcan") begins anew with each call of `feed`.

    Attributes:
      labels: of its answers.
      spec: of its front end, with the hop of a call.

    Raises:
      MissingExtra: if TensorFlow Lite Micro is not installed.
      ExportRefused: if TensorFlow Lite Micro refuses the file.
    """

    def __init__(self, content: bytes) -> None:
        card = read_card(content)
        self.labels: tuple[str, ...] = tuple(card["labels"])
        self._micro, self._frontend = MicroModel(content), FrontendSpec(**card["frontend"])
        self.reset()
        hop = self._frontend.hop_samples * self._stream.stride
        window = max(hop, self._frontend.window_samples)
        # A kind has windows of its own; this says how far apart answers are, and computes nothing.
        self.spec = dataclasses.replace(
            self._frontend, hop_samples=hop, window_samples=window, kind=None
        )

    def reset(self) -> None:
        """Forgets what was heard: the file has no signature for it, so it is loaded anew."""
        model = TfliteModel(self._micro.content)
        frames = model.signatures["frames"]
        (given,), (found,) = frames.inputs, frames.outputs
        self._stream = MicroStream(
            lambda frames: model.run("frames", **{given: frames})[found],
            self._micro,
            self._frontend,
        )
        self._heard = np.zeros(self._reach, dtype=np.float32)

    def feed(self, samples: FloatArray) -> FloatArray:
        """Takes samples (n,), full scale 1; returns logits (calls, c) of the calls they fill."""
        heard = np.concatenate([self._heard, samples])
        calls = (len(heard) - self._reach) // self.spec.hop_samples
        filled = calls * self.spec.hop_samples
        self._heard = heard[filled:]
        if not calls:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        features = log_mel(self._frontend, heard[np.newaxis, : filled + self._reach])[0]
        found = self._stream.of_frames(features)
        return word_logits(found[:, 0]) if found.dtype == np.uint8 else found

    @property
    def _reach(self) -> int:
        """Samples before a call that its first frame hears."""
        return self._frontend.window_samples - self._frontend.hop_samples


def word_logits(steps: NDArray[np.uint8]) -> FloatArray:
    """Logits (n, 3) of word, unknown and silence whose softmax is `steps / 256`, of the word (n,).

    No probability is quite 0: a step of 0 counts as a quarter of one.
    """
    shares = np.maximum(steps, 0.25) / 256
    margins = np.log(shares / (1 - shares))
    rows = [margins, np.zeros_like(margins), np.full_like(margins, LEAST_LOGIT)]
    logits: FloatArray = np.stack(rows, axis=1).astype(np.float32)
    return logits
