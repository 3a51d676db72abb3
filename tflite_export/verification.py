"""Is a file what it says? Every check that its kind must pass, or a refusal that names the figure.

    verify(Path("model_int8.tflite"), evidence).checks

Needs no TensorFlow. What a file claims to be stands in its card.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.errors import ExportRefused
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining
from tflite_export.adapter_file import read_adapter
from tflite_export.arrays import hash_words
from tflite_export.card import require_identity
from tflite_export.checks import Check, at_least, at_most
from tflite_export.evidence import Evidence, HeldOut, log_mel, reference_logits
from tflite_export.files import model_bytes, read_file
from tflite_export.flatbuffer import card_bytes, float_weights, read_card, require_builtins
from tflite_export.interpreter import TfliteModel
from tflite_export.on_device import PersonalModel
from tflite_export.parity import MAX_LOGIT_DIFFERENCE, require_answers, require_logits
from tflite_export.random_calls import personal_calls
from tflite_export.runtimes import require_callable
from tflite_export.twins import (
    FollowingSgd,
    PersonalTwin,
    Runs,
    clip_losses_and_gradients,
    clipped,
    together,
)
from tflite_export.weights import Trained, network

INTEGER_KINDS = ("int8", "streaming-int8", "cc")
LEAST_AGREEMENT = {"fp16": 0.995, "dynamic": 0.99, "int8": 0.99, "streaming-int8": 0.99, "cc": 0.99}
INT8_BYTES_PER_PARAMETER, FLOAT_BYTES, INT8_FURTHER_BYTES = 1.3, 4, 20_000
# Between words and in noise louder than any calibration clip, torch's own answers are near ties: of
# full-integer files 96.1 % of all hops and more were seen to agree. Where clips end, 99 % must.
LEAST_LISTENING_AGREEMENT = {"streaming": 0.999, "streaming-int8": 0.95}
INTEGER_LOGIT_LIMIT = 3.0
"""Of files with fewer bits: a logit that is further off than this is a fault, not rounding."""

REFERENCE_CLIPS = 300
STREAM_LIMIT = 1e-5
DEVICE_STEPS = 200
STEP_LIMIT = 16 * 2**-24
"""Of a training step, relative to the largest value that the adapter holds, if that is above 1.

Float32 rounds a value v by up to 2^-24 v. A step rounds the new value, the product of rate and
momentum (at most twice the largest value, or the step would not lead to it), the momentum, and a
gradient whose sums, of some hundred terms with errors of either sign, are off by some ten roundings
(Higham and Mary 2019, doi:10.1137/18M1226312: the root of the number of terms).
"""

PRIVATE_LIMIT = 1e-6
_TRAINING_CLIPS = 32

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found out about a file that passed.

    Attributes:
      file: its name.
      kind: which of the family it is.
      sha256: of the file, hex.
      size_bytes: of the file.
      checks: what was measured.
      operators: builtin operator to count; empty for what is no model.
    """

    file: str
    kind: str
    sha256: str
    size_bytes: int
    checks: tuple[Check, ...]
    operators: Mapping[str, int]

    def figure(self, name: str) -> float | None:
        """The figure of the first check whose name ends so, or None."""
        return next((check.figure for check in self.checks if check.name.endswith(name)), None)


def verify(file: Path, evidence: Evidence) -> Verification:
    """Checks a file that exists, whoever made it.

    Raises:
      ExportRefused: if it cannot be read, carries no card or that of another model, needs an
        operator that is not a builtin, or fails a check of its kind; names the check and figure.
    """
    return verify_content(read_file(file), file.name, evidence)


def verify_content(content: bytes, name: str, evidence: Evidence) -> Verification:
    """Checks the bytes of a file; `name` tells by its ending how to read them."""
    if name.endswith(".safetensors"):
        return verification(content, name, "adapter", _adapter(content, evidence))
    return verify_model(
        content, name, evidence.trained, lambda kind, model: _of_kind(kind, model, evidence)
    )


def verify_model(
    content: bytes,
    name: str,
    trained: Trained,
    checks: Callable[[str, TfliteModel], Iterable[Check]],
) -> Verification:
    """Checks a model: its card, its operators, and what else its kind must pass.

    Args:
      content: of the file.
      name: of the file.
      trained: of whom the card must speak.
      checks: called with the kind that the card names, and the model.

    Raises:
      ExportRefused: see `verify`.
    """
    plain = model_bytes(content, name)
    model = TfliteModel(plain)
    card = read_card(plain)
    require_identity(card, trained)
    kind = str(card.get("file"))
    operators = require_builtins(plain)
    require_callable(model.signatures)
    try:
        return verification(content, name, kind, checks(kind, model), operators)
    except ValueError as error:  # a signature that is missing or takes other shapes
        raise ExportRefused(f"{kind}: {error}") from error


