"""The graph that listens on a microcontroller: frames of log-mel in, logits out, all in integers.

    FirmwareGraph(standardized_inside(network), ranges).signatures()

TensorFlow Lite Micro runs one subgraph, has no Fourier transform, and keeps what a stream remembers
in its arena. So this file has one signature, takes what the front end in C gives, and answers once
for as many frames as the encoder strides over: every convolution then runs as often as on a whole
clip, and none needs a dilation, for which microcontrollers have no fast kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import Network, convolution_steps, run_encoder
from tflite_export.blueprint import Ranges
from tflite_export.layers import Layers, Tensor, trace, vector
from tflite_export.stream import silent_inputs


class MicroGraph(Layers):
    """A few frames in, logits out, the past in integer variables.

    Signature: `frames` takes the next frames of log-mel (1, stride, mels), int8, and gives logits
    (1, c), float32, of the clip that ends with the last of them. At first, digital silence was
    heard for ever.

    Args:
      network: whose first convolution takes log-mel that is not standardized.
      ranges: of every layer, "input" in log-mel.
    """

    integer_stream = True

    def __init__(self, network: Network, ranges: Ranges | None = None) -> None:
        super().__init__(network, ranges)
        silent = silent_inputs(network)
        self._past: dict[str, Any] = {}
        self.stride = 1
        for name, conv, step in convolution_steps(network.encoder):
            self.stride = step
            if conv.left_padding:
                # The last output of a call ends with its last frame, so that nothing waits for a
                # later one; of a stride, so much less is remembered.
                self._past[name] = _remembered(
                    name, silent[name], conv.left_padding - (conv.stride - 1)
                )
        windows = -(-network.frontend.frames_per_clip // self.stride)
        self._past["windows"] = _remembered("windows", silent["windows"], windows - 1)

    def signatures(self) -> dict[str, Any]:
        """Traces the signature."""
        frames = vector("log_mel", 1, self.stride, self.network.frontend.num_mels)
        return {"frames": trace(self._frames, frames)}

    def convolve(self, name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        """The outputs of a causal convolution that end in these frames."""
        if name in self._past:
            return self.product(conv, self.with_past(name, x), stride=conv.stride)
        # One tap sees no past: of every stride, the last frame counts.
        last = x if conv.stride == 1 else x[:, conv.stride - 1 :: conv.stride]
        return self.product(conv, last)

    def with_past(self, name: str, x: Tensor) -> Tensor:
        """Puts the past before the present and remembers as much of both as before."""
        past = self._past[name]
        joined = tf.concat([past.read_value(), x], axis=1)
        past.assign(joined[:, -past.shape[1] :])
        return joined

    def windows(self, log_mel: Tensor) -> Tensor:
        """Encoder frames (1, w, 1, f) of the clip that ends with these frames, in integers."""
        x = self.note("input", tf.expand_dims(log_mel, 2))
        output = run_encoder(
            self.network.encoder, x, convolve=self.convolve, relu=tf.nn.relu, note=self.note
        )
        newest = self.note("output", tf.nn.relu(output))
        # Marked once more, or what is remembered would be stored in float.
        return self.note("output", self.with_past("windows", newest))

    def _frames(self, log_mel: Tensor) -> dict[str, Tensor]:
        mean = tf.reduce_mean(self.windows(log_mel), axis=[1, 2])
        # In integers of its own, finer range: as floats, the windows would take most of the arena.
        return {"logits": self.score_mean(self.note("mean", mean))}


def _remembered(name: str, silent: Any, frames: int) -> Any:
    """A variable (1, frames, 1, channels) in which digital silence was heard."""
    values = np.broadcast_to(silent, (1, frames, 1, len(silent))).copy()
    return tf.Variable(values, name=f"past_{name}")
