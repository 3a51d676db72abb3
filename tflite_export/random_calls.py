"""Long runs of calls in which every input of every signature that learns matters.

Settings are drawn anew for every call, some of them outside their ranges; clips and sentences that
do not count stand among those that do; adapters of this base, of another, and damaged ones arrive.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.rollout.adapter_file import checksum, hash_words
from fedspeech.seeds import stream
from tflite_export.arrays import FloatArray
from tflite_export.twins import Call
from tflite_export.weights import Trained

PERSONAL_CALLS = 150
_PERSONAL = {
    "train": 0.32, "train_dp": 0.32, "restore": 0.11, "hop": 0.13, "embed_hop": 0.06,
    "score_with": 0.03, "reset": 0.03,
}  # fmt: skip
# A step that keeps its sum shows in the next step only, and not if an adapter is restored between
# them. 1.4 % of runs of 80 calls have no such pair; of 20,000 simulated runs of 240 calls none has.
SENTENCE_CALLS = 240
_STRANGE = {
    "learning_rate": -0.1,
    "momentum": 1.5,
    "proximal_mu": np.nan,
    "clip_norm": -1.0,
    "expected_clips": 0.0,
    "expected_sentences": 0.0,
    "noise": np.inf,
    "present": 100.0,
}

Rng = np.random.Generator
Inputs = dict[str, NDArray[Any]]


def personal_calls(
    trained: Trained,
    embeddings: FloatArray,
    sound: FloatArray,
    batch_clips: int,
    clip_norm: float,
) -> Iterator[Call]:
    """Calls of a personal file for words: clips drawn from embeddings (n, *e), hops of sound (n,).

    `clip_norm` is that of a usual gradient.
    """
    rng = stream(0, "verify", "personal calls")
    adapters = _adapters(trained, rng)
    hop = trained.base.encoder.hop_samples
    hops = itertools.cycle(sound[: len(sound) // hop * hop].reshape(-1, 1, hop))
    for _ in range(PERSONAL_CALLS):
        # Some six steps between two restores, so that momentum matters and errors can grow.
        match signature := str(rng.choice(list(_PERSONAL), p=list(_PERSONAL.values()))):
            case "restore":
                yield "restore", next(adapters)
            case "train":
                yield "train", _strange(rng, _batch(trained, embeddings, batch_clips, rng))
            case "train_dp":
                private = _private(trained, rng, clip_norm, "expected_clips", batch_clips)
                batch = _batch(trained, embeddings, batch_clips, rng)
                yield "train_dp", _strange(rng, batch | private)
            case "score_with":
                drawn = embeddings[rng.integers(0, len(embeddings), 1)]
                yield "score_with", {"embedding": drawn, "adapter": _moved(trained, rng)}
            case "reset":
                yield "reset", {"call": _one(rng.uniform())}
            case _:  # a hop, in whichever way
                yield signature, {"samples": next(hops)}


def sentence_calls(
    trained: Trained, windows: FloatArray, room: int, clip_norm: float
) -> Iterator[Call]:
    """Calls of a personal file for sentences, on encoder frames (w, f) of one padded to `room`.

    `clip_norm` is that of a usual gradient.
    """
    rng = stream(0, "verify", "sentence calls")
    adapters = _adapters(trained, rng)
    for _ in range(SENTENCE_CALLS):
        match rng.choice(["train", "clip", "train_dp", "restore"], p=[0.25, 0.4, 0.2, 0.15]):
            case "restore":
                yield "restore", next(adapters)
            case "train":
                yield "train", _strange(rng, _sentence(trained, windows, room, rng) | _rates(rng))
            case "clip":
                norm = {"clip_norm": _one(clip_norm * rng.uniform(0.3, 2))}
                yield "clip", _strange(rng, _sentence(trained, windows, room, rng) | norm)
            case _:
                private = _private(trained, rng, clip_norm, "expected_sentences", 4)
                # Sentences are clipped when they are added, by `clip`.
                del private["clip_norm"]
                yield "train_dp", _strange(rng, private | _rates(rng))


def _batch(trained: Trained, embeddings: FloatArray, clips: int, rng: Rng) -> Inputs:
    """Clips of a step, in random places; some count, some do not."""
    labels = len(trained.base.vocabulary.labels)
    drawn = embeddings[rng.integers(0, len(embeddings), clips)].copy()
    spoken = rng.integers(0, labels, clips).astype(np.int32)
    if rng.random() < 0.3:
        drawn[rng.integers(clips)].flat[0] = rng.choice([np.nan, np.inf, 1e20])
    if rng.random() < 0.3:
        spoken[rng.integers(clips)] = rng.choice([-1, labels, 2**31 - 1])
    # Absent clips lie between present ones, for a file could take the first so many instead.
    present = (rng.random(clips) < rng.uniform(0.2, 1)).astype(np.float32)
    mu = {"proximal_mu": _one(rng.choice([0, rng.uniform(0, 1)]))}
    batch = {"embeddings": drawn, "labels": spoken, "present": present}
    return {**batch, **_rates(rng), **mu}


def _sentence(trained: Trained, windows: FloatArray, room: int, rng: Rng) -> Inputs:
    """Encoder frames of a sentence's beginning, and derivatives of a made-up loss."""
    count = int(rng.integers(1, min(room, len(windows)) + 1))
    error = np.zeros((room, len(trained.base.vocabulary.labels)), np.float32)
    given = np.zeros((room, windows.shape[1]), np.float32)
    given[:count] = windows[:count]
    error[:count] = 0.01 * rng.standard_normal(error[:count].shape)
    if rng.random() < 0.1:
        (given if rng.random() < 0.5 else error)[0, 0] = rng.choice([np.nan, np.inf, 1e20])
    return {"windows": given, "error": error}


