"""From an experiment to the objects of a run: plan, base, embeddings and job."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import FedOpt
from fedspeech.corpora.altered import AlteredCorpus
from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Corpus, Utterance
from fedspeech.corpora.partition import Partition, Phone, utterances_of
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.checking import check_adapter
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.models.base import Base
from fedspeech.models.compute import check_computable
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.synthesis.near_misses import is_near_miss
from fedspeech.tasks.evaluation import HeldOutPhone, Scored, TaskEvaluation
from fedspeech.tasks.task import Task
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.own_trainer import OwnTrainer
from fedspeech.training.settings import LocalTraining
from fedspeech.training.virtual_phones import VirtualPhones
from simulations.scenario.corpora import EmbeddedCorpus
from simulations.scenario.schema import Scenario
from simulations.setup.bases import base_of
from simulations.setup.definition import Experiment, time_axis
from simulations.setup.embedding import Embedder, Progress, anonymizer_of, parity_speech
from simulations.setup.planning import plan_of
from simulations.setup.public_sizing import PublicSizing, public_figures, sized
from simulations.setup.speakers import SHARE_OF_VOICE, SpeakerSplit
from simulations.setup.telemetry import with_telemetry

Accept = Callable[[PrivacyPlan], None]
"""Refuses a plan by raising."""


def anything(plan: PrivacyPlan) -> None:
    """Accepts every plan."""


@dataclass(frozen=True, eq=False)
class BuiltExperiment:
    """The objects of a run before its first round.

    Attributes:
      speakers: the speaker split; pre-training speakers of the base may still be phones in it.
      held_out: phones that never train.
      training_negatives: public unknown and silence clips that ship to every phone.
      guard_negatives: others, on which a phone's guard counts false accepts.
      evaluation_negatives: yet others, for false accepts where the corpus has no negatives.
      speech: clips after their left context for parity checks, shape (n, heard_samples).
      sizing: what public speakers made of clip norm and server learning rate; None: nothing.
    """

    base: Base
    adapter: Adapter
    speakers: SpeakerSplit
    job: Job
    held_out: tuple[HeldOutPhone, ...]
    training_negatives: LocalDataset
    guard_negatives: LocalDataset
    evaluation_negatives: LocalDataset
    speech: NDArray[np.float32]
    sizing: PublicSizing | None = None

    @property
    def task(self) -> Task:
        """The recognition task."""
        return self.speakers.task

    @property
    def partition(self) -> Partition:
        """The four groups of phones."""
        return self.speakers.partition

    @property
    def validates(self) -> bool:
        """Whether the public validation speakers are of the phones' own corpus."""
        own = self.speakers.corpus.speakers
        return any(phone.speaker_id in own for phone in self.partition.validation[:1])

    def evaluation(self) -> TaskEvaluation[Any]:
        """The scoring of the task's answers."""
        return self.task.evaluation(
            Scored(
                base=self.base,
                adapter=self.adapter,
                corpus=self.speakers.corpus,
                public_corpus=self.speakers.public_corpus,
                validation=utterances_of(self.partition.validation),
                guard_negatives=self.guard_negatives,
                evaluation_negatives=self.evaluation_negatives,
                seed=self.job.seed,
            )
        )

    @property
    def drawn_from(self) -> int | None:
        """Number of voices from which virtual phones are drawn; None if each phone has its own."""
        return len(self.partition.federated) if self.job.virtual_phones else None


