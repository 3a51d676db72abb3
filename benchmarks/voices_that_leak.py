"""Whose update is it? Speakers linked by what leaves their phones, on synthetic and on real speech.

    python -m benchmarks.voices_that_leak synthetic [--seed 1]
    python -m benchmarks.voices_that_leak real --corpus DATA/speech_commands_v1_subset

Three groups of speakers who share nobody: attackers train on the first, the second is attacked, the
third fills sums. Every attacked speaker's clips are dealt into two halves: the phone trains on one,
the attacker has the other (it never has a clip that was trained on). Figures stand beside chance,
with intervals of 95 % over speakers. The last attacker, a network, takes no part in development and
is trained from scratch for every figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.voices_speech import ROUNDS, World, real_world, synthetic_world
from fedspeech.audits.attack import Attack
from fedspeech.audits.attributes import TRAIT_ATTACKS
from fedspeech.audits.speaker_encoder import RATE_HZ, SpeakerEncoder
from fedspeech.audits.speaker_reidentification import EVALUATION, REIDENTIFICATION, UPDATE_LINKING
from fedspeech.audits.transcript import SeenRound, Transcript
from fedspeech.audits.update_views import as_seen
from fedspeech.evaluation.balanced_accuracy import balanced_accuracy_metric
from fedspeech.evaluation.metric import Metric
from fedspeech.evaluation.voice_privacy.linking import Trials, linking_metrics
from fedspeech.extras import lacking
from fedspeech.models.adapters.adapter import Adapter

SUMS, EPOCHS = 20, 20
NOISE = (0.0, 0.1, 0.3, 1.0)
COHORTS = (10, 30, 100, 300)
NETWORK, LINKING_NETWORK = EVALUATION


def main(given: Sequence[str] | None = None) -> None:
    """Prints a line per figure; with --json one object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("speech", choices=("synthetic", "real"))
    parser.add_argument("--corpus", type=Path, help="recordings, for real speech")
    parser.add_argument("--base", help="base.source of the scenario real-commands")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(given)
    if options.speech == "synthetic":
        world, sizes = synthetic_world(options.seed), list(COHORTS)
    else:
        if options.corpus is None:
            parser.error("real speech needs --corpus")
        world = real_world(options.corpus, options.base, options.seed)
        sizes = [size for size in COHORTS if size <= len(world.phones) / 2]
    if not options.json:
        print(
            f"{len(world.knowledge.speakers)} speakers train attackers, {world.attacked} are "
            f"attacked, {len(world.phones) - world.attacked} fill sums; clip norm "
            f"{world.clip_norm:.3g}, {len(world.model)} parameters"
        )
    rows = []
    for row in measured(world, sizes):
        rows.append(row)
        if not options.json:
            print(line(row), flush=True)
    if options.json:
        print(json.dumps(rows))


def measured(world: World, sizes: Sequence[int]) -> Iterator[dict[str, object]]:
    """All figures, one after the other."""
    singles = {noise: played(world, noise) for noise in NOISE}
    for noise, transcript in singles.items():
        for rounds in (1, ROUNDS) if noise else (1,):
            yield from identified(world, first(transcript, rounds), noise=noise, rounds=rounds)
    for linking in (*UPDATE_LINKING, LINKING_NETWORK):
        yield linked(world, first(singles[0.0], 2), linking)
    longer = world.training_for(EPOCHS)
    for name, personal in personalized(longer).items():
        truth = np.eye(world.attacked, dtype=bool)
        for attack in (*REIDENTIFICATION, NETWORK):
            scores = attack.guess(personal, longer.knowledge, world.rng("attack")).scores
            found = linking_metrics(Trials(scores, truth), world.rng("bootstrap"))
            yield row(name, attack.name, found)
    for size in sizes:
        yield from in_sums(world, size)
    if not lacking("audit"):
        yield audio(world)
    if world.traits and all(world.traits):
        for noise in (0.0, 0.3):
            yield from traits(world, first(singles[noise], 1), noise)


def played(world: World, noise: float) -> Transcript:
    """Rounds in which every attacked phone's update is seen alone; the model follows their mean."""
    plan, model, rounds = world.plan(noise), world.model, []
    for number in range(ROUNDS if noise else 2):
        updates = world.updates(model)[: world.attacked]
        seen = as_seen(updates, plan, 0, world.rng("noise", str(noise), number))
        rounds.append(
            SeenRound(number=number, sent=model, senders=np.arange(len(seen)), singles=seen)
        )
        model = (model + seen.mean(axis=0)).astype(np.float32)
    releases = np.stack([*(one.sent for one in rounds), model])
    return Transcript(observer="server", plan=plan, releases=releases, rounds=tuple(rounds))


def first(transcript: Transcript, rounds: int) -> Transcript:
    """The same run, ended after so many rounds."""
    return replace(transcript, rounds=transcript.rounds[:rounds],
                   releases=transcript.releases[: rounds + 1])  # fmt: skip


def identified(
    world: World, transcript: Transcript, *, noise: float, rounds: int
) -> Iterator[dict[str, object]]:
    """Single updates against candidates; scores of a sender are pooled, so one round's rows do."""
    truth = np.eye(world.attacked, dtype=bool)
    for attack in (*REIDENTIFICATION, NETWORK):
        scores = attack.guess(transcript, world.knowledge, world.rng("attack")).scores
        found = linking_metrics(Trials(scores[: world.attacked], truth), world.rng("bootstrap"))
        yield row(f"single updates, noise {noise:g}, {rounds} rounds", attack.name, found)


