r"""A wake word on a real base: false rejects at so many false accepts an hour, stage by stage.

    python -m benchmarks.wake_word DATA --word zero --cache runs/wake-word

`DATA` holds speech_commands_v1_subset, fsdd, dspspeech20_english_a and background_noise. Behind
Google's speech embedding (extra `speech-embedding`) a network is fit and mined on public speakers,
its head federates over phones with noise and clipping, and held-out phones personalize it on a few
own words with the shipped hard negatives. Speakers fall into five parts by a hash of their name:
two are public, and on them everything was chosen; the others are held out by turns, and the two
that are not federate, beside synthetic phones of every accent. Sound without the word is
synthesized hours and the other words of the held-out part.

The first run synthesizes and embeds 17 hours, about a minute and a half of a core each; the cache
keeps them. Phones' sums are taken in the clear with seeded noise of the same variance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.wake_word_speech import (
    OWN,
    Phones,
    Sound,
    Word,
    evaluated_hours,
    features,
    heard,
    open_corpora,
    part_of,
)
from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.evaluation.streaming import (
    THRESHOLDS,
    binomial_interval,
    detections,
    hops_in,
    poisson_interval,
    probabilities,
    smoothed,
)
from fedspeech.extras import require
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.models.base import Base
from fedspeech.seeds import stream
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining
from fedspeech.vectors import FloatVector
from simulations.scenario.reading import read_scenario
from simulations.setup.bases import embedding_base
from simulations.setup.heads import HeadLesson, with_synthetic
from simulations.setup.listeners import taught_listener, windows
from simulations.setup.planning import PlanSizes, plan_of

FloatArray = NDArray[np.float32]

HOP_MS = 80.0
SMOOTHING_HOPS, COOLDOWN_HOPS = 3, hops_in(1_000, HOP_MS)  # chosen on public speakers
RATES = (0.5, 0.1)
HARD = 48  # hard negatives that ship to a phone
EVALUATED_SEED = 4_000  # of the first hour that is listened to; mined hours count from 0
FEDERATED = LocalTraining(learning_rate=0.05, batch_size=128, local_epochs=5, max_examples=128)
SERVER_RATE = 0.5
STAGES = ("base", "federated", "personalized", "control", "base, same words",
          "federated, same words")  # fmt: skip


def main() -> None:
    """Fits, federates, personalizes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the corpora")
    parser.add_argument("--word", default="zero")
    parser.add_argument("--cache", type=Path, required=True, help="for frames of synthesized hours")
    parser.add_argument("--mined-hours", type=int, default=4)
    parser.add_argument("--hours", type=int, default=13, help="of synthesized sound to listen to")
    parser.add_argument("--first-seed", type=int, default=EVALUATED_SEED, help="of these hours")
    parser.add_argument("--public", type=int, nargs="+", default=[0, 1], help="parts")
    parser.add_argument("--held-out", type=int, nargs="+", default=[2, 3, 4], help="parts, in turn")
    parser.add_argument("--noise", type=float, default=1.0, help="noise multiplier")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--personal-rate", type=float, default=0.005)
    parser.add_argument("--personal-steps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    require("speech-embedding")
    torch.set_num_threads(1)
    corpora = open_corpora(given.data)
    base = fitted_base(given, corpora)
    noise = given.data / "background_noise"
    phones = heard(base, corpora, given.held_out, noise, given.word)
    seeds = range(given.first_seed, given.first_seed + given.hours)
    hours = [
        Sound(features(base, windows(base, frames)), near)
        for frames, near in evaluated_hours(base, given.word, seeds, given.cache)
    ]
    found = [turn(base, given, phones, hours, part) for part in given.held_out]
    print(json.dumps(found, indent=1) if given.json else table(found))


def fitted_base(given: argparse.Namespace, corpora: dict[str, Corpus]) -> Base:
    """The base of the public speakers, kept in the cache by what it is made of."""
    name = f"{given.word}-{'-'.join(map(str, given.public))}-{given.mined_hours}h"
    path = given.cache / f"{name}.safetensors"
    if path.exists():
        return Base.load(path)
    clips: list[Utterance] = []
    joined: Corpus | None = None
    for short, corpus in corpora.items():
        joined = corpus if joined is None else JoinedCorpus(joined, corpus)
        clips += [clip for clip in corpus.utterances if part_of(short, clip.speaker_id)
                  in given.public and clip.word != SILENCE]  # fmt: skip
    vocabulary = Vocabulary((given.word,))
    lesson = with_synthetic(HeadLesson(joined, clips, frozenset(), vocabulary, 0), {})
    base = taught_listener(
        embedding_base(vocabulary, listens=True), lesson, given.cache, {}, lexicon={},
        hours=given.mined_hours,
    )  # fmt: skip
    base.save(path)
    return base


def turn(
    base: Base, given: argparse.Namespace, phones: Phones, hours: Sequence[Sound], part: int
) -> dict[str, Any]:
    """Federates without a part and judges every stage on it; returns counts."""
    adapter = HeadAdapter(base.num_features, len(base.vocabulary.labels), "identity")
    start = adapter.spec.flatten(adapter.initial(base.head_weight, base.head_bias))
    assert base.hard_negatives is not None
    hard = features(base, base.hard_negatives[:HARD])
    real = {name: part_of(*name.split(":")) for name in phones.words if name.count(":") == 1}
    federate = [name for name in phones.words if real.get(name, part) != part
                or name.startswith("federated:")]  # fmt: skip
    held_out = [name for name in phones.words if real.get(name) == part
                or (name.startswith("held out:") and part == given.held_out[0])]  # fmt: skip
    local = [dataset(phones, name, hard) for name in federate]
    federated, norm = federated_head(adapter, start, local, given)
    said = {name: draw(phones.words[name]) for name in held_out}
    own = {
        name: np.concatenate([word.own for word in few]) for name, (few, _) in said.items() if few
    }
    personal = {
        name: personalized(adapter, federated, rows, hard, given) for name, rows in own.items()
    }
    names = list(personal)
    others = {  # of the same kind: a real speaker gets another real one's
        name: next(one for one in names[names.index(name) + 1 :] + names
                   if one != name and one.startswith("held out") == name.startswith("held out"))
        for name in names
    }  # fmt: skip
    sounds = [*hours, *(sound for name, sound in phones.sounds.items()
                        if name == "noise" or part_of(*name.split(":")) == part)]  # fmt: skip
    judge = Judge(adapter, sounds)
    rows: list[dict[str, Any]] = []
    for stage, vector in (("base", start), ("federated", federated)):
        rows += judge.rows(stage, vector, [word for _, rest in said.values() for word in rest])
        again = [word for name in names for word in said[name][1]]
        rows += judge.rows(f"{stage}, same words", vector, again)
    for name in names:
        rows += judge.rows("personalized", personal[name], said[name][1])
        rows += judge.rows("control", personal[others[name]], said[name][1])
    return {
        "part": part, "phones": len(federate), "clip_norm": norm, "words": rows,
        "real_hours": sum(len(s.features) for s in sounds[len(hours) :]) * HOP_MS / 3_600_000,
        **judge.heard, **epsilon(given, len(federate), adapter.spec.size),
    }  # fmt: skip


def dataset(phones: Phones, name: str, hard: FloatArray) -> LocalDataset:
    """What a phone trains on: its words, its other words, shipped negatives."""
    words = np.concatenate([word.own[:4] for word in phones.words[name]])[:48]
    others = phones.others.get(name, np.zeros((0, hard.shape[1]), np.float32))
    rows = np.concatenate([words, others, hard])
    return LocalDataset(rows, np.repeat([0, 1], [len(words), len(rows) - len(words)]))


def federated_head(
    adapter: HeadAdapter, start: FloatVector, phones: Sequence[LocalDataset],
    given: argparse.Namespace,
) -> tuple[FloatVector, float]:  # fmt: skip
    """Rounds of clipped, noised means; the clip norm is the median of synthetic phones' deltas."""
    rng, vector = stream(1, "federation"), start.copy()

    def deltas(members: Sequence[LocalDataset]) -> FloatVector:
        rngs = [stream(1, "batches", number) for number in range(len(members))]
        found = train_cohort(adapter, adapter.spec.unflatten(vector), members, FEDERATED, rngs)
        return np.stack([delta.vector for delta in found])

    # The last ones are synthetic, so their norms are public.
    norm = float(np.median(np.linalg.norm(deltas(phones[-64:]), axis=1)))
    for _ in range(given.rounds):
        cohort = [one for one in phones if rng.random() < 0.8]
        found = deltas(cohort)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        total = (found * np.minimum(1, norm / np.maximum(norms, 1e-12))).sum(axis=0)
        total = total + given.noise * norm * rng.standard_normal(len(vector))
        vector = (vector + SERVER_RATE * total / (0.8 * len(phones))).astype(np.float32)
    return vector, norm


def epsilon(given: argparse.Namespace, population: int, dimension: int) -> dict[str, Any]:
    """What a run with so many phones and this noise would guarantee."""
    if not given.noise:
        return {"epsilon_release": None, "epsilon_server": None}
    settings = read_scenario("real-commands", ["corpus.path=x"]).privacy
    changes = {"noise_multiplier": given.noise, "rounds": given.rounds,
               "max_participations": given.rounds}  # fmt: skip
    settings = settings.model_copy(update=changes)
    sizes = PlanSizes(population=population, dimension=dimension, unit="user", availability=1.0)
    plan = plan_of(settings, sizes).plan
    found = plan.guarantee(plan.rounds)
    return {"epsilon_release": found.epsilon_release, "relation_release": found.relation_release,
            "epsilon_server": found.epsilon_server, "delta": found.delta}  # fmt: skip


def draw(words: Sequence[Word]) -> tuple[Sequence[Word], Sequence[Word]]:
    """Own words to personalize on, and others to be judged by; of fewer than three none is own."""
    return (words[:OWN], words[OWN:]) if len(words) > OWN else ([], words)


def personalized(
    adapter: HeadAdapter, start: FloatVector, own: FloatArray, hard: FloatArray,
    given: argparse.Namespace,
) -> FloatVector:  # fmt: skip
    """Trains on own words beside as many hard negatives."""
    rows = np.concatenate([own, np.resize(hard, (len(own), hard.shape[1]))])
    training = LocalTraining(
        learning_rate=given.personal_rate, batch_size=len(rows), max_examples=len(rows),
        local_epochs=given.personal_steps,
    )  # fmt: skip
    labels = np.repeat([0, 1], len(own))
    data = LocalDataset(rows.astype(np.float32), labels)
    delta = train_adapter(adapter, adapter.spec.unflatten(start), data, training, stream(0, "own"))
    found: FloatVector = start + delta.vector
    return found


class Judge:
    """Thresholds of a model on sound without the word, and the words that it then misses.

    Attributes:
      heard: hours with and without near misses.
    """

    def __init__(self, adapter: HeadAdapter, sounds: Sequence[Sound]) -> None:
        self._adapter, self._sounds = adapter, sounds
        self._known: dict[bytes, dict[tuple[bool, float], tuple[float, int]]] = {}
        hops = sum(len(sound.features) for sound in sounds)
        near = sum(int(sound.near.sum()) for sound in sounds)
        self._hours = {False: (hops - near) * HOP_MS / 3.6e6, True: hops * HOP_MS / 3.6e6}
        self.heard = {"hours": self._hours[False], "hours_with_near_misses": self._hours[True]}

    def rows(self, stage: str, vector: FloatVector, words: Sequence[Word]) -> list[dict[str, Any]]:
        """One row for each word and operating point."""
        best = [float(self._scores(vector, word.features).max()) for word in words]
        rows = []
        for (near, rate), (threshold, accepts) in self._points(vector).items():
            rows += [
                {"stage": stage, "near": near, "rate": rate, "accepts": accepts,
                 "hours": self._hours[near], "speaker": word.speaker, "group": word.group,
                 "missed": score < threshold}
                for word, score in zip(words, best, strict=True)
            ]  # fmt: skip
        return rows

    def _scores(self, vector: FloatVector, rows: FloatArray) -> NDArray[np.float64]:
        """Smoothed probability of the word in every hop."""
        values = self._adapter.spec.unflatten(vector)
        logits = rows @ values["head_weight"].T + values["head_bias"]
        scores: NDArray[np.float64] = smoothed(probabilities(logits), SMOOTHING_HOPS)[:, 0]
        return scores

    def _points(self, vector: FloatVector) -> dict[tuple[bool, float], tuple[float, int]]:
        """As `_thresholds`, once for each model."""
        key = vector.tobytes()
        if key not in self._known:
            self._known[key] = self._thresholds(vector)
        return self._known[key]

    def _thresholds(self, vector: FloatVector) -> dict[tuple[bool, float], tuple[float, int]]:
        """The lowest threshold that keeps to each rate, and its false accepts."""
        counts = {near: np.zeros(len(THRESHOLDS), np.int64) for near in (False, True)}
        for sound in self._sounds:
            scores = self._scores(vector, sound.features)
            counts[True] += accepted(scores)
            counts[False] += accepted(np.where(sound.near, 0.0, scores))
        found = {}
        for near, accepts in counts.items():
            for rate in RATES:
                above = np.flatnonzero(accepts > rate * self._hours[near])
                place = min(int(above[-1]) + 1 if len(above) else 0, len(THRESHOLDS) - 1)
                found[near, rate] = float(THRESHOLDS[place]), int(accepts[place])
        return found


def accepted(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Detections at every threshold, without the long parts in which nothing reaches any."""
    loud = np.flatnonzero(scores >= THRESHOLDS[0])
    kept = np.zeros(len(scores) + COOLDOWN_HOPS, dtype=bool)
    for late in range(COOLDOWN_HOPS + 1):
        kept[loud + late] = True
    part = scores[kept[: len(scores)]]
    return detections(part, THRESHOLDS, COOLDOWN_HOPS).sum(axis=1)


def table(turns: Sequence[dict[str, Any]]) -> str:
    """Returns Markdown: a line per stage, a column per operating point; then what it stands on."""
    rows = [row for one in turns for row in one["words"]]
    points = [(near, rate) for near in (False, True) for rate in RATES]
    columns = [f"{rate:g} an hour{', near misses too' if near else ''}" for near, rate in points]
    lines = [_line("real words missed", columns), _line("---", ["---"] * len(columns))]
    for stage in STAGES:
        cells = [_cell(rows, stage, point, ("sc", "fsdd")) for point in points]
        lines.append(_line(stage, cells))
        lines.append(_line("its worst tenth of speakers; by chance",
                           [_worst(rows, stage, point) for point in points]))  # fmt: skip
        for group in ("sc", "fsdd"):
            cells = [_cell(rows, stage, point, (group,)) for point in points]
            lines.append(_line(f"{stage}, {group}", cells))
    for accent in sorted(ACCENTS):
        for stage in STAGES[:1] + STAGES[1:4]:
            cells = [_cell(rows, stage, point, (accent,)) for point in points]
            lines.append(_line(f"synthetic, {accent}: {stage}", cells))
    for one in turns:
        said = {name: value for name, value in one.items() if name != "words"}
        lines.append(f"\n{said}")
    accepts = {
        (row["stage"], row["near"], row["rate"], one["part"]): (row["accepts"], row["hours"])
        for one in turns for row in one["words"] if row["stage"] in STAGES[:2]
    }  # fmt: skip
    for (stage, near, rate, part), (count, hours) in accepts.items():
        low, high = poisson_interval(count, hours)
        what = f"{stage}, part {part}, {rate:g} an hour{', near misses too' if near else ''}"
        interval = f"{count / hours:.2f} an hour ({low:.2f} to {high:.2f})"
        lines.append(f"{what}: {count} false accepts in {hours:.2f} h, {interval}")
    return "\n".join(lines)


def _chosen(
    rows: Sequence[dict[str, Any]], stage: str, point: tuple[bool, float], groups: Sequence[str]
) -> list[dict[str, Any]]:
    return [row for row in rows if row["stage"] == stage and (row["near"], row["rate"]) == point
            and row["group"] in groups]  # fmt: skip


def _cell(
    rows: Sequence[dict[str, Any]], stage: str, point: tuple[bool, float], groups: Sequence[str]
) -> str:
    """Share missed with its exact interval, and of how many."""
    found = [row["missed"] for row in _chosen(rows, stage, point, groups)]
    if not found:
        return ""
    low, high = binomial_interval(sum(found), len(found))
    share = sum(found) / len(found)
    return (
        f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f}; {sum(found)} of {len(found)})"
    )


def _worst(rows: Sequence[dict[str, Any]], stage: str, point: tuple[bool, float]) -> str:
    """Mean share missed of the tenth of speakers who are missed most, and if all were alike."""
    by: dict[str, list[bool]] = {}
    for row in _chosen(rows, stage, point, ("sc", "fsdd")):
        by.setdefault(row["speaker"], []).append(row["missed"])
    counts = np.array([len(missed) for missed in by.values()])
    missed = np.array([sum(missed) for missed in by.values()])
    drawn = stream(0, "alike").binomial(counts, missed.sum() / counts.sum(), (2_000, len(counts)))
    worst = max(1, round(0.1 * len(counts)))

    def tenth(shares: NDArray[np.float64]) -> float:
        return float(np.sort(shares, axis=-1)[..., -worst:].mean())

    return f"{100 * tenth(missed / counts):.1f} %; {100 * tenth(drawn / counts):.1f} %"


def _line(label: str, cells: Sequence[str]) -> str:
    return "| " + " | ".join([label, *cells]) + " |"


if __name__ == "__main__":
    main()