def build_experiment(
    what: Scenario | Experiment,
    *,
    cache: Path,
    simulation_only: Path | None,
    workers: int,
    progress: Progress,
    accept: Accept = anything,
) -> BuiltExperiment:
    """Makes the base, the embeddings and the job of an experiment, or of a scenario.

    Args:
      what: the experiment or scenario.
      cache: folder of bases, encoder outputs and job arrays, by content.
      simulation_only: folder for what only the simulator may see; None in a deployment.
      workers: processes for synthesis and encoder.
      progress: called with the number of clips done and the number of all clips.
      accept: called with the plan before anything is made; refuses it by raising.

    Raises:
      ScenarioError: if parts of the scenario do not fit together.
      CorpusError: if the recordings cannot be used.
    """
    # A sum that threads share is rounded in another order, so with several threads the last bits of
    # embeddings, and with them the hash of the job's arrays, would depend on the machine.
    torch.set_num_threads(1)
    name = what.name if isinstance(what, Scenario) else what.scenario.name
    try:
        experiment = what if isinstance(what, Experiment) else Experiment.from_scenario(what)
        check_computable(experiment.speakers.task.labels.output_unit)
        job = _job(experiment, simulation_only)
        # Settings that do not fit are refused before anything is trained or synthesized.
        accept(job.plan)
        base = _base(experiment, cache)
        adapter = _adapter(experiment, base)
        embed = Embedder(base, adapter, cache, workers, progress,
                         anonymizer_of(experiment.scenario))  # fmt: skip
        return _build(experiment, job, embed, cache)
    except ValueError as error:  # a setting that a part of the library refused
        raise ScenarioError(f"scenario {name}: {error}") from error


def _adapter(experiment: Experiment, base: Base) -> Adapter:
    """The trained part; one of another package must keep what ours promise.

    Raises:
      ValueError: if it does not, or answers something else than the base.
    """
    adapter = experiment.adapter.build(experiment.adapter.frozen(base))
    unit = base.vocabulary.output_unit
    if adapter.output_unit != unit:
        raise ValueError(
            f"adapter {adapter.name} answers every {adapter.output_unit}, the base every {unit}"
        )
    if ":" in experiment.adapter.name:
        check_adapter(adapter, base)
    return adapter


def _build(experiment: Experiment, job: Job, embed: Embedder, cache: Path) -> BuiltExperiment:
    """Computes the embeddings, saves those of the job, and completes the job."""
    scenario, speakers = experiment.scenario, experiment.speakers
    base, adapter, task = embed.base, embed.adapter, speakers.task
    corpus, public_corpus, partition = speakers.corpus, speakers.public_corpus, speakers.partition
    # Negatives that ship to phones come from public speakers, whoever federates, so they have no
    # part in any epsilon. A phone's own negatives are private clips like its others.
    halves = task.public_clips(speakers.public, speakers.recorded, base.speakers, scenario.seed)
    training_negatives, guard_negatives = (embed(public_corpus, clips) for clips in halves)
    hard = _hard_negatives(embed)
    background, background_offsets = negatives_of_phones(
        hard, training_negatives, scenario.training.negatives
    )
    training_negatives = _in_turn(hard, training_negatives)
    validation = embed(public_corpus, utterances_of(partition.validation))
    initial = adapter.initial(base.head_weight, base.head_bias)
    federated, sizes = _federated(embed, corpus, partition.federated, initial)
    arrays = PopulationArrays(
        embeddings=federated.embeddings,
        labels=federated.labels,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        background=background,
        background_offsets=background_offsets,
        validation=validation,
        initial=adapter.spec.flatten(initial),
        frozen=experiment.adapter.frozen(base),
    )
    folder = Path(job.simulation_only) if job.simulation_only else None
    arrays = with_telemetry(arrays, experiment, job.virtual_phones, folder)
    sizing = None
    if scenario.privacy.sizing == "public":
        sizing = _public_sizing(experiment, job, embed, arrays)
        job = _resized(job, experiment, sizing)
    job = dataclasses.replace(job, base_sha256=base.sha256, **kept(arrays, cache))
    held_out = held_out_phones(scenario, speakers, embed)
    return BuiltExperiment(
        base=base,
        adapter=adapter,
        speakers=speakers,
        job=job,
        held_out=held_out,
        training_negatives=training_negatives,
        guard_negatives=guard_negatives,
        evaluation_negatives=task.evaluation_negatives(
            [phone.judged for phone in held_out], validation
        ),
        speech=parity_speech(base, public_corpus, partition.validation),
        sizing=sizing,
    )


