"""The graph of one wake word that ESPHome and pymicro-wakeword run."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tflite_export.layers import Tensor, trace, vector
from tflite_export.micro.graphs import MicroGraph

# What eight bits hold of a probability in steps of 1/256, and of a margin that decides it.
_PROBABILITY = (0.0, 255 / 256)
_MARGIN = (-8.0, 8.0)


class WakeWordGraph(MicroGraph):
    """Frames in, the probability of the wake word out, with ESPHome's operators alone.

    Signature: `frames` takes the next frames of features (1, stride, bands), int8, and gives the
    probability (1, 1), uint8 in steps of 1/256.

    ESPHome has no exponential and no division, so no softmax over word, other words and silence.
    The probability is the product of word against other words and word against silence, which is
    never above the softmax, and equal to it where one of the two is out of the question.
    """

    integer_output = True

    def signatures(self) -> dict[str, object]:
        """Traces the signature."""
        frames = vector("features", 1, self.stride, self.network.frontend.num_mels)
        return {"frames": trace(self._probability, frames)}

    def _probability(self, features: Tensor) -> dict[str, Tensor]:
        mean = tf.reduce_mean(self.windows(features), axis=[1, 2], keepdims=True)
        head, bias = (self.network.parameters[name] for name in ("head_weight", "head_bias"))
        # As a convolution: the weights of a matrix product would be quantized by another rule.
        weights = self.weight(np.ascontiguousarray((head[:1] - head[1:]).T[np.newaxis, np.newaxis]))
        product = tf.nn.conv2d(self.note("mean", mean), weights, 1, "VALID")
        margins = _marked(product + (bias[:1] - bias[1:]), _MARGIN)
        pairs = _marked(tf.sigmoid(margins), _PROBABILITY)
        word = _marked(pairs[..., :1] * pairs[..., 1:], _PROBABILITY)
        return {"probability": tf.reshape(word, (1, 1))}


def _marked(x: Tensor, limits: tuple[float, float]) -> Tensor:
    return tf.quantization.fake_quant_with_min_max_args(x, *limits, num_bits=8)
