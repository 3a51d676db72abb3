"""Who speaks in `benchmarks.voices_that_leak`: attackers' speakers, the attacked, and a crowd."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audits.attack import Knowledge, KnownSpeaker
from fedspeech.audits.transcript import Transcript
from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.corpora.partition import Phone
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec, accent_shares
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import FloatVector
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment
from simulations.setup.embedding import Embedder, cache_folder
from simulations.setup.experiment import BuiltExperiment, build_experiment

ATTACKERS, ATTACKED, CROWD, TAKES = 200, 100, 300, 4
MIN_CLIPS = 6  # of a real speaker who is attacked
ROUNDS = 10


@dataclass(frozen=True, eq=False)
class World:
    """Who speaks, and what attackers have.

    Attributes:
      knowledge: of the attackers; candidates are the attacked, by their other half of clips.
      model: before the first round, shape (d,).
      phones: halves on which the attacked phones train, then those of the crowd.
      traits: of each attacked speaker.
      clip_norm: of the scenario.
      query: what phones are asked for.
      clips: waveforms of an attacked speaker's two halves, (n, samples) each.
    """

    knowledge: Knowledge
    model: FloatVector
    phones: list[LocalDataset]
    traits: list[dict[str, str]]
    clip_norm: float
    seed: int
    query: AdapterTraining
    clips: Callable[[int], tuple[NDArray[np.float32], NDArray[np.float32]]]

    @property
    def attacked(self) -> int:
        """How many speakers are attacked."""
        return len(self.knowledge.candidates)

    def rng(self, *names: str | int) -> np.random.Generator:
        """A stream of this benchmark."""
        return stream(self.seed, "voices that leak", *names)

    def updates(self, model: FloatVector) -> NDArray[np.float64]:
        """What every phone would contribute, shape (phones, d)."""
        found = self.knowledge.contributions(
            self.phones, model, [self.rng("batches")] * len(self.phones)
        )
        return np.stack(found).astype(np.float64)

    def training_for(self, epochs: int) -> World:
        """The same world, where phones and attackers train for so many passes."""
        longer = replace(self.query, training=replace(self.query.training, local_epochs=epochs))
        background = self.knowledge.background

        def contributions(
            clips: Sequence[LocalDataset], model: FloatVector, rngs: Sequence[np.random.Generator]
        ) -> Sequence[FloatVector]:
            return longer.contributions([one.joined(background) for one in clips], model, rngs)

        knowledge = replace(self.knowledge, contributions=contributions)
        return replace(self, query=longer, knowledge=knowledge)

    def plan(self, noise: float, cohort: int = 10) -> PrivacyPlan:
        """Noise on phones of a multiple of the clip norm each; 0: none. Nothing is claimed."""
        population = max(len(self.phones), 10)
        return PrivacyPlan(
            dimension=len(self.model), clip_norm=self.clip_norm, noise_multiplier=noise,
            mechanism="local" if noise else "none", population=population,
            participation="fixed_size", participation_probability=min(1.0, cohort / population),
            rounds=ROUNDS, max_participations=ROUNDS, min_cohort=2, min_reporting=2, colluders=0,
            delta=1 / (20 * population), epsilon_budget=float("inf"), dropout_rate=0.0,
            secure_aggregation="ideal",
        )  # fmt: skip


Person = tuple[list[Utterance], dict[str, str]]
"""Clips and traits."""


def synthetic_world(seed: int) -> World:
    """Speakers of the synthesizer in front of the shipped base, five accents in equal parts."""
    built = _built("quick", [f"seed={seed}"])
    words = built.base.vocabulary.labels[:-2]
    sizes = {"attackers": ATTACKERS, "attacked": ATTACKED, "crowd": CROWD}
    groups = tuple(
        SpeakerGroup(name=name, num_speakers=size, accents=accent_shares(0.8), words=words,
                     utterances_per_word=TAKES)
        for name, size in sizes.items()
    )  # fmt: skip
    corpus = SyntheticCorpus(SyntheticSpec(seed=1000 + seed, groups=groups))
    clips: dict[str, list[Utterance]] = {}
    for clip in corpus.utterances:
        clips.setdefault(clip.speaker_id, []).append(clip)
    segments = {name: dict(speaker.segments) for name, speaker in corpus.speakers.items()}
    people = {
        group: [(clips[name], segments[name]) for name in corpus.groups[group]] for group in sizes
    }
    return _world(built, corpus, people, seed)


def real_world(folder: Path, base: str | None, seed: int) -> World:
    """Speakers of recordings: public ones train attackers, those who federate or not are attacked.

    The head of the base was fit on the public ones too. Nobody is left for a crowd: sums are of
    attacked speakers.
    """
    changes = [f"corpus.path={json.dumps(str(folder))}", f"seed={seed}"]
    built = _built("real-commands", changes + ([f'base.source="{base}"'] if base else []))
    targets = set(built.base.vocabulary.labels[:-2])
    recorded = set(built.speakers.corpus.speakers)

    def people(phones: Sequence[Phone], fewest: int) -> list[Person]:
        kept = [
            [clip for clip in phone.utterances if clip.word in targets]
            for phone in phones
            if phone.speaker_id in recorded
        ]
        return [(clips, {}) for clips in kept if len(clips) >= fewest]

    partition = built.partition
    public = people(_whole_speakers(built), 4)
    attacked = people((*partition.federated, *partition.held_out), MIN_CLIPS)
    return _world(built, built.speakers.corpus,
                  {"attackers": public, "attacked": attacked, "crowd": []}, seed)  # fmt: skip


def _whole_speakers(built: BuiltExperiment) -> list[Phone]:
    """Public and validation speakers with all of their clips: the task leaves them a part."""
    corpus = built.speakers.corpus
    private = {
        phone.speaker_id for phone in (*built.partition.federated, *built.partition.held_out)
    }
    clips: dict[str, list[Utterance]] = {}
    for clip in corpus.utterances:
        if clip.speaker_id not in private:
            clips.setdefault(clip.speaker_id, []).append(clip)
    return [Phone(name, name, {}, tuple(of)) for name, of in clips.items()]


def _built(scenario: str, changes: Sequence[str]) -> BuiltExperiment:
    return build_experiment(
        Experiment.from_scenario(read_scenario(scenario, changes)), cache=cache_folder(),
        simulation_only=None, workers=1, progress=lambda done, of: None,
    )  # fmt: skip


def _world(
    built: BuiltExperiment,
    corpus: Corpus,
    people: Mapping[str, Sequence[Person]],
    seed: int,
) -> World:
    """Embeds the clips of everybody and deals those of the attacked into halves."""
    everybody = [clip for group in people.values() for clips, _ in group for clip in clips]
    embed = Embedder(built.base, built.adapter, cache_folder(), 1, lambda done, of: None)
    data = embed(corpus, everybody)
    place = {clip.utterance_id: row for row, clip in enumerate(everybody)}

    def ordered(clips: Sequence[Utterance], half: slice) -> list[Utterance]:
        return sorted(clips, key=lambda clip: (clip.word, clip.utterance_id))[half]

    def of(clips: Sequence[Utterance], half: slice) -> LocalDataset:
        return data.take(np.array([place[clip.utterance_id] for clip in ordered(clips, half)]))

    job = built.job
    arrays, query = job.load_arrays(), AdapterTraining.of(job.query)
    query = query.on(arrays)

    def contributions(
        clips: Sequence[LocalDataset], model: FloatVector, rngs: Sequence[np.random.Generator]
    ) -> Sequence[FloatVector]:
        return query.contributions([one.joined(arrays.background) for one in clips], model, rngs)

    one, other, whole = slice(0, None, 2), slice(1, None, 2), slice(None)
    return World(
        knowledge=Knowledge(
            base=built.base, adapter=built.adapter, training=query.training,
            background=arrays.background, optimizer=query.optimizer,
            speakers=tuple(
                KnownSpeaker(clips=of(clips, whole), traits=traits)
                for clips, traits in people["attackers"]
            ),
            candidates=tuple(
                KnownSpeaker(clips=of(clips, other)) for clips, _ in people["attacked"]
            ),
            contributions=contributions, play=_nothing,
        ),
        model=arrays.initial,
        phones=[of(clips, one) for name in ("attacked", "crowd") for clips, _ in people[name]],
        traits=[traits for _, traits in people["attacked"]],
        clip_norm=job.plan.clip_norm,
        seed=seed,
        query=query,
        clips=lambda person: (
            corpus.waveforms(ordered(people["attacked"][person][0], one)),
            corpus.waveforms(ordered(people["attacked"][person][0], other)),
        ),
    )  # fmt: skip


def _nothing(phones: Sequence[LocalDataset], seed: int) -> Transcript:
    raise NotImplementedError("these attackers rehearse nothing")