def kept(arrays: PopulationArrays, cache: Path) -> dict[str, Any]:
    """Keeps arrays in the cache, and the secret behind the phones' identities.

    Returns:
      The fields of a job that name them.
    """
    # Named by content: runs on the same speech share one copy, and none overwrites another's.
    digest = arrays.sha256()
    folder = cache / "jobs" / digest
    if not folder.is_dir():
        arrays.save(folder)
    identities = cache / "identities.key"
    IdentityDirectory.create(identities)  # kept, so that phones have one identity in all runs
    return {"arrays": str(folder), "arrays_sha256": digest, "identities": str(identities)}


def virtual_phones_of(scenario: Scenario) -> VirtualPhones | None:
    """How phones are drawn from voices; None: each has its own."""
    if isinstance(scenario.corpus, EmbeddedCorpus) and scenario.corpus.voices:
        return VirtualPhones(seed=scenario.seed, share=SHARE_OF_VOICE)
    return None


def _hard_negatives(embed: Embedder) -> LocalDataset:
    """What the base's head takes most for a target word and is none; no rows if none was mined."""
    frames = embed.base.hard_negatives
    if frames is None:
        nothing = np.zeros((0, *embed.adapter.embedding_shape), np.float32)
        return LocalDataset(nothing, np.zeros(0, np.int64))
    hard = embed.adapter.embed_frames(embed.base, torch.from_numpy(frames)).numpy()
    unknown = len(embed.base.vocabulary.labels) - NUM_NEGATIVE_LABELS
    return LocalDataset(hard, np.full(len(hard), unknown, np.int64))


def _in_turn(hard: LocalDataset, others: LocalDataset) -> LocalDataset:
    """Public negatives in turn with the hard ones, since a phone takes the first of them."""
    if not len(hard):
        return others
    turns = np.concatenate([2 * np.arange(len(hard)), 2 * np.arange(len(others)) + 1])
    return hard.joined(others).take(np.argsort(turns, kind="stable"))


