"""What each kind of file for keywords must pass: logits, predictions, streams, sizes.

Needs no TensorFlow. The file that trains is checked in `personal_checks.py`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from tflite_export.arrays import FloatArray
from tflite_export.checks import AtWork, Check, at_least, at_most
from tflite_export.evidence import Evidence
from tflite_export.flatbuffer import card_bytes, float_weights
from tflite_export.interchange import keyword_files
from tflite_export.interpreter import TfliteModel
from tflite_export.micro.checks import micro_checks
from tflite_export.micro.esphome import wake_word_checks
from tflite_export.parity import MAX_LOGIT_DIFFERENCE, require_answers, require_logits
from tflite_export.personal_checks import personal_checks
from tflite_export.weights import network

INTEGER_KINDS = ("int8", "streaming-int8", "cc", "micro", "esphome")
LEAST_AGREEMENT = {"fp16": 0.995, "dynamic": 0.99, "int8": 0.99, "streaming-int8": 0.99, "cc": 0.99}
# Names, shapes and scales of a graph's tensors grow with its layers, of which the small encoder has
# no fewer: 24 KB there. Float weights would be twice over the limit in either.
INT8_BYTES_PER_PARAMETER, FLOAT_BYTES, INT8_FURTHER_BYTES = 1.3, 4, 30_000
# Between words and in noise louder than any calibration clip, torch's own predictions are near
# ties: of full-integer files 96.1 % of all hops and more agreed. Where clips end, 99 % must.
LEAST_LISTENING_AGREEMENT = {"streaming": 0.999, "streaming-int8": 0.95}
INTEGER_LOGIT_LIMIT = 3.0
"""Of files with fewer bits: a logit that is further off than this is a fault, not rounding."""

# One clip costs a third of a millisecond as features, two as a waveform, whose Fourier transform
# LiteRT computes frame by frame, and ten hop by hop. So every held-out clip is heard as features,
# and evenly spread ones in the other ways, which must find the same.
Counts = Mapping[str, tuple[int, ...]]
CLIPS: Counts = {"log_mel": (), "waveform": (), "hop": (150,)}
"""By signature: every held-out clip, or every one whose sound is kept, or so many of those."""

REFERENCE_CLIPS: Counts = {"log_mel": (300,), "waveform": (60,), "hop": (150, 30)}
"""With kernels that are slower still."""

STREAM_LIMIT = 1e-5
_CLIPS_EACH = 32
_EVERY = slice(None)


def keyword_checks(kind: str, model: TfliteModel, evidence: Evidence) -> Iterator[Check | AtWork]:
    """The checks of one kind of model file.

    Raises:
      ExportRefused: if there is no such kind, or a check fails; names it and its figure.
      ValueError: if a signature is missing or takes other shapes.
    """
    made_of = network(evidence.trained).merged()
    merged = made_of.parameters.values()
    if kind in INTEGER_KINDS:
        allowed = 0 if kind == "esphome" else sum(x.size for x in merged if x.ndim == 2)
        yield at_most(
            "weights that compute in float", float_weights(model.content), allowed, "the adapter's"
        )
    match kind:
        case "float":
            yield AtWork("every logit of the probes")
            yield from _logits(model, "waveform", evidence.probes, evidence)
            yield from _logits(model, "log_mel", evidence.log_mel, evidence)
        case "classifier" | "log-mel":
            signature = keyword_files.SIGNATURES[kind]
            inputs = evidence.probes if kind == "classifier" else evidence.log_mel
            yield from _logits(model, signature, inputs, evidence)
            labels = evidence.trained.base.vocabulary.labels
            yield from keyword_files.metadata_checks(model, labels)
        case "fp16" | "dynamic":
            yield from _predictions(kind, model, evidence, CLIPS)
        case "int8" | "cc":
            own = yield from _predictions(kind, model, evidence, CLIPS)
            yield from _reference_kernels(kind, model, evidence, own)
            yield _size(model, evidence)
        case "streaming":
            yield AtWork("logits of the probes, hop by hop")
            yield from _logits(model, "hop", evidence.probes, evidence, evidence.streamed)
            yield from _stream_checks(kind, model, evidence)
        case "streaming-int8":
            own = yield from _predictions(kind, model, evidence, CLIPS)
            yield from _stream_checks(kind, model, evidence)
            yield from _reference_kernels(kind, model, evidence, own)
        case "micro":
            yield from micro_checks(model, evidence, made_of)
            yield _size(model, evidence)
        case "esphome":
            yield from wake_word_checks(model, evidence, made_of)
        case "personal":
            yield from personal_checks(model, evidence)
        case _:
            raise ExportRefused(f"card: no file of the family is called {kind!r}")


def _size(model: TfliteModel, evidence: Evidence) -> Check:
    """Bytes of a full-integer file of one graph; the adapter's own values stay in float."""
    merged = network(evidence.trained).merged().parameters.values()
    whole = sum(value.size for value in merged)
    integers = evidence.trained.base.built_in.network.num_parameters
    limit = INT8_BYTES_PER_PARAMETER * integers + FLOAT_BYTES * whole + INT8_FURTHER_BYTES
    return at_most(
        "bytes without the card", len(model.content) - card_bytes(model.content), limit,
        f"{integers:,} parameters at {INT8_BYTES_PER_PARAMETER} bytes, {whole:,} of the adapter at "
        f"{FLOAT_BYTES}, and {INT8_FURTHER_BYTES // 1000} KB",
    )  # fmt: skip


