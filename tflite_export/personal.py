"""Graphs that train on the phone: the adapter in variables, its gradients by hand.

TensorFlow's own gradients would need operators that phones lack, so the formulas of
`fedspeech.models.adapters` stand here once more, on one phone's clips. Training starts from cached
embeddings: the encoder is frozen, and no convolution is ever differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from fedspeech.errors import ExportRefused
from fedspeech.rollout.adapter_file import ADAPTER_LIMIT, hash_words
from tflite_export import guards
from tflite_export.arrays import EMBEDDING_LIMIT, VALUE_LIMIT, AdapterShape, Network
from tflite_export.layers import CALL, Layers, Tensor, trace, vector
from tflite_export.stream import Stream

_INTEGERS = (np.iinfo(np.int32).min, np.iinfo(np.int32).max)


class TrainingGraph(Layers):
    """An adapter and its momentum in variables: guarded SGD, `save` and `restore`.

    Raises:
      ExportRefused: if the adapter has a value that the file would not restore.
    """

    def __init__(self, network: Network, base_sha256: str) -> None:
        super().__init__(network)
        self._spec, self._base = network.adapter.spec, hash_words(base_sha256)
        start = self._spec.flatten(network.parameters)
        largest = np.abs(start).max()
        if not largest <= ADAPTER_LIMIT:
            raise ExportRefused(
                f"adapter: every value must be at most {ADAPTER_LIMIT:g} in size, got {largest:g}"
            )
        self._adapter = tf.Variable(start, name="adapter")
        self._velocity = tf.Variable(np.zeros_like(start), name="velocity")

    def save_and_restore(self) -> dict[str, Any]:
        """Traces the signatures that every graph that trains has."""
        hashes = (vector("base", 8, dtype=tf.int32), vector("checksum", 1, dtype=tf.int32))
        return {
            "save": trace(self._save, CALL),
            "restore": trace(self._restore, vector("adapter", self._spec.size), *hashes),
        }

    def _save(self, call: Tensor) -> dict[str, Tensor]:
        value = self._adapter.read_value()
        return {"adapter": value, "checksum": guards.checksum(value, self._spec.size)}

    def _restore(self, adapter: Tensor, base: Tensor, checksum: Tensor) -> dict[str, Tensor]:
        """Takes over a whole adapter of this base; of any other nothing changes."""
        accepted = guards.acceptable(adapter, base, checksum, self._base, self._spec.size)
        self._take_over(accepted, adapter)
        return {"restored": guards.said(accepted)}

    def _take_over(self, accepted: Tensor, adapter: Tensor) -> None:
        """Sets all variables for an adapter that training begins with."""
        raise NotImplementedError

    def _descend(
        self, accepted: Tensor, gradient: Tensor, learning_rate: Tensor, momentum: Tensor
    ) -> None:
        """SGD with heavy-ball momentum, as `torch.optim.SGD`, within the limits."""
        velocity = momentum * self._velocity.read_value() + gradient
        velocity = guards.limited(velocity, VALUE_LIMIT)
        # Moved into the limits and not refused: a refusal that depends on data would tell of it.
        moved = guards.limited(self._adapter.read_value() - learning_rate * velocity, ADAPTER_LIMIT)
        replace(accepted, self._velocity, velocity)
        replace(accepted, self._adapter, moved)

    @property
    def _num_labels(self) -> int:
        return dict(self._spec.shapes)["head_bias"][0]

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        return {name: tf.reshape(flat[place], shape) for name, shape, place in self._spec.slices()}

    def _flat(self, gradients: Mapping[str, Tensor]) -> Tensor:
        return tf.concat([tf.reshape(gradients[name], [-1]) for name, _ in self._spec.shapes], 0)


def replace(accepted: Tensor, variable: Any, value: Tensor) -> None:
    """Sets a variable if the call is accepted; else it keeps its value, bit by bit."""
    variable.assign(tf.where(accepted, value, variable.read_value()))


class PersonalGraph(TrainingGraph):
    """What personalizes keywords on the phone; a batch smaller than `batch_clips` is padded.

    Signatures, with d adapter parameters, c labels, n clips per step, e the embedding's shape:

    * `infer`: waveform (1, samples) to logits (1, c), by the adapter in the variables.
    * `infer_with`: the same by an adapter (d,) that is handed in; nothing is remembered.
    * `embed`: waveform to embedding (1, *e), what the phone caches; no parameter touches it.
    * `hop`: the next samples (1, hop) to logits (1, c) of the clip that ends with them, by the
      adapter in the variables, and to their embedding.
    * `embed_hop`: the same samples to the embedding alone. Either call moves the stream on, so a
      hop is handed to one of them.
    * `score_with`: embedding (1, *e) and an adapter (d,) that is handed in to logits; several
      adapters are compared on one hop so, and on embeddings whose sound is gone.
    * `reset`: puts lasting digital silence before the next sample; the adapter stays.
    * `train`: one step of SGD with momentum on n cached clips; gives the loss before the step.
    * `train_dp`: the same with every clip's gradient clipped and noise, made by the caller, added.
    * `save`: gives the adapter (d,) and its checksum.
    * `restore`: takes both and the hash of the base it belongs to, and starts anew.

    A clip counts if `present` is above 0, its label is one of the model's and its embedding holds
    nothing above `arrays.EMBEDDING_LIMIT`; `counted` says how many did. A setting, a noise or a
    size outside its range takes no step, and `stepped` is 0 then. No clip decides about a step, so
    what `train_dp` gives away does not depend on it.
    """

    def __init__(self, network: Network, base_sha256: str, batch_clips: int) -> None:
        super().__init__(network, base_sha256)
        self._batch_clips = batch_clips
        # Where FedProx pulls to: the adapter that was restored last.
        self._start = tf.Variable(self._spec.flatten(network.parameters), name="start")
        # Some adapters stand before the activation of what is remembered.
        self.stream = Stream(self, activated=False)

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        waveform, _ = self.clip_specs()
        samples = vector("samples", 1, self.network.frontend.hop_samples)
        size, clips = self._spec.size, self._batch_clips
        step = (
            vector("embeddings", clips, *self.network.adapter.embedding_shape),
            vector("labels", clips, dtype=tf.int32),
            vector("present", clips),
            vector("learning_rate", 1),
            vector("momentum", 1),
            vector("proximal_mu", 1),
        )
        private = (vector("clip_norm", 1), vector("noise", size), vector("expected_clips", 1))
        return {
            "infer": trace(self._infer, waveform),
            "infer_with": trace(self._infer_with, waveform, vector("adapter", size)),
            "embed": trace(self._embed, waveform),
            "hop": trace(self._hop, samples),
            "embed_hop": trace(self._embed_hop, samples),
            "score_with": trace(
                self._score_with,
                vector("embedding", 1, *self.network.adapter.embedding_shape),
                vector("adapter", size),
            ),
            "reset": trace(self.stream.reset, CALL),
            "train": trace(self._train, *step),
            "train_dp": trace(self._train_dp, *step, *private),
            **self.save_and_restore(),
        }

    def _infer(self, waveform: Tensor) -> dict[str, Tensor]:
        return self._infer_with(waveform, self._adapter.read_value())

    def _infer_with(self, waveform: Tensor, adapter: Tensor) -> dict[str, Tensor]:
        return self._score_with(self._embed(waveform)["embedding"], adapter)

    def _embed(self, waveform: Tensor) -> dict[str, Tensor]:
        return {"embedding": self._cached(self.of_clip(self.encoder(self.log_mel(waveform))))}

    def _hop(self, samples: Tensor) -> dict[str, Tensor]:
        # Whoever is told that a word was wrong has what to learn it from.
        found = self._embed_hop(samples)
        return found | self._score_with(found["embedding"], self._adapter.read_value())

    def _embed_hop(self, samples: Tensor) -> dict[str, Tensor]:
        return {"embedding": self._cached(self.stream.hop(samples))}

    def _score_with(self, embedding: Tensor, adapter: Tensor) -> dict[str, Tensor]:
        parameters = self._named(adapter)
        features, _ = forward(self.network.adapter, parameters, embedding)
        return {"logits": logits(parameters, features)}

    def _cached(self, frames: Tensor) -> Tensor:
        """The embedding (1, *e) of a clip's encoder frames (1, w, 1, f) before the activation."""
        # The affine stands before activation and mean, so the frames themselves are cached; every
        # other adapter needs no more than the mean of the activated ones.
        if self.network.adapter.name == "affine":
            return frames[:, :, 0]
        return tf.reduce_mean(tf.nn.relu(frames[:, :, 0]), axis=1)

    def _train(
        self,
        embeddings: Tensor,
        labels: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        momentum: Tensor,
        proximal_mu: Tensor,
    ) -> dict[str, Tensor]:
        """One step on the mean loss of the clips that count."""
        clips, counted, whole = self._clips(embeddings, labels, present)
        # A batch in which nothing counts has gradient zero and not 0 / 0.
        weights = counted / tf.maximum(tf.reduce_sum(counted), 1.0)
        accepted = guards.all_hold(
            whole, guards.optimizer_holds(learning_rate, momentum, proximal_mu)
        )
        gradient = self._flat(clips.gradients(weights))
        self._step(accepted, gradient, learning_rate, momentum, proximal_mu)
        return _outputs(clips, counted, accepted)

    def _train_dp(
        self,
        embeddings: Tensor,
        labels: Tensor,
        present: Tensor,
        learning_rate: Tensor,
        momentum: Tensor,
        proximal_mu: Tensor,
        clip_norm: Tensor,
        noise: Tensor,
        expected_clips: Tensor,
    ) -> dict[str, Tensor]:
        """One step of DP-SGD (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1).

        `noise` is added to the sum of clipped gradients; the divisor does not depend on the data.
        """
        clips, counted, whole = self._clips(embeddings, labels, present)
        # A gradient of norm 0 stays as it is: the reciprocal is kept finite, then capped at 1.
        reciprocal = tf.math.rsqrt(tf.maximum(clips.squared_norms(), 1e-30))
        factors = counted * tf.minimum(clip_norm * reciprocal, 1.0)
        gradient = (self._flat(clips.gradients(factors)) + noise) / expected_clips
        accepted = guards.all_hold(
            whole,
            guards.optimizer_holds(learning_rate, momentum, proximal_mu),
            guards.privacy_holds(clip_norm, noise, expected_clips, self._spec.size),
        )
        self._step(accepted, gradient, learning_rate, momentum, proximal_mu)
        return _outputs(clips, counted, accepted)

    def _take_over(self, accepted: Tensor, adapter: Tensor) -> None:
        replace(accepted, self._adapter, adapter)
        replace(accepted, self._start, adapter)
        # Momentum of another training would push the restored adapter where nobody trained it.
        replace(accepted, self._velocity, tf.zeros_like(adapter))

    def _clips(
        self, embeddings: Tensor, labels: Tensor, present: Tensor
    ) -> tuple[Clips, Tensor, Tensor]:
        """The clips of one step, which of them count (n,), and whether the batch is whole.

        What does not count is made zero: a NaN times a weight of 0 would still be NaN.
        """
        # NaN compares as false, so a comparison by "at most" drops it as well.
        places = list(range(1, 1 + len(self.network.adapter.embedding_shape)))
        usable = tf.reduce_all(tf.abs(embeddings) <= EMBEDDING_LIMIT, axis=places)
        known = tf.logical_and(labels >= 0, labels < self._num_labels)
        counts = tf.logical_and(tf.logical_and(usable, known), present > 0)
        shape = (-1, *(1 for _ in places))
        kept = tf.where(tf.reshape(counts, shape), embeddings, 0.0)
        parameters = self._named(self._adapter.read_value())
        clips = Clips.of(self.network.adapter, parameters, kept, labels)
        # Counted before they meet each other: one row would stand for every clip of the batch.
        whole = guards.all_hold(
            guards.counts_to(usable, self._batch_clips),
            guards.holds(labels, *_INTEGERS, self._batch_clips),
            guards.holds(present, 0, 1, self._batch_clips),
        )
        return clips, tf.cast(counts, tf.float32), whole

    def _step(
        self,
        accepted: Tensor,
        gradient: Tensor,
        learning_rate: Tensor,
        momentum: Tensor,
        proximal_mu: Tensor,
    ) -> None:
        """A step of SGD with FedProx's pull to the start."""
        gradient += proximal_mu * (self._adapter.read_value() - self._start.read_value())
        self._descend(accepted, gradient, learning_rate, momentum)


