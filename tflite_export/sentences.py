"""Files that recognise sentences: 40 ms in, logits of one window out, the past in variables.

The trunk is causal and answers every fourth frame, so four frames of cepstra make one window. A
sentence ends with `FLUSH_WINDOWS` windows of nothing. The phone searches for the transcript itself,
with its own list, and where it learns it computes the loss itself: CTC inside a graph would take
minutes to convert, its derivative by the logits is an input like any other.

    exported = export_sentences(trained, card, waveforms, folder)
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Alphabet
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters import FrameAffineAdapter, FrameBottleneckAdapter
from fedspeech.models.adapters.adapter import Batch, present_windows
from fedspeech.models.decoding import greedy
from fedspeech.models.kws import FoldedConv
from tflite_export.calibration import observe_features
from tflite_export.card import Card, require_identity
from tflite_export.checks import Check, at_least, at_most
from tflite_export.convert import convert
from tflite_export.flatbuffer import embed_card
from tflite_export.interpreter import TfliteModel
from tflite_export.layers import Layers, Ranges, Tensor, trace
from tflite_export.weights import Network, Trained, convolution_steps, hash_words, network

FloatArray = NDArray[np.float32]

FILES = {
    "float": "model_float.tflite",
    "int8": "model_int8.tflite",
    "personal": "model_personal.tflite",
}
MAX_LOGIT_DIFFERENCE = 1e-3
MIN_SAME_TRANSCRIPTS = {"float": 1.0, "int8": 0.9, "personal": 1.0}
MIN_SAME_CHARACTERS = {"float": 1.0, "int8": 0.98, "personal": 1.0}
MAX_STEP_DIFFERENCE = 1e-5
TRAINING_WINDOWS = 256


class SentenceGraph(Layers):
    """What listens on the phone.

    Signatures: `window` takes the next frames (1, stride, m), not standardised, and which of them
    were recorded (1, stride), 1 or 0, and gives logits (1, c); `reset` forgets what was heard.
    """

    def __init__(self, arrays: Network, ranges: Ranges | None = None) -> None:
        """Makes the variables: the last inputs of every convolution."""
        super().__init__(arrays, ranges)
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
        return {"window": trace(self._window, *self._inputs()), "reset": trace(self._reset)}

    def _inputs(self) -> tuple[Any, Any]:
        size = self.network.frontend.num_features
        return (
            tf.TensorSpec((1, self._stride, size), tf.float32, name="frames"),
            tf.TensorSpec((1, self._stride), tf.float32, name="present"),
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

    def _window(self, frames: Tensor, present: Tensor) -> dict[str, Tensor]:
        windows = self.note("output", tf.nn.relu(self._output(frames, present)))
        return {"logits": _scored(windows, self.network)}

    def _reset(self) -> dict[str, Tensor]:
        """Nothing before the beginning."""
        for variable in self._past.values():
            variable.assign(tf.zeros(variable.shape))
        return {"done": tf.constant(1.0)}


class PersonalSentenceGraph(SentenceGraph):
    """What goes on learning on the phone.

    Signatures, with d adapter parameters, c labels, f features of the trunk, n windows per step:

    * `embed`: frames as for `window` to the trunk's window (1, f), what the phone caches.
    * `score`: windows (n, f) to logits (n, c), by the adapter in the variables.
    * `train`: windows (n, f) and the loss's derivative by their logits (n, c), zeros where there is
      no window: one step of SGD with momentum.
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

    def signatures(self) -> dict[str, Any]:
        """Traces the signatures, by name."""
        adapter = self.network.adapter
        labels = dict(adapter.spec.shapes)["head_bias"][0]

        def spec(name: str, *shape: int, dtype: Any = tf.float32) -> Any:
            return tf.TensorSpec(shape, dtype, name=name)

        windows = spec("windows", TRAINING_WINDOWS, adapter.embedding_shape[1])
        error = spec("error", TRAINING_WINDOWS, labels)
        return {
            "embed": trace(self._embed, *self._inputs()),
            "score": trace(self._score, windows),
            "train": trace(
                self._train, windows, error, spec("learning_rate", 1), spec("momentum", 1)
            ),
            "save": trace(self._save),
            "restore": trace(
                self._restore, spec("adapter", adapter.spec.size), spec("base", 8, dtype=tf.int32)
            ),
            "reset": trace(self._reset),
        }

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
        """One step; the formulas of `fedspeech.models.adapters.frames`."""
        flat = self._adapter.read_value()
        parameters = self._named(flat)
        features, inner = _features(self.network.adapter, parameters, windows)
        upstream = tf.matmul(error, parameters["head_weight"])
        gradients = {
            "head_weight": tf.matmul(error, features, transpose_a=True),
            "head_bias": tf.reduce_sum(error, axis=0),
        }
        match self.network.adapter:
            case FrameAffineAdapter():
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
        gradient = tf.concat([tf.reshape(gradients[name], [-1]) for name in names], 0)
        velocity = momentum * self._velocity.read_value() + gradient
        self._velocity.assign(velocity)
        self._adapter.assign(flat - learning_rate * velocity)
        return {"norm": tf.sqrt(tf.reduce_sum(gradient * gradient))[tf.newaxis]}

    def _save(self) -> dict[str, Tensor]:
        return {"adapter": self._adapter.read_value()}

    def _restore(self, adapter: Tensor, base: Tensor) -> dict[str, Tensor]:
        """Takes over a finite adapter of this base; of any other nothing changes."""
        own = tf.reduce_all(tf.equal(base, self._base))
        finite = tf.reduce_all(tf.abs(adapter) <= float(np.finfo(np.float32).max))
        accepted = tf.logical_and(own, finite)
        self._adapter.assign(tf.where(accepted, adapter, self._adapter.read_value()))
        rest = tf.where(accepted, tf.zeros_like(adapter), self._velocity.read_value())
        self._velocity.assign(rest)
        return {"restored": tf.cast(accepted, tf.int32)[tf.newaxis]}

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        slices = self.network.adapter.spec.slices()
        return {name: tf.reshape(flat[place], shape) for name, shape, place in slices}


