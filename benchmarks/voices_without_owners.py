"""How well are voices hidden? Anonymized recordings and embeddings against three attackers.

    python -m benchmarks.voices_without_owners synthetic --out DIR
    python -m benchmarks.voices_without_owners real --corpus DATA/speech_commands_v1_subset --out D

Needs the extras `audit` and `world`. Speakers are dealt into three groups that share nobody: the
public (methods are fit on them, voices of a pool are theirs), those on whom attackers train, and
the attacked, whose clips are dealt into two halves, to be linked. An ignorant attacker trains and
enrolls on original speech; a lazy-informed one enrolls on anonymized speech; a semi-informed one
trains on it too, and is the headline. Intervals are of 95 %, bootstrapped over speakers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.voices_page import page
from fedspeech.anonymization import embedding as kinds
from fedspeech.anonymization.learned import Vae, adversarial_projection
from fedspeech.anonymization.pitch import f0_contour
from fedspeech.anonymization.voices import METHODS, Anonymizer
from fedspeech.audits.linkers import GaussianLinker
from fedspeech.audits.network_linker import NetworkLinker
from fedspeech.audits.sequence_attacker import train_attacker
from fedspeech.audits.speaker_encoder import SpeakerEncoder, mel_frames
from fedspeech.corpora.corpus import Utterance
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec, accent_shares
from fedspeech.device.speaker_space import SpeakerSpace
from fedspeech.evaluation.balanced_accuracy import balanced_accuracy_metric
from fedspeech.evaluation.metric import Metric
from fedspeech.evaluation.voice_privacy.linking import Trials, linking_metrics
from fedspeech.seeds import NoiseEntropy, stream

RATE = 16_000
Rows = NDArray[np.float64]
ATTACKERS = ("ignorant", "lazy-informed", "semi-informed")
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@dataclass(frozen=True, eq=False)
class World:
    """Clips of speakers in three groups: 0 public, 1 training attackers, 2 attacked."""

    waves: NDArray[np.float32]
    clips: list[Utterance]
    speakers: NDArray[np.int64]
    groups: NDArray[np.int64]
    segments: list[Mapping[str, str]]  # of each speaker
    seed: int

    def rng(self, *names: str) -> np.random.Generator:
        """A stream of this benchmark."""
        return stream(self.seed, "voices without owners", *names)

    def halves(self, rows: Rows, group: int) -> tuple[Rows, Rows]:
        """Mean rows of both halves of every speaker of a group."""
        sides: tuple[list[Rows], list[Rows]] = ([], [])
        for who in np.flatnonzero(self.groups == group):
            own = np.flatnonzero(self.speakers == who)
            for side, start in zip(sides, (0, 1), strict=True):
                side.append(rows[own[start::2]].mean(axis=0))
        return np.stack(sides[0]), np.stack(sides[1])

    def of_group(self, *groups: int) -> NDArray[np.bool_]:
        """Which clips are of speakers of some groups."""
        return np.isin(self.groups[self.speakers], groups)


def main(given: Sequence[str] | None = None) -> None:
    """Writes results.json and the page, and prints a line a figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("speech", choices=("synthetic", "real"))
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8, help="most clips of a speaker")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(given)
    if options.speech == "real" and options.corpus is None:
        parser.error("real speech needs --corpus")
    options.out.mkdir(parents=True, exist_ok=True)
    made = (synthetic(options.seed, options.clips) if options.speech == "synthetic"
            else real(options.corpus, options.seed, options.clips))  # fmt: skip
    rows = []
    for row in measured(made):
        rows.append(row)
        print(line(row), flush=True)
        (options.out / "results.json").write_text(json.dumps(rows, indent=1))
    (options.out / "page.html").write_text(page(rows, options.speech), encoding="utf-8")


def synthetic(seed: int, most: int) -> World:
    """300 voices of the synthesizer, five accents in equal parts."""
    groups = tuple(
        SpeakerGroup(name=name, num_speakers=100, accents=accent_shares(0.8), words=WORDS,
                     utterances_per_word=1)
        for name in ("public", "attackers", "attacked")
    )  # fmt: skip
    corpus = SyntheticCorpus(SyntheticSpec(seed=3000 + seed, groups=groups))
    place = {who: n for n, name in enumerate(corpus.groups) for who in corpus.groups[name]}
    return world(corpus, place, seed, most)