def negatives_of_phones(
    hard: LocalDataset, others: LocalDataset, count: int
) -> tuple[LocalDataset, NDArray[np.int64]]:
    """The negatives of all phones, and where those of each group of phones begin and end.

    Without hard negatives every phone gets the same. With them half of a phone's are hard, and
    groups of phones have different ones: phones together train on all that were mined.
    """
    few = min(-(-count // 2), len(hard))
    if not few:
        return others.first(count), np.zeros(0, np.int64)
    groups, more = len(hard) // few, min(count - few, len(others))
    places = [np.arange(few) + few * group for group in range(groups)]
    beside = [(np.arange(more) + more * group) % max(1, len(others)) for group in range(groups)]
    parts = [
        hard.take(one).joined(others.take(other)) for one, other in zip(places, beside, strict=True)
    ]
    joined = functools.reduce(LocalDataset.joined, parts)
    return joined, np.arange(groups + 1, dtype=np.int64) * (few + more)


def _federated(
    embed: Embedder, corpus: Corpus, phones: Sequence[Phone], initial: Mapping[str, Any]
) -> tuple[LocalDataset, list[int]]:
    """The examples of all federated phones, and how many each of them has.

    Of near misses a phone keeps those that wake the base: at others it does nothing that its user
    could cancel, so nothing would label them.
    """
    clips = utterances_of(phones)
    examples = embed(corpus, clips)
    near = np.array([is_near_miss(clip.word) for clip in clips], dtype=bool)
    kept = np.ones(len(clips), dtype=bool)
    if near.any():
        targets = len(embed.base.vocabulary.labels) - NUM_NEGATIVE_LABELS
        vector = embed.adapter.spec.flatten(initial)
        rows = np.flatnonzero(near)
        logits = score_clips(embed.adapter, vector[np.newaxis], examples.take(rows).embeddings)[0]
        kept[rows] = logits.argmax(axis=1) < targets
    ends = np.cumsum([len(phone.utterances) for phone in phones])
    sizes = [int(part.sum()) for part in np.split(kept, ends[:-1])]
    return (examples if kept.all() else examples.take(np.flatnonzero(kept))), sizes


def _public_sizing(
    experiment: Experiment, job: Job, embed: Embedder, arrays: PopulationArrays
) -> PublicSizing:
    """What public speakers of the phones' own corpus make of the plan."""
    scenario, speakers = experiment.scenario, experiment.speakers
    own, words = speakers.corpus.speakers, set(embed.base.vocabulary.labels)
    public = (*speakers.partition.public, *speakers.partition.validation)
    # Where a corpus is too small to spare anybody, speakers of the synthesizer validate.
    recorded = [phone for phone in public if phone.speaker_id in own] or public
    said = [[clip for clip in phone.utterances if clip.word in words] for phone in recorded]
    said = [targets for targets in said if targets]
    # In one pass: each call of the encoder fills up a whole block.
    embedded = embed(speakers.public_corpus, [clip for targets in said for clip in targets])
    ends = np.cumsum([len(targets) for targets in said]).astype(np.int64)
    clips = [
        embedded.take(np.arange(end - len(targets), end))
        for end, targets in zip(ends, said, strict=True)
    ]
    figures = public_figures(
        embed.adapter,
        arrays.initial,
        clips,
        arrays.background_of(0),
        _training(scenario),
        scenario.seed,
    )
    return sized(
        figures,
        scenario.privacy,
        # Noise of G sums, each as wide as that of one, is wider in their mean by sqrt(G).
        job.plan.expected_cohort / math.sqrt(job.plan.groups),
        scenario.server_optimizer.learning_rate,
        embed.base.provenance,
    )


def _resized(job: Job, experiment: Experiment, sizing: PublicSizing) -> Job:
    """The job with clip norm and server learning rate of public speakers.

    The price does not change: noise is in units of the clip norm, and what the server does with a
    sum is post-processing.
    """
    privacy = experiment.scenario.privacy.model_copy(update={"clip_norm": sizing.clip_norm})
    query = AdapterTraining.of(job.query)
    if not isinstance(optimizer := query.optimizer, FedOpt):
        raise ScenarioError(
            'privacy.sizing = "public" sets the learning rate of a server rule of this library, '
            'got an own rule; set privacy.sizing = "scenario"'
        )
    optimizer = dataclasses.replace(optimizer, learning_rate=sizing.learning_rate)
    return dataclasses.replace(
        job,
        plan=plan_of(privacy, experiment.sizes).plan,
        query=dataclasses.replace(query, optimizer=optimizer),
    )


def _job(experiment: Experiment, simulation_only: Path | None) -> Job:
    """The job without its base and arrays; refuses settings that do not fit."""
    scenario = experiment.scenario
    # Base and arrays are filled in by `_build`: a plan is refused before any of them is made.
    return Job(
        seed=scenario.seed,
        noise_entropy=scenario.noise_entropy,
        num_shards=scenario.simulation.shards,
        plan=plan_of(scenario.privacy, experiment.sizes).plan,
        query=AdapterTraining(
            training=_training(scenario),
            adapter=experiment.adapter,
            optimizer=scenario.server_optimizer.built(),
            example_privacy=scenario.training.example_privacy,
            trainer=_trainer(scenario),
        ),
        base_sha256="",
        arrays="",
        arrays_sha256="",
        virtual_phones=virtual_phones_of(scenario),
        time=time_axis(scenario),
        early_stopping=scenario.early_stopping,
        defense=scenario.server_optimizer.defense(),
        faults=scenario.simulation.faults,
        deadline_s=scenario.simulation.deadline_s,
        simulation_only="" if simulation_only is None else str(simulation_only),
    )


def _base(experiment: Experiment, cache: Path) -> Base:
    """The frozen base, which must be of the layout that the plan was made for."""
    speakers = experiment.speakers
    base = base_of(experiment.scenario, speakers, experiment.base, cache)
    made = experiment.with_base(base)
    # The plan is priced before this base exists. Another layout has another dimension, and training
    # speakers who turn out to be phones leave a smaller population: the price would be wrong.
    if made.adapter != experiment.adapter or made.sizes != experiment.sizes:
        raise ScenarioError("the base that was made is not the one that the plan was made for")
    return base


def held_out_phones(
    scenario: Scenario, speakers: SpeakerSplit, embed: Embedder
) -> tuple[HeldOutPhone, ...]:
    """Splits each held-out phone's clips into nested shots and clips for evaluation."""
    corpus, phones = speakers.corpus, speakers.partition.held_out
    lent = [clip for phone in phones for clip in phone.lent]
    clips = list(dict.fromkeys([*utterances_of(phones), *lent]))  # several phones hear the same
    embedded = embed(corpus, clips)
    row = {clip.utterance_id: index for index, clip in enumerate(clips)}
    shots = sorted({*scenario.personalization.shots, scenario.personalization.headline_shots})

    def select(chosen: Sequence[Utterance]) -> LocalDataset:
        return embedded.take(np.array([row[clip.utterance_id] for clip in chosen], dtype=np.int64))

    # With one `reserve` for every number of shots all of them are judged on the same clips.
    splits = [
        {
            count: speakers.task.split(phone, count, seed=scenario.seed, reserve=shots[-1])
            for count in shots
        }
        for phone in phones
    ]
    most = [clip for split in splits for clip in split[shots[-1]].own]  # fewer are among these
    copies = _copies(scenario, corpus, embed, most)
    return tuple(
        HeldOutPhone(
            phone=phone,
            own={count: select(shot.own) for count, shot in split.items()},
            copies={count: copies(shot.own) for count, shot in split.items() if copies},
            judged=select(split[shots[-1]].judged),
            judged_clips=split[shots[-1]].judged,
            contacts=corpus.contacts(phone.speaker_id)
            if isinstance(corpus, SyntheticCorpus)
            else (),
        )
        for phone, split in zip(phones, splits, strict=True)
    )


def _copies(
    scenario: Scenario, corpus: Corpus, embed: Embedder, clips: Sequence[Utterance]
) -> Callable[[Sequence[Utterance]], LocalDataset] | None:
    """What returns the altered copies of some of these clips; None where nothing reads them."""
    settings = scenario.personalization
    if settings.rule != "ridge" or not settings.copies:
        return None
    rate_hz = embed.base.encoder.rate_hz
    altered = AlteredCorpus(corpus, rate_hz=rate_hz, copies=settings.copies)
    embedded = embed(altered, altered.of(clips))
    first = {clip.utterance_id: place for place, clip in enumerate(clips)}

    def select(chosen: Sequence[Utterance]) -> LocalDataset:
        places = np.array([first[clip.utterance_id] for clip in chosen], dtype=np.int64)
        rows = places[:, np.newaxis] * settings.copies + np.arange(settings.copies)
        return embedded.take(rows.ravel())

    return select


def _trainer(scenario: Scenario) -> OwnTrainer | None:
    """The local trainer that a scenario names; None: this library's."""
    training = scenario.training
    if not training.trainer:
        return None
    return OwnTrainer(trainer=training.trainer, settings=training.trainer_settings or {})


def _training(scenario: Scenario) -> LocalTraining:
    """Local training of a phone in a round."""
    names = [field.name for field in dataclasses.fields(LocalTraining)]
    return LocalTraining(**{name: getattr(scenario.training, name) for name in names})