def _logits(
    model: TfliteModel,
    signature: str,
    inputs: FloatArray,
    evidence: Evidence,
    places: slice | NDArray[np.int64] = _EVERY,
) -> tuple[Check, ...]:
    """Logits of the probes, or of those at `places`, by a signature against torch's."""
    found = _scored(model, signature, inputs[places], evidence)
    speech = int((np.arange(len(inputs))[places] < len(evidence.speech)).sum())
    return require_logits(signature, evidence.logits[places], found, speech=speech)


def _inputs(
    kind: str, evidence: Evidence, most: Counts
) -> dict[str, tuple[NDArray[np.int64], FloatArray]]:
    """Signature to places of held-out clips, and these clips as it takes them."""
    # By torch's front end: an error of the file's own shows in the other signature.
    features = evidence.held_out_log_mel
    places = evidence.held_out.evenly(*most["log_mel"] or (len(features),))
    inputs = {"log_mel": (places, features[places])}
    if kind == "cc":  # firmware brings its own front end
        return inputs
    heard = "hop" if kind == "streaming-int8" else "waveform"
    return inputs | {heard: evidence.sound(*most[heard])}


def _reference_kernels(
    kind: str, model: TfliteModel, evidence: Evidence, own: Mapping[str, FloatArray]
) -> Iterator[Check | AtWork]:
    """Predictions of a full-integer file by kernels that round differently, on some clips.

    `own` are the logits by LiteRT's own choice of kernels, by signature, at their places.
    """
    reference = TfliteModel(model.content, "reference")
    found = yield from _predictions(
        kind, reference, evidence, REFERENCE_CLIPS, "reference kernels, "
    )
    for signature, logits in found.items():
        few = np.flatnonzero(np.isfinite(logits).all(axis=1))
        yield at_most(
            f"{signature}, largest difference of a logit between two sets of kernels",
            np.abs(own[signature][few] - logits[few]).max(), INTEGER_LOGIT_LIMIT,
            f"{len(few)} held-out clips, LiteRT's own choice (XNNPACK) and reference kernels",
        )  # fmt: skip


