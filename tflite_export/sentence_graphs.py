"""The graphs of sentence files: 40 ms in, logits of one encoder frame out, the past in variables.

The encoder is causal and answers every fourth frame, so four frames of cepstra make one of its own.
A sentence ends with `FLUSH_WINDOWS` frames of nothing. The phone decodes the transcript itself,
with its own biasing list, and where it learns it computes the loss itself: CTC inside a graph would
take minutes to convert, its derivative by the logits is an input like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fedspeech.models.folded import FoldedConv
from tflite_export import guards
from tflite_export.arrays import (
    EMBEDDING_LIMIT,
    SETTING_LIMIT,
    SMALLEST_CLIP_NORM,
    TRAINING_WINDOWS,
    Network,
    convolution_steps,
)
from tflite_export.blueprint import Ranges
from tflite_export.layers import CALL, Layers, Tensor, trace, vector
from tflite_export.personal import TrainingGraph, forward, logits, replace


class SentenceGraph(Layers):
    """What transcribes on the phone.

    Signatures: `hop` takes the next samples (1, stride hops), full scale 1, and which of their
    frames were recorded (1, stride), 1 or 0, and gives logits (1, c); `window` takes the frames
    (1, stride, m) themselves, not standardized; `reset` forgets what was heard. A file is used with
    `hop` or with `window`, never with both in turn.
    """

    def __init__(self, network: Network, ranges: Ranges | None = None) -> None:
        super().__init__(network, ranges)
        spec = network.frontend
        overlap = spec.window_samples - spec.hop_samples
        self._samples = tf.Variable(tf.zeros((1, overlap)), name="samples")
        self._past: dict[str, Any] = {}
        self._stride = 1
        for name, conv, _ in convolution_steps(network.encoder):
            if conv.left_padding:
                # Of its inputs, a causal convolution remembers as many as reach back from the next
                # one.
                shape = (1, conv.left_padding, 1, conv.weight.shape[1])
                self._past[name] = tf.Variable(tf.zeros(shape), name=f"past_{name}")
        for block in network.encoder.blocks:
            self._stride *= block.first.stride

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        samples, frames, present = self._inputs()
        return {
            "hop": trace(self._hop, samples, present),
            "window": trace(self._window, frames, present),
            "reset": trace(self._reset, CALL),
        }

    def _inputs(self) -> tuple[Any, Any, Any]:
        spec, stride = self.network.frontend, self._stride
        return (
            vector("samples", 1, stride * spec.hop_samples),
            vector("frames", 1, stride, spec.num_features),
            vector("present", 1, stride),
        )

    def convolve(self, name: str, conv: FoldedConv, x: Tensor) -> Tensor:
        """The next outputs of a causal convolution, from its last inputs and these."""
        if name in self._past:
            past = self._past[name]
            x = tf.concat([past.read_value(), x], axis=1)
            past.assign(x[:, -conv.left_padding :])
        return self.product(conv, x, stride=conv.stride)

    def _output(self, frames: Tensor, present: Tensor) -> Tensor:
        """The encoder's next frame before its activation, (1, f)."""
        # What was not recorded is the mean frame: zero once it is standardized.
        mean = tf.constant(self.network.feature_mean)
        kept = tf.where(present[:, :, tf.newaxis] > 0, frames, mean)
        # As many frames as the encoder strides over make exactly one of its own.
        return self.encoder(kept)[:, 0, 0]

    def _heard(self, samples: Tensor) -> Tensor:
        """The frames that end with these samples, (1, stride, m)."""
        heard = tf.concat([self._samples.read_value(), samples], axis=1)
        self._samples.assign(heard[:, samples.shape[1] :])
        return self.cepstra(heard)

    def _hop(self, samples: Tensor, present: Tensor) -> dict[str, Tensor]:
        return self._window(self._heard(samples), present)

    def _window(self, frames: Tensor, present: Tensor) -> dict[str, Tensor]:
        x = self.note("output", tf.nn.relu(self._output(frames, present)))
        parameters = self.network.parameters
        if self.network.adapter.name == "frame_bottleneck":
            hidden = tf.nn.relu(x @ parameters["down_weight"].T)
            x += hidden @ parameters["up_weight"].T
        return {"logits": x @ parameters["head_weight"].T + parameters["head_bias"]}

    def _reset(self, call: Tensor) -> dict[str, Tensor]:
        # In training, zeros stand before a sentence too: the padding of every convolution.
        for variable in (*self._past.values(), self._samples):
            variable.assign(tf.zeros(variable.shape))
        return {"done": tf.constant([1.0])}


