"""Streams sound through an exported file: one row of logits per hop.

listener = Listener(TfliteModel(Path("model_streaming.tflite").read_bytes()))
for logits in listener.feed(samples): ...
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from tflite_export.flatbuffer import read_card
from tflite_export.interpreter import TfliteModel


class Listener:
    """A streaming file, its card, and the samples that do not yet fill a hop.

    Raises:
      ExportRefused: if the file has no signature `hop` or no card.
    """

    def __init__(self, model: TfliteModel) -> None:
        if "hop" not in model.signatures:
            raise ExportRefused(
                "listening takes a streaming file, with the signature hop; this one has "
                f"{', '.join(sorted(model.signatures))}"
            )
        # Sentence files have a `hop` of their own, with other inputs.
        if "present" in model.signatures["hop"].inputs:
            raise ExportRefused("listening is for words; this file writes sentences")
        self._model = model
        self.card: dict[str, Any] = read_card(model.content)
        self.labels: tuple[str, ...] = tuple(self.card["labels"])
        self.spec = FrontendSpec(**self.card["frontend"])
        self.reset()

    @property
    def warm_up_hops(self) -> int:
        """Hops after a reset whose answers, over a clip and its left context, reach behind it."""
        frames = int(self.card["context_frames"]) + self.spec.frames_per_clip
        overlap = self.spec.window_samples - self.spec.hop_samples
        return frames - 1 + -(-overlap // self.spec.hop_samples)

    def reset(self) -> None:
        """Forgets what was heard."""
        self._model.call("reset")
        self._waiting = np.empty(0, dtype=np.float32)

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Takes samples (n,), full scale 1; returns logits (hops, c) of the hops that they fill."""
        hop = self.spec.hop_samples
        heard = np.concatenate([self._waiting, samples])
        hops = len(heard) // hop
        self._waiting = heard[hops * hop :]
        rows = np.empty((hops, len(self.labels)), dtype=np.float32)
        # One by one as on the phone: every call moves the file's memory on by a hop.
        for index in range(hops):
            samples = heard[np.newaxis, index * hop : (index + 1) * hop]
            rows[index] = self._model.run("hop", samples=samples)["logits"][0]
        return rows
