"""Several voices on one phone: what does learning from all cost, what does a voiceprint save?

    python -m benchmarks.household DATA/speech_commands_v1_subset [--seeds 1 2 3]

Every held-out speaker owns a phone. One to three others speak to it as much as the owner does, the
same words, rightly labeled. The phone adapts to the owner's clips alone, to everybody's, or to
those that a voiceprint of three of the owner's clips lets pass; always it is judged on the owner's
other clips. Directions and threshold of the voiceprint come from public speakers. In this corpus a
speaker is one session on one device, so voices are parted more easily than those of one household,
who share room and microphone.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

from fedspeech.audio.frontend import LogMel
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Utterance
from fedspeech.device.speaker_space import SpeakerSpace
from fedspeech.device.voiceprint import Voiceprint
from fedspeech.evaluation.roc import equal_error_rate
from fedspeech.seeds import stream
from fedspeech.tasks.evaluation import HeldOutPhone
from fedspeech.training.dataset import LocalDataset
from simulations.evaluation.evaluator import Evaluator
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import cache_folder
from simulations.setup.experiment import build_experiment

VOICES = (2, 3, 4)
ENROLLED = 3


def main() -> None:
    """Prints a line per seed and number of voices."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="folder of recordings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    gains = np.zeros((len(options.seeds), len(VOICES)))
    for row, seed in zip(gains, options.seeds, strict=True):
        household = Household(options.corpus, seed)
        print(json.dumps({"seed": seed, "equal error rate": household.equal_error_rate()}))
        for place, voices in enumerate(VOICES):
            found = household.measured(voices)
            row[place] = found["gain of the voiceprint"][1]
            print(json.dumps({"seed": seed, **found}), flush=True)
    if len(gains) > 1:
        over_seeds = np.column_stack([gains, gains.mean(axis=1)])
        for name, gain in zip((*VOICES, "any"), over_seeds.T, strict=True):
            print(json.dumps({"voices": name, "gain over seeds": _interval(gain)}))