class PersonalSentenceGraph(TrainingGraph, SentenceGraph):
    """What personalizes a sentence recognizer on the phone.

    Signatures, with d adapter parameters, c labels, f features, n encoder frames per step:

    * `embed_hop`, `embed`: samples as for `hop`, or frames as for `window`, to the encoder's frame
      (1, f), what the phone caches.
    * `score`: encoder frames (n, f) to logits (n, c), by the adapter in the variables.
    * `train`: encoder frames (n, f) and the loss's derivative by their logits (n, c), zeros where
      there is no frame: one step of SGD with momentum.
    * `clip`: the same of one sentence; adds its gradient, clipped to `clip_norm`, to those of the
      sentences before.
    * `train_dp`: one step of DP-SGD from what `clip` has added up, noise (d,), which the caller
      makes, and the number of sentences that is expected, which depends on no sentence.
    * `save`: gives the adapter (d,) and its checksum; `restore`: takes both, and the hash of the
      base it belongs to.
    * `reset`: as in `SentenceGraph`.

    A sentence whose frames or derivative hold anything above `arrays.EMBEDDING_LIMIT` is not
    counted: `train` takes no step, `clip` adds nothing. A setting, a noise or a size outside its
    range takes no step either.
    """

    def __init__(self, network: Network, base_sha256: str) -> None:
        super().__init__(network, base_sha256)
        self._clipped = tf.Variable(np.zeros(self._spec.size, np.float32), name="clipped")

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        samples, frames, present = self._inputs()
        windows = vector("windows", TRAINING_WINDOWS, self.network.adapter.embedding_shape[1])
        error = vector("error", TRAINING_WINDOWS, self._num_labels)
        rates = (vector("learning_rate", 1), vector("momentum", 1))
        private = (vector("noise", self._spec.size), vector("expected_sentences", 1))
        return {
            "embed_hop": trace(self._embed_hop, samples, present),
            "embed": trace(self._embed, frames, present),
            "score": trace(self._score, windows),
            "train": trace(self._train, windows, error, *rates),
            "clip": trace(self._clip, windows, error, vector("clip_norm", 1)),
            "train_dp": trace(self._train_dp, *private, *rates),
            **self.save_and_restore(),
            "reset": trace(self._reset, CALL),
        }

    def _embed_hop(self, samples: Tensor, present: Tensor) -> dict[str, Tensor]:
        return self._embed(self._heard(samples), present)

    def _embed(self, frames: Tensor, present: Tensor) -> dict[str, Tensor]:
        return {"window": self._output(frames, present)}

    def _score(self, windows: Tensor) -> dict[str, Tensor]:
        parameters = self._named(self._adapter.read_value())
        features, _ = forward(self.network.adapter, parameters, windows)
        return {"logits": logits(parameters, features)}

    def _train(
        self, windows: Tensor, error: Tensor, learning_rate: Tensor, momentum: Tensor
    ) -> dict[str, Tensor]:
        accepted = guards.all_hold(
            self._sentence_holds(windows, error),
            guards.optimizer_holds(learning_rate, momentum, tf.zeros(1)),
        )
        return self._step(accepted, self._gradient(windows, error), learning_rate, momentum)

    def _clip(self, windows: Tensor, error: Tensor, clip_norm: Tensor) -> dict[str, Tensor]:
        """The clipped sum of DP-SGD (Abadi et al. 2016, arXiv:1607.00133), sentence by sentence."""
        accepted = guards.all_hold(
            self._sentence_holds(windows, error),
            guards.holds(clip_norm, SMALLEST_CLIP_NORM, SETTING_LIMIT, 1),
        )
        gradient = self._gradient(windows, error)
        # A gradient of norm 0 stays as it is: the reciprocal is kept finite, then capped at 1.
        reciprocal = tf.math.rsqrt(tf.maximum(tf.reduce_sum(gradient * gradient), 1e-30))
        factor = tf.where(accepted, tf.minimum(clip_norm * reciprocal, 1.0), 0.0)
        replace(accepted, self._clipped, self._clipped.read_value() + factor * gradient)
        return {"factor": factor, "counted": guards.said(accepted)}

    def _train_dp(
        self, noise: Tensor, expected_sentences: Tensor, learning_rate: Tensor, momentum: Tensor
    ) -> dict[str, Tensor]:
        accepted = guards.all_hold(
            guards.optimizer_holds(learning_rate, momentum, tf.zeros(1)),
            guards.privacy_holds(tf.ones(1), noise, expected_sentences, self._spec.size),
        )
        gradient = (self._clipped.read_value() + noise) / expected_sentences
        # A sum that went into one step must not go into another: it is paid for once.
        replace(accepted, self._clipped, tf.zeros_like(noise))
        return self._step(accepted, gradient, learning_rate, momentum)

    def _sentence_holds(self, windows: Tensor, error: Tensor) -> Tensor:
        """Whether frames and derivative of a sentence are whole and within the limits."""
        features = self.network.adapter.embedding_shape[1]
        return guards.all_hold(
            *(
                guards.holds(x, -EMBEDDING_LIMIT, EMBEDDING_LIMIT, TRAINING_WINDOWS * width)
                for x, width in ((windows, features), (error, self._num_labels))
            )
        )

    def _gradient(self, windows: Tensor, error: Tensor) -> Tensor:
        """All of it, (d,); the formulas of `fedspeech.models.adapters.frames`."""
        parameters = self._named(self._adapter.read_value())
        features, inner = forward(self.network.adapter, parameters, windows)
        # Rows without a frame have an error of zero, and so no share in any sum.
        upstream = tf.matmul(error, parameters["head_weight"])
        gradients = {
            "head_weight": tf.matmul(error, features, transpose_a=True),
            "head_bias": tf.reduce_sum(error, axis=0),
        }
        if self.network.adapter.name == "frame_affine":
            upstream *= tf.cast(features > 0, tf.float32)
            gradients["scale"] = tf.reduce_sum(upstream * windows, axis=0)
            gradients["shift"] = tf.reduce_sum(upstream, axis=0)
        else:
            into = tf.matmul(upstream, parameters["up_weight"])
            into *= tf.cast(inner["hidden"] > 0, tf.float32)
            gradients["down_weight"] = tf.matmul(into, inner["activated"], transpose_a=True)
            gradients["up_weight"] = tf.matmul(upstream, inner["hidden"], transpose_a=True)
        return self._flat(gradients)

    def _step(
        self, accepted: Tensor, gradient: Tensor, learning_rate: Tensor, momentum: Tensor
    ) -> dict[str, Tensor]:
        self._descend(accepted, gradient, learning_rate, momentum)
        norm = tf.where(accepted, tf.sqrt(tf.reduce_sum(gradient * gradient)), 0.0)
        return {"norm": norm[tf.newaxis], "stepped": guards.said(accepted)}

    def _take_over(self, accepted: Tensor, adapter: Tensor) -> None:
        replace(accepted, self._adapter, adapter)
        replace(accepted, self._velocity, tf.zeros_like(adapter))
        # Gradients of the adapter that was there before say nothing of this one.
        replace(accepted, self._clipped, tf.zeros_like(adapter))
