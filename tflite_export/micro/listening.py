"""Streams sound through a file for microcontrollers: one row of logits per call.

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


class MicroListener:
    """A file for microcontrollers in LiteRT, and the samples that do not yet fill a call.

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
        self.spec = dataclasses.replace(self._frontend, hop_samples=hop, window_samples=window)

    def reset(self) -> None:
        """Forgets what was heard: the file has no signature for it, so it is loaded anew."""
        model = TfliteModel(self._micro.content)
        self._stream = MicroStream(
            lambda frames: model.run("frames", log_mel=frames)["logits"],
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
        logits: FloatArray = self._stream.of_frames(features)
        return logits

    @property
    def _reach(self) -> int:
        """Samples before a call that its first frame hears."""
        return self._frontend.window_samples - self._frontend.hop_samples
