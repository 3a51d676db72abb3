r"""What wakes models of runs, and the words they then miss: before and after federated training.

    python -m benchmarks.mined_base RUN RUN --hours 10 --cache runs/hours

Each run's base, with its own head and with the federated one (adapter "head"), hears the same
synthesized hours without a target word and the same words of every accent. Smoothing, and a
threshold for every word, are those that find most words at so many false accepts an hour on these
very sounds, which is the kinder choice. An hour takes 25 seconds of a core; the cache keeps it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from fedspeech.audio.frontend import LogMel
from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.corpora.stream_scenes import with_keywords
from fedspeech.evaluation.streaming import (
    binomial_interval,
    hops_in,
    poisson_interval,
    probabilities,
    smoothed,
)
from fedspeech.models.base import Base
from fedspeech.synthesis.voices import ACCENTS
from simulations.artifacts.loaded_run import FinishedRun

FloatArray = NDArray[np.float32]

FIRST_SEED = 4_000  # no hour of any mining
WORDS_SEED = 777
WORDS_PER_ACCENT = 210
COOLDOWN_HOPS, PATIENCE_HOPS = 50, 40
FLOOR = -4.0  # log-odds: what stays below wakes nobody
RATES = (0.5, 10.0)
SMOOTHINGS_MS = (200, 600)


def main() -> None:
    """Prints a table for each run and head."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--hours", type=int, default=10)
    parser.add_argument("--cache", type=Path, required=True, help="for features of the hours")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for run in given.runs:
        finished = FinishedRun.open(run)
        trained, _ = finished.trained()
        base = trained.base
        heads = {
            "base": (base.head_weight, base.head_bias),
            "federated": tuple(trained.parameters[f"head_{name}"] for name in ("weight", "bias")),
        }
        hours = [_pooled(base, mel) for mel, _ in _hours(base, given.hours, given.cache)]
        kinds = np.concatenate([kind for _, kind in _hours(base, given.hours, given.cache)])
        said = list(_said(base))
        for name, (weight, bias) in heads.items():
            print(f"{run.name}, {name}")
            _report(hours, kinds, said, weight, bias, base.vocabulary.labels)


def _hours(base: Base, count: int, cache: Path) -> Iterator[tuple[FloatArray, NDArray[np.str_]]]:
    """Features (scenes, frames, m) and kinds of sound of each hour, from the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    targets = base.vocabulary.labels[:-NUM_NEGATIVE_LABELS]
    frontend = LogMel(base.built_in.frontend)
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        path = cache / f"neg{seed}.npz"
        if not path.exists():
            scenes = list(negative_scenes(3600, targets, seed, {}))
            with torch.no_grad():
                mels = [frontend(torch.from_numpy(one.sound)[None])[0].numpy() for one in scenes]
            half = np.stack(mels).astype(np.float16)
            np.savez(path, mel=half, kind=np.array([one.kind for one in scenes]))
        kept = np.load(path)
        yield kept["mel"], kept["kind"]


def _pooled(base: Base, mel: FloatArray) -> NDArray[np.float16]:
    """The head's input at every hop of scenes (n, frames, m) after silence, (n, frames, f)."""
    own, windows, stride = base.built_in, base.num_windows, base.built_in.spec.stride
    before = own.context_frames + (windows - 1) * stride
    mean, std = torch.from_numpy(own.feature_mean), torch.from_numpy(own.feature_std)
    found = []
    for block in torch.split(torch.from_numpy(mel.astype(np.float32)), 25):
        silence = torch.full(
            (len(block), before, block.shape[2]), float(np.log(own.frontend.floor))
        )
        features = (torch.cat([silence, block], dim=1) - mean) / std
        with torch.inference_mode():
            every = torch.empty(*features.shape[:2], own.num_features)
            for phase in range(stride):
                every[:, phase::stride] = torch.relu(own.network(features[:, phase:]))
            clips = every[:, own.context_frames :].unfold(1, before - own.context_frames + 1, 1)
            found.append(clips[..., ::stride].mean(-1).half())
    return torch.cat(found).numpy()