def _scored(
    model: TfliteModel, signature: str, inputs: FloatArray, evidence: Evidence
) -> FloatArray:
    """Logits (n, c) of clips; a stream is reset before each."""

    def score(own: TfliteModel, part: FloatArray) -> FloatArray:
        if signature == "hop":
            return stream_clips(own, evidence.trained.base.built_in.frontend, part)
        return own.run_each(signature, part)

    # Clips do not depend on each other, and LiteRT lets go of Python while it computes: every core
    # has an interpreter of its own.
    parts = np.array_split(inputs, min(os.cpu_count() or 1, -(-len(inputs) // _CLIPS_EACH)))
    files = [model, *(TfliteModel(model.content, model.kernels) for _ in parts[1:])]
    with ThreadPoolExecutor(len(parts)) as pool:
        return np.concatenate(list(pool.map(score, files, parts)))


def _predictions(
    kind: str,
    model: TfliteModel,
    evidence: Evidence,
    most: Counts,
    which: str = "",
) -> Generator[Check | AtWork, None, dict[str, FloatArray]]:
    """Held-out clips in a file with fewer bits: predictions, and distance of logits from torch.

    `most` says which a signature gets. Returns the logits by signature, NaN in rows of clips that
    it did not get.
    """
    every = evidence.held_out_logits
    logits = {}
    for signature, (places, inputs) in _inputs(kind, evidence, most).items():
        yield AtWork(f"{which}{signature} on {len(inputs):,} held-out clips")
        expected, found = every[places], _scored(model, signature, inputs, evidence)
        logits[signature] = np.full_like(every, np.nan)
        logits[signature][places] = found
        yield from require_answers(
            f"{which}{signature}", expected, found, evidence.held_out.rows(places),
            least_agreement=LEAST_AGREEMENT[kind], sampled=len(places) < len(every),
        )  # fmt: skip
        yield at_most(
            f"{which}{signature}, largest difference of a logit from torch",
            np.abs(found - expected).max(), INTEGER_LOGIT_LIMIT, f"{len(inputs)} held-out clips",
        )  # fmt: skip
    return logits


def _stream_checks(kind: str, model: TfliteModel, evidence: Evidence) -> Iterator[Check | AtWork]:
    """Minutes without a reset against torch, frames against whole clips, and the reset itself."""
    yield AtWork("minutes of hops without a reset")
    model.call("reset")
    spec, expected = evidence.trained.base.built_in.frontend, evidence.listening_logits
    found = _every_hop(model, spec, evidence.listening)
    over = f"{len(found)} hops without a reset, of speech after silence, noise and other words"
    agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    yield at_least("listening, same answer", agreement, LEAST_LISTENING_AGREEMENT[kind], over)
    if kind == "streaming":
        difference = np.abs(found.astype(np.float64) - expected).max()
        yield at_most("listening, largest difference", difference, MAX_LOGIT_DIFFERENCE, over)
    yield AtWork("frame by frame against the whole clip")
    clips = evidence.log_mel[evidence.streamed]
    frames = np.stack([_last_logits(model, "frame", "log_mel", clip) for clip in clips])
    whole = model.run_each("log_mel", clips)
    yield at_most(
        "frame by frame, largest difference from the whole clip in this file",
        np.abs(frames - whole).max(), STREAM_LIMIT, f"{len(frames)} inputs",
    )  # fmt: skip
    first, other = evidence.speech[:2]
    # A fresh file has forgotten nothing, so it is what a file after a reset has to equal.
    fresh = TfliteModel(model.content)
    _every_hop(model, spec, other)
    for file in (fresh, model):
        file.call("reset")
    expected, found = (_every_hop(file, spec, first) for file in (fresh, model))
    yield at_most(
        "reset, outputs changed", float((found != expected).sum()), 0,
        f"{len(found)} hops of a clip, in the middle of speech and in a file that heard nothing",
    )  # fmt: skip


def _every_hop(model: TfliteModel, spec: FrontendSpec, samples: FloatArray) -> FloatArray:
    """Goes on feeding samples (n,); returns the logits of every hop that they fill, (hops, c)."""
    hop = spec.hop_samples
    steps = samples[: len(samples) // hop * hop].reshape(-1, 1, hop)
    return np.array([model.run("hop", samples=step)["logits"][0] for step in steps])


def stream_clips(model: TfliteModel, spec: FrontendSpec, waveforms: FloatArray) -> FloatArray:
    """Streams clips (n, heard_samples), each from a reset; returns the last logits, (n, c)."""
    hop, overlap = spec.hop_samples, spec.window_samples - spec.hop_samples
    hops = (waveforms.shape[1] - overlap) // hop
    # The first samples are not fed, so that the hops end where the clip's frames end. They belong
    # to the first frame of the left context, which nothing in the clip sees.
    steps = waveforms[:, overlap : overlap + hops * hop].reshape(len(waveforms), hops, hop)
    return np.stack([_last_logits(model, "hop", "samples", clip) for clip in steps])


def _last_logits(
    model: TfliteModel, signature: str, entry: str, steps: Sequence[FloatArray] | FloatArray
) -> FloatArray:
    """Resets, runs one signature step by step, returns the last logits, shape (c,)."""
    model.call("reset")
    logits = np.empty(0, dtype=np.float32)
    for step in steps:
        logits = model.run(signature, **{entry: step[np.newaxis]})["logits"][0]
    return logits