def _rates(rng: Rng) -> Inputs:
    learning_rate = _one(rng.uniform(0, 0.05))
    return {"learning_rate": learning_rate, "momentum": _one(rng.choice([0, 0.5, 0.9]))}


def _private(trained: Trained, rng: Rng, clip_norm: float, expected: str, most: int) -> Inputs:
    """What a step of DP-SGD takes beside its clips."""
    norm = clip_norm * rng.uniform(0.3, 2)
    # Never much above the gradients: under loud noise a wrong gradient would not show.
    noise = norm * rng.uniform(0, 1) * rng.standard_normal(trained.adapter.spec.size)
    return {
        "clip_norm": _one(norm),
        "noise": noise.astype(np.float32),
        expected: _one(rng.uniform(1, 2 * most)),
    }


def _adapters(trained: Trained, rng: Rng) -> Iterator[Inputs]:
    """Adapters beside the trained one; every second is damaged or of another base."""
    for wrong in itertools.cycle(("nothing", "base", "nothing", "checksum", "nothing", "value")):
        moved = _moved(trained, rng)
        if wrong == "value":
            moved[rng.integers(len(moved))] = rng.choice([np.nan, 1e5])
        inputs: Inputs = {
            "adapter": moved,
            "base": hash_words(trained.base.sha256),
            "checksum": checksum(moved),
        }
        if wrong in inputs:
            # One bit of a hash or of a checksum, the least that must be noticed.
            inputs[wrong] = inputs[wrong] ^ np.int32(1)
        yield inputs


def _moved(trained: Trained, rng: Rng) -> FloatArray:
    """An adapter (d,) beside the trained one."""
    start = trained.adapter.spec.flatten(trained.parameters)
    return (start + 0.02 * rng.standard_normal(len(start))).astype(np.float32)


def _strange(rng: Rng, inputs: Inputs) -> Inputs:
    """The same inputs, one time in six with one of them outside its range."""
    if rng.random() < 1 / 6:
        name = str(rng.choice(sorted(set(inputs) & set(_STRANGE))))
        inputs[name] = inputs[name].copy()
        inputs[name].flat[rng.integers(inputs[name].size)] = _STRANGE[name]
    return inputs


def _one(value: float) -> FloatArray:
    return np.array([value], dtype=np.float32)
