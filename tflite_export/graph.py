"""The graph that answers whole clips."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tflite_export.layers import Layers, Tensor, trace


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
        """Front end, then the rest."""
        return self._score_log_mel(self.log_mel(waveform))

    def _score_log_mel(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Standardization, encoder, adapter."""
        windows = self.note("output", tf.nn.relu(self.encoder(log_mel)))
        return {"logits": self.score(self.of_clip(windows))}


class FirmwareGraph(KeywordGraph):
    """The signature `log_mel` alone, for runtimes without a Fourier transform."""

    def signatures(self) -> dict[str, Any]:
        """Traces the signature."""
        _, log_mel = self.clip_specs()
        return {"log_mel": trace(self._score_log_mel, log_mel)}