def verification(
    content: bytes,
    name: str,
    kind: str,
    checks: Iterable[Check],
    operators: Mapping[str, int] | None = None,
) -> Verification:
    """Runs the checks and says of which bytes they are."""
    return Verification(
        file=name,
        kind=kind,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        checks=tuple(checks),
        operators=operators or {},
    )


def _of_kind(kind: str, model: TfliteModel, evidence: Evidence) -> Iterator[Check]:
    """The checks of one kind of model file."""
    if kind in INTEGER_KINDS:
        head = network(evidence.trained).merged().parameters.values()
        yield at_most(
            "weights that compute in float", float_weights(model.content),
            sum(value.size for value in head if value.ndim == 2), "the adapter's",
        )  # fmt: skip
    match kind:
        case "float":
            for signature, inputs in (("waveform", evidence.probes), ("log_mel", evidence.log_mel)):
                yield from _logits(model, signature, inputs, evidence, evidence.logits)
        case "fp16" | "dynamic" | "int8" | "cc":
            yield from _answers(kind, model, evidence)
        case "streaming":
            yield from _streaming(model, evidence)
            yield from _listening(kind, model, evidence)
            yield _as_whole_clip(model, evidence)
            yield _reset(model, evidence)
        case "streaming-int8":
            yield from _answers(kind, model, evidence)
            yield from _listening(kind, model, evidence)
            yield _as_whole_clip(model, evidence)
            yield _reset(model, evidence)
        case "personal":
            yield from _personal(model, evidence)
        case _:
            raise ExportRefused(f"card: no file of the family is called {kind!r}")
    if kind in INTEGER_KINDS:
        yield from _reference_kernels(kind, model, evidence)
    if kind in ("int8", "cc"):
        yield _size(model, evidence)


def _size(model: TfliteModel, evidence: Evidence) -> Check:
    """Bytes of a full-integer file; the adapter's own values stay in float."""
    merged = network(evidence.trained).merged()
    whole = sum(value.size for value in merged.parameters.values())
    integers = evidence.trained.base.trunk.num_parameters
    limit = INT8_BYTES_PER_PARAMETER * integers + FLOAT_BYTES * whole + INT8_FURTHER_BYTES
    return at_most(
        "bytes without the card", len(model.content) - card_bytes(model.content), limit,
        f"{integers:,} parameters at {INT8_BYTES_PER_PARAMETER} bytes, {whole:,} of the adapter at "
        f"{FLOAT_BYTES}, and {INT8_FURTHER_BYTES // 1000} KB",
    )  # fmt: skip


def _logits(
    model: TfliteModel, signature: str, inputs: FloatArray, evidence: Evidence, expected: FloatArray
) -> tuple[Check, ...]:
    """Every logit of a signature against torch's."""
    found = model.run_each(signature, inputs)
    return require_logits(signature, expected, found, speech=len(evidence.speech))


def _ways_in(kind: str, evidence: Evidence, held_out: HeldOut) -> dict[str, FloatArray]:
    """Signature to held-out clips as it takes them."""
    if kind == "streaming-int8":
        return {"hop": held_out.waveforms}
    features = {"log_mel": log_mel(evidence.trained.base.frontend, held_out.waveforms)}
    # Firmware brings its own front end.
    return features if kind == "cc" else {"waveform": held_out.waveforms, **features}


def _reference_kernels(kind: str, model: TfliteModel, evidence: Evidence) -> Iterator[Check]:
    """Answers of a full-integer file by kernels that round differently, on some of the clips."""
    reference, every = TfliteModel(model.content, "reference"), len(evidence.held_out.labels)
    few = np.unique(np.linspace(0, every - 1, min(every, REFERENCE_CLIPS)).astype(np.int64))
    yield from _answers(kind, reference, evidence, few, "reference kernels, ")
    for signature, inputs in _ways_in(kind, evidence, evidence.held_out.rows(few)).items():
        one, other = (_scored(each, signature, inputs, evidence) for each in (model, reference))
        yield at_most(
            f"{signature}, largest difference of a logit between two sets of kernels",
            np.abs(one - other).max(), INTEGER_LOGIT_LIMIT,
            f"{len(inputs)} held-out clips, LiteRT's own choice (XNNPACK) and reference kernels",
        )  # fmt: skip


