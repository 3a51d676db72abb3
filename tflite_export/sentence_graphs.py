"""The graphs of sentence files: 40 ms in, logits of one window out, the past in variables.

The trunk is causal and answers every fourth frame, so four frames of cepstra make one window. A
sentence ends with `FLUSH_WINDOWS` windows of nothing. The phone searches for the transcript itself,
with its own list, and where it learns it computes the loss itself: CTC inside a graph would take
minutes to convert, its derivative by the logits is an input like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from fedspeech.models.folded import FoldedConv
from tflite_export.arrays import AdapterShape, Network, convolution_steps, hash_words
from tflite_export.blueprint import Ranges
from tflite_export.layers import Layers, Tensor, trace
from tflite_export.personal import acceptable

TRAINING_WINDOWS = 256
"""Windows of one step: all of a sentence of ten seconds."""


class SentenceGraph(Layers):
    """What listens on the phone.

    Signatures: `hop` takes the next samples (1, stride hops), full scale 1, and which of their
    frames were recorded (1, stride), 1 or 0, and gives logits (1, c); `window` takes the frames
    (1, stride, m) themselves, not standardised; `reset` forgets what was heard. A file is used with
    `hop` or with `window`, never with both in turn.
    """

    def __init__(self, arrays: Network, ranges: Ranges | None = None) -> None:
        """Makes the variables: the last samples, the last inputs of every convolution."""
        super().__init__(arrays, ranges)
        spec = arrays.frontend
        overlap = spec.window_samples - spec.hop_samples
        self._samples = tf.Variable(tf.zeros((1, overlap)), name="samples")
        self._past: dict[str, Any] = {}
        self._stride = 1
        for name, conv, _ in convolution_steps(arrays.trunk):
            if conv.left_padding:
                shape = (1, conv.left_padding, 1, conv.weight.shape[1])
                self._past[name] = tf.Variable(tf.zeros(shape), name=f"past_{name}")
        for block in arrays.trunk.blocks:
            self._stride *= block.first.stride

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        samples, frames, present = self._inputs()
        return {
            "hop": trace(self._hop, samples, present),
            "window": trace(self._window, frames, present),
            "reset": trace(self._reset),
        }

    def _inputs(self) -> tuple[Any, Any, Any]:
        spec, stride = self.network.frontend, self._stride
        return (
            tf.TensorSpec((1, stride * spec.hop_samples), tf.float32, name="samples"),
            tf.TensorSpec((1, stride, spec.num_features), tf.float32, name="frames"),
            tf.TensorSpec((1, stride), tf.float32, name="present"),
        )

    def convolve(self, name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        """The next outputs of a causal convolution, from its last inputs and these."""
        if name in self._past:
            past = self._past[name]
            x = tf.concat([past.read_value(), x], axis=1)
            past.assign(x[:, -conv.left_padding :])
        return self.product(conv, x, stride=conv.stride)

    def _output(self, frames: Tensor, present: Tensor) -> Tensor:
        """The trunk's next window before its activation, (1, f)."""
        arrays = self.network
        # What was not recorded is the mean frame: zero once it is standardised.
        kept = tf.where(present[:, :, tf.newaxis] > 0, frames, tf.constant(arrays.feature_mean))
        return self.trunk(kept)[:, 0, 0]

    def _heard(self, samples: Tensor) -> Tensor:
        """The frames that end with these samples, (1, stride, m)."""
        heard = tf.concat([self._samples.read_value(), samples], axis=1)
        self._samples.assign(heard[:, samples.shape[1] :])
        return self.cepstra(heard)

    def _hop(self, samples: Tensor, present: Tensor) -> dict[str, Tensor]:
        return self._window(self._heard(samples), present)

    def _window(self, frames: Tensor, present: Tensor) -> dict[str, Tensor]:
        windows = self.note("output", tf.nn.relu(self._output(frames, present)))
        return {"logits": self._scored(windows)}

    def _scored(self, windows: Tensor) -> Tensor:
        """Scores activated windows (1, f) with a merged adapter: (1, c)."""
        parameters = self.network.parameters
        if self.network.adapter.name == "frame_bottleneck":
            hidden = tf.nn.relu(windows @ parameters["down_weight"].T)
            windows += hidden @ parameters["up_weight"].T
        return windows @ parameters["head_weight"].T + parameters["head_bias"]

    def _reset(self) -> dict[str, Tensor]:
        """Nothing before the beginning."""
        for variable in (*self._past.values(), self._samples):
            variable.assign(tf.zeros(variable.shape))
        return {"done": tf.constant(1.0)}


