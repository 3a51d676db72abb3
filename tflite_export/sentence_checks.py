"""Is a file for sentences what it says? Logits and transcripts against the trained model's.

Needs no TensorFlow. Sentences are streamed as a phone streams them, 40 ms at a time: as frames of
cepstra, and as samples where there is sound. A stream begins in silence, so from sound the first
samples of each are silent, for torch as for the file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import Alphabet
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters.adapter import Batch, present_windows
from fedspeech.models.decoding import greedy
from tflite_export.arrays import (
    EMBEDDING_LIMIT,
    TRAINING_WINDOWS,
    Parameters,
    checksum,
    hash_words,
)
from tflite_export.checks import Check, at_least, at_most
from tflite_export.interpreter import TfliteModel
from tflite_export.parity import least_of_sample
from tflite_export.personal_checks import PRIVATE_LIMIT
from tflite_export.random_calls import sentence_calls
from tflite_export.twins import AdapterTwin, Outputs, Runs, optimizer_holds, privacy_holds, together
from tflite_export.weights import Trained

FloatArray = NDArray[np.float32]

MAX_LOGIT_DIFFERENCE = 1e-3
LEAST_SAME_TRANSCRIPTS = {"float": 1.0, "int8": 0.9, "personal": 1.0}
"""Of all sentences; a sample may show less, as chance takes: `parity.least_of_sample`."""

LEAST_SAME_LABELS = {"float": 1.0, "int8": 0.98, "personal": 1.0}
INTEGER_LOGIT_LIMIT = 10.0
"""Of full-integer files: a logit that is further off than this is a fault, not rounding."""

REFERENCE_SENTENCES = 12
STEPS, STEPS_LIMIT = 20, 1e-5
_NOT_RECORDED = 1e3
_RATE, _MOMENTUM = np.array([0.05], np.float32), np.array([0.9], np.float32)


def sentence_checks(
    kind: str, model: TfliteModel, trained: Trained, sentences: FloatArray
) -> Iterator[Check]:
    """The checks of one kind of file.

    Args:
      kind: which of the family it says it is.
      model: the file.
      trained: the model that it must equal.
      sentences: public, waveforms (n, samples) or their features, that calibrated nothing.

    Raises:
      ExportRefused: if there is no such kind, or a check fails; names it and its figure.
      ValueError: if a signature is missing or takes other shapes.
    """
    if kind not in LEAST_SAME_LABELS:
        raise ExportRefused(f"card: no file of the family is called {kind!r}")
    personal = kind == "personal"
    first = "embed" if personal else "window"
    yield from _same(kind, model, first, trained, sentences)
    if kind == "int8":
        reference, few = TfliteModel(model.content, "reference"), sentences[:REFERENCE_SENTENCES]
        yield from _same(kind, reference, first, trained, few, "reference kernels, ")
    if sentences.ndim == 2:
        streamed = as_streamed(trained, sentences)
        yield from _same(kind, model, "embed_hop" if personal else "hop", trained, streamed)
    if personal:
        output = trained.base.encoder_output(sentences[:1])
        windows = output[:, : int(present_windows(output)[0])]
        yield _training(model, trained, windows)
        yield from _restoring(model, trained)
        yield _private_step(model, trained, windows)
        yield sentence_run(TfliteModel(model.content), SentenceTwin(trained), trained, windows)
        yield from _trained(model, trained, windows)


def as_streamed(trained: Trained, waveforms: FloatArray) -> FloatArray:
    """Sentences whose first samples are silent, as many as one window overlaps the next.

    A stream begins with silence in its memory, so these are the sentences that it can hear whole.
    """
    spec = trained.base.frontend
    silenced = waveforms.copy()
    silenced[:, : spec.window_samples - spec.hop_samples] = 0
    return silenced


def _same(
    kind: str,
    model: TfliteModel,
    signature: str,
    trained: Trained,
    sentences: FloatArray,
    which: str = "",
) -> Iterator[Check]:
    """What one signature answers, sentence by sentence, against the trained model."""
    # Without the blank of CTC, which is no character.
    alphabet = Alphabet(trained.base.vocabulary.labels[1:])
    embeddings = trained.base.encoder_output(sentences)
    windows = present_windows(embeddings).numpy()
    expected = _torch_logits(trained, embeddings)
    found = np.zeros_like(expected)
    over = f"{len(sentences)} sentences"
    entry = "samples" if signature.endswith("hop") else "frames"
    cut = _samples if entry == "samples" else _frames
    steps = cut(trained, sentences, expected.shape[1])
    present = _present(trained, sentences, expected.shape[1])
    for row, count in enumerate(windows):
        found[row, :count] = _stream(model, signature, entry, steps[row], present[row], count)
    # In the middle of a sentence: at its end, windows of nothing have emptied most of the memory.
    _stream(model, signature, entry, steps[-1], present[-1], max(1, windows[-1] // 2))
    again = _stream(model, signature, entry, steps[0], present[0], windows[0])
    pairs = zip(greedy(expected, windows, alphabet), greedy(found, windows, alphabet), strict=True)
    # Sentences differ in length; what stands after their end is compared with nothing.
    there = np.arange(expected.shape[1]) < windows[:, None]
    agree = float((expected.argmax(2) == found.argmax(2))[there].mean())
    same = float(np.mean([one == other for one, other in pairs]))
    least = least_of_sample(LEAST_SAME_TRANSCRIPTS[kind], len(sentences))
    name = which + signature
    yield at_least(f"{name}, same transcripts", same, least, over)
    yield at_least(f"{name}, same label of a window", agree, LEAST_SAME_LABELS[kind], over)
    largest = np.abs(expected - found)[there].max(initial=0)
    limit = INTEGER_LOGIT_LIMIT if kind == "int8" else MAX_LOGIT_DIFFERENCE
    yield at_most(f"{name}, largest difference", largest, limit, over)
    changed = np.abs(again - found[0, : windows[0]]).max(initial=0)
    over = "one sentence, after half of another"
    yield at_most(f"{signature}, difference after reset", changed, 0, over)


def _stream(
    model: TfliteModel,
    signature: str,
    entry: str,
    steps: FloatArray,
    present: FloatArray,
    windows: int,
) -> FloatArray:
    """Logits of one sentence (w, c), a window at a time."""
    model.call("reset")
    answers = [
        model.run(signature, **{entry: steps[None, place], "present": present[None, place]})
        for place in range(windows)
    ]
    if not signature.startswith("embed"):
        return np.stack([answer["logits"][0] for answer in answers])
    room = model.signatures["score"].inputs["windows"].shape
    padded = _padded(np.stack([answer["window"][0] for answer in answers]), room)
    logits: FloatArray = model.run("score", windows=padded)["logits"][:windows]
    return logits


def _frames(trained: Trained, sentences: FloatArray, windows: int) -> FloatArray:
    """Frames by window (n, w, stride, m), not standardized.

    Where nothing was recorded they hold what would change every answer if a file heard it.
    """
    base, stride = trained.base, trained.base.encoder.spec.stride
    raw = base.features(sentences).numpy() * base.feature_std + base.feature_mean
    frames = _padded(raw, (len(raw), windows * stride, raw.shape[2]))
    frames = frames.reshape(len(raw), windows, stride, -1)
    frames[_present(trained, sentences, windows) == 0] = _NOT_RECORDED
    return frames


def _samples(trained: Trained, waveforms: FloatArray, windows: int) -> FloatArray:
    """Samples by window (n, w, stride hops), less the first, which a stream has in its memory."""
    spec = trained.base.frontend
    step = trained.base.encoder.spec.stride * spec.hop_samples
    streamed = waveforms[:, spec.window_samples - spec.hop_samples :]
    padded = _padded(streamed, (len(streamed), windows * step))
    return padded.reshape(len(streamed), windows, step)


def _present(trained: Trained, sentences: FloatArray, windows: int) -> FloatArray:
    """Which frames of each window were recorded, (n, w, stride), 1 or 0."""
    base = trained.base
    stride = base.encoder.spec.stride
    frames = base.frontend.recorded_frames(sentences)
    there = np.arange(windows * stride) < frames[:, None]
    return there.astype(np.float32).reshape(len(sentences), windows, stride)


def _padded(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Zeros of a shape with the values before them."""
    room = np.zeros(shape, dtype=np.float32)
    room[tuple(slice(size) for size in values.shape)] = values
    return room


