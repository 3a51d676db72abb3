"""The graphs that spot words: one clip at a time, or a stream hop by hop."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import Network, convolution_steps, run_encoder
from tflite_export.blueprint import Ranges
from tflite_export.layers import CALL, Layers, Tensor, trace, vector


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
        windows = self.note("output", tf.nn.relu(self.encoder(log_mel)))
        return {"logits": self.score(self.of_clip(windows))}


class FirmwareGraph(KeywordGraph):
    """The signature `log_mel` alone, for runtimes without a Fourier transform."""

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        _, log_mel = self.clip_specs()
        return {"log_mel": trace(self._score_log_mel, log_mel)}


class StreamingGraph(Layers):
    """One hop in, logits out, the past in variables.

    The encoder is causal, so a convolution needs of the past only its own last inputs. A stride
    becomes a dilation: what the whole clip computes at every fourth frame is computed at every
    frame, from inputs one, two or four frames apart. So every hop gets logits, there is no phase
    to keep, and they equal the whole clip's after the same left context, rounding aside.

    Signatures: `hop` takes the next samples (1, hop), full scale 1, and gives logits (1, c) of the
    second that ends with them; `frame` takes one frame of log-mel (1, mels) instead; `reset`
    puts lasting digital silence before the next sample. A file is used with `hop` or with `frame`,
    never with both in turn. `log_mel` maps a whole clip after its left context to logits and
    touches no variable: the stream is compared with it.
    """

    def __init__(self, network: Network, ranges: Ranges | None = None) -> None:
        super().__init__(network, ranges)
        spec = network.frontend
        self._step = 1
        self._silent = silent_inputs(network)
        self._past: dict[str, Any] = {}
        self._dilation: dict[str, int] = {}
        for name, conv, step in convolution_steps(network.encoder):
            self._dilation[name] = step
            if conv.left_padding:
                # At every frame instead of every fourth: the taps lie `step` frames apart.
                frames = conv.left_padding * step
                self._past[name] = self._variable(name, frames)
            self._step = step
        # Rounded up, as a convolution with stride counts its outputs.
        windows = -(-spec.frames_per_clip // self._step)
        self._past["windows"] = self._variable("windows", (windows - 1) * self._step)
        self._samples = tf.Variable(
            tf.zeros((1, spec.window_samples - spec.hop_samples)), name="samples"
        )

    def _variable(self, name: str, frames: int) -> Any:
        return tf.Variable(self._silence(name, frames), name=f"past_{name}")

    def _silence(self, name: str, frames: int) -> NDArray[np.float32]:
        """The input of a layer in lasting digital silence, shape (1, frames, 1, channels)."""
        silent = self._silent[name]
        return np.broadcast_to(silent, (1, frames, 1, len(silent))).copy()

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        spec = self.network.frontend
        return {
            "hop": trace(self._hop, vector("samples", 1, spec.hop_samples)),
            "frame": trace(self._frame, vector("log_mel", 1, spec.num_mels)),
            "reset": trace(self._reset, CALL),
            "log_mel": trace(self._clip, self.clip_specs()[1]),
        }

    def convolve(self, name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        """One output of a causal convolution, from its last inputs and this one."""
        if name in self._past:
            x = self._with_past(self._past[name], x)
        return self.product(conv, x, dilation=self._dilation[name])

    def _with_past(self, past: Any, x: Tensor) -> Tensor:
        """Puts the past before the present and remembers both, less the oldest frame.

        What is remembered was quantized before, so marking nothing new leaves its int8 values.
        """
        joined = tf.concat([past.read_value(), x], axis=1)
        # One hop is one frame, so exactly one leaves.
        past.assign(joined[:, 1:])
        return joined

    def _hop(self, samples: Tensor) -> dict[str, Tensor]:
        """The last samples and these make one window of the front end."""
        heard = tf.concat([self._samples.read_value(), samples], axis=1)
        self._samples.assign(heard[:, samples.shape[1] :])
        return self._frame(self.log_mel(heard)[:, 0])

    def _frame(self, log_mel: Tensor) -> dict[str, Tensor]:
        output = self.note("output", tf.nn.relu(self.encoder(log_mel[:, tf.newaxis])))
        windows = self._with_past(self._past["windows"], output)
        # The newest window is the last of these; those between belong to clips that end at other
        # hops.
        return {"logits": self.score(windows[:, :: self._step])}

    def _clip(self, log_mel: Tensor) -> dict[str, Tensor]:
        """A whole clip at once, as `KeywordGraph`."""
        windows = self.note("output", tf.nn.relu(self.encoder(log_mel, super().convolve)))
        return {"logits": self.score(self.of_clip(windows))}

    def _reset(self, call: Tensor) -> dict[str, Tensor]:
        for name, variable in self._past.items():
            variable.assign(self._silence(name, variable.shape[1]))
        self._samples.assign(tf.zeros(self._samples.shape))
        return {"done": tf.constant([1.0])}


def silent_inputs(network: Network) -> dict[str, NDArray[np.float32]]:
    """What each convolution, and the mean over "windows", is given in lasting digital silence.

    Constant frames stay constant in every layer, so one vector (channels,) stands for all of them.
    Zeros would be no silence: standardized, zero is a mean frame.
    """
    seen: dict[str, NDArray[np.float32]] = {}

    def convolve(name: str, conv: FoldedConv, x: NDArray[np.float32]) -> NDArray[np.float32]:
        seen[name] = x
        # Every tap sees the same constant frame.
        constant: NDArray[np.float32] = conv.weight.sum(axis=2) @ x + conv.bias
        return constant

    def relu(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.maximum(x, np.float32(0))

    # Power zero, of which the front end takes the logarithm after adding its floor.
    silence = np.full_like(network.feature_mean, np.log(network.frontend.floor))
    output = run_encoder(
        network.encoder,
        (silence - network.feature_mean) / network.feature_std,
        convolve=convolve,
        relu=relu,
        note=lambda _, x: x,
    )
    return {**seen, "windows": relu(output)}
