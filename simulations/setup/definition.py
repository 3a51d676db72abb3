"""An experiment: the Python objects of a simulation, from a scenario or from a program.

Experiment(scenario="quick")                                   # as the file says
Experiment(corpus="recordings", task=Kws("computer"), plan={"rounds": 10})
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedspeech.corpora.corpus import NUM_NEGATIVE_LABELS, Corpus
from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.virtual_time import TimeAxis
from fedspeech.errors import CorpusError, ScenarioError, TooFewSpeakers
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base
from fedspeech.models.lora_settings import LoraSettings
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.tasks.task import Task
from simulations.scenario.corpora import (
    DividedSpeakers,
    EmbeddedCorpus,
    ProvidedCorpus,
)
from simulations.scenario.objects import (
    adapter_settings,
    base_settings,
    corpus_settings,
    described,
    privacy_settings,
    section_of,
    server_settings,
    ships,
    start_of,
    task_settings,
    training_settings,
)
from simulations.scenario.schema import MADE_FOR_TASK, PrivacySettings, Scenario
from simulations.scenario.sections import Section
from simulations.setup.bases import layout_of
from simulations.setup.planning import PlanSizes, nearest_accepted, plan_of, split_way_out
from simulations.setup.recordings import spares_speakers, split_speakers
from simulations.setup.speakers import (
    SpeakerSplit,
    open_speakers,
    without_pretraining_speakers,
)

NotOpen = Section | Mapping | str | Path | None  # type: ignore[type-arg]
"""What says where speech lies or how it is made, and is no speech yet."""


class Experiment:
    """The Python objects of a simulation.

        import fedspeech as fs

        fs.Experiment(scenario="quick", seed=2)
        fs.Experiment(corpus=fs.open_corpus("recordings"), task=fs.Kws(["yes", "no"]))

    Every setting is a section of a scenario (docs/scenario.md): a mapping, or an object of the
    library, changes the keys that it has. What is not given is as in the scenario
    that the experiment starts from.

    Attributes:
      scenario: every setting, as the run folder keeps it.
      speakers: the task and each speaker in one role; pre-training speakers of the base are public.
      base: the frozen base, or one with the layout of the base that will be trained.
      fitted: privacy settings that no argument asked for and that so few phones need, by name.
    """

    def __init__(
        self,
        *,
        scenario: Scenario | str | Path | None = None,
        corpus: Corpus | Section | Mapping[str, Any] | str | Path | None = None,
        task: Task | None = None,
        base: Base | str | Path | None = None,
        adapter: str | type[Adapter] | LoraSettings | None = None,
        plan: PrivacyPlan | PrivacySettings | Mapping[str, Any] | None = None,
        training: object = None,
        server_optimizer: object = None,
        personalization: object = None,
        evaluation: object = None,
        decoding: object = None,
        simulation: object = None,
        export: object = None,
        time: object = None,
        early_stopping: object = None,
        lexicon: Mapping[str, str] | None = None,
        division: Mapping[str, Any] | None = None,
        seed: int | None = None,
        name: str | None = None,
        speakers: SpeakerSplit | None = None,
    ) -> None:
        """Opens the corpora and divides the speakers; trains and synthesizes nothing.

        Args:
          scenario: what it starts from: a `Scenario`, a shipped name or a .toml file. None: the
            shipped scenario that suits the corpus ("default" without one).
          corpus: recordings (a folder, or an open corpus, of speakers who each say words), or a
            section of settings such as `EmbeddedCorpus(federated_phones=100)`.
          task: `Kws(words)` or `Asr()`; a task of your own needs a corpus and a base.
          base: a `Base`, a file or folder, or a word of `base.source` ("shipped", "synthetic").
            None: with `Kws(words)` of words that the start has not, "synthetic".
          adapter: what phones train: "head" or "affine", `LoraSettings(rank=4)` inside the encoder,
            or a class of your own, a subclass of `Adapter`.
          plan: section `privacy`, or a whole `PrivacyPlan` made for this experiment. None, with
            recordings: the start's, fitted to so few phones where the rules refuse it
            (`fitted`).
          training: section `training`, likewise the next ones; its `trainer` may be a function or
            an object of your own (docs/own-server.md).
          server_optimizer: what the server does with the mean of deltas; or a rule of your own.
          personalization: adaptation of held-out phones.
          evaluation: figures and segments.
          decoding: search for transcripts.
          simulation: shards, deadlines and faults.
          export: whether a run ends with files for the phone, such as {"at_end": False}.
          time: virtual time of rounds.
          early_stopping: when rounds end before the last one, such as `EarlyStopping(patience=3)`.
          lexicon: words to ARPAbet strings, which only the synthetic voice needs.
          division: how the speakers of a corpus are divided, such as {"federated_speakers": 40}.
          seed: of speakers, cohorts, training and seeded noise.
          name: part of the name of run folders.
          speakers: the division itself, for speech that no rule divides; then `base` is needed.

        Raises:
          ScenarioError: if settings do not fit together; the message names rule and value.
          CorpusError: if the recordings cannot be used.
        """
        named = None if scenario is None else start_of(scenario, None)
        self._corpus = None if isinstance(corpus, NotOpen) else corpus
        self._given_speakers, self._task = speakers, task
        self._given_base = base if isinstance(base, Base) else None
        section = section_of(corpus, task, division)
        if speakers is not None and section is None and named is None:
            section = {"kind": "provided"}
        start = named or start_of(None, (section or {}).get("kind"))
        changes: dict[str, Any] = {
            "corpus": corpus_settings(section, start), **adapter_settings(adapter),
            "privacy": privacy_settings(plan), "training": training_settings(training),
            "server_optimizer": server_settings(server_optimizer),
            "personalization": personalization, "evaluation": evaluation,
            "decoding": decoding, "simulation": simulation, "export": export,
            "time": time, "early_stopping": early_stopping, "lexicon": lexicon, "seed": seed,
        }  # fmt: skip
        for key, value in task_settings(task).items():
            given = changes.get(key)
            changes[key] = {**value, **given} if isinstance(given, Mapping) else given or value
        changes["base"] = base_settings(base, changes.get("vocabulary"), start)
        self.scenario = start
        if name or any(value is not None for value in changes.values()):
            self.scenario = described(
                start, name or (start.name if named else "experiment"), changes
            )
        self.base = self._given_base or layout_of(self.scenario)
        self.speakers = self._opened()
        self._check_base()
        self.fitted: dict[str, float] = {}
        if isinstance(plan, PrivacyPlan):
            _require_same_plan(plan, self.sizes, self.scenario.privacy)
        elif plan is None and named is None and isinstance(self.scenario.corpus, DividedSpeakers):
            self._fit()

    @classmethod
    def from_scenario(cls, scenario: Scenario) -> Experiment:
        """Opens the corpora and reads the base if it is a file; computes nothing.

        Raises:
          ScenarioError: if parts of the scenario do not fit together.
          CorpusError: if the recordings cannot be used.
        """
        return cls(scenario=scenario)

    def with_seed(self, seed: int) -> Experiment:
        """The same experiment under another seed, with other speakers in each role."""
        other = copy.copy(self)
        other.scenario = self.scenario.with_seed(seed)
        other.speakers = other._opened()
        return other

    def with_base(self, base: Base) -> Experiment:
        """The same experiment with the base that was made for it; its speakers are public."""
        other = copy.copy(self)
        other.base, other.speakers = base, without_pretraining_speakers(self.speakers, base)
        return other

    @property
    def in_memory(self) -> bool:
        """Whether speech or speakers exist in this program only, so that no other can go on."""
        return isinstance(self.scenario.corpus, ProvidedCorpus)

    @property
    def notices(self) -> tuple[str, ...]:
        """What whoever starts a run should know first, in words."""
        found = []
        if self.in_memory:
            found.append(
                "its speech is in the memory of this program: no other can resume, tune or export "
                "it. Keep the experiment and hand it over again, as in resume(folder, "
                "experiment=...) and load_run(folder, experiment=...)"
            )
        if self.fitted:
            changes = ", ".join(f"{name}={value:g}" for name, value in self.fitted.items())
            found.append(
                f"no plan was given, and the rules refuse the usual one for {self.sizes.population}"
                f" phones: privacy settings were changed to {changes}"
            )
        return tuple(found)

    @property
    def adapter(self) -> AdapterShape:
        """Shape of the trained part."""
        return _shape(self.scenario, self.base, len(self.speakers.task.labels.labels))

    @property
    def sizes(self) -> PlanSizes:
        """Inputs of the privacy plan."""
        corpus, partition = self.scenario.corpus, self.speakers.partition
        # More phones than voices where they are drawn from these.
        population = len(partition.federated)
        if isinstance(corpus, EmbeddedCorpus) and corpus.voices:
            population = corpus.federated_phones
        return _sizes(self.scenario, self.adapter, population, partition.unit)

    @property
    def plan(self) -> PrivacyPlan:
        """The privacy plan.

        Raises:
          ScenarioError: naming the rule that is broken, and settings nearby that break none.
        """
        return plan_of(self.scenario.privacy, self.sizes).plan

    def _opened(self) -> SpeakerSplit:
        """Divides the speakers; opens or draws the corpora where no program gave them."""
        made = self.scenario.base.source in MADE_FOR_TASK
        if self._given_speakers is not None:
            speakers = self._given_speakers
        elif self._task is not None and not ships(self._task):
            speakers = self._of_own_task(self._task)
        else:
            try:
                speakers = open_speakers(self.scenario, self.base, made=made, corpus=self._corpus)
            except TooFewSpeakers as error:
                found = _division(self.scenario, error.speakers, self.base)
                raise CorpusError(f"{error}; {found}") from error
        return speakers if made else without_pretraining_speakers(speakers, self.base)

    def _of_own_task(self, task: Task) -> SpeakerSplit:
        """Divides the speakers of an open corpus for a task that does not ship."""
        corpus, settings = self._corpus, self.scenario.corpus
        if corpus is None or not isinstance(settings, DividedSpeakers):
            raise ScenarioError(
                f"the task {task.name} needs an open corpus: give corpus=, whose speakers are "
                "divided by rule, or speakers=, a SpeakerSplit"
            )
        partition = split_speakers(corpus, settings, self.scenario.seed, self.base.speakers)
        return SpeakerSplit(task, corpus, corpus, partition.public, partition)

    def _check_base(self) -> None:
        """Checks the base's outputs.

        Raises:
          ScenarioError: if they are not those of the task, naming both.
        """
        source = self.scenario.base.source
        if source in MADE_FOR_TASK:  # it will have the task's labels
            return
        try:
            self.speakers.task.check_base(self.base)
        except ValueError as error:
            raise ScenarioError(f"the base {source}: {error}") from error

    def _fit(self) -> None:
        """Takes the nearest privacy settings that the rules accept of so few phones."""
        changes = nearest_accepted(self.scenario.privacy, self.sizes)
        if changes:
            privacy = self.scenario.privacy.model_copy(update=changes)
            self.scenario = self.scenario.model_copy(update={"privacy": privacy})
            self.fitted = changes


def _division(scenario: Scenario, speakers: int, base: Base) -> str:
    """A division of so few speakers that the rules accept, in words."""
    words = len(scenario.vocabulary) if isinstance(scenario.corpus, DividedSpeakers) else 0
    sizes = sizes_of_speakers(scenario, speakers, words, base)
    return split_way_out(
        scenario.privacy, sizes, speakers, spares=spares_speakers(scenario.corpus, speakers)
    )


def sizes_of_speakers(scenario: Scenario, population: int, targets: int, layout: Base) -> PlanSizes:
    """Inputs of a plan for recordings of which `population` speakers federate.

    The model has an output for each target word and negative label; without targets, as many
    outputs as the base.
    """
    outputs = targets + NUM_NEGATIVE_LABELS if targets else len(layout.vocabulary.labels)
    return _sizes(scenario, _shape(scenario, layout, outputs), population, "user")


def _sizes(scenario: Scenario, shape: AdapterShape, population: int, unit: str) -> PlanSizes:
    """Inputs of the plan of a scenario."""
    time, optimizer = time_axis(scenario), scenario.server_optimizer
    # Of an own rule nobody knows how it weighs earlier rounds.
    steady = optimizer.rule or optimizer.optimizer == "fedavg"
    return PlanSizes(
        population=population,
        dimension=shape.spec.size,
        unit=unit,
        availability=1.0
        if time is None
        else time.least_available(scenario.privacy.rounds, population),
        momentum=0.0 if steady else optimizer.momentum,
    )


def _shape(scenario: Scenario, base: Base, outputs: int) -> AdapterShape:
    return AdapterShape.of(base, scenario.adapter, outputs, scenario.lora)


def time_axis(scenario: Scenario) -> TimeAxis | None:
    """The virtual times of rounds and the rules of their phones, or None without `time`."""
    if scenario.time is None:
        return None
    rules = scenario.device or PhoneRules()
    return TimeAxis(seed=scenario.seed, rules=rules, **vars(scenario.time))


def _require_same_plan(given: PrivacyPlan, sizes: PlanSizes, settings: PrivacySettings) -> None:
    """Refuses a plan that is not the one which the experiment makes of it.

    Raises:
      ScenarioError: naming the fields, as given and as the experiment has them.
    """
    differ = _differing(given, vars(sizes)) or _differing(
        given, dataclasses.asdict(plan_of(settings, sizes).plan)
    )
    if differ:
        raise ScenarioError(
            f"the plan is of another experiment: it has {', '.join(differ)}. Give its settings as "
            "a mapping instead, as in plan={'noise_multiplier': 1.0, 'rounds': 20}"
        )


def _differing(given: PrivacyPlan, made: Mapping[str, Any]) -> list[str]:
    """Fields of a plan that have other values, in words."""
    fields = dataclasses.asdict(given)
    return [
        f"{name}={fields[name]!r} and not {value!r}"
        for name, value in made.items()
        if name in fields and fields[name] != value
    ]