def _training(model: TfliteModel, trained: Trained, windows: torch.Tensor) -> Check:
    """Steps on the phone against the same steps by the library's own gradients."""
    local: dict[str, FloatArray] = dict(trained.parameters)
    velocity = {name: np.zeros_like(value) for name, value in local.items()}
    for error in _errors(trained, windows, STEPS):
        model.run("train", **_step_inputs(model, windows, error), learning_rate=_RATE,
                  momentum=_MOMENTUM)  # fmt: skip
        for name, gradient in _gradients(trained, local, windows, error).items():
            velocity[name] = _MOMENTUM[0] * velocity[name] + gradient
            local[name] = local[name] - _RATE[0] * velocity[name]
    difference = _apart(model.call("save")["adapter"], trained.adapter.spec.flatten(local))
    over = f"{windows.shape[1]} windows, of the adapter's largest value if above 1"
    return at_most(f"{STEPS} training steps, largest difference", difference, STEPS_LIMIT, over)


def _trained(model: TfliteModel, trained: Trained, windows: torch.Tensor) -> Iterator[Check]:
    """Answers by what was learned, in this file and in another that it is restored into."""
    moved = model.call("save")
    named = replace(trained, parameters=trained.adapter.spec.unflatten(moved["adapter"]))
    room = model.signatures["score"].inputs["windows"].shape
    padded = _padded(windows[0].numpy(), room)
    answer = model.run("score", windows=padded)["logits"]
    apart = np.abs(answer[: windows.shape[1]] - _torch_logits(named, windows)[0]).max()
    over = f"{windows.shape[1]} windows"
    yield at_most("score after training, largest difference", apart, MAX_LOGIT_DIFFERENCE, over)
    other = TfliteModel(model.content)
    other.run("restore", base=hash_words(trained.base.sha256), **moved)
    changed = float((other.run("score", windows=padded)["logits"] != answer).sum())
    yield at_most("restore in a fresh interpreter, logits changed", changed, 0, over)


