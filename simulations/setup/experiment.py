"""From a scenario to objects: the one place where a choice in a file becomes a thing that runs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Utterance
from fedspeech.corpora.partition import Partition, Phone, utterances_of
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.device.virtual_time import TimeAxis
from fedspeech.errors import CorpusError, ScenarioError, TooFewSpeakers
from fedspeech.job import Job
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.tasks.evaluation import Scored, TaskEvaluation
from fedspeech.tasks.task import Task
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import LocalTraining
from fedspeech.training.virtual_phones import VirtualPhones
from simulations.scenario.corpora import EmbeddedCorpus, FolderCorpus
from simulations.scenario.schema import Scenario
from simulations.setup.bases import MADE, base_of, layout_of
from simulations.setup.embedding import Embedder, Progress, parity_speech
from simulations.setup.planning import PlanSizes, plan_of, split_way_out
from simulations.setup.recordings import spares_speakers
from simulations.setup.speakers import SHARE_OF_VOICE, SpeakerSplit, open_speakers, without_teachers

Accept = Callable[[PrivacyPlan], None]
"""Refuses a plan by raising."""


def anything(plan: PrivacyPlan) -> None:
    """Accepts every plan."""


@dataclass(frozen=True, eq=False)
class UnseenPhone:
    """A phone never trained on, as embeddings.

    Attributes:
      phone: who it is.
      own: own takes per word, or own sentences, to what the phone adapts on.
      judged: what it is judged by, the same whatever it adapted on.
      judged_clips: the same, as they were recorded.
      contacts: names in its own list, which nobody is told.
    """

    phone: Phone
    own: Mapping[int, LocalDataset]
    judged: LocalDataset
    judged_clips: tuple[Utterance, ...] = field(default=(), repr=False)
    contacts: tuple[str, ...] = field(default=(), repr=False)

    @property
    def phone_id(self) -> str:
        """Its pseudonym."""
        return self.phone.phone_id


@dataclass(frozen=True, eq=False)
class World:
    """Everything that a scenario stands for, before the first round.

    Attributes:
      base: the frozen part.
      adapter: what is trained.
      speakers: who speaks; its partition knows what the base was taught on.
      job: the federated run.
      unseen: phones never trained on.
      training_negatives: public unknown and silence clips that ship to every phone.
      guard_negatives: others, which a phone's guard counts false accepts on.
      evaluation_negatives: yet others, on which false accepts are judged where the corpus has none.
      speech: clips for parity after their left context, shape (n, heard_samples).
      validates: whether the public validation speakers are of the phones' own corpus.
    """

    base: Base
    adapter: Adapter
    speakers: SpeakerSplit
    job: Job
    unseen: tuple[UnseenPhone, ...]
    training_negatives: LocalDataset
    guard_negatives: LocalDataset
    evaluation_negatives: LocalDataset
    speech: NDArray[np.float32]
    validates: bool = True

    @property
    def task(self) -> Task:
        """What is recognized."""
        return self.speakers.task

    @property
    def partition(self) -> Partition:
        """Who is where."""
        return self.speakers.partition

    def evaluation(self) -> TaskEvaluation[Any]:
        """How answers of the task are scored."""
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
        """Distinct voices from which the phones are drawn; None: each has a voice of its own."""
        return len(self.partition.federated) if self.job.recipes else None


@dataclass(frozen=True, eq=False)
class Experiment:
    """What is simulated, as objects: a scenario file builds one and nothing more.

        Experiment.from_scenario(read_scenario("quick"))
        Experiment(Scenario(name="mine", adapter="head", corpus=ProvidedCorpus()), speakers, base)

    Attributes:
      scenario: every number.
      speakers: who speaks, in which role, and for which task.
      base: the frozen base, or one with the layout of the base that is going to be made.
    """

    scenario: Scenario
    speakers: SpeakerSplit
    base: Base

    def __post_init__(self) -> None:
        """Refuses a base that answers something else than the task asks.

        Raises:
          ScenarioError: naming what it answers and what is wanted.
        """
        source = self.scenario.base.source
        if source == MADE:  # for the labels of this very task
            return
        try:
            self.speakers.task.check_base(self.base)
        except ValueError as error:
            raise ScenarioError(f"the base {source}: {error}") from error

    @classmethod
    def from_scenario(cls, scenario: Scenario) -> Experiment:
        """Opens the corpora and reads the base if it is a file; computes nothing.

        Raises:
          ScenarioError: if parts of the scenario do not fit together.
          CorpusError: if the recordings cannot be used.
        """
        base = layout_of(scenario)
        try:
            speakers = open_speakers(scenario, base, made=scenario.base.source == MADE)
        except TooFewSpeakers as error:
            raise CorpusError(f"{error}; {_division(scenario, error.speakers)}") from error
        if scenario.base.source != MADE:
            speakers = without_teachers(speakers, base)
        return cls(scenario, speakers, base)

    @classmethod
    def of(cls, what: Scenario | Experiment) -> Experiment:
        """The experiment itself, or that of a scenario."""
        return what if isinstance(what, Experiment) else cls.from_scenario(what)

    @property
    def adapter(self) -> AdapterShape:
        """What is trained."""
        return _shape(self.scenario, self.base, len(self.speakers.task.labels.labels))

    @functools.cached_property
    def sizes(self) -> PlanSizes:
        """What the privacy plan depends on."""
        corpus, partition = self.scenario.corpus, self.speakers.partition
        # More phones than voices where they are drawn from these.
        population = len(partition.federated)
        if isinstance(corpus, EmbeddedCorpus) and corpus.voices:
            population = corpus.federated_phones
        return _sizes(self.scenario, self.adapter, population, partition.unit)


def build_world(
    what: Scenario | Experiment,
    *,
    cache: Path,
    eye: Path | None,
    workers: int,
    progress: Progress,
    accept: Accept = anything,
) -> World:
    """Makes the corpora, the base, the embeddings and the job of an experiment.

    Args:
      what: an experiment, or the scenario of one.
      cache: where bases, trunk outputs and job arrays are kept by content.
      eye: where shards leave what only the simulator may see; None in a deployment.
      workers: processes for synthesis and trunk.
      progress: told of clips done and clips in all.
      accept: refuses, by raising, a plan that cannot run; asked before anything is made.

    Raises:
      ScenarioError: if parts of the scenario do not fit together.
      CorpusError: if the recordings cannot be used.
    """
    torch.set_num_threads(1)
    name = what.name if isinstance(what, Scenario) else what.scenario.name
    try:
        # Before a base is made or anything is synthesized: what does not fit costs no wait.
        return _build(Experiment.of(what), cache, eye, workers, progress, accept)
    except ValueError as error:  # a setting that a part of the library refused
        raise ScenarioError(f"scenario {name}: {error}") from error


def _build(
    experiment: Experiment,
    cache: Path,
    eye: Path | None,
    workers: int,
    progress: Progress,
    accept: Accept,
) -> World:
    """Does what `build_world` says."""
    scenario, voices = experiment.scenario, experiment.speakers
    job = _job(experiment, eye)
    accept(job.plan)
    base = _base(experiment, cache)
    corpus, public_corpus, partition = voices.corpus, voices.public_corpus, voices.partition
    adapter = experiment.adapter.build()

    embed = Embedder(base, adapter, cache, workers, progress)
    # What ships to phones is of public speakers and the same whoever federates: it has no part in
    # any epsilon. The other words that a phone has said itself are its own clips like the rest.
    halves = voices.task.public_clips(voices.public, voices.recorded, base.speakers, scenario.seed)
    background, held_back = (embed(public_corpus, clips) for clips in halves)
    validation = embed(public_corpus, utterances_of(partition.validation))
    federated = embed(corpus, utterances_of(partition.federated))
    sizes = [len(phone.utterances) for phone in partition.federated]
    initial = adapter.initial(base.head_weight, base.head_bias)
    arrays = PopulationArrays(
        embeddings=federated.embeddings,
        labels=federated.labels,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        background=background.first(scenario.training.negatives),
        validation=validation,
        initial=adapter.spec.flatten(initial),
    )
    digest = arrays.sha256()
    folder = cache / "jobs" / digest
    if not folder.is_dir():
        arrays.save(folder)
    identities = cache / "identities.key"
    IdentityDirectory.create(identities)
    job = dataclasses.replace(
        job,
        base_sha256=base.sha256,
        arrays=str(folder),
        arrays_sha256=digest,
        identities=str(identities),
    )
    return World(
        base=base,
        adapter=adapter,
        speakers=voices,
        job=job,
        unseen=(unseen := _held_out_phones(scenario, voices, embed)),
        training_negatives=background,
        guard_negatives=held_back,
        evaluation_negatives=voices.task.evaluation_negatives(
            [phone.judged for phone in unseen], validation
        ),
        speech=parity_speech(base, public_corpus, partition.validation),
        validates=bool(partition.validation)
        and partition.validation[0].speaker_id in corpus.speakers,
    )


def _job(experiment: Experiment, eye: Path | None) -> Job:
    """The job as far as it is known before anything is made; refuses what does not fit."""
    scenario = experiment.scenario
    recipes = None
    if isinstance(scenario.corpus, EmbeddedCorpus) and scenario.corpus.voices:
        recipes = VirtualPhones(seed=scenario.seed, share=SHARE_OF_VOICE)
    return Job(
        seed=scenario.seed,
        noise="os" if scenario.noise_entropy == "os" else "rehearsal",
        num_shards=scenario.simulation.shards,
        plan=plan_of(scenario.privacy, experiment.sizes).plan,
        query=AdapterTraining(
            training=_training(scenario),
            adapter=experiment.adapter,
            optimizer=scenario.server_optimizer,
            example_privacy=scenario.training.example_privacy,
        ),
        base_sha256="",
        arrays="",
        arrays_sha256="",
        recipes=recipes,
        time=_time(scenario),
        faults=scenario.simulation.faults,
        deadline_s=scenario.simulation.deadline_s,
        eye="" if eye is None else str(eye),
    )


def _division(scenario: Scenario, speakers: int) -> str:
    """How so few speakers may be divided, in words."""
    words = len(scenario.vocabulary) if isinstance(scenario.corpus, FolderCorpus) else 0
    sizes = sizes_of_speakers(scenario, speakers, words)
    return split_way_out(
        scenario.privacy, sizes, speakers, spares=spares_speakers(scenario.corpus, speakers)
    )


def sizes_of_speakers(scenario: Scenario, population: int, targets: int) -> PlanSizes:
    """What a plan depends on where so many speakers of recordings federate.

    Args:
      scenario: of recordings.
      population: speakers who federate.
      targets: words of the vocabulary; 0: as many outputs as the base has.
    """
    layout = layout_of(scenario)
    outputs = targets + NUM_NEGATIVE_LABELS if targets else len(layout.vocabulary.labels)
    return _sizes(scenario, _shape(scenario, layout, outputs), population, "user")


def _sizes(scenario: Scenario, shape: AdapterShape, population: int, unit: str) -> PlanSizes:
    """What the plan of a scenario depends on."""
    time = _time(scenario)
    return PlanSizes(
        population=population,
        dimension=shape.build().spec.size,
        unit=unit,
        availability=1.0 if time is None else time.least_available(scenario.privacy.rounds),
    )


def _shape(scenario: Scenario, base: Base, outputs: int) -> AdapterShape:
    return AdapterShape(
        name=scenario.adapter,
        num_windows=base.num_windows,
        num_features=base.trunk.spec.features,
        num_labels=outputs,
    )


def _base(experiment: Experiment, cache: Path) -> Base:
    """The frozen base, which must be as the plan took it to be."""
    speakers = experiment.speakers
    base = base_of(experiment.scenario, speakers, experiment.base, cache)
    made = Experiment(experiment.scenario, without_teachers(speakers, base), base)
    if made.adapter != experiment.adapter or made.sizes != experiment.sizes:
        raise ScenarioError("the base that was made is not the one that the plan was made for")
    return base


def _held_out_phones(
    scenario: Scenario, voices: SpeakerSplit, embed: Embedder
) -> tuple[UnseenPhone, ...]:
    """Splits each unseen phone's clips into nested own takes and what it is judged by."""
    corpus, phones = voices.corpus, voices.partition.unseen
    clips = utterances_of(phones)
    embedded = embed(corpus, clips)
    row = {clip.utterance_id: index for index, clip in enumerate(clips)}
    takes = sorted({*scenario.personalization.shots, scenario.personalization.headline_shots})

    def select(chosen: Sequence[Utterance]) -> LocalDataset:
        return embedded.take(np.array([row[clip.utterance_id] for clip in chosen], dtype=np.int64))

    unseen = []
    for phone in phones:
        splits = {
            count: voices.task.split(phone, count, seed=scenario.seed, reserve=takes[-1])
            for count in takes
        }
        unseen.append(
            UnseenPhone(
                phone=phone,
                own={count: select(split.own) for count, split in splits.items()},
                judged=select(splits[takes[-1]].judged),
                judged_clips=splits[takes[-1]].judged,
                contacts=corpus.contacts(phone.speaker_id)
                if isinstance(corpus, SyntheticCorpus)
                else (),
            )
        )
    return tuple(unseen)


def _time(scenario: Scenario) -> TimeAxis | None:
    """When rounds happen, if they happen in time."""
    if scenario.time is None:
        return None
    return TimeAxis(seed=scenario.seed, **vars(scenario.time))


def _training(scenario: Scenario) -> LocalTraining:
    """What a phone does in a round."""
    names = [field.name for field in dataclasses.fields(LocalTraining)]
    return LocalTraining(**{name: getattr(scenario.training, name) for name in names})