class PersonalSentenceGraph(SentenceGraph):
    """What goes on learning on the phone.

    Signatures, with d adapter parameters, c labels, f features of the trunk, n windows per step:

    * `embed_hop`, `embed`: samples as for `hop`, or frames as for `window`, to the trunk's window
      (1, f), what the phone caches.
    * `score`: windows (n, f) to logits (n, c), by the adapter in the variables.
    * `train`: windows (n, f) and the loss's derivative by their logits (n, c), zeros where there is
      no window: one step of SGD with momentum.
    * `clip`: the same windows of one sentence; adds its gradient, clipped to `clip_norm`, to those
      of the sentences before.
    * `train_dp`: one step of DP-SGD from what `clip` has added up, noise (d,), which the caller
      makes, and the number of sentences that is expected, which depends on no sentence.
    * `save`: gives the adapter (d,); `restore`: takes one, and the hash of the base it belongs to.
    * `reset`: as in `SentenceGraph`.
    """

    def __init__(self, arrays: Network, base_sha256: str) -> None:
        """Makes the variables."""
        super().__init__(arrays)
        self._base = hash_words(base_sha256)
        start = arrays.adapter.spec.flatten(arrays.parameters)
        self._adapter = tf.Variable(start, name="adapter")
        self._velocity = tf.Variable(np.zeros_like(start), name="velocity")
        self._clipped = tf.Variable(np.zeros_like(start), name="clipped")

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        adapter = self.network.adapter
        labels = dict(adapter.spec.shapes)["head_bias"][0]

        def spec(name: str, *shape: int, dtype: Any = tf.float32) -> Any:
            return tf.TensorSpec(shape, dtype, name=name)

        samples, frames, present = self._inputs()
        windows = spec("windows", TRAINING_WINDOWS, adapter.embedding_shape[1])
        error = spec("error", TRAINING_WINDOWS, labels)
        rates = (spec("learning_rate", 1), spec("momentum", 1))
        size = adapter.spec.size
        return {
            "embed_hop": trace(self._embed_hop, samples, present),
            "embed": trace(self._embed, frames, present),
            "score": trace(self._score, windows),
            "train": trace(self._train, windows, error, *rates),
            "clip": trace(self._clip, windows, error, spec("clip_norm", 1)),
            "train_dp": trace(
                self._train_dp, spec("noise", size), spec("expected_sentences", 1), *rates
            ),
            "save": trace(self._save),
            "restore": trace(self._restore, spec("adapter", size), spec("base", 8, dtype=tf.int32)),
            "reset": trace(self._reset),
        }

    def _embed_hop(self, samples: Tensor, present: Tensor) -> dict[str, Tensor]:
        return self._embed(self._heard(samples), present)

    def _embed(self, frames: Tensor, present: Tensor) -> dict[str, Tensor]:
        return {"window": self._output(frames, present)}

    def _score(self, windows: Tensor) -> dict[str, Tensor]:
        parameters = self._named(self._adapter.read_value())
        features, _ = _features(self.network.adapter, parameters, windows)
        logits = tf.matmul(features, parameters["head_weight"], transpose_b=True)
        return {"logits": logits + parameters["head_bias"]}

    def _train(
        self, windows: Tensor, error: Tensor, learning_rate: Tensor, momentum: Tensor
    ) -> dict[str, Tensor]:
        return self._step(self._gradient(windows, error), learning_rate, momentum)

    def _clip(self, windows: Tensor, error: Tensor, clip_norm: Tensor) -> dict[str, Tensor]:
        """The clipped sum of DP-SGD (Abadi et al. 2016, arXiv:1607.00133), sentence by sentence."""
        gradient = self._gradient(windows, error)
        # A gradient of norm 0 stays as it is: the reciprocal is kept finite, then capped at 1.
        reciprocal = tf.math.rsqrt(tf.maximum(tf.reduce_sum(gradient * gradient), 1e-30))
        factor = tf.minimum(clip_norm * reciprocal, 1.0)
        self._clipped.assign(self._clipped.read_value() + factor * gradient)
        return {"factor": factor}

    def _train_dp(
        self, noise: Tensor, expected_sentences: Tensor, learning_rate: Tensor, momentum: Tensor
    ) -> dict[str, Tensor]:
        gradient = (self._clipped.read_value() + noise) / expected_sentences
        self._clipped.assign(tf.zeros_like(noise))
        return self._step(gradient, learning_rate, momentum)

    def _gradient(self, windows: Tensor, error: Tensor) -> Tensor:
        """All of it, (d,); the formulas of `fedspeech.models.adapters.frames`."""
        parameters = self._named(self._adapter.read_value())
        features, inner = _features(self.network.adapter, parameters, windows)
        upstream = tf.matmul(error, parameters["head_weight"])
        gradients = {
            "head_weight": tf.matmul(error, features, transpose_a=True),
            "head_bias": tf.reduce_sum(error, axis=0),
        }
        match self.network.adapter.name:
            case "frame_affine":
                upstream *= tf.cast(features > 0, tf.float32)
                gradients["scale"] = tf.reduce_sum(upstream * windows, axis=0)
                gradients["shift"] = tf.reduce_sum(upstream, axis=0)
            case _:
                hidden = inner["hidden"]
                into = tf.matmul(upstream, parameters["up_weight"])
                into *= tf.cast(hidden > 0, tf.float32)
                gradients["down_weight"] = tf.matmul(into, inner["activated"], transpose_a=True)
                gradients["up_weight"] = tf.matmul(upstream, hidden, transpose_a=True)
        names = [name for name, _ in self.network.adapter.spec.shapes]
        return tf.concat([tf.reshape(gradients[name], [-1]) for name in names], 0)

    def _step(self, gradient: Tensor, learning_rate: Tensor, momentum: Tensor) -> dict[str, Tensor]:
        """SGD with heavy-ball momentum, as `torch.optim.SGD`."""
        velocity = momentum * self._velocity.read_value() + gradient
        self._velocity.assign(velocity)
        self._adapter.assign(self._adapter.read_value() - learning_rate * velocity)
        return {"norm": tf.sqrt(tf.reduce_sum(gradient * gradient))[tf.newaxis]}

    def _save(self) -> dict[str, Tensor]:
        return {"adapter": self._adapter.read_value()}

    def _restore(self, adapter: Tensor, base: Tensor) -> dict[str, Tensor]:
        """Takes over a finite adapter of this base; of any other nothing changes."""
        accepted = acceptable(adapter, base, self._base)
        self._adapter.assign(tf.where(accepted, adapter, self._adapter.read_value()))
        rest = tf.where(accepted, tf.zeros_like(adapter), self._velocity.read_value())
        self._velocity.assign(rest)
        self._clipped.assign(tf.where(accepted, rest, self._clipped.read_value()))
        return {"restored": tf.cast(accepted, tf.int32)[tf.newaxis]}

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        slices = self.network.adapter.spec.slices()
        return {name: tf.reshape(flat[place], shape) for name, shape, place in slices}


def _features(
    adapter: AdapterShape, parameters: Mapping[str, Tensor], windows: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Input of the last layer, and what the gradients need beside it."""
    if adapter.name == "frame_affine":
        return tf.nn.relu(windows * parameters["scale"] + parameters["shift"]), {}
    activated = tf.nn.relu(windows)
    hidden = tf.nn.relu(tf.matmul(activated, parameters["down_weight"], transpose_b=True))
    features = activated + tf.matmul(hidden, parameters["up_weight"], transpose_b=True)
    return features, {"activated": activated, "hidden": hidden}