def linked(world: World, transcript: Transcript, attack: Attack) -> dict[str, object]:
    """Updates of two rounds against one another, without any clip of the attacked."""
    scores = attack.guess(transcript, world.knowledge, world.rng("attack")).scores
    senders = transcript.senders
    trials = Trials(scores, senders[:, None] == senders, ~np.eye(len(senders), dtype=bool), senders)
    found = linking_metrics(trials, world.rng("bootstrap"))
    return row("two rounds linked, no enrollment", attack.name, found)


def personalized(world: World) -> dict[str, Transcript]:
    """Adapters that left their phones, nothing clipped, as float and as int8.

    A .tflite file answers as its adapter does (docs/export.md, within 1e-4), so who has the file
    has the adapter's footprint. Its int8 form holds each label's weights in 255 steps.
    """
    own, adapter = world.updates(world.model)[: world.attacked], world.knowledge.adapter
    coarse = np.stack([in_steps(adapter, world.model + delta) for delta in own]) - world.model
    releases = world.model[None]
    return {
        f"personalized adapter, {name}": Transcript(
            observer="recipient", plan=world.plan(0.0), releases=releases,
            rounds=(SeenRound(number=0, sent=world.model, senders=np.zeros(0, np.int64),
                              singles=rows),),
        )
        for name, rows in (("float", own), ("int8", coarse))
    }  # fmt: skip


def in_steps(adapter: Adapter, vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parameters in 255 steps of each row's largest one."""
    found = []
    for _, shape, place in adapter.spec.slices():
        rows = vector[place].reshape(shape[0] if len(shape) > 1 else 1, -1)
        steps = np.abs(rows).max(axis=1, keepdims=True) / 127
        found.append((np.round(rows / steps) * steps).ravel())
    return np.concatenate(found)


def in_sums(world: World, size: int) -> Iterator[dict[str, object]]:
    """Sums of many phones without any noise: who of the candidates is in which?"""
    clipped = as_seen(world.updates(world.model), world.plan(0.0), 0, world.rng("no noise"))
    rounds, truth = [], np.zeros((SUMS, world.attacked), bool)
    for number in range(SUMS):
        cohort = world.rng("cohort", size, number).choice(len(clipped), size, replace=False)
        truth[number, cohort[cohort < world.attacked]] = True
        rounds.append(SeenRound(number=number, sent=world.model, senders=np.zeros(0, np.int64),
                                total=clipped[cohort].sum(axis=0)))  # fmt: skip
    transcript = Transcript(
        observer="server", plan=world.plan(0.0, size), rounds=tuple(rounds),
        releases=np.stack([world.model] * (SUMS + 1)),
    )  # fmt: skip
    for attack in (*REIDENTIFICATION, NETWORK):
        scores = attack.guess(transcript, world.knowledge, world.rng("attack")).scores
        found = linking_metrics(Trials(scores, truth), world.rng("bootstrap"))
        yield row(f"{SUMS} sums of {size}, no noise", attack.name, found)


def audio(world: World) -> dict[str, object]:
    """The clips themselves, by an encoder from elsewhere: what there is to hide."""
    encoder = SpeakerEncoder.load()
    halves = [
        [encoder(half, rate_hz=RATE_HZ).mean(axis=0) for half in world.clips(person)]
        for person in range(world.attacked)
    ]
    one, other = (np.stack(side).astype(np.float64) for side in zip(*halves, strict=True))
    scores = (one / np.linalg.norm(one, axis=1, keepdims=True)) @ other.T
    trials = Trials(scores, np.eye(world.attacked, dtype=bool))
    return row("audio itself", "speaker encoder", linking_metrics(trials, world.rng("bootstrap")))


def traits(world: World, transcript: Transcript, noise: float) -> Iterator[dict[str, object]]:
    """Accent, sex, age band, device and room of every attacked speaker."""
    for attack in TRAIT_ATTACKS:
        named = world.knowledge.values(attack.secret)
        scores = attack.guess(transcript, world.knowledge, world.rng("attack")).scores
        truth = np.array([named.index(of[attack.secret]) for of in world.traits])
        found = balanced_accuracy_metric(
            scores, truth, np.arange(world.attacked), world.rng("bootstrap")
        )
        yield row(f"trait, noise {noise:g}", attack.name, (found,))


def row(case: str, attack: str, metrics: Sequence[Metric]) -> dict[str, object]:
    """One line of the table as plain values."""
    return {"case": case, "attack": attack} | {
        one.name: {
            "value": one.value, "chance": one.by_chance,
            "low": one.interval and one.interval.low, "high": one.interval and one.interval.high,
        }
        for one in metrics
    }  # fmt: skip


def line(row: dict[str, object]) -> str:
    """The same for a reader."""
    figures = [
        f"{name} {of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}] chance {of['chance']:.3g}"
        for name, of in row.items()
        if isinstance(of, dict)
    ]
    return f"{row['case']} | {row['attack']} | " + " | ".join(figures)


if __name__ == "__main__":
    main()