def _restoring(model: TfliteModel, trained: Trained) -> Iterator[Check]:
    """An adapter of this base is taken back, one of another base is not."""
    start = trained.adapter.spec.flatten(trained.parameters)
    base = hash_words(trained.base.sha256)
    whole = {"adapter": start, "checksum": checksum(start)}
    other = model.run("restore", base=np.zeros(8, np.int32), **whole)["restored"][0]
    own = model.run("restore", base=base, **whole)["restored"][0]
    back = np.abs(model.call("save")["adapter"] - start).max()
    yield at_most("adapters of another base restored", other, 0, "one adapter")
    yield at_least("adapters of this base restored", own, 1, "one adapter")
    yield at_most("difference after restore", back, 0, "one adapter")


def _private_step(model: TfliteModel, trained: Trained, windows: torch.Tensor) -> Check:
    """One step of DP-SGD over three sentences, clipped one by one, against the library's own."""
    spec = trained.adapter.spec
    errors = _errors(trained, windows, 3)
    own = [spec.flatten(_gradients(trained, trained.parameters, windows, e)) for e in errors]
    norms = np.linalg.norm(own, axis=1)
    clip_norm = np.array([np.median(norms)], np.float32)  # one is clipped, one is not
    noise = np.random.default_rng(1).standard_normal(spec.size).astype(np.float32) * clip_norm
    total = sum(min(1.0, clip_norm[0] / norm) * row for norm, row in zip(norms, own, strict=True))
    expected = spec.flatten(trained.parameters) - _RATE * (total + noise) / len(errors)
    for error in errors:
        model.run("clip", **_step_inputs(model, windows, error), clip_norm=clip_norm)
    model.run("train_dp", noise=noise, expected_sentences=np.array([3], np.float32),
              learning_rate=_RATE, momentum=0 * _MOMENTUM)  # fmt: skip
    difference = _apart(model.call("save")["adapter"], expected)
    over = "three sentences, of the adapter's largest value if above 1"
    return at_most("train_dp, largest difference", difference, PRIVATE_LIMIT, over)


def _apart(found: FloatArray, expected: FloatArray) -> float:
    """Largest difference of adapters, relative to the largest value if that is above 1."""
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


