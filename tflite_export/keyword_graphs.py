"""The graphs that spot words: one clip at a time, or a stream hop by hop."""

from __future__ import annotations

from typing import Any

from tflite_export.arrays import Network
from tflite_export.blueprint import Ranges
from tflite_export.layers import CALL, Layers, Tensor, trace, vector
from tflite_export.stream import Stream


class KeywordGraph(Layers):
    """What runs on the phone, one clip at a time.

    Signatures: `waveform` maps one clip after its left context, (1, samples), to logits (1, c);
    `log_mel` maps their features, not standardized, (1, frames, mels) to logits (1, c).
    """

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        waveform, log_mel = self.clip_specs()
        return {
            "waveform": trace(self._score_waveform, waveform),
            "log_mel": trace(self._score_log_mel, log_mel),
        }

    def _score_waveform(self, waveform: Tensor) -> dict[str, Tensor]:
        return self._score_log_mel(self.log_mel(waveform))

    def _score_log_mel(self, log_mel: Tensor) -> dict[str, Tensor]:
        return {"logits": self.score(self.of_clip(self.activated(self.encoder(log_mel))))}


class FirmwareGraph(KeywordGraph):
    """The signature `log_mel` alone, for runtimes without a Fourier transform."""

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        _, log_mel = self.clip_specs()
        return {"log_mel": trace(self._score_log_mel, log_mel)}


class StreamingGraph(Layers):
    """One hop in, logits out, the past in variables: see `stream.Stream`.

    Signatures: `hop` takes the next samples (1, hop), full scale 1, and gives logits (1, c) of the
    second that ends with them; `frame` takes one frame of log-mel (1, mels) instead; `reset`
    puts lasting digital silence before the next sample. A file is used with `hop` or with `frame`,
    never with both in turn. `log_mel` maps a whole clip after its left context to logits and
    touches no variable: the stream is compared with it.
    """

    def __init__(self, network: Network, ranges: Ranges | None = None) -> None:
        super().__init__(network, ranges)
        self.stream = Stream(self, activated=True)

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        spec = self.network.frontend
        return {
            "hop": trace(self._hop, vector("samples", 1, spec.hop_samples)),
            "frame": trace(self._frame, vector("log_mel", 1, spec.num_mels)),
            "reset": trace(self.stream.reset, CALL),
            "log_mel": trace(self._clip, self.clip_specs()[1]),
        }

    def _hop(self, samples: Tensor) -> dict[str, Tensor]:
        return {"logits": self.score(self.stream.hop(samples))}

    def _frame(self, log_mel: Tensor) -> dict[str, Tensor]:
        return {"logits": self.score(self.stream.frame(log_mel))}

    def _clip(self, log_mel: Tensor) -> dict[str, Tensor]:
        """A whole clip at once, as `KeywordGraph`."""
        return {"logits": self.score(self.of_clip(self.activated(self.encoder(log_mel))))}
