"""The network as a plain `tf.Module`: front end, standardisation, folded trunk, adapter. No Keras.

Clips keep the shape (1, frames, 1, channels) throughout, so that every causal convolution becomes
one PAD and one CONV_2D. Padding is explicit because TensorFlow's "SAME" puts zeros on both sides
and, at stride 2, not even where torch puts them.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fedspeech.models.adapters import AffineAdapter, BottleneckAdapter, HeadAdapter
from fedspeech.models.kws import FoldedBlock, FoldedConv
from tflite_export.weights import Network, kernel

Tensor = Any  # TensorFlow ships no types


class KeywordGraph(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """What runs on the phone.

    Signatures: `waveform` maps one clip (1, samples) to logits (1, c); `log_mel` maps one clip's
    features, not standardised, (1, frames, mels) to logits (1, c).
    """

    def __init__(self, network: Network) -> None:
        """Keeps the arrays; they become constants when a signature is traced."""
        super().__init__()
        self._network = network

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        spec = self._network.frontend
        clip = tf.TensorSpec((1, spec.clip_samples), tf.float32, name="waveform")
        features = tf.TensorSpec((1, spec.frames_per_clip, spec.num_mels), tf.float32, "log_mel")
        scorers = {
            "waveform": (self._score_waveform, clip),
            "log_mel": (self._score_log_mel, features),
        }
        return {
            name: tf.function(score, autograph=False).get_concrete_function(argument)
            for name, (score, argument) in scorers.items()
        }

    def _score_waveform(self, waveform: Tensor) -> dict[str, Tensor]:
        """Front end, then the rest; the sums of `fedspeech.audio.frontend.LogMel`."""
        network = self._network
        spec = network.frontend
        frames = tf.signal.frame(waveform, spec.window_samples, spec.hop_samples) * network.window
        spectrum = tf.signal.rfft(frames, fft_length=[spec.window_samples])
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        return self._score_log_mel(tf.math.log(power @ network.filters + spec.floor))

    def _score_log_mel(self, log_mel: Tensor) -> dict[str, Tensor]:
        """Standardisation, trunk, adapter."""
        network = self._network
        standardised = (log_mel - network.feature_mean) / network.feature_std
        x = tf.nn.relu(_convolve(standardised[:, :, tf.newaxis], network.trunk.stem))
        for block in network.trunk.blocks:
            x = _residual(x, block)
        return {"logits": self._adapted(_convolve(x, network.trunk.output))}

    def _adapted(self, trunk_output: Tensor) -> Tensor:
        """Applies the adapter to (1, windows, 1, f); the formulas of fedspeech.models.adapters."""
        adapter, parameters = self._network.adapter, self._network.parameters
        match adapter:
            case HeadAdapter():
                features = _pooled(trunk_output)
            case AffineAdapter():
                features = _pooled(trunk_output * parameters["scale"] + parameters["shift"])
            case BottleneckAdapter():
                features = _pooled(trunk_output)
                hidden = tf.nn.relu(features @ parameters["down_weight"].T)
                features += hidden @ parameters["up_weight"].T
            case _:
                raise ValueError(f"no graph is known for the adapter {adapter.name!r}")
        return features @ parameters["head_weight"].T + parameters["head_bias"]


def _convolve(x: Tensor, conv: FoldedConv) -> Tensor:
    """Causal convolution of (1, frames, 1, channels), padded on the left only."""
    padded = tf.pad(x, [[0, 0], [conv.left_padding, 0], [0, 0], [0, 0]]) if conv.left_padding else x
    return tf.nn.conv2d(padded, kernel(conv), [conv.stride, 1], "VALID") + conv.bias


def _residual(x: Tensor, block: FoldedBlock) -> Tensor:
    """relu(second(relu(first(x))) + shortcut(x))."""
    passed = x if block.shortcut is None else _convolve(x, block.shortcut)
    return tf.nn.relu(_convolve(tf.nn.relu(_convolve(x, block.first)), block.second) + passed)


def _pooled(trunk_output: Tensor) -> Tensor:
    """relu, then mean over windows: (1, windows, 1, f) to (1, f)."""
    return tf.reduce_mean(tf.nn.relu(trunk_output), axis=[1, 2])