def real(folder: Path, seed: int, most: int) -> World:
    """Recorded speakers with six clips and more, in three equal groups."""
    corpus = open_corpus(folder)
    counts: dict[str, int] = {}
    for clip in corpus.utterances:
        counts[clip.speaker_id] = counts.get(clip.speaker_id, 0) + 1
    names = sorted(name for name, count in counts.items() if count >= 6)
    order = stream(seed, "groups").permutation(len(names))
    place = {names[who]: int(3 * n // len(names)) for n, who in enumerate(order)}
    return world(corpus, place, seed, most)


def world(corpus, place: Mapping[str, int], seed: int, most: int) -> World:  # type: ignore[no-untyped-def]
    """Takes at most so many clips of every speaker, in a random order."""
    own: dict[str, list[Utterance]] = {name: [] for name in place}
    for n in stream(seed, "clips").permutation(len(corpus.utterances)):
        clip = corpus.utterances[n]
        if len(own.get(clip.speaker_id, [None] * most)) < most:
            own[clip.speaker_id].append(clip)
    clips = [clip for of in own.values() for clip in of]
    names = list(own)
    return World(
        corpus.waveforms(clips), clips, np.array([names.index(one.speaker_id) for one in clips]),
        np.array(list(place.values())), [dict(corpus.speakers[name].segments) for name in names],
        seed,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Heard:
    """What attackers and recognizers make of all clips."""

    encoder: Rows  # GE2E, (n, 256)
    statistics: Rows  # of log-mel, (n, 80)
    frames: NDArray[np.float32]  # log-mel, (n, t, 40)
    channels: Mapping[str, Rows]


def heard(waves: NDArray[np.float32], encoder: SpeakerEncoder) -> Heard:
    """Runs the encoder and the front ends."""
    mels = np.log(np.stack([mel_frames(wave) for wave in waves]) + 1e-6)
    loud = np.sort(mels.mean(axis=2), axis=1)[:, mels.shape[1] // 2, None]
    weight = (mels.mean(axis=2) >= loud)[..., None]
    mean = (mels * weight).sum(axis=1) / weight.sum(axis=1)
    spread = np.sqrt((((mels - mean[:, None]) * weight) ** 2).sum(axis=1) / weight.sum(axis=1))
    return Heard(encoder(waves, rate_hz=RATE).astype(float),
                 np.concatenate([mean - mean.mean(axis=1, keepdims=True), spread], axis=1),
                 mels[:, ::2].astype(np.float32),
                 side_channels(waves))  # fmt: skip


def side_channels(waves: NDArray[np.float32]) -> dict[str, Rows]:
    """Statistics of pitch, timing and energy alone."""
    found: dict[str, list[list[float]]] = {"F0": [], "timing": [], "energy": []}
    for wave in waves:
        contour = f0_contour(wave, RATE)
        voiced = contour > 0
        logs = np.log(contour[voiced]) if voiced.any() else np.zeros(1)
        level = np.log(np.square(wave[: len(wave) // 160 * 160]).reshape(-1, 160).mean(1) + 1e-7)
        active = level > np.percentile(level, 95) - 6
        edges = np.flatnonzero(np.diff(voiced.astype(int)) != 0)
        found["F0"].append([logs.mean(), logs.std(), *np.percentile(logs, [5, 25, 50, 75, 95])])
        found["energy"].append([*np.percentile(level, [5, 25, 50, 75, 95]), level.std()])
        at = np.flatnonzero(active)
        found["timing"].append([at[0], at[-1] - at[0], active.mean(), voiced.mean(), len(edges),
                                np.diff(edges).mean() if len(edges) > 1 else 0.0])  # fmt: skip
    rows = {name: np.array(of) for name, of in found.items()}
    return {name: (of - of.mean(0)) / (of.std(0) + 1e-9) for name, of in rows.items()}


def measured(made: World) -> Iterator[dict[str, object]]:
    """All figures, one after the other."""
    encoder = SpeakerEncoder.load()
    original = heard(made.waves, encoder)
    yield from recordings(made, "original", original, original)
    entropy = NoiseEntropy.seeded(made.seed, "voices without owners")
    for name in METHODS:
        by, started = Anonymizer(method=name, entropy=entropy), time.process_time()
        waves = np.stack([
            by(wave, RATE, utterance=clip.utterance_id, speaker=clip.speaker_id)
            for wave, clip in zip(made.waves, made.clips, strict=True)
        ])  # fmt: skip
        factor = (time.process_time() - started) / (waves.size / RATE)
        yield plain("recording", name, "", "real-time factor", factor)
        yield from recordings(made, name, original, heard(waves, encoder))
    yield from embeddings(made, original)


def recordings(made: World, name: str, before: Heard, after: Heard) -> Iterator[dict[str, object]]:
    """One method: attackers, groups, households, words and side channels."""
    views = {"GE2E + Gaussian": ("encoder", GaussianLinker()), "GE2E + network": ("encoder",
             NetworkLinker()), "log-mel + network": ("statistics", NetworkLinker())}  # fmt: skip
    strongest: tuple[float, Rows] = (2.0, np.zeros((0, 0)))
    for view, (kind, linker) in views.items():
        for attacker in ATTACKERS:
            scores = linked(made, getattr(before, kind), getattr(after, kind), attacker, linker)
            found = linking_metrics(trials(scores), made.rng("bootstrap"))
            yield row("recording", name, attacker, view, found[:2])
            if attacker == "semi-informed" and found[0].value < strongest[0]:
                strongest = found[0].value, scores
    yield from by_group(made, name, strongest[1])
    yield from households(made, name, strongest[1])
    yield from words(made, name, before, after)
    for channel, rows in after.channels.items():
        scores = linked(made, rows, rows, "semi-informed", GaussianLinker())
        found = linking_metrics(trials(scores), made.rng("bootstrap"))
        yield row("side channel", name, "semi-informed", channel, found[:2])


def linked(made: World, before: Rows, after: Rows, attacker: str, linker) -> Rows:  # type: ignore[no-untyped-def]
    """Scores of the attacked, probes by enrolled."""
    trained = after if attacker == "semi-informed" else before
    enrolled = made.halves(before if attacker == "ignorant" else after, 2)[1]
    link = linker.fit(*made.halves(trained, 1), made.rng("attack"))
    return np.asarray(link(made.halves(after, 2)[0], enrolled))


def trials(scores: Rows) -> Trials:
    """The diagonal is of one speaker."""
    return Trials(scores, np.eye(len(scores), dtype=bool))


def by_group(made: World, name: str, scores: Rows) -> Iterator[dict[str, object]]:
    """The strongest semi-informed attacker among speakers of one accent, of one sex."""
    people = [made.segments[who] for who in np.flatnonzero(made.groups == 2)]
    for trait in ("accent", "sex"):
        values = sorted({one[trait] for one in people if trait in one})
        for value in values:
            own = np.array([one.get(trait) == value for one in people])
            if own.sum() >= 10:
                found = linking_metrics(trials(scores[own][:, own]), made.rng("bootstrap"))
                yield row(trait, name, "semi-informed", value, found[:1])


def households(made: World, name: str, scores: Rows) -> Iterator[dict[str, object]]:
    """Of a household of 2 to 4 voices, whose recording is it? Share that is right."""
    own = np.diag(scores)[:, None]
    below = (scores < own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    share = below / (len(scores) - 1)  # of others that score lower
    for size in (2, 3, 4):
        right = share ** (size - 1)
        drawn = made.rng("bootstrap").integers(0, len(right), (2000, len(right)))
        low, high = np.percentile(right[drawn].mean(axis=1), [2.5, 97.5])
        yield plain("household", name, "semi-informed", f"{size} voices", float(right.mean()),
                    low, high, 1 / size)  # fmt: skip


def words(made: World, name: str, before: Heard, after: Heard) -> Iterator[dict[str, object]]:
    """Word accuracy on the attacked, by a recognizer of original speech and by one retrained."""
    said, labels = np.unique([clip.word for clip in made.clips], return_inverse=True)
    train, test = made.of_group(0, 1), made.of_group(2)
    for kind, seen in (("original recognizer", before), ("retrained recognizer", after)):
        reader = train_attacker(seen.frames[train], labels[train], classes=len(said),
                                rng=made.rng("recognizer"))  # fmt: skip
        right = (reader(after.frames[test]).argmax(axis=1) == labels[test]).astype(float)
        owner = made.speakers[test]
        shares = np.array([right[owner == who].mean() for who in np.unique(owner)])
        drawn = made.rng("bootstrap").integers(0, len(shares), (2000, len(shares)))
        low, high = np.percentile(shares[drawn].mean(axis=1), [2.5, 97.5])
        yield plain("words", name, "", kind, float(shares.mean()), low, high, 1 / len(said))


def embeddings(made: World, original: Heard) -> Iterator[dict[str, object]]:
    """Every method of embeddings, on the encoder from elsewhere and on our speaker model."""
    public = made.of_group(0)
    speakers = np.unique(made.speakers[public], return_inverse=True)[1]
    ours = SpeakerSpace.fit(original.frames[public], speakers).place(original.frames)
    for model, rows in (("GE2E", original.encoder), ("our speaker model", ours)):
        for name, method in fitted(rows[public], speakers).items():
            draws = NoiseEntropy.seeded(made.seed, "release").keystream(model, name)
            after = rows if method is None else method(rows, draws=draws)
            for attacker in ATTACKERS:
                if after.shape != rows.shape and attacker != "semi-informed":
                    continue  # what has another width cannot be compared with originals
                for linker in (GaussianLinker(), NetworkLinker()):
                    found = linking_metrics(
                        trials(linked(made, rows, after, attacker, linker)), made.rng("bootstrap")
                    )
                    yield row(f"embedding, {model}", name, attacker, linker.name, found[:2])
            yield from environment(made, model, name, after)


def fitted(public: Rows, speakers: NDArray[np.int64]) -> dict[str, kinds.EmbeddingMethod | None]:
    """The methods, fit on public speakers."""
    wide = public.shape[1]
    few = max(1, wide // 16)
    means = [public[speakers == who].mean(axis=0) for who in range(speakers.max() + 1)]
    pool, norms = np.stack(means), np.abs(public).sum(axis=1)
    farthest = min(200, 2 * len(pool) // 3)
    return {
        "original": None,
        "whitening": kinds.whitening(public),
        "masking": kinds.masking(public, speakers),
        "nullspace": kinds.nullspace(public, speakers, directions=few),
        "adversarial projection": adversarial_projection(public, speakers, width=wide // 2, seed=1),
        "VAE": Vae.fit(public, seed=1),
        "Gaussian, eps 15": kinds.GaussianNoise(
            clip_norm=float(np.linalg.norm(public, axis=1).mean())),
        "Laplace, eps 15": kinds.LaplaceNoise(clip_norm=float(norms.mean())),
        "rotation (pseudonyms)": kinds.Rotation(),
        "pool": kinds.PoolVoice(pool=pool, farthest=farthest, averaged=farthest // 2),
    }  # fmt: skip


def environment(made: World, model: str, name: str, rows: Rows) -> Iterator[dict[str, object]]:
    """What is of use in an embedding: how noisy the room is, by a classifier that is retrained."""
    named = [made.segments[who].get("noise") for who in made.speakers]
    values = sorted({one for one in named if one})
    if len(values) < 2:
        return
    labels = np.array([values.index(one) if one else -1 for one in named])
    train, test = made.of_group(0, 1), made.of_group(2)
    center = rows[train].mean(axis=0)
    inputs = (rows - center) / (rows[train].std(axis=0) + 1e-9)
    targets = np.eye(len(values))[labels[train]]
    targets = targets / targets.sum(axis=0)
    weights = np.linalg.solve(
        inputs[train].T @ inputs[train] + 0.1 * train.sum() * np.eye(rows.shape[1]),
        inputs[train].T @ (targets - targets.mean(axis=0)) * train.sum(),
    )
    found = balanced_accuracy_metric(
        inputs[test] @ weights, labels[test], made.speakers[test], made.rng("bootstrap")
    )
    yield row(f"environment, {model}", name, "", "balanced accuracy", (found,))


def row(
    kind: str, method: str, attacker: str, view: str, metrics: Sequence[Metric]
) -> dict[str, object]:
    """One line as plain values."""
    return {"kind": kind, "method": method, "attacker": attacker, "view": view} | {
        one.name: [one.value, one.interval and one.interval.low, one.interval and one.interval.high,
                   one.by_chance]
        for one in metrics
    }  # fmt: skip


def plain(
    kind: str, method: str, attacker: str, view: str, value: float, low: float | None = None,
    high: float | None = None, chance: float | None = None,
) -> dict[str, object]:  # fmt: skip
    """The same of one figure."""
    return {"kind": kind, "method": method, "attacker": attacker, "view": view,
            "share": [value, low, high, chance]}  # fmt: skip


def line(row: Mapping[str, object]) -> str:
    """The same for a reader."""
    figures = [
        f"{name} {of[0]:.3f}" + (f" [{of[1]:.3f}, {of[2]:.3f}]" if of[1] is not None else "")
        for name, of in row.items()
        if isinstance(of, list)
    ]
    return " | ".join([str(row[key]) for key in ("kind", "method", "attacker", "view")] + figures)


if __name__ == "__main__":
    main()
