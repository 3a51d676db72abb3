"""Checks of the keyword file that trains: torch's steps, and adapters taken over or refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.errors import ExportRefused
from fedspeech.rollout.adapter_file import hash_words
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import make_optimizer
from fedspeech.training.objectives import objective_of
from fedspeech.training.settings import LocalTraining
from tflite_export.arrays import FloatArray
from tflite_export.checks import AtWork, Check, at_least, at_most
from tflite_export.evidence import Evidence, reference_logits, scored
from tflite_export.interpreter import TfliteModel
from tflite_export.on_device import PersonalModel
from tflite_export.parity import MAX_LOGIT_DIFFERENCE, require_logits
from tflite_export.random_calls import personal_calls
from tflite_export.twins import (
    DoubleArray,
    PersonalTwin,
    Runs,
    apart,
    clip_losses_and_gradients,
    clipped,
    together,
)
from tflite_export.weights import Trained

DEVICE_STEPS = 200
STEP_LIMIT = 16 * 2**-24
"""Of a training step, relative to the largest value that the adapter holds, if that is above 1.

Float32 rounds a value v by up to 2^-24 v. A step rounds the new value, the product of rate and
momentum (at most twice the largest value, or the step would not lead to it), the momentum, and a
gradient whose sums, of some hundred terms with errors of either sign, are off by some ten roundings
(Higham and Mary 2019, doi:10.1137/18M1226312: the root of the number of terms).
"""

PRIVATE_LIMIT = 1e-6
LEAST_LISTENING = 0.999
_TRAINING_CLIPS = 32


def personal_checks(model: TfliteModel, evidence: Evidence) -> Iterator[Check | AtWork]:
    """Inference, embeddings, training against torch, and what save, restore and swap leave."""
    trained, personal, speech = evidence.trained, PersonalModel(model), len(evidence.speech)
    start = trained.adapter.spec.flatten(trained.parameters)
    yield AtWork("every logit of the probes, by the file's adapter and by one handed in")
    own, part = personal.infer(evidence.probes), evidence.streamed
    yield from require_logits("infer", evidence.logits, own, speech=speech)
    # The same graph but for where the adapter comes from.
    handed_in, spoken = personal.infer_with(evidence.probes[part], start), (part < speech).sum()
    yield from require_logits("infer_with", evidence.logits[part], handed_in, speech=int(spoken))
    few = evidence.held_out.sounding(_TRAINING_CLIPS)
    waveforms = few.waveforms[:]
    clips, over = (
        LocalDataset(personal.embed(waveforms), few.labels),
        f"{len(few.labels)} clips",
    )
    expected = trained.adapter.embed(trained.base.encoder_output(waveforms)).numpy()
    difference = np.abs(clips.embeddings - expected).max()
    yield at_most("embeddings, largest difference", difference, MAX_LOGIT_DIFFERENCE, over)
    yield AtWork("training steps beside torch's")
    training = LocalTraining(
        batch_size=personal.batch_clips,
        max_examples=max(len(clips), personal.batch_clips),
        local_epochs=DEVICE_STEPS,
        max_steps=DEVICE_STEPS,
    )
    yield device_steps(TfliteModel(model.content), trained, clips, training)
    yield _private_step(personal, trained, clips)
    yield AtWork("calls in random order, beside torch's")
    # A fresh file, for the steps before have moved this one.
    fresh, twin = TfliteModel(model.content), PersonalTwin(trained)
    sound = evidence.speech[0]
    yield personal_run(fresh, twin, trained, clips.embeddings, sound, personal.batch_clips)
    yield AtWork("minutes of hops by adapters that change")
    yield from _listens(model.content, evidence, training)
    yield from _swapped_adapters(personal, trained, waveforms)
    changed = float((personal.embed(waveforms) != clips.embeddings).sum())
    yield at_most("embed after training, values changed", changed, 0, over)
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
    personal, by_torch, differences = PersonalModel(model), _FollowingSgd(trained, training), []
    # The very schedule of a round, so that batches are as uneven as on a phone.
    schedule = training.schedule(len(clips), [stream(0, "verify")], 0)
    for positions in schedule.batches:
        batch = clips.take(schedule.examples[positions[positions >= 0]])
        personal.train(batch, training)
        expected, found = by_torch.step(batch), personal.save()
        differences.append(apart(found, expected))
        by_torch.follow(found)
    return at_most(
        f"{len(differences)} training steps, largest difference of a step from torch",
        max(differences), STEP_LIMIT,
        f"{len(clips)} clips, of the adapter's largest value if above 1",
    )  # fmt: skip


class _FollowingSgd:
    """Torch's own SGD, which after every step goes on from where another training stands."""

    def __init__(self, trained: Trained, training: LocalTraining) -> None:
        self._adapter, self._objective = trained.adapter, objective_of(trained.adapter)
        self._local = {
            name: torch.tensor(value[np.newaxis]).requires_grad_()
            for name, value in trained.parameters.items()
        }
        self._optimizer = make_optimizer(list(self._local.values()), training)

    def step(self, clips: LocalDataset) -> FloatArray:
        """Takes one step; returns the adapter after it, flat."""
        embeddings = torch.from_numpy(clips.embeddings[np.newaxis])
        logits = self._adapter.logits(self._local, embeddings)[0]
        loss = self._objective.loss(logits, embeddings[0], torch.from_numpy(clips.labels))
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        self._optimizer.step()
        named = {name: value[0].detach().numpy() for name, value in self._local.items()}
        return self._adapter.spec.flatten(named)

    def follow(self, values: FloatArray) -> None:
        """Goes on from another adapter (d,), with its own momentum."""
        with torch.no_grad():
            for name, value in self._adapter.spec.unflatten(values).items():
                self._local[name][0].copy_(torch.from_numpy(value))


