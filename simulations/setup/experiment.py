"""From a scenario to objects: the one place where a choice in a file becomes a thing that runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray

from fedspeech.aggregation.optimizers import OptimizerSettings
from fedspeech.audio.spec import SPHINX_MFCC
from fedspeech.corpora.corpus import (
    SILENCE,
    UNKNOWN,
    Alphabet,
    Corpus,
    Skipped,
    Utterance,
    Vocabulary,
)
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.noise import NoiseCorpus
from fedspeech.corpora.partition import (
    Partition,
    Phone,
    by_group,
    with_devices,
    with_quantity_skew,
)
from fedspeech.corpora.shots import Takes, split_sentences, split_takes
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.device.virtual_time import TimeAxis
from fedspeech.errors import CorpusError, ScenarioError, TooFewSpeakers
from fedspeech.job import Faults, Job
from fedspeech.models.adapters.adapter import Adapter
from fedspeech.models.adapters.shape import AdapterShape
from fedspeech.models.base import Base, default_base_path
from fedspeech.models.decoding import WordPrior
from fedspeech.population import PopulationArrays
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.training import AdapterTraining
from fedspeech.secagg.keys import Enrolment
from fedspeech.seeds import canonical, stream
from fedspeech.synthesis.lexicon import HELD_OUT_WORDS, UNKNOWN_WORDS
from fedspeech.synthesis.voices import ACCENTS
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.dp_sgd import ExamplePrivacy
from fedspeech.training.encoder_cache import trunk_outputs
from fedspeech.training.local import LocalTraining
from fedspeech.training.pretrain import synthetic_base
from fedspeech.training.virtual_phones import Recipes
from simulations.scenario.schema import (
    BaseSettings,
    EmbeddedCorpus,
    FolderCorpus,
    JoinedSentences,
    Scenario,
    SentenceCorpus,
    TranscribedCorpus,
)
from simulations.setup.planning import PlanSizes, plan_of, split_way_out
from simulations.setup.recordings import (
    ENOUGH_SPEAKERS,
    WordRoles,
    applied,
    moved,
    split_speakers,
    word_roles,
)
from simulations.setup.sentences import (
    HEARD_ACCENT,
    made_sentence_base,
    public_sentences,
    real_sentences,
    sentence_base,
    sentence_spec,
    tuned_base,
    word_prior,
)

PUBLIC_SPEAKERS = 24
BASE_SEED = 0  # of the bases made on the way: a run's seed draws phones, never the base
PARITY_CLIPS = 250
ENOUGH_REAL_NEGATIVES = 20  # clips; fewer set no threshold, and synthetic ones stay among them
SHARE_OF_VOICE = 0.5  # of a voice's clips that one phone holds, where phones are drawn from voices
Progress = Callable[[int, int], None]
Accept = Callable[[PrivacyPlan], None]
"""Refuses a plan by raising."""


def anything(plan: PrivacyPlan) -> None:
    """Accepts every plan."""


def cache_folder(given: Path | None = None) -> Path:
    """Where features are kept between runs, as an absolute path: nodes start in other folders.

    Args:
      given: by the user; None: $FEDSPEECH_CACHE, or the user's cache folder.

    Raises:
      ScenarioError: if neither is given and this user has no home folder.
    """
    named = given or os.environ.get("FEDSPEECH_CACHE")
    if named:
        return Path(named).absolute()
    try:
        folder = platformdirs.user_cache_path("fedspeech").expanduser()
        if folder.is_absolute():
            return folder
    except RuntimeError:  # nor does the list of users know one
        pass
    raise ScenarioError("there is no home folder to keep features in: name one with --cache")


@dataclass(frozen=True, eq=False)
class UnseenPhone:
    """A phone never trained on, as embeddings.

    Attributes:
      phone: who it is.
      own: own takes per word, or own sentences, to what the phone adapts on.
      judged: what it is judged by, the same whatever it adapted on.
      contacts: names in its own list, which nobody is told.
    """

    phone: Phone
    own: Mapping[int, LocalDataset]
    judged: LocalDataset
    contacts: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Voices:
    """Who speaks in a scenario, before anything is computed of what they say.

    Attributes:
      vocabulary: of the model: target words, or an alphabet.
      corpus: of the phones.
      public_corpus: of the public speakers and rooms.
      public: public phones, rooms included.
      partition: who is where.
      roles: which words train and which judge; None where sentences are recognized.
    """

    vocabulary: Vocabulary | Alphabet
    corpus: Corpus
    public_corpus: Corpus
    public: tuple[Phone, ...]
    partition: Partition
    roles: WordRoles | None = None

    @property
    def words(self) -> Vocabulary:
        """The vocabulary of a model that spots words."""
        assert isinstance(self.vocabulary, Vocabulary)
        return self.vocabulary

    @functools.cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of who says what, of phones and public speakers, recordings included.

        Other recordings under the same names give another one; the place on disk has no part in it.
        """
        partition, digest = self.partition, hashlib.sha256()
        sides = (
            (self.corpus, (*partition.federated, *partition.unseen)),
            (self.public_corpus, (*self.public, *partition.validation)),
        )
        for corpus, phones in sides:
            for phone in phones:
                for clip in phone.utterances:
                    said = (phone.phone_id, clip.speaker_id, clip.word, corpus.fingerprint(clip))
                    digest.update(canonical(*said))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class World:
    """Everything that a scenario stands for, before the first round.

    Attributes:
      vocabulary: of the model: target words, or an alphabet.
      base: the frozen part.
      adapter: what is trained.
      corpus_name: for reports.
      licences: corpus to licence.
      voices: who speaks; its partition knows what the base was taught on.
      partition: who is where.
      job: the federated run.
      unseen: phones never trained on.
      background: public unknown and silence clips that ship to every phone.
      held_back: others, which a phone's guard counts false accepts on.
      strangers: yet others, on which false accepts are judged where the corpus has none of its own.
      speech: clips for parity after their left context, shape (n, heard_samples).
      skipped: recordings and speakers left out, with the reason.
      heard_accents: accents among the base's speakers; empty if unknown.
      prior: what public sentences tell of the next word; None where words are spotted.
      validates: whether the public validation speakers are of the phones' own corpus.
      non_words: what the clips without a target word are on which false accepts are judged.
    """

    vocabulary: Vocabulary | Alphabet
    base: Base
    adapter: Adapter
    corpus_name: str
    licences: Mapping[str, str]
    voices: Voices
    partition: Partition
    job: Job
    unseen: tuple[UnseenPhone, ...]
    background: LocalDataset
    held_back: LocalDataset
    strangers: LocalDataset
    speech: NDArray[np.float32]
    skipped: tuple[Skipped, ...]
    heard_accents: tuple[str, ...]
    prior: WordPrior | None = None
    validates: bool = True
    non_words: str = ""

    @property
    def drawn_from(self) -> int | None:
        """Distinct voices from which the phones are drawn; None: each has a voice of its own."""
        return len(self.partition.federated) if self.job.recipes else None


