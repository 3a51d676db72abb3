"""Checks of a file for sentences: logits and transcripts against the trained model's.

Needs no TensorFlow. Sentences are streamed as a phone streams them, 40 ms at a time: as frames of
cepstra, and as samples where there are waveforms. A stream begins in silence, so the first samples
of each waveform are silent, for torch as for the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from fedspeech.corpora.corpus import Alphabet
from fedspeech.errors import ExportRefused
from fedspeech.models.adapters.adapter import present_windows
from fedspeech.models.decoding import greedy
from fedspeech.rollout.adapter_file import checksum, hash_words
from tflite_export.arrays import FloatArray
from tflite_export.checks import Check, at_least, at_most
from tflite_export.interpreter import TfliteModel
from tflite_export.parity import least_of_sample
from tflite_export.personal_checks import PRIVATE_LIMIT
from tflite_export.random_calls import sentence_calls
from tflite_export.twins import SentenceTwin, apart, together
from tflite_export.weights import Trained

MAX_LOGIT_DIFFERENCE = 1e-3
LEAST_SAME_TRANSCRIPTS = {"float": 1.0, "int8": 0.9, "personal": 1.0}
"""Of all sentences; a sample may show less, as chance takes: `parity.least_of_sample`."""

LEAST_SAME_LABELS = {"float": 1.0, "int8": 0.98, "personal": 1.0}
INTEGER_LOGIT_LIMIT = 10.0
"""Of full-integer files: a logit that is further off than this is a fault, not rounding."""

REFERENCE_SENTENCES = 12
STEPS, STEPS_LIMIT = 20, 1e-5
_NOT_RECORDED = 1e3
_RATES = {"learning_rate": np.array([0.05], np.float32), "momentum": np.array([0.9], np.float32)}


def sentence_checks(
    kind: str, model: TfliteModel, trained: Trained, sentences: FloatArray
) -> Iterator[Check]:
    """The checks of one kind of file.

    `sentences` are public waveforms (n, samples) or their features, that calibrated nothing.

    Raises:
      ExportRefused: if there is no such kind, or a check fails; names it and its figure.
      ValueError: if a signature is missing or takes other shapes.
    """
    if kind not in LEAST_SAME_LABELS:
        raise ExportRefused(f"card: no file of the family is called {kind!r}")
    personal = kind == "personal"
    first = "embed" if personal else "window"
    yield from _parity(kind, model, first, trained, sentences)
    if kind == "int8":
        reference, few = TfliteModel(model.content, "reference"), sentences[:REFERENCE_SENTENCES]
        yield from _parity(kind, reference, first, trained, few, "reference kernels, ")
    if sentences.ndim == 2:
        spec, silenced = trained.base.built_in.frontend, sentences.copy()
        # As many samples as one window overlaps the next: a stream has silence in its memory.
        silenced[:, : spec.window_samples - spec.hop_samples] = 0
        yield from _parity(kind, model, "embed_hop" if personal else "hop", trained, silenced)
    if personal:
        output = trained.base.encoder_output(sentences[:1])
        frames = output[0, : int(present_windows(output)[0])].numpy()
        yield from _training_checks(model, trained, frames)


def _parity(
    kind: str,
    model: TfliteModel,
    signature: str,
    trained: Trained,
    sentences: FloatArray,
    which: str = "",
) -> Iterator[Check]:
    """Logits and transcripts of one signature, sentence by sentence, against the trained model."""
    # Without the blank of CTC, which is no character.
    alphabet = Alphabet(trained.base.vocabulary.labels[1:])
    embeddings = trained.base.encoder_output(sentences)
    lengths = present_windows(embeddings).numpy()
    expected = _torch_logits(trained, embeddings)
    found = np.zeros_like(expected)
    inputs = _inputs(trained, sentences, expected.shape[1], hop=signature.endswith("hop"))
    for row, length in enumerate(lengths):
        found[row, :length] = _stream(model, signature, inputs, row, length)
    # In the middle of a sentence: at its end, frames of nothing have emptied most of the memory.
    _stream(model, signature, inputs, -1, max(1, lengths[-1] // 2))
    again = _stream(model, signature, inputs, 0, lengths[0])
    pairs = zip(greedy(expected, lengths, alphabet), greedy(found, lengths, alphabet), strict=True)
    # Sentences differ in length; what stands after their end is compared with nothing.
    there = np.arange(expected.shape[1]) < lengths[:, None]
    agree = float((expected.argmax(2) == found.argmax(2))[there].mean())
    same = float(np.mean([one == other for one, other in pairs]))
    least = least_of_sample(LEAST_SAME_TRANSCRIPTS[kind], len(sentences))
    largest = np.abs(expected - found)[there].max(initial=0)
    limit = INTEGER_LOGIT_LIMIT if kind == "int8" else MAX_LOGIT_DIFFERENCE
    changed = np.abs(again - found[0, : lengths[0]]).max(initial=0)
    name, over = which + signature, f"{len(sentences)} sentences"
    yield at_least(f"{name}, same transcripts", same, least, over)
    yield at_least(f"{name}, same label of a window", agree, LEAST_SAME_LABELS[kind], over)
    yield at_most(f"{name}, largest difference", largest, limit, over)
    over = "one sentence, after half of another"
    yield at_most(f"{signature}, difference after reset", changed, 0, over)


def _stream(
    model: TfliteModel, signature: str, inputs: Mapping[str, FloatArray], row: int, length: int
) -> FloatArray:
    """Logits of one sentence (w, c), one encoder frame at a time."""
    model.call("reset")
    steps = [
        {name: values[row][None, at] for name, values in inputs.items()} for at in range(length)
    ]
    outputs = [model.run(signature, **step) for step in steps]
    if not signature.startswith("embed"):
        return np.stack([output["logits"][0] for output in outputs])
    return _score(model, np.stack([output["window"][0] for output in outputs]))


def _inputs(
    trained: Trained, sentences: FloatArray, length: int, *, hop: bool
) -> dict[str, FloatArray]:
    """Inputs of `hop` or of `window`, each (n, length, ...), and which frames were recorded."""
    encoder = trained.base.built_in
    spec, stride = encoder.frontend, encoder.spec.stride
    recorded = np.arange(length * stride) < spec.recorded_frames(sentences)[:, None]
    present = recorded.astype(np.float32).reshape(len(sentences), length, stride)
    if hop:
        # Less the first samples, which a stream has in its memory.
        streamed = sentences[:, spec.window_samples - spec.hop_samples :]
        step = stride * spec.hop_samples
        padded = _padded(streamed, (len(streamed), length * step))
        return {"samples": padded.reshape(len(streamed), length, step), "present": present}
    raw = encoder.features(sentences).numpy() * encoder.feature_std + encoder.feature_mean
    frames = _padded(raw, (len(raw), length * stride, raw.shape[2]))
    # What would change every logit if a file heard it.
    frames[~recorded] = _NOT_RECORDED
    return {"frames": frames.reshape(len(raw), length, stride, -1), "present": present}


def _padded(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Zeros of a shape with the values before them."""
    room = np.zeros(shape, dtype=np.float32)
    room[tuple(slice(size) for size in values.shape)] = values
    return room