class SentenceTwin(AdapterTwin):
    """The personal file for sentences; see `sentence_graphs.PersonalSentenceGraph`."""

    def __init__(self, trained: Trained) -> None:
        """Starts where the file starts."""
        super().__init__(trained)
        self.trained, self.clipped = trained, np.zeros(self.spec.size)

    def take(self, adapter: FloatArray) -> None:
        """Starts anew; sentences clipped before are forgotten."""
        super().take(adapter)
        self.clipped = np.zeros(self.spec.size)

    def train(self, windows: FloatArray, error: FloatArray, **rates: FloatArray) -> Outputs:
        """One step of SGD."""
        stepped = self.counts(windows, error) and optimizer_holds(**rates)
        return self.stepped(stepped, lambda: self.gradient(windows, error), rates)

    def clip(self, windows: FloatArray, error: FloatArray, clip_norm: FloatArray) -> Outputs:
        """Adds the clipped gradient of one sentence."""
        counted = self.counts(windows, error) and privacy_holds(clip_norm, 0, 1)
        factor = 0.0
        if counted:
            gradient = self.gradient(windows, error)
            factor = min(1.0, float(clip_norm[0]) / max(float(np.linalg.norm(gradient)), 1e-15))
            self.clipped = self.clipped + factor * gradient
        return {"factor": np.array([factor], np.float32), "counted": np.array([counted], np.int32)}

    def train_dp(
        self, noise: FloatArray, expected_sentences: FloatArray, **rates: FloatArray
    ) -> Outputs:
        """One step of DP-SGD from what `clip` added up."""
        stepped = optimizer_holds(**rates) and privacy_holds(1, noise, expected_sentences)
        total = self.clipped
        if stepped:
            self.clipped = np.zeros(self.spec.size)
        return self.stepped(stepped, lambda: (total + noise) / expected_sentences, rates)

    def counts(self, windows: FloatArray, error: FloatArray) -> bool:
        """Whether a sentence is within the limits."""
        return all(bool((np.abs(x) <= EMBEDDING_LIMIT).all()) for x in (windows, error))

    def gradient(self, windows: FloatArray, error: FloatArray) -> NDArray[np.float64]:
        """The library's own, flat (d,)."""
        output = torch.from_numpy(windows[np.newaxis])
        return self.spec.flatten(_gradients(self.trained, self.named, output, error)).astype(float)

    def stepped(
        self, taken: bool, gradient: Callable[[], NDArray[np.float64]], rates: Mapping[str, Any]
    ) -> Outputs:
        """Takes a step, if it may be taken; outputs of it."""
        norm = 0.0
        if taken:
            found = gradient()
            norm = float(np.linalg.norm(found))
            self.step(found, proximal_mu=0.0, **rates)
        return {"norm": np.array([norm], np.float32), "stepped": np.array([taken], np.int32)}


def sentence_run(file: Runs, twin: SentenceTwin, trained: Trained, windows: torch.Tensor) -> Check:
    """A long run of random calls, in the file and in its twin."""
    errors = _errors(trained, windows, 3)
    spec = trained.adapter.spec
    own = [spec.flatten(_gradients(trained, trained.parameters, windows, e)) for e in errors]
    usual = float(np.median(np.linalg.norm(own, axis=1)))
    calls = sentence_calls(trained, windows[0].numpy(), TRAINING_WINDOWS, usual)
    return together("train, clip, train_dp, save, restore", file, twin, calls)


def _errors(trained: Trained, windows: torch.Tensor, count: int) -> list[FloatArray]:
    """Derivatives of made-up losses by the logits, (w, c), each larger than the one before."""
    labels = dict(trained.adapter.spec.shapes)["head_bias"][0]
    shape = (count, windows.shape[1], labels)
    # Made-up losses: the file is handed a derivative and cannot tell where it came from.
    drawn = 0.01 * np.random.default_rng(0).standard_normal(shape)
    return [(row * (1 + place / count)).astype(np.float32) for place, row in enumerate(drawn)]


def _step_inputs(
    model: TfliteModel, windows: torch.Tensor, error: FloatArray
) -> dict[str, FloatArray]:
    """Windows and error, padded to the room that the file has for them."""
    room = model.signatures["train"].inputs
    return {
        "windows": _padded(windows[0].numpy(), room["windows"].shape),
        "error": _padded(error, room["error"].shape),
    }


def _gradients(
    trained: Trained, parameters: Parameters, windows: torch.Tensor, error: FloatArray
) -> dict[str, FloatArray]:
    """The library's own gradients by the parameters, for a given derivative by the logits."""
    adapter = trained.adapter
    # One phone with one sentence; labels are zeros because the objective below asks for none.
    batch = Batch(adapter.embed(windows)[None], torch.zeros(1, 1, 1), torch.ones(1, 1))
    local = {name: torch.from_numpy(value)[None] for name, value in parameters.items()}
    by_logit = torch.from_numpy(error.T[None].copy())
    with torch.inference_mode():
        gradients = adapter.gradients(local, batch, functools.partial(_given, by_logit))
    return {name: gradient[0].numpy() for name, gradient in gradients.items()}


def _given(by_logit: torch.Tensor, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """An error that does not depend on the logits."""
    del logits, batch
    return by_logit


def _torch_logits(trained: Trained, embeddings: torch.Tensor) -> FloatArray:
    """What training and evaluation compute, (n, w, c)."""
    adapter = trained.adapter
    tensors = {name: torch.tensor(value)[None] for name, value in trained.parameters.items()}
    with torch.inference_mode():
        logits: FloatArray = adapter.logits(tensors, adapter.embed(embeddings)[None])[0].numpy()
    return logits