@dataclass(frozen=True)
class ExportedSentences:
    """What was published.

    Attributes:
      verified: kind to what was checked on the published bytes.
      refused: kind to why it was not published.
    """

    verified: Mapping[str, tuple[Check, ...]]
    refused: Mapping[str, str]

    def figure(self, kind: str, name: str) -> float | None:
        """One figure of one file; None if it was not measured."""
        found = (check.figure for check in self.verified.get(kind, ()) if check.name == name)
        return next(found, None)


def export_sentences(
    trained: Trained, card: Card, waveforms: FloatArray, folder: Path
) -> ExportedSentences:
    """Converts, checks and writes the three files; one that fails is not written.

    Args:
      trained: the model.
      card: `Card.of` the same model.
      waveforms: public sentences, (n, samples), or their features; half of them calibrate the
        integer file, the files are held against the trained model on the other half.
      folder: where the files go; made if it is missing.

    Raises:
      ExportRefused: if the card speaks of another model, or not one file passed; nothing is written
        then.
    """
    require_identity(card.to_json(), trained)
    base = trained.base
    calibrating, judged = waveforms[::2], waveforms[1::2]
    merged = _merged(network(trained))
    ranges = observe_features(merged, base.features(calibrating))
    graphs: dict[str, Layers] = {
        "float": SentenceGraph(merged),
        "int8": SentenceGraph(merged, ranges),
        "personal": PersonalSentenceGraph(network(trained), base.sha256),
    }
    contents: dict[str, bytes] = {}
    verified: dict[str, tuple[Check, ...]] = {}
    refused: dict[str, str] = {}
    for kind, graph in graphs.items():
        inside = card.inside(kind)
        try:
            plain = convert(graph, "int8" if kind == "int8" else "float")
            content = embed_card(plain, inside.to_json(), inside.to_markdown())
            verified[kind] = _verified(kind, TfliteModel(content), trained, judged)
        except ExportRefused as error:
            refused[kind] = str(error)
            continue
        contents[kind] = content
    if not contents:
        raise ExportRefused("; ".join(f"{FILES[kind]}: {why}" for kind, why in refused.items()))
    folder.mkdir(parents=True, exist_ok=True)
    for kind in FILES:
        if kind not in contents:
            (folder / FILES[kind]).unlink(missing_ok=True)
    figures = {
        "files": {FILES[kind]: [asdict(check) for check in c] for kind, c in verified.items()},
        "refused": refused,
    }
    _write(folder / "card.json", json.dumps(card.to_json(), indent=2, sort_keys=True).encode())
    _write(folder / "card.md", card.to_markdown().encode())
    _write(folder / "parity.json", json.dumps(figures, indent=2).encode())
    for kind, content in contents.items():
        _write(folder / FILES[kind], content)
    return ExportedSentences(verified, refused)