def _score(model: TfliteModel, frames: FloatArray) -> FloatArray:
    """Logits (w, c) of encoder frames (w, f) by the adapter that the file holds."""
    room = model.signatures["score"].inputs["windows"].shape
    logits: FloatArray = model.run("score", windows=_padded(frames, room))["logits"][: len(frames)]
    return logits


def _training_checks(model: TfliteModel, trained: Trained, frames: FloatArray) -> Iterator[Check]:
    """Training on encoder frames (w, f), save and restore, against torch's own gradients."""
    twin, base = SentenceTwin(trained), hash_words(trained.base.sha256)
    start = {"adapter": twin.start, "checksum": checksum(twin.start)}
    sentences = _sentences(model, frames, STEPS)
    for sentence in sentences:
        for each in (model, twin):
            each.run("train", **sentence, **_RATES)
    over = "of the adapter's largest value if above 1"
    difference = apart(model.call("save")["adapter"], twin.values)
    yield at_most(
        f"{STEPS} training steps, largest difference", difference, STEPS_LIMIT,
        f"{len(frames)} windows, {over}",
    )  # fmt: skip
    other = model.run("restore", base=np.zeros(8, np.int32), **start)["restored"][0]
    own = model.run("restore", base=base, **start)["restored"][0]
    back = np.abs(model.call("save")["adapter"] - twin.start).max()
    yield at_most("adapters of another base restored", other, 0, "one adapter")
    yield at_least("adapters of this base restored", own, 1, "one adapter")
    yield at_most("difference after restore", back, 0, "one adapter")
    twin, sentences = SentenceTwin(trained), _sentences(model, frames, 3)
    usual = float(np.median([np.linalg.norm(twin.gradient(**each)) for each in sentences]))
    yield _private_step(model, twin, sentences, usual)
    calls = sentence_calls(trained, frames, len(sentences[0]["windows"]), usual)
    fresh, unmoved = TfliteModel(model.content), SentenceTwin(trained)
    yield together("train, clip, train_dp, save, restore", fresh, unmoved, calls)
    yield from _trained(model, trained, frames)