def build_world(
    scenario: Scenario,
    *,
    cache: Path,
    eye: Path | None,
    workers: int,
    progress: Progress,
    accept: Accept = anything,
) -> World:
    """Makes the corpora, the base, the embeddings and the job of a scenario.

    Args:
      scenario: what to build.
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
    try:
        return _build(scenario, cache, eye, workers, progress, accept)
    except ValueError as error:  # a setting that a part of the library refused
        raise ScenarioError(f"scenario {scenario.name}: {error}") from error


def _build(
    scenario: Scenario,
    cache: Path,
    eye: Path | None,
    workers: int,
    progress: Progress,
    accept: Accept,
) -> World:
    """Does what `build_world` says."""
    # Before a base is made or anything is synthesized: what does not fit costs no wait.
    opened = open_scenario(scenario)
    voices, shape = opened.voices, opened.shape
    job = _job(scenario, opened, eye)
    accept(job.plan)
    base = _base(scenario, opened, cache)
    vocabulary, corpus, public_corpus = voices.vocabulary, voices.corpus, voices.public_corpus
    partition = voices.partition
    adapter = shape.build()

    embed = _Embedder(base, adapter, vocabulary, cache, workers, progress)
    # What ships to phones is of public speakers and the same whoever federates: it has no part in
    # any epsilon. The other words that a phone has said itself are its own clips like the rest.
    halves = (
        _public_negatives(voices, base, scenario.seed)
        if scenario.task == "words"
        else public_sentences(voices.public, scenario.seed)
    )
    background, held_back = (embed(public_corpus, clips) for clips in halves)
    validation_clips = [clip for phone in partition.validation for clip in phone.utterances]
    validation = embed(public_corpus, validation_clips)
    federated = embed(corpus, [clip for phone in partition.federated for clip in phone.utterances])
    sizes = [len(phone.utterances) for phone in partition.federated]
    initial = adapter.initial(base.head_weight, base.head_bias)
    arrays = PopulationArrays(
        embeddings=federated.embeddings,
        labels=federated.labels,
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        background=_first(background, scenario.training.background_clips),
        validation=validation,
        initial=adapter.spec.flatten(initial),
    )
    digest = arrays.sha256()
    folder = cache / "jobs" / digest
    if not folder.is_dir():
        arrays.save(folder)
    enrolment = cache / "enrolment.key"
    Enrolment.create(enrolment)
    job = dataclasses.replace(
        job,
        base_sha256=base.sha256,
        arrays=str(folder),
        arrays_sha256=digest,
        enrolment=str(enrolment),
    )
    return World(
        vocabulary=vocabulary,
        base=base,
        adapter=adapter,
        corpus_name=corpus.name,
        licences={corpus.name: corpus.licence, public_corpus.name: public_corpus.licence},
        voices=voices,
        partition=partition,
        job=job,
        unseen=(unseen := _unseen(scenario, voices, embed)),
        background=background,
        held_back=held_back,
        strangers=_strangers(unseen, vocabulary, validation),
        speech=parity_speech(
            # A sentence that calibrates must judge nothing.
            base,
            public_corpus,
            partition.validation,
            repeat=scenario.task == "words",
        ),
        skipped=(*corpus.skipped, *partition.skipped),
        heard_accents=(HEARD_ACCENT,) if isinstance(corpus, SyntheticCorpus) else (),
        prior=word_prior(scenario, voices.public) if scenario.task == "sentences" else None,
        validates=bool(partition.validation)
        and partition.validation[0].speaker_id in corpus.speakers,
        non_words=_non_words(scenario, voices),
    )


def _job(scenario: Scenario, opened: Opened, eye: Path | None) -> Job:
    """The job as far as it is known before anything is made; refuses what does not fit."""
    recipes = None
    if isinstance(scenario.corpus, EmbeddedCorpus) and scenario.corpus.voices:
        recipes = Recipes(seed=scenario.seed, share=SHARE_OF_VOICE)
    return Job(
        seed=scenario.seed,
        noise=scenario.noise,
        num_shards=scenario.simulation.shards,
        plan=plan_of(scenario.privacy, opened.sizes).plan,
        query=AdapterTraining(
            training=_training(scenario),
            adapter=opened.shape,
            optimizer=_server(scenario),
            example_privacy=_example_privacy(scenario),
        ),
        base_sha256="",
        arrays="",
        arrays_sha256="",
        recipes=recipes,
        time=_time(scenario),
        faults=Faults(**scenario.simulation.faults.model_dump()),
        deadline_s=scenario.simulation.deadline_s,
        eye="" if eye is None else str(eye),
    )


@dataclass(frozen=True, eq=False)
class Opened:
    """What is known of a scenario before anything is computed.

    Attributes:
      voices: who speaks; whoever the base learned from is public.
      named: the base that is read from a file, or that a tuned one starts from; None where one is
        made.
      shape: of the adapter.
      sizes: what the plan depends on.
    """

    voices: Voices
    named: Base | None
    shape: AdapterShape
    sizes: PlanSizes


def open_scenario(scenario: Scenario) -> Opened:
    """Opens the corpora and reads the base if it is a file; computes nothing.

    Raises:
      ScenarioError: if parts of the scenario do not fit together.
      CorpusError: if the recordings cannot be used.
    """
    try:
        return _opened(scenario)
    except TooFewSpeakers as error:
        raise CorpusError(f"{error}; {_division(scenario, error.speakers)}") from error


def _division(scenario: Scenario, speakers: int) -> str:
    """How so few speakers may be divided, in words."""
    spares = scenario.task == "sentences" or speakers >= ENOUGH_SPEAKERS
    sizes = sizes_of_speakers(scenario, speakers, scenario.vocabulary)
    return split_way_out(scenario.privacy, sizes, speakers, spares=spares)


def sizes_of_speakers(scenario: Scenario, population: int, targets: Sequence[str]) -> PlanSizes:
    """What a plan depends on where so many speakers of recordings federate.

    Args:
      scenario: of recordings.
      population: speakers who federate.
      targets: words of the vocabulary, if words are spotted; empty: as many as the base knows.
    """
    if scenario.task == "sentences":
        shape = _shape(scenario, sentence_base(scenario), Alphabet())
    else:
        layout = Base.load(default_base_path())
        shape = _shape(scenario, layout, Vocabulary(tuple(targets) or layout.words.targets))
    return _sizes(scenario, shape, population, "user")


def _opened(scenario: Scenario) -> Opened:
    """Does what `open_scenario` says."""
    made = scenario.base.source == "synthetic"
    # A base that is made has the layout of the one that ships.
    shipped = scenario.model_copy(update={"base": BaseSettings()})
    if scenario.task == "sentences":
        layout = sentence_base(shipped if made else scenario)
        voices = open_voices(scenario, layout)
    elif made:
        layout = Base.load(default_base_path())
        voices = open_voices(scenario)
    else:
        layout = _named_base(scenario)
        voices = open_voices(scenario, layout)
        _check_words(scenario, voices.words, layout)
    named = None if made else layout
    if named is not None:
        voices = without_teachers(voices, named)
    shape = _shape(scenario, layout, voices.vocabulary)
    population = _population(scenario, voices.partition)
    return Opened(voices, named, shape, _sizes(scenario, shape, population, voices.partition.unit))


def _sizes(scenario: Scenario, shape: AdapterShape, population: int, unit: str) -> PlanSizes:
    """What the plan of a scenario depends on."""
    time = _time(scenario)
    return PlanSizes(
        population=population,
        dimension=shape.build().spec.size,
        unit=unit,
        availability=1.0 if time is None else time.least_available(scenario.privacy.rounds),
    )


def _shape(scenario: Scenario, base: Base, vocabulary: Vocabulary | Alphabet) -> AdapterShape:
    return AdapterShape(
        name=scenario.adapter,
        num_windows=base.num_windows,
        num_features=base.trunk.spec.features,
        num_labels=len(vocabulary.labels),
    )


def _population(scenario: Scenario, partition: Partition) -> int:
    """Phones that federate; more than voices where they are drawn from these."""
    if isinstance(scenario.corpus, EmbeddedCorpus) and scenario.corpus.voices:
        return scenario.corpus.federated_phones
    return len(partition.federated)


def open_voices(scenario: Scenario, base: Base | None = None) -> Voices:
    """Opens or draws the corpora of a scenario and says who is a phone.

    Args:
      scenario: whose.
      base: which it will have; its teachers are never phones, and its words stand in its order.
        None if it is made for the words that are found.

    Raises:
      ScenarioError: if parts of the scenario do not fit together.
      CorpusError: if the recordings cannot be used.
    """
    frontend = SPHINX_MFCC if base is None else base.frontend
    match scenario.corpus:
        case EmbeddedCorpus():
            words = Vocabulary(_in_order_of(base, scenario.vocabulary))
            corpus: Corpus = SyntheticCorpus(embedded_spec(scenario, scenario.corpus, words))
            partition = by_group(corpus, seed=scenario.seed)
            if scenario.corpus.voices:
                partition = dataclasses.replace(partition, unit="phone")
            roles = WordRoles(words.targets)
            return Voices(words, corpus, corpus, partition.public, partition, roles)
        case FolderCorpus():
            return _recorded(scenario, scenario.corpus, base)
        case SentenceCorpus():
            spec = sentence_spec(scenario, scenario.corpus, frontend)
            corpus = SyntheticCorpus(spec)
            partition = by_group(corpus, seed=scenario.seed)
        case JoinedSentences() | TranscribedCorpus():
            taught = () if base is None else base.speakers
            corpus, partition = real_sentences(scenario, scenario.corpus, frontend, taught)
    return Voices(Alphabet(), corpus, corpus, partition.public, partition)


def embedded_spec(
    scenario: Scenario, settings: EmbeddedCorpus, vocabulary: Vocabulary
) -> SyntheticSpec:
    """Speakers of the embedded corpus: a public of one accent, phones of all accents.

    Those who validate speak as the phones do: a stage chosen on the accent that the base has heard
    would always be the base.
    """
    unheard = [accent for accent in ACCENTS if accent != HEARD_ACCENT]
    share = settings.unheard_accents
    accents = ((HEARD_ACCENT, 1 - share), *((accent, share / len(unheard)) for accent in unheard))
    words, held_out = vocabulary.targets, _held_out(vocabulary)
    more = 1 if settings.voices is None else round(1 / SHARE_OF_VOICE)
    public = public_spec(scenario, vocabulary, settings.validation_speakers)
    teachers, validation = public.groups
    return dataclasses.replace(
        public,
        groups=(
            teachers,
            dataclasses.replace(validation, accents=accents),
            SpeakerGroup(
                name="federated",
                num_speakers=settings.voices or settings.federated_phones,
                accents=accents,
                words=words,
                takes_per_word=more * settings.clips_per_phone / len(words),
                unknown_words=public.groups[0].unknown_words,
                num_unknown=more * settings.unknown_per_phone,
                num_silence=more * settings.silence_per_phone,
                skew=settings.quantity_skew,
                min_clips=4 * more,
            ),
            SpeakerGroup(
                name="unseen",
                num_speakers=settings.unseen_phones,
                accents=accents,
                words=words,
                takes_per_word=settings.takes_per_word,
                unknown_words=(*held_out, *public.groups[0].unknown_words),
                num_unknown=len(words),
                num_silence=len(words) // 2,
            ),
        ),
    )


def public_spec(
    scenario: Scenario, vocabulary: Vocabulary, validation_speakers: int = 24
) -> SyntheticSpec:
    """Public speakers: their unknown and silence clips ship to phones, others validate."""
    words, held_out = vocabulary.targets, _held_out(vocabulary)
    known = tuple(word for word in UNKNOWN_WORDS if word not in words)
    return SyntheticSpec(
        seed=scenario.seed,
        lexicon=tuple(scenario.lexicon.items()),
        held_out_words=held_out,
        groups=(
            SpeakerGroup(
                name="public",
                num_speakers=PUBLIC_SPEAKERS,
                words=words,
                takes_per_word=0,
                unknown_words=known,
                num_unknown=6,
                num_silence=6,
            ),
            SpeakerGroup(
                name="validation",
                num_speakers=validation_speakers,
                words=words,
                takes_per_word=2,
                unknown_words=(*held_out, *known),
                num_unknown=4,
                num_silence=4,
            ),
        ),
    )


def _held_out(vocabulary: Vocabulary) -> tuple[str, ...]:
    """Unknown words that nothing is ever trained on."""
    return tuple(word for word in HELD_OUT_WORDS if word not in vocabulary.targets)


def _recorded(scenario: Scenario, settings: FolderCorpus, base: Base | None) -> Voices:
    """Real recordings: corpora, phones, and the words that the model will know."""
    if not settings.path:
        raise ScenarioError(
            "this scenario needs recordings: give --corpus DIR (see `fedspeech data list`)"
        )
    corpus: Corpus = open_corpus(Path(settings.path))
    seed = scenario.seed
    partition = split_speakers(corpus, settings, seed, () if base is None else base.speakers)
    vocabulary = scenario.vocabulary or (() if base is None else base.words.targets)
    roles = word_roles(partition.unseen, _in_order_of(base, vocabulary), seed)
    said = {clip.word for clip in corpus.utterances} - {SILENCE, UNKNOWN}
    missing = sorted(set(roles.targets) - said)
    if missing:
        raise ScenarioError(
            f"the vocabulary asks for {', '.join(missing)}, which nobody says in {corpus.name}; "
            f"it has {', '.join(sorted(said)[:20])}"
        )
    partition = applied(roles, partition)
    if settings.quantity_skew:
        partition = with_quantity_skew(partition, seed=seed, spread=settings.quantity_skew)
    if settings.devices_per_speaker > 1:
        partition, corpus = with_devices(partition, corpus, settings.devices_per_speaker, seed)
    words = Vocabulary(roles.targets)
    made = SyntheticCorpus(public_spec(scenario, words))
    synthetic = by_group(made, seed=seed)
    public_corpus: Corpus = JoinedCorpus(corpus, made)
    public = (*synthetic.public, *_with_other_words(partition.public, roles))
    if settings.noise:
        noise = NoiseCorpus(Path(settings.noise))
        public_corpus = JoinedCorpus(public_corpus, noise)
        public = (*public, *_rooms(noise))
    if not partition.validation:
        partition = dataclasses.replace(partition, validation=synthetic.validation)
    return Voices(words, corpus, public_corpus, public, partition, roles)


def _with_other_words(phones: Sequence[Phone], roles: WordRoles) -> tuple[Phone, ...]:
    """Public phones with their silence and their other words that may train."""
    return tuple(
        dataclasses.replace(
            phone,
            utterances=tuple(
                clip
                for clip in phone.utterances
                if clip.word not in roles.targets and roles.trains(clip.word)
            ),
        )
        for phone in phones
    )


def _in_order_of(base: Base | None, words: Sequence[str]) -> tuple[str, ...]:
    """The same words in the order of the base, whose outputs they are; others as they stand."""
    if base is not None and set(words) == set(base.words.targets):
        return base.words.targets
    return tuple(words)


def without_teachers(voices: Voices, base: Base) -> Voices:
    """Makes public whoever the base learned from: a teacher of the base is never a phone."""
    return dataclasses.replace(voices, partition=moved(voices.partition, set(base.speakers)))


def _base(scenario: Scenario, opened: Opened, cache: Path) -> Base:
    """The frozen base that the scenario names: read, made, or taught further."""
    vocabulary, base = opened.voices.vocabulary, opened.named
    if base is None:
        base = (
            synthetic_base(vocabulary, seed=BASE_SEED, cache_dir=cache, lexicon=scenario.lexicon)
            if isinstance(vocabulary, Vocabulary)
            else made_sentence_base(scenario, cache)
        )
    elif scenario.task == "sentences" and scenario.base.source == "tuned":
        base = tuned_base(base, opened.voices.corpus, opened.voices.partition.public, cache)
    made = _shape(scenario, base, vocabulary)
    teaching = len(opened.voices.partition.federated) - len(
        without_teachers(opened.voices, base).partition.federated
    )
    if made != opened.shape or teaching:
        raise ScenarioError("the base that was made is not the one that the plan was made for")
    return base


def _named_base(scenario: Scenario) -> Base:
    """The base of words that the scenario names."""
    source = scenario.base.source
    path = default_base_path() if source == "shipped" else Path(source)
    try:
        return Base.load(path, scenario.base.sha256 or None)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"base.source: {error}") from error


def _check_words(scenario: Scenario, vocabulary: Vocabulary, base: Base) -> None:
    """Refuses a base that knows other words than the scenario wants."""
    if base.vocabulary != vocabulary:
        known = ", ".join(getattr(base.vocabulary, "targets", ("none, only sentences",)))
        raise ScenarioError(
            f"the base {scenario.base.source} knows the words {known}, the scenario wants "
            f'{", ".join(vocabulary.targets)}; set base.source = "synthetic" to make one'
        )


class _Embedder:
    """Turns utterances into embeddings with labels, through the cache."""

    def __init__(
        self,
        base: Base,
        adapter: Adapter,
        vocabulary: Vocabulary | Alphabet,
        cache: Path,
        workers: int,
        progress: Progress,
    ) -> None:
        self.vocabulary = vocabulary
        self._base, self._adapter = base, adapter
        self._cache, self._workers, self._progress = cache, workers, progress

    def __call__(self, corpus: Corpus, clips: Sequence[Utterance]) -> LocalDataset:
        """Returns one embedding and label, or row of characters, per clip, in order."""
        labels = self._labels([clip.word for clip in clips])
        if not clips:
            return LocalDataset(np.zeros((0, *self._adapter.embedding_shape), np.float32), labels)
        outputs = trunk_outputs(
            self._base, corpus, clips, self._cache, workers=self._workers, progress=self._progress
        )
        blocks = [
            self._adapter.embed(torch.from_numpy(np.array(outputs[start : start + 4096]))).numpy()
            for start in range(0, len(outputs), 4096)
        ]
        return LocalDataset(np.concatenate(blocks), labels)

    def _labels(self, said: Sequence[str]) -> NDArray[np.int64]:
        """What the model is to answer."""
        if isinstance(self.vocabulary, Alphabet):
            return self.vocabulary.rows(said)
        return np.array([self.vocabulary.label(word) for word in said], dtype=np.int64)


def _rooms(noise: Corpus) -> tuple[Phone, ...]:
    """Each noise recording as a public phone that hears nothing else."""
    clips: dict[str, list[Utterance]] = {}
    for clip in noise.utterances:
        clips.setdefault(clip.speaker_id, []).append(clip)
    return tuple(
        Phone(phone_id=name, speaker_id=name, segments={}, utterances=tuple(said))
        for name, said in sorted(clips.items())
    )


def _public_negatives(
    voices: Voices, base: Base, seed: int
) -> tuple[list[Utterance], list[Utterance]]:
    """Unknown and silence clips of public speakers: half for phones, half held back to guard.

    The halves differ in speakers, and speakers who taught the base only train: it rejects their
    other words already. Kinds take turns, so that any beginning of a list is balanced: two in three
    are recorded other words where there are some.
    """
    recorded = set(voices.corpus.speakers) if voices.corpus is not voices.public_corpus else set()
    taught = set(base.speakers)
    teachers = [phone for phone in voices.public if phone.speaker_id in taught & recorded]
    others = [phone for phone in voices.public if phone.speaker_id not in taught & recorded]
    parts = [*teachers, *others[::2]], others[1::2] or teachers[1::2]
    training, guard = (_in_turn(part, recorded, seed) for part in parts)
    return training, guard


def _in_turn(phones: Sequence[Phone], recorded: Collection[str], seed: int) -> list[Utterance]:
    """Other words and silence of some phones, each kind shuffled, kinds in turn."""
    clips = [clip for phone in phones for clip in phone.utterances]
    silence = [clip for clip in clips if clip.word == SILENCE]
    unknown = [clip for clip in clips if clip.word != SILENCE]
    for kind, group in (("silence", silence), ("unknown", unknown)):
        order = stream(seed, "public negatives", kind).permutation(len(group))
        group[:] = [group[index] for index in order]
    real = [clip for clip in unknown if clip.speaker_id in recorded]
    made = [clip for clip in unknown if clip.speaker_id not in recorded]
    if len(real) < ENOUGH_REAL_NEGATIVES:
        return [clip for pair in zip(unknown, silence, strict=False) for clip in pair]
    groups = [iter(real), iter(silence), iter(made)]
    kept: list[Utterance] = []
    while True:
        for turn in (0, 0, 1, 0, 0, 2):
            clip = next(groups[turn], None)
            if clip is None and turn == 0:
                return kept
            kept += [clip] if clip else []


def _first(clips: LocalDataset, count: int) -> LocalDataset:
    return clips.take(np.arange(min(count, len(clips))))


def _strangers(
    unseen: Sequence[UnseenPhone], vocabulary: Vocabulary | Alphabet, validation: LocalDataset
) -> LocalDataset:
    """Unknown and silence clips of validation speakers, for phones that have none of their own."""
    if isinstance(vocabulary, Alphabet):
        return _first(validation, 0)
    targets = len(vocabulary.targets)
    if any((phone.judged.labels >= targets).any() for phone in unseen):
        return _first(validation, 0)
    return validation.take(np.flatnonzero(validation.labels >= targets))


def _non_words(scenario: Scenario, voices: Voices) -> str:
    """What the clips are on which false accepts are judged."""
    if voices.roles is None:
        return ""
    if isinstance(scenario.corpus, FolderCorpus):
        return voices.roles.words
    return "synthetic other words and silence"


def own_takes(voices: Voices, phone: Phone, count: int, seed: int, reserve: int) -> Takes:
    """Splits a phone's clips into what it adapts on and what it is judged by.

    Args:
      voices: whose words have which role.
      phone: one that never trains.
      count: own takes per target word and per other word that trains, or own sentences.
      seed: of the run.
      reserve: takes that are laid aside, so that fewer are judged by the same clips.
    """
    if voices.roles is None:
        return split_sentences(phone, count, seed=seed, reserve=reserve)
    takes = split_takes(phone, voices.roles.own, count, seed=seed, reserve=reserve)
    judged = tuple(clip for clip in takes.judged if voices.roles.judges(clip.word))
    return dataclasses.replace(takes, judged=judged)


def _unseen(scenario: Scenario, voices: Voices, embed: _Embedder) -> tuple[UnseenPhone, ...]:
    """Splits each unseen phone's clips into nested own takes and what it is judged by."""
    corpus, phones = voices.corpus, voices.partition.unseen
    clips = [clip for phone in phones for clip in phone.utterances]
    embedded = embed(corpus, clips)
    row = {clip.utterance_id: index for index, clip in enumerate(clips)}
    takes = sorted({*scenario.personalization.takes, scenario.personalization.headline_takes})

    def select(chosen: Sequence[Utterance]) -> LocalDataset:
        return embedded.take(np.array([row[clip.utterance_id] for clip in chosen], dtype=np.int64))

    unseen = []
    for phone in phones:
        splits = {
            count: own_takes(voices, phone, count, scenario.seed, takes[-1]) for count in takes
        }
        unseen.append(
            UnseenPhone(
                phone=phone,
                own={count: select(split.own) for count, split in splits.items()},
                judged=select(splits[takes[-1]].judged),
                contacts=corpus.contacts(phone.speaker_id)
                if isinstance(corpus, SyntheticCorpus)
                else (),
            )
        )
    return tuple(unseen)