def _swapped_adapters(
    personal: PersonalModel, trained: Trained, waveforms: FloatArray
) -> Iterator[Check]:
    """Logits by another adapter than the file began with: saved, restored, and handed in."""
    moved, spec, over = personal.save(), trained.adapter.spec, f"{len(waveforms)} clips"
    other = PersonalModel(TfliteModel(personal.content))
    other.restore(moved, hash_words(trained.base.sha256))
    by_moved = personal.infer(waveforms)
    same = np.array_equal(other.save(), moved) and np.array_equal(other.infer(waveforms), by_moved)
    yield at_most("restore in a fresh interpreter, outputs changed", not same, 0, "one adapter")
    expected = reference_logits(replace(trained, parameters=spec.unflatten(moved)), waveforms)
    difference, limit = np.abs(by_moved - expected).max(), MAX_LOGIT_DIFFERENCE
    yield at_most("infer by a trained adapter, largest difference", difference, limit, over)
    same = np.array_equal(personal.infer_with(waveforms, moved), by_moved)
    yield at_most("infer_with the saved adapter, outputs changed", not same, 0, "one adapter")
    by_start = personal.infer_with(waveforms, spec.flatten(trained.parameters))
    difference = np.abs(by_start - reference_logits(trained, waveforms)).max()
    yield at_most("infer_with another adapter, largest difference", difference, limit, over)
    kept = np.array_equal(personal.save(), moved)
    yield at_most("infer_with another adapter, adapters changed", not kept, 0, "one adapter")


