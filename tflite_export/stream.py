"""A causal encoder hop by hop: one hop in, the encoder frames of a clip out, the past in variables.

A convolution needs of the past only its own last inputs. A stride becomes a dilation: what the
whole clip computes at every fourth frame is computed at every frame, from inputs one, two or four
frames apart. So every hop is the end of a clip, there is no phase to keep, and the frames equal the
whole clip's after the same left context, rounding aside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import Network, convolution_steps, run_encoder
from tflite_export.layers import Layers, Tensor


class Stream(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """What a graph remembers from hop to hop, and how it moves on.

    Args:
      layers: the arithmetic of the network.
      activated: whether the frames of the last layer are remembered, and given, after its
        activation; adapters that stand before it need them as they were.

    Attributes:
      past: layer to its last inputs, shape (1, frames, 1, channels); "windows" are the encoder's
        own last frames.
      samples: of which the next hop makes a window of the front end, shape (1, overlap).
      step: frames between two of the encoder frames that one clip has.
    """

    def __init__(self, layers: Layers, *, activated: bool) -> None:
        super().__init__()
        network, spec = layers.network, layers.network.frontend
        self._layers, self._activated = layers, activated
        self._silent = silent_inputs(network)
        if not activated:
            self._silent["windows"] = self._silent["frames"]
        self.step = 1
        self.past: dict[str, Any] = {}
        self._dilation: dict[str, int] = {}
        for name, conv, step in convolution_steps(network.encoder):
            self._dilation[name] = step
            if conv.left_padding:
                # At every frame instead of every fourth: the taps lie `step` frames apart.
                self.past[name] = self.variable(name, conv.left_padding * step)
            self.step = step
        # Rounded up, as a convolution with stride counts its outputs.
        windows = -(-spec.frames_per_clip // self.step)
        self.past["windows"] = self.variable("windows", (windows - 1) * self.step)
        self.samples = tf.Variable(
            tf.zeros((1, spec.window_samples - spec.hop_samples)), name="samples"
        )

    def variable(self, name: str, frames: int) -> Any:
        """Holds so many inputs of a layer, digital silence at first."""
        return tf.Variable(self.silence(name, frames), name=f"past_{name}")

    def silence(self, name: str, frames: int) -> NDArray[np.float32]:
        """The input of a layer in lasting digital silence, shape (1, frames, 1, channels)."""
        silent = self._silent[name]
        return np.broadcast_to(silent, (1, frames, 1, len(silent))).copy()

    def hop(self, samples: Tensor) -> Tensor:
        """Encoder frames (1, w, 1, f) of the clip that ends with these samples (1, hop).

        The samples before and these make one window of the front end.
        """
        heard = tf.concat([self.samples.read_value(), samples], axis=1)
        self.samples.assign(heard[:, samples.shape[1] :])
        return self.frame(self._layers.log_mel(heard)[:, 0])

    def frame(self, log_mel: Tensor) -> Tensor:
        """The same from one frame of features, (1, mels)."""
        output = self._layers.encoder(log_mel[:, tf.newaxis], self._convolve)
        if self._activated:
            output = self._layers.activated(output)
        windows = self.with_past(self.past["windows"], output)
        # The newest window is the last of these; those between belong to clips that end at other
        # hops.
        return windows[:, :: self.step]

    def with_past(self, past: Any, x: Tensor) -> Tensor:
        """Puts the past before the present and remembers both, less the oldest frame.

        What is remembered was quantized before, so marking nothing new leaves its int8 values.
        """
        joined = tf.concat([past.read_value(), x], axis=1)
        # One hop is one frame, so exactly one leaves.
        past.assign(joined[:, 1:])
        return joined

    def reset(self, call: Tensor) -> dict[str, Tensor]:
        """Puts lasting digital silence before the next sample."""
        del call
        for name, variable in self.past.items():
            variable.assign(self.silence(name, variable.shape[1]))
        self.samples.assign(tf.zeros(self.samples.shape))
        return {"done": tf.constant([1.0])}

    def _convolve(self, name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        """One output of a causal convolution, from its last inputs and this one."""
        if name in self.past:
            x = self.with_past(self.past[name], x)
        return self._layers.product(conv, x, dilation=self._dilation[name])


def silent_inputs(network: Network) -> dict[str, NDArray[np.float32]]:
    """What each convolution is given in lasting digital silence, and what the last one gives.

    Constant frames stay constant in every layer, so one vector (channels,) stands for all of them;
    "frames" is the encoder's output before its activation, "windows" after it. Zeros would be no
    silence: standardized, zero is a mean frame.
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
    return {**seen, "frames": output, "windows": relu(output)}