def parity_speech(
    base: Base, corpus: Corpus, phones: Sequence[Phone], *, repeat: bool = True
) -> NDArray[np.float32]:
    """Public speech, or features, on which the exported file is compared with the trained model.

    Args:
      base: of the model, which says how much left context a clip has.
      corpus: of the phones.
      phones: public ones.
      repeat: clips stand there again until there are `PARITY_CLIPS`; False: each of them once.
    """
    clips = [clip for phone in phones for clip in phone.utterances if clip.word != SILENCE]
    count = PARITY_CLIPS if repeat else min(len(clips), PARITY_CLIPS)
    return base.heard(corpus, [clips[index % len(clips)] for index in range(count)])


def _time(scenario: Scenario) -> TimeAxis | None:
    """When rounds happen, if they happen in time."""
    if scenario.time is None:
        return None
    return TimeAxis(seed=scenario.seed, **scenario.time.model_dump())


def _training(scenario: Scenario) -> LocalTraining:
    """What a phone does in a round."""
    settings = scenario.training.model_dump()
    del settings["background_clips"], settings["example_privacy"]
    return LocalTraining(**settings)


def _example_privacy(scenario: Scenario) -> ExamplePrivacy | None:
    """How training hides single clips, if it does."""
    settings = scenario.training.example_privacy
    return None if settings is None else ExamplePrivacy(**settings.model_dump())


def _server(scenario: Scenario) -> OptimizerSettings:
    """What the server does with the decoded mean."""
    return OptimizerSettings(**scenario.server.model_dump())
