"""A synthetic test set for sound that wakes devices by mistake, of which there is no recording.

Jingles are drawn, recorded by devices of each class, and heard by the detector. Those that wake one
class more than the others are the test set: what telemetry said of the incident, without a sound of
anybody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from fedspeech.audio.channel import DEVICE_KINDS, RATE_HZ
from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS
from fedspeech.corpora.jingles import DrawnJingle, jingle, on_devices, said
from fedspeech.errors import ScenarioError
from fedspeech.tasks.keyword_stream import HeardStreams
from simulations.console import Console, Printed, table
from simulations.progress import RunProgress
from simulations.setup.bases import base_of
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder

FloatArray = NDArray[np.float32]

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
CLEARLY = 1.5
"""Times as often as every other class must a jingle of the test set wake the one looked into."""

SPEAKERS = 8
"""Who say each target word, for what a threshold misses."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A jingle and the devices that it wakes.

    Attributes:
      number: of the jingle.
      word: target that it comes near to.
      wakes: share of the devices that wake, by class; of the test set, on the devices that
        confirmed it.
      in_test_set: whether it wakes the class that is looked into clearly more than every other.
    """

    number: int
    word: str
    wakes: Mapping[str, float]
    in_test_set: bool


@dataclass(frozen=True, kw_only=True)
class ThresholdRow:
    """What a threshold does to one class of devices.

    Attributes:
      threshold: on the score.
      wakes: share of the test set's recordings that wake the class.
      wakes_others: likewise the other class that wakes most.
      missed: share of synthesized target words that it misses on the class.
    """

    threshold: float
    wakes: float
    wakes_others: float
    missed: float


@dataclass(frozen=True, eq=False)
class JingleSet(Printed):
    """A test set for an incident, and what thresholds do to it.

    Attributes:
      device: class of devices that the incident is of.
      threshold: at which devices wake now.
      candidates: every jingle that was drawn.
      rows: by threshold.
      median_score: of the test set on the class.
      score_spread: standard deviation of the logit of the score, likewise.
      folder: of the recordings; None: nowhere.
    """

    device: str
    threshold: float
    candidates: tuple[Candidate, ...]
    rows: tuple[ThresholdRow, ...]
    median_score: float
    score_spread: float
    folder: Path | None = None

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """The jingles of the test set."""
        return tuple(one for one in self.candidates if one.in_test_set)

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "device": self.device, "threshold": self.threshold,
            "median_score": self.median_score, "score_spread": self.score_spread,
            "candidates": [{**vars(one), "wakes": dict(one.wakes)} for one in self.candidates],
            "thresholds": [vars(row) for row in self.rows],
            "folder": None if self.folder is None else str(self.folder),
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """Prints the test set and the thresholds."""
        console.print(
            f"{len(self.chosen)} of {len(self.candidates)} jingles wake {self.device} clearly more "
            f"than every other class, at threshold {self.threshold:g}; share of devices that wake:"
        )
        kinds = tuple(DEVICE_KINDS)
        rows = [
            (f"{one.number}", one.word, *(f"{one.wakes[kind]:.0%}" for kind in kinds))
            for one in self.chosen
        ]
        console.print(table(("jingle", "near", *kinds), rows, right=kinds))
        console.print(
            f"\nScores on {self.device}: median {self.median_score:.2f}, logits spread by "
            f"{self.score_spread:.2f}. What a threshold for {self.device} alone does:"
        )
        header = ("threshold", "jingles wake it", "another class", "words missed")
        rows = [
            (f"{r.threshold:.2f}", f"{r.wakes:.0%}", f"{r.wakes_others:.0%}", f"{r.missed:.0%}")
            for r in self.rows
        ]
        console.print(table(header, rows, right=header))
        if self.folder is not None:
            console.print(f"\nrecordings: {self.folder}")

    def __repr__(self) -> str:
        """How many jingles, of which class."""
        return f"JingleSet({len(self.chosen)} of {len(self.candidates)} jingles, {self.device})"


class _Detector:
    """The base of an experiment, which listens."""

    def __init__(self, experiment: Experiment, cache: Path) -> None:
        labels = experiment.speakers.task.labels
        if labels.output_unit != "clip":
            raise ScenarioError("jingles wake detectors of words; this task recognizes sentences")
        self.words, self.lexicon = labels.labels[:-NUM_NEGATIVE_LABELS], experiment.scenario.lexicon
        self.base = base_of(experiment.scenario, experiment.speakers, experiment.base, cache)
        self.adapter = experiment.adapter.build(experiment.adapter.frozen(self.base))
        initial = self.adapter.initial(self.base.head_weight, self.base.head_bias)
        self._vector = self.adapter.spec.flatten(initial)

    def peaks(self, sounds: FloatArray) -> NDArray[np.float64]:
        """Highest score in each sound, shape (n,)."""
        return HeardStreams.of_sounds(self.base, self.adapter, sounds).peaks(self._vector)

    def wakes(self, one: DrawnJingle, threshold: float, count: int, seed: int) -> dict[str, float]:
        """Share of the devices that a jingle wakes, by class."""
        return {
            kind: float((self.peaks(on_devices(one.sound, kind, count, seed)) >= threshold).mean())
            for kind in DEVICE_KINDS
        }


def find_jingles(
    experiment: Experiment,
    device: str,
    *,
    threshold: float,
    candidates: int,
    recordings: int,
    out: Path | None,
    cache: Path | None,
    progress: RunProgress,
) -> JingleSet:
    """Draws jingles, keeps those that wake a class of devices most, and tries thresholds on them.

    Raises:
      ScenarioError: if there is no such class, or none of the jingles wakes it most.
    """
    if device not in DEVICE_KINDS:
        raise ScenarioError(f"a device class is one of {', '.join(DEVICE_KINDS)}, got {device!r}")
    detector, seed = _Detector(experiment, cache_folder(cache)), experiment.scenario.seed
    drawn: dict[int, DrawnJingle] = {}
    found: list[Candidate] = []
    with progress, progress.stage("jingles", candidates):
        for number in range(candidates):
            drawn[number] = jingle(detector.words, detector.lexicon, seed, number)
            wakes = detector.wakes(drawn[number], threshold, recordings, seed)
            # Of many jingles some wake a class most by chance alone: they must do so again, on
            # other devices and on more of them.
            kept = _most(wakes, device)
            if kept:
                wakes = detector.wakes(drawn[number], threshold, 2 * recordings, seed + 1)
                kept = _most(wakes, device, CLEARLY)
            found.append(
                Candidate(number=number, word=drawn[number].word, wakes=wakes, in_test_set=kept)
            )
            progress.advance(number + 1, candidates)
    numbers = [one.number for one in found if one.in_test_set]
    if not numbers:
        raise ScenarioError(
            f"none of {candidates} jingles wakes {device} clearly more than every other class at "
            f"threshold {threshold:g}: draw more candidates"
        )
    # Again on other devices: those that chose a jingle would flatter it.
    recorded = {
        kind: np.concatenate(
            [on_devices(drawn[one].sound, kind, 2 * recordings, seed + 2) for one in numbers]
        )
        for kind in DEVICE_KINDS
    }
    if out is not None:
        _write(out / device, numbers, np.split(recorded[device], len(numbers)))
    by_kind = {kind: detector.peaks(sounds) for kind, sounds in recorded.items()}
    peaks = by_kind[device]
    logits = np.log(peaks / (1 - peaks))
    return JingleSet(
        device=device,
        threshold=threshold,
        candidates=tuple(found),
        rows=_thresholds(detector, device, by_kind, seed),
        median_score=float(np.median(peaks)),
        score_spread=float(logits.std()),
        folder=out,
    )


def _most(wakes: Mapping[str, float], device: str, times: float = 1.0) -> bool:
    """Whether a jingle wakes a class of devices so many times as often as every other class."""
    return wakes[device] > times * max(wakes[kind] for kind in wakes if kind != device)


def _thresholds(
    detector: _Detector, device: str, peaks: Mapping[str, NDArray[np.float64]], seed: int
) -> tuple[ThresholdRow, ...]:
    """What each threshold lets pass and misses on a class of devices."""
    words = np.concatenate(
        [
            detector.peaks(said(word, detector.lexicon, device, SPEAKERS, seed))
            for word in detector.words
        ]
    )
    return tuple(
        ThresholdRow(
            threshold=threshold,
            wakes=float((peaks[device] >= threshold).mean()),
            wakes_others=max(
                float((of_kind >= threshold).mean())
                for kind, of_kind in peaks.items()
                if kind != device
            ),
            missed=float((words < threshold).mean()),
        )
        for threshold in THRESHOLDS
    )


def _write(out: Path, numbers: Sequence[int], recorded: Sequence[FloatArray]) -> None:
    """Writes the recordings, which `fedspeech listen` hears too."""
    for number, sounds in zip(numbers, recorded, strict=True):
        folder = out / f"jingle-{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for take, sound in enumerate(sounds):
            soundfile.write(folder / f"{take}.wav", sound, RATE_HZ)
