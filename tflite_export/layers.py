"""What all exported graphs share: front end, standardization, encoder, adapter. No Keras.

Clips keep the shape (1, frames, 1, channels) throughout, so that every causal convolution becomes
one CONV_2D. For a full-integer file, every layer carries the range that calibration saw (a fake
quantization); the converter turns those into int8 arithmetic and leaves what has no range in float:
the front end, whose powers span ten decades.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import Network, convolution_steps, kernel, run_encoder
from tflite_export.blueprint import Ranges

Tensor = Any  # TensorFlow ships no types

CALL = tf.TensorSpec((1,), tf.float32, name="call")
"""Input of a signature that needs none: the Android runtime refuses a call without inputs."""

_UNIT_BITS = 10  # of amplitude; twice as many of power


class Layers(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The arithmetic of one network; subclasses say where a convolution finds its past.

    Args:
      network: the arrays, constants once a signature is traced; `merged`, unless the subclass has
        the adapter in variables.
      ranges: layer to smallest and largest value, for a full-integer file; None stays in float.

    Attributes:
      integer_stream: whether inputs and variables are integers as well.
      integer_output: whether the output is one, without a sign.
    """

    integer_stream = False
    integer_output = False

    def __init__(self, network: Network, ranges: Ranges | None = None) -> None:
        super().__init__()
        self.network = network
        self._ranges = ranges

    def convolve(self, name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        """Causal convolution of (1, frames, 1, channels): zeros stand before the first frame."""
        del name
        # A kernel of one tap sees no past; padding by nothing would still cost an operator.
        if conv.left_padding:
            # TensorFlow's "SAME" puts zeros on both sides and, at stride 2, not where torch does.
            x = tf.pad(x, [[0, 0], [conv.left_padding, 0], [0, 0], [0, 0]])
        return self.product(conv, x, stride=conv.stride)

    def product(self, conv: FoldedConv, x: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
        """The convolution itself, without padding."""
        weights = self.weight(kernel(conv))
        return tf.nn.conv2d(x, weights, [stride, 1], "VALID", dilations=[dilation, 1]) + conv.bias

    def note(self, name: str, x: Tensor) -> Tensor:
        """Marks the range of a layer, where there is one."""
        if self._ranges is None:
            return x
        low, high = self._ranges[name]
        return tf.quantization.fake_quant_with_min_max_args(x, low, high, num_bits=8)

    def weight(self, values: Any) -> Tensor:
        """Weights with the output channel last; one symmetric int8 scale per channel."""
        if self._ranges is None:
            return tf.constant(values)
        # A channel that is all zeros needs a range too.
        largest = np.maximum(np.abs(values).reshape(-1, values.shape[-1]).max(axis=0), 1e-8)
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(
            tf.constant(values), -largest, largest, num_bits=8, narrow_range=True
        )

    def log_mel(self, waveform: Tensor) -> Tensor:
        """PCM (1, samples) to (1, frames, mels); the sums of `fedspeech.audio.frontend.LogMel`."""
        network = self.network
        spec = network.frontend
        frames = tf.signal.frame(waveform, spec.window_samples, spec.hop_samples)
        if spec.cepstra:
            # Within each frame, as `LogMel` does it: the first sample is its own predecessor.
            before = tf.concat([frames[..., :1], frames[..., :-1]], axis=2)
            frames -= spec.cepstra.preemphasis * before
        # In units of 2^-20 of power: half precision would round the floor of 1e-8 to nothing.
        frames *= network.window * np.float32(2**_UNIT_BITS)
        spectrum = tf.signal.rfft(frames, fft_length=[spec.fft_samples])
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        # A matrix product here would be quantized with the rest: powers span ten decades.
        covered = tf.gather(power, network.mel_bins, axis=2) * network.mel_weights
        energies = tf.reduce_sum(covered, axis=3) + spec.floor * 4.0**_UNIT_BITS
        # Back to the units of training: the power was multiplied by 2^20 = 4^10.
        return tf.math.log(energies) - _UNIT_BITS * math.log(4.0)

    def cepstra(self, waveform: Tensor) -> Tensor:
        """PCM (1, samples) to (1, frames, cepstra); a sum, for products lose bits in int8 files."""
        bands = self.log_mel(waveform) + self.network.offset
        return tf.reduce_sum(bands[..., tf.newaxis] * self.network.cosines, axis=2)

    def encoder(self, log_mel: Tensor, convolve: Any = None) -> Tensor:
        """Log-mel (1, frames, mels) to encoder frames (1, w, 1, f) before the activation."""
        network = self.network
        # Inside the file, so that no app can forget it or take the constants of another base.
        standardized = (log_mel - network.feature_mean) / network.feature_std
        return run_encoder(
            network.encoder,
            self.note("input", standardized[:, :, tf.newaxis]),
            convolve=convolve or self.convolve,
            relu=tf.nn.relu,
            note=self.note,
        )

    def activated(self, frames: Tensor) -> Tensor:
        """Encoder frames after their activation, with the range of a full-integer file."""
        return self.note("output", tf.nn.relu(frames))

    def of_clip(self, frames: Tensor) -> Tensor:
        """Leaves out the encoder frames of the left context, of (1, w, 1, f).

        In a full-integer file this stands after the layer's range is marked, or the layer that
        comes before would compute in float.
        """
        *_, (_, _, stride) = convolution_steps(self.network.encoder)
        return frames[:, self.network.context_frames // stride :]

    def score(self, frames: Tensor) -> Tensor:
        """Logits (1, c) of activated encoder frames (1, w, 1, f), by a merged adapter.

        In float in every file: it is a hundredth of the weights, and rounding the mean and the
        logits to eight bits alone would make up a quarter of a full-integer file's error.
        """
        return self.score_mean(tf.reduce_mean(frames, axis=[1, 2]))

    def score_mean(self, features: Tensor) -> Tensor:
        """Logits (1, c) of the mean (1, f) over a clip's encoder frames; see `score`."""
        adapter, parameters = self.network.adapter, self.network.parameters
        match adapter.name:
            case "head":
                pass
            case "bottleneck":
                hidden = tf.nn.relu(features @ parameters["down_weight"].T)
                features += hidden @ parameters["up_weight"].T
            case _:
                raise ValueError(f"no graph is known for the adapter {adapter.name!r}")
        return features @ parameters["head_weight"].T + parameters["head_bias"]

    def clip_specs(self) -> tuple[Any, Any]:
        """Specs of one clip after its left context, as PCM and as log-mel."""
        network = self.network
        return (
            vector("waveform", 1, network.heard_samples),
            vector("log_mel", 1, network.heard_frames, network.frontend.num_mels),
        )


def vector(name: str, *shape: int, dtype: Any = tf.float32) -> Any:
    """The spec of one input."""
    return tf.TensorSpec(shape, dtype, name=name)


def trace(function: Any, *specs: Any) -> Any:
    """Traces one signature."""
    # Python's conditions are decided while a graph is traced; none of them belongs into the file.
    return tf.function(function, autograph=False).get_concrete_function(*specs)