def _verified(
    kind: str, model: TfliteModel, trained: Trained, waveforms: FloatArray
) -> tuple[Check, ...]:
    """Holds a file against the trained model, sentence by sentence."""
    base = trained.base
    assert isinstance(base.vocabulary, Alphabet)
    embeddings = base.trunk_output(waveforms)
    windows = present_windows(embeddings).numpy()
    expected = _torch_logits(trained, embeddings)
    found = np.zeros_like(expected)
    over = f"{len(waveforms)} sentences"
    inputs = list(_chunks(trained, waveforms))
    for row, (frames, present) in enumerate(inputs):
        found[row, : windows[row]] = _stream(kind, model, frames, present, windows[row])
    first = found[0, : windows[0]]
    again = _stream(kind, model, inputs[0][0], inputs[0][1], windows[0])
    pairs = list(
        zip(
            greedy(expected, windows, base.vocabulary),
            greedy(found, windows, base.vocabulary),
            strict=True,
        )
    )
    same = float(np.mean([one == other for one, other in pairs]))
    there = np.arange(expected.shape[1]) < windows[:, None]
    agree = float((expected.argmax(2) == found.argmax(2))[there].mean())
    checks = [
        at_least("same transcripts", same, MIN_SAME_TRANSCRIPTS[kind], over),
        at_least("same label of a window", agree, MIN_SAME_CHARACTERS[kind], over),
        at_most("difference after reset", float(np.abs(again - first).max()), 0.0, "one sentence"),
    ]
    if kind != "int8":
        largest = float(np.abs(expected - found)[there].max())
        checks.append(at_most("largest logit difference", largest, MAX_LOGIT_DIFFERENCE, over))
    if kind == "personal":
        checks += _training_checks(model, trained, embeddings[:1, : windows[0]])
    return tuple(checks)


def _training_checks(model: TfliteModel, trained: Trained, windows: torch.Tensor) -> list[Check]:
    """Twenty steps on the phone against the same steps by the library's own gradients."""
    adapter, count = trained.adapter, min(windows.shape[1], TRAINING_WINDOWS)
    rng = np.random.default_rng(0)
    labels = dict(adapter.spec.shapes)["head_bias"][0]
    local = {name: torch.tensor(value)[None].clone() for name, value in trained.parameters.items()}
    velocity = {name: torch.zeros_like(value) for name, value in local.items()}
    raw = np.zeros((TRAINING_WINDOWS, windows.shape[2]), dtype=np.float32)
    raw[:count] = windows[0, :count]
    batch = Batch(adapter.embed(windows[:, :count])[None], torch.zeros(1, 1, 1), torch.ones(1, 1))
    rate, momentum = np.array([0.05], np.float32), np.array([0.9], np.float32)
    for _ in range(20):
        error = np.zeros((TRAINING_WINDOWS, labels), dtype=np.float32)
        error[:count] = 0.01 * rng.standard_normal((count, labels))
        model.run("train", windows=raw, error=error, learning_rate=rate, momentum=momentum)
        by_logit = torch.from_numpy(error[:count].T[None].copy())
        with torch.no_grad():
            gradients = adapter.gradients(local, batch, functools.partial(_given, by_logit))
            for name, gradient in gradients.items():
                velocity[name] = 0.9 * velocity[name] + gradient
                local[name] = local[name] - 0.05 * velocity[name]
    expected = adapter.spec.flatten({name: value[0].numpy() for name, value in local.items()})
    found = model.run("save")["adapter"]
    step = at_most("20 training steps", float(np.abs(found - expected).max()), MAX_STEP_DIFFERENCE,
                   f"{count} windows")  # fmt: skip
    start = adapter.spec.flatten(trained.parameters)
    other = model.run("restore", adapter=start, base=np.zeros(8, np.int32))["restored"][0]
    own = model.run("restore", adapter=start, base=hash_words(trained.base.sha256))["restored"][0]
    back = float(np.abs(model.run("save")["adapter"] - start).max())
    return [
        step,
        at_most("adapters of another base restored", float(other), 0.0, "one adapter"),
        at_least("adapters of this base restored", float(own), 1.0, "one adapter"),
        at_most("difference after restore", back, 0.0, "one adapter"),
    ]