def _scored(
    model: TfliteModel, signature: str, inputs: FloatArray, evidence: Evidence
) -> FloatArray:
    """Logits (n, c) of clips; a stream is reset before each."""
    if signature == "hop":
        return stream_clips(model, evidence.trained.base.frontend, inputs)
    return model.run_each(signature, inputs)


def _answers(
    kind: str,
    model: TfliteModel,
    evidence: Evidence,
    places: NDArray[np.int64] | None = None,
    which: str = "",
) -> Iterator[Check]:
    """Answers of a file with fewer bits to held-out clips, and how far logits are from torch's."""
    held_out, expected = evidence.held_out, evidence.held_out_logits
    if places is not None:
        held_out, expected = held_out.rows(places), expected[places]
    for signature, inputs in _ways_in(kind, evidence, held_out).items():
        found = _scored(model, signature, inputs, evidence)
        yield from require_answers(
            f"{which}{signature}", expected, found, held_out,
            least_agreement=LEAST_AGREEMENT[kind], sampled=places is not None,
        )  # fmt: skip
        yield at_most(
            f"{which}{signature}, largest difference of a logit from torch",
            np.abs(found - expected).max(), INTEGER_LOGIT_LIMIT, f"{len(inputs)} held-out clips",
        )  # fmt: skip


def _streaming(model: TfliteModel, evidence: Evidence) -> Iterator[Check]:
    """Hop by hop from PCM against torch."""
    hops = stream_clips(model, evidence.trained.base.frontend, evidence.probes)
    yield from require_logits("hop", evidence.logits, hops, speech=len(evidence.speech))


def _listening(kind: str, model: TfliteModel, evidence: Evidence) -> Iterator[Check]:
    """Every hop of minutes of sound that nothing resets, against torch."""
    model.call("reset")
    found = _every_hop(model, evidence.trained.base.frontend, evidence.listening)
    expected = evidence.listening_logits
    over = f"{len(found)} hops without a reset, of speech after silence, noise and other words"
    agreement = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    yield at_least("listening, same answer", agreement, LEAST_LISTENING_AGREEMENT[kind], over)
    if kind == "streaming":
        difference = np.abs(found.astype(np.float64) - expected).max()
        yield at_most("listening, largest difference", difference, MAX_LOGIT_DIFFERENCE, over)


def _as_whole_clip(model: TfliteModel, evidence: Evidence) -> Check:
    """Frame by frame against the whole clip at once, in the same file."""
    frames = np.stack([_last_logits(model, "frame", "log_mel", clip) for clip in evidence.log_mel])
    whole = model.run_each("log_mel", evidence.log_mel)
    return at_most(
        "frame by frame, largest difference from the whole clip in this file",
        np.abs(frames - whole).max(),
        STREAM_LIMIT, f"{len(frames)} inputs",
    )  # fmt: skip


def _reset(model: TfliteModel, evidence: Evidence) -> Check:
    """Bits of every hop of a clip after another one and a reset, against those of a fresh file."""
    spec = evidence.trained.base.frontend
    first, other = evidence.speech[0], evidence.speech[1]
    found = []
    for file, before in ((TfliteModel(model.content), first[:0]), (model, other)):
        _every_hop(file, spec, before)
        file.call("reset")
        found.append(_every_hop(file, spec, first))
    return at_most(
        "reset, outputs changed", float((found[0] != found[1]).sum()), 0,
        f"{len(found[0])} hops of a clip, in the middle of speech and in a file that heard nothing",
    )  # fmt: skip