def _said(base: Base) -> Iterator[tuple[str, FloatArray, list[tuple[int, int, int]]]]:
    """Accent, the head's input and the places of the words of each scene with words."""
    targets = base.vocabulary.labels[:-NUM_NEGATIVE_LABELS]
    frontend, hop = LogMel(base.built_in.frontend), base.encoder.hop_samples
    for accent in sorted(ACCENTS):
        scenes = list(with_keywords(WORDS_PER_ACCENT, targets, WORDS_SEED, {}, (accent,)))
        with torch.no_grad():
            mels = [frontend(torch.from_numpy(sound)[None])[0].numpy() for sound, _ in scenes]
        pooled = _pooled(base, np.stack(mels))
        for row, (_, spoken) in zip(pooled, scenes, strict=True):
            yield (
                accent,
                row,
                [(targets.index(one.word), one.start // hop, one.stop // hop) for one in spoken],
            )


def _report(
    hours: Sequence[NDArray[np.float16]],
    kinds: NDArray[np.str_],
    said: Sequence[tuple[str, FloatArray, list[tuple[int, int, int]]]],
    weight: FloatArray,
    bias: FloatArray,
    labels: Sequence[str],
) -> None:
    """Prints false rejects at each rate, with near misses and without, and what wakes."""

    def shares(rows: FloatArray) -> NDArray[np.float64]:
        return probabilities(rows.astype(np.float32) @ weight.T + bias)

    scenes = [shares(scene) for hour in hours for scene in hour]
    words = [(accent, shares(rows), places) for accent, rows, places in said]
    hours_each = len(scenes[0]) * 0.02 / 3600
    points: dict[tuple[str, float], list[Point]] = {}
    for smoothing_ms in SMOOTHINGS_MS:
        hops = hops_in(smoothing_ms, 20)
        events = [
            (level, word, str(kind))
            for kind, scene in zip(kinds, scenes, strict=True)
            for level, word in _peaks(smoothed(scene, hops))
        ]
        scores = [
            (accent, label, _odds(smoothed(found, hops))[first : last + PATIENCE_HOPS, label].max())
            for accent, found, places in words
            for label, first, last in places
        ]
        for name, without in (("all", ""), ("without near misses", "near_misses")):
            exposure = hours_each * int((kinds != without).sum())
            heard = [event for event in events if event[2] != without]
            for rate in RATES:
                levels, woken = _levels(heard, scores, int(rate * exposure))
                missed = [accent for accent, label, score in scores if score <= levels[label]]
                point = Point(smoothing_ms, exposure, woken, missed, len(scores))
                points.setdefault((name, rate), []).append(point)
    for (name, rate), found in points.items():
        best = min(found, key=lambda point: len(point.missed))
        print(f"  {name}, at most {rate:g} an hour: {best.in_words(labels)}", flush=True)


@dataclass(frozen=True)
class Point:
    """Events that woke in so many hours, as level, word and kind of sound, and missed words."""

    smoothing_ms: int
    hours: float
    woken: Sequence[tuple[float, int, str]]
    missed: Sequence[str]
    said: int

    def in_words(self, labels: Sequence[str]) -> str:
        """Counts and exact intervals, by accent, kind and word."""
        low, high = binomial_interval(len(self.missed), self.said)
        few, many = poisson_interval(len(self.woken), self.hours)
        by = Counter(self.missed)
        accents = ", ".join(f"{one} {by[one] / WORDS_PER_ACCENT:.0%}" for one in sorted(ACCENTS))
        return (
            f"{len(self.woken)} in {self.hours:.1f} h ({few:.2f} to {many:.2f} an hour), missed "
            f"{len(self.missed) / self.said:.1%} ({low:.1%} to {high:.1%}), smoothing "
            f"{self.smoothing_ms} ms; {accents}; woken by {dict(Counter(e[2] for e in self.woken))}"
            f" as {dict(Counter(labels[event[1]] for event in self.woken))}"
        )


def _odds(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of the target words."""
    kept = np.clip(means[:, :-NUM_NEGATIVE_LABELS], 1e-9, 1 - 1e-9)
    found: NDArray[np.float64] = special.logit(kept)
    return found


def _peaks(means: NDArray[np.float64]) -> Iterator[tuple[float, int]]:
    """Level and word of every event of a scene: the highest, then others outside its cooldown."""
    odds = _odds(means)
    for word in range(odds.shape[1]):
        left = odds[:, word].copy()
        while (level := float(left[place := int(left.argmax())])) > FLOOR:
            yield level, word
            left[max(0, place - COOLDOWN_HOPS) : place + COOLDOWN_HOPS + 1] = -np.inf


def _levels(
    peaks: Sequence[tuple[float, int, str]], scores: Sequence[tuple[str, int, float]], allowed: int
) -> tuple[list[float], list[tuple[float, int, str]]]:
    """Thresholds of the words that allow so many events in all, where these find most words.

    Greedily: a word's threshold falls past its next events where that finds most words an event.
    """
    words = range(1 + max(label for _, label, _ in scores))
    events = [sorted((one for one in peaks if one[1] == word), reverse=True) for word in words]
    heard = [np.array([score for _, label, score in scores if label == word]) for word in words]
    spent = [0 for _ in words]

    def level(word: int, count: int) -> float:
        return events[word][count][0] if count < len(events[word]) else FLOOR

    def gain(word: int, more: int) -> float:
        before, after = (
            int((heard[word] > level(word, count)).sum())
            for count in (spent[word], spent[word] + more)
        )
        return (after - before) / more

    while left := allowed - sum(spent):
        choices = range(1, min(left, 20) + 1)
        best, fewest, word = max((gain(word, n), -n, word) for word in words for n in choices)
        if best <= 0:
            break
        spent[word] -= fewest
    levels = [level(word, spent[word]) for word in words]
    return levels, [one for word in words for one in events[word][: spent[word]]]


if __name__ == "__main__":
    main()