def _given(by_logit: torch.Tensor, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """An error that does not depend on the logits."""
    del logits, batch
    return by_logit


def _stream(
    kind: str, model: TfliteModel, frames: FloatArray, present: FloatArray, windows: int
) -> FloatArray:
    """Logits of one sentence (w, c), a window at a time."""
    model.run("reset")
    name, output = ("embed", "window") if kind == "personal" else ("window", "logits")
    rows = [
        model.run(name, frames=frames[None, place], present=present[None, place])[output][0]
        for place in range(windows)
    ]
    answers = np.stack(rows)
    if kind != "personal":
        return answers
    padded = np.zeros((TRAINING_WINDOWS, answers.shape[1]), dtype=np.float32)
    padded[: len(answers)] = answers
    logits: FloatArray = model.run("score", windows=padded)["logits"][: len(answers)]
    return logits


def _chunks(trained: Trained, waveforms: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Per sentence, frames by window (w, stride, m), not standardised, and which were recorded."""
    base, stride = trained.base, trained.base.trunk.spec.stride
    standard = base.features(waveforms).numpy()
    raw = standard * base.feature_std + base.feature_mean
    frames = base.frontend.recorded_frames(waveforms)
    count = -(-raw.shape[1] // stride)
    padded = np.zeros((len(raw), count * stride, raw.shape[2]), dtype=np.float32)
    padded[:, : raw.shape[1]] = raw
    there = (np.arange(count * stride) < frames[:, None]).astype(np.float32)
    for clip, present in zip(padded, there, strict=True):
        yield clip.reshape(count, stride, -1), present.reshape(count, stride)


def _torch_logits(trained: Trained, embeddings: torch.Tensor) -> FloatArray:
    """What training and evaluation compute, (n, w, c)."""
    adapter = trained.adapter
    tensors = {name: torch.tensor(value)[None] for name, value in trained.parameters.items()}
    with torch.inference_mode():
        logits: FloatArray = adapter.logits(tensors, adapter.embed(embeddings)[None])[0].numpy()
    return logits


def _merged(arrays: Network) -> Network:
    """The same function with an affine adapter folded into the last convolution."""
    if not isinstance(arrays.adapter, FrameAffineAdapter):
        return arrays
    scale, shift = arrays.parameters["scale"], arrays.parameters["shift"]
    last = arrays.trunk.output
    output = FoldedConv(last.weight * scale[:, None, None], last.bias * scale + shift, last.stride)
    return replace(arrays, trunk=replace(arrays.trunk, output=output))


def _scored(windows: Tensor, arrays: Network) -> Tensor:
    """Scores activated windows (1, f) with a merged adapter: (1, c)."""
    parameters = arrays.parameters
    if isinstance(arrays.adapter, FrameBottleneckAdapter):
        hidden = tf.nn.relu(windows @ parameters["down_weight"].T)
        windows += hidden @ parameters["up_weight"].T
    return windows @ parameters["head_weight"].T + parameters["head_bias"]


def _features(
    adapter: Any, parameters: Mapping[str, Tensor], windows: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Input of the last layer, and what the gradients need beside it."""
    if isinstance(adapter, FrameAffineAdapter):
        return tf.nn.relu(windows * parameters["scale"] + parameters["shift"]), {}
    activated = tf.nn.relu(windows)
    hidden = tf.nn.relu(tf.matmul(activated, parameters["down_weight"], transpose_b=True))
    features = activated + tf.matmul(hidden, parameters["up_weight"], transpose_b=True)
    return features, {"activated": activated, "hidden": hidden}


def _write(path: Path, data: bytes) -> None:
    """Writes a file, all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    os.replace(partial, path)