def _listens(content: bytes, evidence: Evidence, training: LocalTraining) -> Iterator[Check]:
    """Minutes of hops without a reset, by adapters that change on the way; then the reset."""
    trained, personal = evidence.trained, PersonalModel(TfliteModel(content))
    spec, hop = trained.adapter.spec, trained.base.encoder.hop_samples
    samples = evidence.listening
    hops = samples[: len(samples) // hop * hop].reshape(-1, 1, hop)
    quarters = np.array_split(np.arange(len(hops)), 4)
    logits: list[FloatArray] = []
    embeddings: list[FloatArray] = []
    expected: list[FloatArray] = []
    for number, quarter in enumerate(quarters):
        if number in (1, 3):
            # On what the stream itself gave, as a phone does: no clip is heard for it again.
            _learn(personal, np.concatenate(embeddings), training)
        elif number == 2:
            moved = spec.flatten(trained.parameters) * np.float32(0.9)
            personal.restore(moved, hash_words(trained.base.sha256))
        adapter = personal.save()
        by_torch = replace(trained, parameters=spec.unflatten(adapter))
        expected.append(scored(by_torch, evidence.listening_embeddings[quarter]))
        for place in quarter:
            found = _hop(personal, hops[place], adapter, alone=place % 7 == 0)
            logits.append(found["logits"])
            embeddings.append(found["embedding"])
    by_file, by_torch_alone = np.concatenate(logits), np.concatenate(expected)
    over = f"{len(hops)} hops without a reset, in which the adapter was trained, restored, trained"
    agreement = (by_file.argmax(axis=1) == by_torch_alone.argmax(axis=1)).mean()
    yield at_least("listening, same answer", agreement, LEAST_LISTENING, over)
    difference = np.abs(by_file.astype(np.float64) - by_torch_alone).max()
    yield at_most("listening, largest difference", difference, MAX_LOGIT_DIFFERENCE, over)
    difference = np.abs(np.concatenate(embeddings) - evidence.listening_embeddings).max()
    yield at_most(
        "listening, largest difference of embeddings", difference, MAX_LOGIT_DIFFERENCE, over
    )
    yield _reset_alone(personal, hops[: len(hops) // 20], trained)


def _hop(
    personal: PersonalModel, samples: FloatArray, adapter: FloatArray, *, alone: bool
) -> dict[str, FloatArray]:
    """Logits and embedding of one hop: together, or the embedding alone and then its logits."""
    if not alone:
        return personal.hop(samples)
    embedding = personal.embed_hop(samples)
    return {"embedding": embedding, "logits": personal.score_with(embedding, adapter)}


def _learn(personal: PersonalModel, embeddings: FloatArray, training: LocalTraining) -> None:
    """Some steps on embeddings (n, *e), evenly drawn from all."""
    drawn = embeddings[np.linspace(0, len(embeddings) - 1, personal.batch_clips).astype(np.int64)]
    clips = LocalDataset(drawn, np.arange(len(drawn), dtype=np.int64) % 2)
    for _ in range(5):
        personal.train(clips, training)


def _reset_alone(personal: PersonalModel, hops: FloatArray, trained: Trained) -> Check:
    """A reset in the middle of speech, against a fresh file with the same adapter."""
    adapter, fresh = personal.save(), PersonalModel(TfliteModel(personal.content))
    fresh.restore(adapter, hash_words(trained.base.sha256))
    for file in (personal, fresh):
        file.reset()
    ways = [np.concatenate([file.hop(hop)["logits"] for hop in hops]) for file in (personal, fresh)]
    changed = (ways[0] != ways[1]).sum() + (personal.save() != adapter).sum()
    return at_most(
        "reset, outputs and values of the adapter changed", float(changed), 0,
        f"{len(hops)} hops, in the middle of speech and in a file that heard nothing",
    )  # fmt: skip


def _private_step(personal: PersonalModel, trained: Trained, clips: LocalDataset) -> Check:
    """One step of DP-SGD against a loop over clips with torch's own gradients."""
    start = trained.adapter.spec.flatten(trained.parameters)
    batch = clips.take(np.arange(min(len(clips), personal.batch_clips)))
    # Its settings are ordinary ones; what DP-SGD adds is handed in beside them.
    training = LocalTraining(batch_size=64, local_epochs=5)
    gradients = _gradients(trained, batch.embeddings, batch.labels)
    clip_norm = _usual_norm(gradients)  # half of the clips are clipped
    rng = stream(0, "verify noise")
    noise = (clip_norm * rng.standard_normal(len(start))).astype(np.float32)
    total = clipped(gradients, clip_norm).sum(axis=0) + noise
    expected = start - training.learning_rate * total / len(batch)
    personal.restore(start, hash_words(trained.base.sha256))
    personal.train_dp(batch, training, clip_norm=clip_norm, noise=noise, expected_clips=len(batch))
    return at_most(
        "train_dp, largest difference from torch", apart(personal.save().astype(float), expected),
        PRIVATE_LIMIT, f"one step on {len(batch)} clips, of the largest value if above 1",
    )  # fmt: skip


def personal_run(
    file: Runs,
    twin: PersonalTwin,
    trained: Trained,
    embeddings: FloatArray,
    sound: FloatArray,
    clips: int,
) -> Check:
    """A long run of random calls of so many clips a step, in the file and in its twin."""
    labels = np.arange(len(embeddings)) % len(trained.base.vocabulary.labels)
    usual = _usual_norm(_gradients(trained, embeddings, labels))
    calls = personal_calls(trained, embeddings, sound, clips, usual)
    return together("every call in random order", file, twin, calls)


def _gradients(trained: Trained, embeddings: FloatArray, labels: NDArray[np.int64]) -> DoubleArray:
    return clip_losses_and_gradients(trained.adapter, trained.parameters, embeddings, labels)[1]


def _usual_norm(gradients: DoubleArray) -> float:
    return float(np.median(np.linalg.norm(gradients, axis=1)))


def _foreign(personal: PersonalModel, adapter: FloatArray, base: NDArray[np.int32]) -> Check:
    """Adapters that must not be taken over: of another base, of another size, not finite."""
    # The base, the size and one value are wrong in turn, all else is right.
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