class Household:
    """Phones of one seed, their clips as sound, and what public speakers teach of voices."""

    def __init__(self, corpus: Path, seed: int) -> None:
        """Builds the scenario `real-commands` without rounds: phones adapt from the base."""
        changes = [f"corpus.path={json.dumps(str(corpus))}", f"seed={seed}"]
        self.scenario = read_scenario("real-commands", changes)
        self.built = build_experiment(
            Experiment.from_scenario(self.scenario), cache=cache_folder(), simulation_only=None,
            workers=1, progress=lambda done, of: None,
        )  # fmt: skip
        self.shots = self.scenario.personalization.headline_shots
        self.frontend = LogMel(FrontendSpec())
        self.space = self._space()
        self.phones: list[HeldOutPhone] = []
        self.frames: list[NDArray[np.float32]] = []
        self.owners: list[Voiceprint] = []
        self.enrolled: list[NDArray[np.float32]] = []
        for phone in self.built.held_out:
            self._own(phone)

    def measured(self, voices: int) -> dict[str, Any]:
        """Accuracies with so many voices, in per cent, and what the voiceprints let pass."""
        rng = stream(self.scenario.seed, "household", voices)
        ways: dict[str, list[HeldOutPhone]] = {"owner": [], "everybody": [], "voiceprint": []}
        shares = []
        for place, phone in enumerate(self.phones):
            order = rng.permutation(len(self.phones))
            people = [place, *order[order != place][: voices - 1].tolist()]
            owner = self.owners[place]
            heard = [owner.verify(self.frames[person]) for person in people]
            ways["owner"].append(phone)
            ways["everybody"].append(self._hearing(people, [np.ones_like(one) for one in heard]))
            ways["voiceprint"].append(self._hearing(people, heard))
            shares.append((heard[0].mean(), np.concatenate(heard[1:]).mean()))
        kept, passed = np.mean(shares, axis=0)
        found = {way: self._accuracies(phones) for way, phones in ways.items()}
        gain = found["voiceprint"] - found["everybody"]
        # Over phones, paired; a phone's clips are taken as they are.
        error = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        return {
            "voices": voices,
            "phones": len(self.phones),
            "base": _percent(self._accuracies(self.phones, adapted=False).mean()),
            **{way: _percent(one.mean()) for way, one in found.items()},
            "gain of the voiceprint": [_percent(gain.mean() + side * error) for side in (-1, 0, 1)],
            "owner's clips kept": _percent(kept),
            "others' clips passed": _percent(passed),
        }

    def equal_error_rate(self) -> float:
        """Of a phone's clips against every owner's mean place, in per cent.

        The simulator computes it from the same clips: a voiceprint tells decisions alone.
        """
        prints = np.stack([self.space.place(voice).mean(axis=0) for voice in self.enrolled])
        prints /= np.linalg.norm(prints, axis=1, keepdims=True)
        scores = [self.space.place(frames) @ prints.T for frames in self.frames]
        mine = [clips[:, place] for place, clips in enumerate(scores)]
        others = [np.delete(clips, place, axis=1).ravel() for place, clips in enumerate(scores)]
        return _percent(equal_error_rate(np.concatenate(mine), np.concatenate(others)))

    def _own(self, phone: HeldOutPhone) -> None:
        """Takes a phone in, if its owner has clips to enroll besides; those judge nothing."""
        shots = self.built.task.split(
            phone.phone, self.shots, seed=self.scenario.seed,
            reserve=max(*self.scenario.personalization.shots, self.shots),
        )  # fmt: skip
        spoken = [i for i, clip in enumerate(phone.judged_clips) if clip.word != SILENCE]
        if len(spoken) < 3 * ENROLLED or not shots.own:
            return
        enrolled = spoken[:: len(spoken) // ENROLLED][:ENROLLED]
        rest = np.setdiff1d(np.arange(len(phone.judged)), enrolled)
        self.phones.append(replace(phone, judged=phone.judged.take(rest)))
        self.frames.append(self._heard(shots.own))
        voice = self._heard([phone.judged_clips[i] for i in enrolled])
        self.owners.append(Voiceprint.enroll(self.space, voice))
        self.enrolled.append(voice)

    def _space(self) -> SpeakerSpace:
        """Of public speakers, who own no phone here."""
        partition, recorded = self.built.partition, self.built.speakers.corpus.speakers
        clips = [
            clip
            for phone in (*partition.public, *partition.validation)
            for clip in phone.utterances
            if clip.speaker_id in recorded and clip.word != SILENCE
        ]
        _, speakers = np.unique([clip.speaker_id for clip in clips], return_inverse=True)
        return SpeakerSpace.fit(self._heard(clips), speakers.astype(np.int64), enrolled=ENROLLED)

    def _heard(self, clips: Sequence[Utterance]) -> NDArray[np.float32]:
        """Log-mel, shape (n, frames, mels)."""
        sound = torch.from_numpy(self.built.speakers.corpus.waveforms(list(clips)))
        with torch.inference_mode():
            frames: NDArray[np.float32] = self.frontend(sound).numpy()
        return frames

    def _hearing(self, people: list[int], kept: list[NDArray[np.bool_]]) -> HeldOutPhone:
        """The first one's phone, which adapts to the kept clips of these people."""
        own, copies = [], []
        for person, mask in zip(people, kept, strict=True):
            phone, chosen = self.phones[person], np.flatnonzero(mask)
            own.append(phone.own[self.shots].take(chosen))
            if self.shots in phone.copies:
                each = len(phone.copies[self.shots]) // len(mask)
                rows = chosen[:, np.newaxis] * each + np.arange(each)
                copies.append(phone.copies[self.shots].take(rows.ravel()))
        return replace(
            self.phones[people[0]],
            own={self.shots: functools.reduce(LocalDataset.joined, own)},
            copies={self.shots: functools.reduce(LocalDataset.joined, copies)} if copies else {},
        )

    def _accuracies(
        self, phones: list[HeldOutPhone], *, adapted: bool = True
    ) -> NDArray[np.float64]:
        """Of each phone on its owner's clips, shape (phones,)."""
        evaluator = Evaluator(replace(self.built, held_out=tuple(phones)), self.scenario)
        start = evaluator.ready(self.built.job.load_arrays().initial)
        vectors = evaluator.own_adapters(start, self.shots) if adapted else [start] * len(phones)
        pairs = zip(vectors, phones, strict=True)
        return np.array([evaluator.accuracy(vector, phone) for vector, phone in pairs])


def _interval(values: NDArray[np.float64]) -> list[float]:
    """Low end, mean and high end at 95 %, by Student."""
    error = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [round(float(values.mean() + side * error), 2) for side in (-1, 0, 1)]


def _percent(share: float) -> float:
    return round(100 * float(share), 1)


if __name__ == "__main__":
    main()