def _every_hop(model: TfliteModel, spec: FrontendSpec, samples: FloatArray) -> FloatArray:
    """Goes on hearing samples (n,); returns the logits of every hop that they fill, (hops, c)."""
    hop = spec.hop_samples
    steps = samples[: len(samples) // hop * hop].reshape(-1, 1, hop)
    return np.array([model.run("hop", samples=step)["logits"][0] for step in steps])


def stream_clips(model: TfliteModel, spec: FrontendSpec, waveforms: FloatArray) -> FloatArray:
    """Streams clips after their left context, each from a reset; returns the last logits, (n, c).

    The first samples are not fed, so that the hops end where the clip's frames end. They belong to
    the first frame of the left context, which nothing in the clip sees.

    Args:
      model: with the signature `hop`.
      spec: the front end.
      waveforms: shape (n, heard_samples).
    """
    hop, overlap = spec.hop_samples, spec.window_samples - spec.hop_samples
    hops = (waveforms.shape[1] - overlap) // hop
    steps = waveforms[:, overlap : overlap + hops * hop].reshape(len(waveforms), hops, hop)
    return np.stack([_last_logits(model, "hop", "samples", clip) for clip in steps])


def _personal(model: TfliteModel, evidence: Evidence) -> Iterator[Check]:
    """Inference, embeddings, training against torch, and what save, restore and swap leave."""
    trained, personal = evidence.trained, PersonalModel(model)
    start = trained.adapter.spec.flatten(trained.parameters)
    yield from _logits(model, "infer", evidence.probes, evidence, evidence.logits)
    handed_in = personal.infer_with(evidence.probes, start)
    yield from require_logits("infer_with", evidence.logits, handed_in, speech=len(evidence.speech))
    every = len(evidence.held_out.labels)
    few = evidence.held_out.rows(
        np.arange(0, every, max(1, every // _TRAINING_CLIPS))[:_TRAINING_CLIPS]
    )
    clips = LocalDataset(personal.embed(few.waveforms), few.labels)
    expected = trained.adapter.embed(trained.base.trunk_output(few.waveforms)).numpy()
    yield at_most(
        "embeddings, largest difference", np.abs(clips.embeddings - expected).max(),
        MAX_LOGIT_DIFFERENCE, f"{len(clips)} clips",
    )  # fmt: skip
    training = LocalTraining(
        batch_size=personal.batch_clips,
        max_examples=max(len(clips), personal.batch_clips),
        local_epochs=DEVICE_STEPS,
        max_steps=DEVICE_STEPS,
    )
    yield device_steps(TfliteModel(model.content), trained, clips, training)
    yield _private_step(personal, evidence, clips)
    fresh, twin = TfliteModel(model.content), PersonalTwin(trained)
    yield personal_run(fresh, twin, trained, clips.embeddings, personal.batch_clips)
    yield from _adapters_that_change(personal, evidence, few)
    yield at_most(
        "embed after training, values changed",
        float((personal.embed(few.waveforms) != clips.embeddings).sum()), 0, f"{len(clips)} clips",
    )  # fmt: skip
    yield _foreign(personal, personal.save(), hash_words(trained.base.sha256))


def device_steps(
    model: TfliteModel, trained: Trained, clips: LocalDataset, training: LocalTraining
) -> Check:
    """Steps of plain SGD, each from where the file stands, against torch's own step from there.

    Two trainings that each go their own way may part although both are right: steps that are large
    for their loss multiply what rounding has put between them, and a ReLU that is open in one of
    them only makes a gradient of it. So torch takes over the file's adapter after every step, and
    keeps its own momentum. What is left is the rounding of a step: see `STEP_LIMIT`.
    """
    personal, by_torch, apart = PersonalModel(model), FollowingSgd(trained, training), []
    schedule = training.schedule(len(clips), [stream(0, "verify")], 0)
    for positions in schedule.batches:
        batch = clips.take(schedule.examples[positions[positions >= 0]])
        personal.train(batch, training)
        expected, found = by_torch.step(batch), personal.save()
        apart.append(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
        by_torch.follow(found)
    return at_most(
        f"{len(apart)} training steps, largest difference of a step from torch", np.max(apart),
        STEP_LIMIT, f"{len(clips)} clips, of the adapter's largest value if above 1",
    )  # fmt: skip


def _adapters_that_change(
    personal: PersonalModel, evidence: Evidence, few: HeldOut
) -> Iterator[Check]:
    """Answers by another adapter than the file began with: saved, restored, and handed in."""
    trained, sounds, moved = evidence.trained, few.waveforms, personal.save()
    spec, over = trained.adapter.spec, f"{len(sounds)} clips"
    other = PersonalModel(TfliteModel(personal.content))
    other.restore(moved, hash_words(trained.base.sha256))
    by_moved = personal.infer(sounds)
    same = np.array_equal(other.save(), moved) and np.array_equal(other.infer(sounds), by_moved)
    yield at_most("restore in a fresh interpreter, outputs changed", not same, 0, "one adapter")
    named = replace(trained, parameters=spec.unflatten(moved))
    yield at_most(
        "infer by a trained adapter, largest difference",
        np.abs(by_moved - reference_logits(named, sounds)).max(), MAX_LOGIT_DIFFERENCE, over,
    )  # fmt: skip
    swapped = np.array_equal(personal.infer_with(sounds, moved), by_moved)
    yield at_most("infer_with the saved adapter, outputs changed", not swapped, 0, "one adapter")
    yield at_most(
        "infer_with another adapter, largest difference",
        np.abs(
            personal.infer_with(sounds, spec.flatten(trained.parameters))
            - reference_logits(trained, sounds)
        ).max(),
        MAX_LOGIT_DIFFERENCE, over,
    )  # fmt: skip
    kept = np.array_equal(personal.save(), moved)
    yield at_most("infer_with another adapter, adapters changed", not kept, 0, "one adapter")


def _private_step(personal: PersonalModel, evidence: Evidence, clips: LocalDataset) -> Check:
    """One step of DP-SGD against a loop over clips with torch's own gradients."""
    trained = evidence.trained
    start = trained.adapter.spec.flatten(trained.parameters)
    batch = clips.take(np.arange(min(len(clips), personal.batch_clips)))
    training = LocalTraining()
    rng = stream(0, "verify noise")
    _, gradients = clip_losses_and_gradients(
        trained.adapter, trained.parameters, batch.embeddings, batch.labels
    )
    norms = np.linalg.norm(gradients, axis=1)
    clip_norm = float(np.median(norms))  # half of the clips are clipped
    noise = (clip_norm * rng.standard_normal(len(start))).astype(np.float32)
    total = clipped(gradients, clip_norm).sum(axis=0) + noise
    expected = start - training.learning_rate * total / len(batch)
    personal.restore(start, hash_words(trained.base.sha256))
    personal.train_dp(batch, training, clip_norm=clip_norm, noise=noise, expected_clips=len(batch))
    return at_most(
        "train_dp, largest difference from torch",
        np.abs(personal.save() - expected).max() / max(1.0, float(np.abs(expected).max())),
        PRIVATE_LIMIT, f"one step on {len(batch)} clips, of the largest value if above 1",
    )  # fmt: skip


def personal_run(
    file: Runs, twin: PersonalTwin, trained: Trained, embeddings: FloatArray, clips: int
) -> Check:
    """A long run of random calls of so many clips a step, in the file and in its twin."""
    labels = np.arange(len(embeddings)) % len(trained.base.vocabulary.labels)
    _, gradients = clip_losses_and_gradients(
        trained.adapter, trained.parameters, embeddings, labels
    )
    usual = float(np.median(np.linalg.norm(gradients, axis=1)))
    calls = personal_calls(trained, embeddings, clips, usual)
    return together("train, train_dp, save, restore", file, twin, calls)


def _foreign(personal: PersonalModel, adapter: FloatArray, base: NDArray[np.int32]) -> Check:
    """Adapters that must not be taken over: of another base, of another size, not finite."""
    broken = adapter.copy()
    broken[0] = np.nan
    taken = 0
    for vector, belongs in ((adapter, base ^ 1), (adapter[:-1], base), (broken, base)):
        try:
            personal.restore(vector, belongs)
            taken += 1
        except ExportRefused:
            continue
    changed = not np.array_equal(personal.save(), adapter)
    return at_most(
        "foreign adapters taken over", taken + changed, 0,
        "another base, another size, a value that is not finite",
    )  # fmt: skip


def _adapter(content: bytes, evidence: Evidence) -> Iterator[Check]:
    """The adapter alone: card, base and every value."""
    found, trained = read_adapter(content), evidence.trained
    require_identity(found.card, trained)
    if not np.array_equal(found.base, hash_words(trained.base.sha256)):
        raise ExportRefused("adapter: its base is not the one that its card names")
    expected = trained.adapter.spec.flatten(trained.parameters)
    different = (
        (found.adapter != expected).sum() if found.adapter.shape == expected.shape else np.inf
    )
    yield at_most("adapter values that differ", float(different), 0, f"{len(expected)} values")


def _last_logits(
    model: TfliteModel, signature: str, entry: str, steps: Sequence[FloatArray] | FloatArray
) -> FloatArray:
    """Resets, runs one signature step by step, returns the last logits, shape (c,)."""
    model.call("reset")
    logits = np.empty(0, dtype=np.float32)
    for step in steps:
        logits = model.run(signature, **{entry: step[np.newaxis]})["logits"][0]
    return logits