def _outputs(clips: Clips, counted: Tensor, accepted: Tensor) -> dict[str, Tensor]:
    """Outputs of a training step: mean loss before it, clips that counted, whether it was taken."""
    number = tf.reduce_sum(counted)
    loss = tf.reduce_sum(clips.losses * counted) / tf.maximum(number, 1.0)
    return {
        "loss": loss[tf.newaxis],
        "counted": tf.cast(number, tf.int32)[tf.newaxis],
        "stepped": guards.said(accepted),
    }


def forward(
    adapter: AdapterShape, parameters: Mapping[str, Tensor], x: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Input (n, f) of the last layer for embeddings (n, *e), and what else the gradients need."""
    match adapter.name:
        case "head":
            return x, {}
        case "affine":
            # The mean of relu(scale x + shift) over frames is linear in both where the frames are
            # active: the two means are forward pass and gradient at once, and no ReLU is
            # differentiated.
            active = tf.cast(x * parameters["scale"] + parameters["shift"] > 0, tf.float32)
            by_shift = tf.reduce_mean(active, axis=1)
            by_scale = tf.reduce_mean(active * x, axis=1)
            features = by_scale * parameters["scale"] + by_shift * parameters["shift"]
            return features, {"by_scale": by_scale, "by_shift": by_shift}
        case "frame_affine":
            return tf.nn.relu(x * parameters["scale"] + parameters["shift"]), {}
        case "bottleneck" | "frame_bottleneck":
            # Embeddings of clips are means of activated frames; frames are cached before.
            activated = tf.nn.relu(x) if adapter.name == "frame_bottleneck" else x
            hidden = tf.nn.relu(tf.matmul(activated, parameters["down_weight"], transpose_b=True))
            features = activated + tf.matmul(hidden, parameters["up_weight"], transpose_b=True)
            return features, {"activated": activated, "hidden": hidden}
        case _:
            raise ValueError(f"no training graph is known for the adapter {adapter.name!r}")


def logits(parameters: Mapping[str, Tensor], features: Tensor) -> Tensor:
    """Logits (n, c) of the last layer's inputs (n, f)."""
    products = tf.matmul(features, parameters["head_weight"], transpose_b=True)
    return products + parameters["head_bias"]


@dataclass(frozen=True)
class Clips:
    """The clips of one step: their losses, and gradients that are linear in each clip's weight.

    Attributes:
      adapter: which formulas.
      parameters: its values.
      features: input of the last layer, shape (n, f).
      inner: what else the gradients need, by name; see `forward`.
      error: softmax minus one-hot, shape (n, c).
      losses: cross-entropy in nats, shape (n,).
    """

    adapter: AdapterShape
    parameters: Mapping[str, Tensor]
    features: Tensor
    inner: Mapping[str, Tensor]
    error: Tensor
    losses: Tensor

    @classmethod
    def of(
        cls, adapter: AdapterShape, parameters: Mapping[str, Tensor], x: Tensor, labels: Tensor
    ) -> Clips:
        """Scores embeddings x (n, *e)."""
        features, inner = forward(adapter, parameters, x)
        scores = logits(parameters, features)
        # A label that is none of the model's becomes a row of zeros; such a clip counts nowhere.
        one_hot = tf.one_hot(labels, scores.shape[1])
        losses = -tf.reduce_sum(one_hot * tf.nn.log_softmax(scores), axis=1)
        error = tf.nn.softmax(scores) - one_hot
        return cls(adapter, parameters, features, inner, error, losses)

    def gradients(self, weights: Tensor) -> dict[str, Tensor]:
        """Sums the clips' gradients, each times its weight (n,): name to gradient."""
        error = self.error * weights[:, tf.newaxis]
        own = {
            "head_weight": tf.matmul(error, self.features, transpose_a=True),
            "head_bias": tf.reduce_sum(error, axis=0),
        }
        inner = self.inner
        match self.adapter.name:
            case "affine":
                upstream = error @ self.parameters["head_weight"]
                own["scale"] = tf.reduce_sum(inner["by_scale"] * upstream, axis=0)
                own["shift"] = tf.reduce_sum(inner["by_shift"] * upstream, axis=0)
            case "bottleneck":
                upstream, into_hidden = self._into_bottleneck(error)
                own["down_weight"] = tf.matmul(into_hidden, inner["activated"], transpose_a=True)
                own["up_weight"] = tf.matmul(upstream, inner["hidden"], transpose_a=True)
        return own

    def squared_norms(self) -> Tensor:
        """Squared L2 norm of each clip's whole gradient, shape (n,), from outer products' factors.

        |a b^T|^2 = |a|^2 |b|^2, so no clip's gradient is ever laid out (Goodfellow 2015,
        arXiv:1510.01799).
        """
        inner = self.inner
        # The one is the bias: its gradient is the error itself.
        total = _square(self.error) * (_square(self.features) + 1.0)
        match self.adapter.name:
            case "affine":
                upstream = self.error @ self.parameters["head_weight"]
                total += _square(inner["by_scale"] * upstream)
                total += _square(inner["by_shift"] * upstream)
            case "bottleneck":
                upstream, into_hidden = self._into_bottleneck(self.error)
                total += _square(into_hidden) * _square(inner["activated"])
                total += _square(upstream) * _square(inner["hidden"])
        return total

    def _into_bottleneck(self, error: Tensor) -> tuple[Tensor, Tensor]:
        """The error by features (n, f), and by the hidden layer before its activation (n, r)."""
        upstream = error @ self.parameters["head_weight"]
        active = tf.cast(self.inner["hidden"] > 0, tf.float32)
        return upstream, (upstream @ self.parameters["up_weight"]) * active


def _square(x: Tensor) -> Tensor:
    return tf.reduce_sum(x * x, axis=1)