def _private_step(
    model: TfliteModel, twin: SentenceTwin, sentences: list[dict[str, FloatArray]], usual: float
) -> Check:
    """One step of DP-SGD over three sentences, clipped one by one, against the library's own."""
    clip_norm = np.array([usual], np.float32)  # the median: one is clipped, one is not
    noise = np.random.default_rng(1).standard_normal(twin.spec.size).astype(np.float32) * clip_norm
    expected = np.array([len(sentences)], np.float32)
    rates = _RATES | {"momentum": np.zeros(1, np.float32)}
    for each in (model, twin):
        for sentence in sentences:
            each.run("clip", **sentence, clip_norm=clip_norm)
        each.run("train_dp", noise=noise, expected_sentences=expected, **rates)
    over = "three sentences, of the adapter's largest value if above 1"
    difference = apart(model.call("save")["adapter"], twin.values)
    return at_most("train_dp, largest difference", difference, PRIVATE_LIMIT, over)


def _sentences(model: TfliteModel, frames: FloatArray, count: int) -> list[dict[str, FloatArray]]:
    """Inputs of `train`: the same frames with derivatives of made-up losses, each larger."""
    room = model.signatures["train"].inputs
    labels = room["error"].shape[1]
    # Made-up losses: the file is handed a derivative and cannot tell where it came from.
    errors = 0.01 * np.random.default_rng(0).standard_normal((count, len(frames), labels))
    windows = _padded(frames, room["windows"].shape)
    return [
        {"windows": windows, "error": _padded(error * (1 + place / count), room["error"].shape)}
        for place, error in enumerate(errors)
    ]


def _trained(model: TfliteModel, trained: Trained, frames: FloatArray) -> Iterator[Check]:
    """Logits by what was learned, in this file and in another that it is restored into."""
    moved, over = model.call("save"), f"{len(frames)} windows"
    named = replace(trained, parameters=trained.adapter.spec.unflatten(moved["adapter"]))
    logits = _score(model, frames)
    difference = np.abs(logits - _torch_logits(named, torch.from_numpy(frames)[None])[0]).max()
    yield at_most(
        "score after training, largest difference", difference, MAX_LOGIT_DIFFERENCE, over
    )
    other = TfliteModel(model.content)
    other.run("restore", base=hash_words(trained.base.sha256), **moved)
    changed = float((_score(other, frames) != logits).sum())
    yield at_most("restore in a fresh interpreter, logits changed", changed, 0, over)


def _torch_logits(trained: Trained, embeddings: torch.Tensor) -> FloatArray:
    """What training and evaluation compute, (n, w, c)."""
    adapter = trained.adapter
    tensors = {name: torch.tensor(value)[None] for name, value in trained.parameters.items()}
    with torch.inference_mode():
        logits: FloatArray = adapter.logits(tensors, adapter.embed(embeddings)[None])[0].numpy()
    return logits
