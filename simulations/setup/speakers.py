"""The speakers of a scenario: corpora opened or drawn, and each speaker in one role."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedspeech.corpora.corpus import (
    SILENCE,
    UNKNOWN,
    Corpus,
    Skipped,
    Utterance,
    Vocabulary,
)
from fedspeech.corpora.device_corpus import DeviceCorpus
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.label_skew import Dirichlet, LabelSkew, Pathological, with_label_skew
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.noise import NoiseCorpus
from fedspeech.corpora.partition import (
    Partition,
    Phone,
    by_group,
    with_devices,
    with_quantity_skew,
)
from fedspeech.corpora.recorded import ENGLISH, RecordedCorpus
from fedspeech.corpora.recorded_devices import with_recorded_devices
from fedspeech.corpora.synthetic import (
    PRETRAINING_ACCENT,
    SpeakerGroup,
    SyntheticCorpus,
    SyntheticSpec,
    accent_shares,
    other_words,
)
from fedspeech.corpora.transcribed import FeatureCorpus
from fedspeech.errors import ArgumentRefused, ScenarioError
from fedspeech.models.base import Base
from fedspeech.models.decoding import BigramLanguageModel
from fedspeech.seeds import canonical
from fedspeech.synthesis.lexicon import pronunciation, speakable
from fedspeech.synthesis.near_misses import named
from fedspeech.tasks.asr import Asr
from fedspeech.tasks.kws import Kws, WordRoles, in_order_of, word_roles
from fedspeech.tasks.stream_evaluation import StreamSettings
from fedspeech.tasks.task import Task
from simulations.scenario.corpora import (
    DividedSpeakers,
    EmbeddedCorpus,
    FolderCorpus,
    JoinedSentences,
    ProvidedCorpus,
    SentenceCorpus,
    TranscribedCorpus,
)
from simulations.scenario.schema import MADE, Scenario
from simulations.setup.other_words import open_other_words
from simulations.setup.recordings import made_public, split_speakers, usable
from simulations.setup.sentences import (
    PUBLIC_SPEAKERS,
    real_sentences,
    sentence_spec,
    spoken_prior,
    synthetic_prior,
)

SHARE_OF_VOICE = 0.5  # of a voice's clips that one phone holds, where phones are drawn from voices


@dataclass(frozen=True, eq=False)
class SpeakerSplit:
    """The speakers of a scenario and their task, before embeddings are computed.

    Attributes:
      task: with the labels of the model.
      corpus: of the phones.
      public_corpus: of public speakers and background noise.
      public: public phones and background noise.
      partition: the four groups of phones.
    """

    task: Task
    corpus: Corpus
    public_corpus: Corpus
    public: tuple[Phone, ...]
    partition: Partition

    @property
    def recorded(self) -> frozenset[str]:
        """Recorded speakers, where there are public speakers of the synthesizer too."""
        if self.corpus is self.public_corpus:
            return frozenset()
        return frozenset(self.corpus.speakers)

    @property
    def licenses(self) -> dict[str, str]:
        """Corpus to license."""
        return {corpus.name: corpus.license for corpus in (self.corpus, self.public_corpus)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known of these speakers; names of speakers may stand in it."""
        recordings = self._recordings
        if recordings is None:
            return tuple(filter(None, [self.partition.unit_note]))
        doubtful = (words.strip() for words in recordings.persons.doubtful())
        notes = getattr(recordings, "notes", ())
        return (*doubtful, *notes, *filter(None, [self.partition.unit_note]))

    @property
    def _recordings(self) -> RecordedCorpus | FeatureCorpus | None:
        """The corpus of files behind the phones, if there is one."""
        found = self.corpus
        if isinstance(found, DeviceCorpus):
            found = found.original
        return found if isinstance(found, RecordedCorpus | FeatureCorpus) else None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Recordings and speakers left out, with the reason."""
        return (*self.corpus.skipped, *self.partition.skipped)

    @property
    def pretraining_accents(self) -> tuple[str, ...]:
        """Accents of pre-training speakers; empty if unknown."""
        return (PRETRAINING_ACCENT,) if isinstance(self.corpus, SyntheticCorpus) else ()

    @functools.cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of phones, speakers, words and recordings; of contents, not of paths."""
        partition, digest = self.partition, hashlib.sha256()
        sides = (
            (self.corpus, (*partition.federated, *partition.held_out)),
            (self.public_corpus, (*self.public, *partition.validation)),
        )
        for corpus, phones in sides:
            for phone in phones:
                for clip in (*phone.utterances, *phone.lent):
                    said = (phone.phone_id, clip.speaker_id, clip.word, corpus.fingerprint(clip))
                    # `canonical` writes lengths, so names that run into one another stay apart.
                    digest.update(canonical(*said))
        return digest.hexdigest()


def open_speakers(
    scenario: Scenario, base: Base, *, made: bool = False, corpus: Corpus | None = None
) -> SpeakerSplit:
    """Opens or draws the corpora of a scenario and divides their speakers.

    Target words follow the order of the base, and its pre-training speakers are never phones; with
    `made`, the base will be trained for the words that are found, and `base` has only its layout.
    A `corpus` of recorded words that is open already is not opened again.

    Raises:
      ScenarioError: if parts of the scenario do not fit together.
      CorpusError: if the recordings cannot be used.
    """
    match scenario.corpus:
        case EmbeddedCorpus():
            # A word's place is its row in the base's head: the same words keep the base's order.
            known = () if made else Kws.known(base)
            words = Vocabulary(in_order_of(known, scenario.vocabulary))
            return _drawn(
                scenario,
                _spotting(scenario, WordRoles(words.targets)),
                embedded_spec(scenario, scenario.corpus, words),
                unit="phone" if scenario.corpus.voices else "user",
            )
        case FolderCorpus(path=path, max_unusable_share=share):
            if corpus is None and not path:
                raise ArgumentRefused(
                    "this scenario needs recordings: give their folder, `corpus` "
                    "(see `fedspeech data list`)"
                )
            recorded = corpus or open_corpus(Path(path), max_unusable_share=share)
            return _recorded(scenario, scenario.corpus, recorded, None if made else base)
        case SentenceCorpus():
            spec = sentence_spec(scenario, scenario.corpus, base.reading)
            task = _recognizing(scenario, synthetic_prior(scenario.seed), base)
            return _drawn(scenario, task, spec)
        case ProvidedCorpus() if corpus is not None:
            return _recorded(scenario, scenario.corpus, corpus, None if made else base)
        case ProvidedCorpus():
            raise ScenarioError(
                f"a Python program handed over the speech of {scenario.name}: run, resume or "
                "export it from there, as simulate(Experiment(...)), resume(folder, "
                "experiment=...) or load_run(folder, experiment=...)"
            )
        case JoinedSentences() | TranscribedCorpus():
            trained = () if made else base.speakers
            corpus, partition = real_sentences(
                scenario, scenario.corpus, base.reading, Asr.alphabet_of(base, ENGLISH), trained
            )
            return SpeakerSplit(
                # A language model of what phones said would reveal it outside of every epsilon.
                _recognizing(scenario, spoken_prior(partition.public), base),
                corpus,
                corpus,
                partition.public,
                partition,
            )


def _spotting(scenario: Scenario, roles: WordRoles) -> Kws:
    """Keyword spotting with the scenario's settings."""
    settings = scenario.evaluation
    stream = settings.false_accepts_per_hour
    return Kws(
        roles,
        false_accept_rate=settings.false_accept_rate,
        stream=(
            StreamSettings(stream, settings.stream_minutes, tuple(scenario.lexicon.items()))
            if stream
            else None
        ),
    )


def _recognizing(scenario: Scenario, language_model: BigramLanguageModel, base: Base) -> Asr:
    """Speech recognition in the base's alphabet, searched and scored as the scenario says."""
    settings = scenario.decoding
    return Asr(
        language_model=language_model,
        labels=Asr.alphabet_of(base, ENGLISH),
        beam=settings,
        each_round=settings.evaluated_each_round,
        # Examples of real sentences would show what people said.
        examples=settings.examples if isinstance(scenario.corpus, SentenceCorpus) else 0,
    )


def _drawn(
    scenario: Scenario, task: Task, spec: SyntheticSpec, unit: Literal["user", "phone"] = "user"
) -> SpeakerSplit:
    """Speakers of the synthesizer, in the groups of their ids."""
    corpus = SyntheticCorpus(spec)
    partition = dataclasses.replace(by_group(corpus, seed=scenario.seed), unit=unit)
    return SpeakerSplit(task, corpus, corpus, partition.public, partition)


def embedded_spec(
    scenario: Scenario, settings: EmbeddedCorpus, vocabulary: Vocabulary
) -> SyntheticSpec:
    """Speakers of the embedded corpus: public ones of one accent, phones of all accents."""
    accents = accent_shares(settings.new_accent_share)
    words = vocabulary.targets
    known, held_out = other_words(words)
    # A phone holds a part of its voice's clips, so a voice says as many more.
    more = 1 if settings.voices is None else round(1 / SHARE_OF_VOICE)
    public = public_spec(scenario, vocabulary, settings.validation_speakers)
    shipped, validation = public.groups
    near = named(words, scenario.lexicon) if settings.near_misses_per_phone else {}
    return dataclasses.replace(
        public,
        lexicon=(*public.lexicon, *near.items()),
        groups=(
            shipped,
            # As phones speak: on the pre-training accent, validation would always choose the base.
            dataclasses.replace(validation, accents=accents),
            SpeakerGroup(
                name="federated",
                num_speakers=settings.voices or settings.federated_phones,
                accents=accents,
                words=words,
                utterances_per_word=more * settings.utterances_per_phone / len(words),
                unknown_words=known,
                num_unknown=more * settings.unknown_per_phone,
                num_silence=more * settings.silence_per_phone,
                near_misses=tuple(near),
                num_near_misses=more * settings.near_misses_per_phone,
                skew=settings.quantity_skew,
                min_clips=4 * more,
            ),
            SpeakerGroup(
                name="held_out",
                num_speakers=settings.held_out_phones,
                accents=accents,
                words=words,
                utterances_per_word=settings.utterances_per_word,
                unknown_words=(*held_out, *known),
                # As many as target words: false accepts are counted on them.
                num_unknown=max(10, len(words)),
                num_silence=max(10, len(words)) // 2,
            ),
        ),
    )


def public_spec(
    scenario: Scenario, vocabulary: Vocabulary, validation_speakers: int = 24
) -> SyntheticSpec:
    """Public speakers whose unknown and silence clips ship to phones, and validation speakers.

    Validation speakers say the target words that have a pronunciation; public ones say none.
    """
    known, held_out = other_words(vocabulary.targets)
    return SyntheticSpec(
        seed=scenario.seed,
        lexicon=tuple(scenario.lexicon.items()),
        held_out_words=held_out,
        groups=(
            SpeakerGroup(
                name="public",
                num_speakers=PUBLIC_SPEAKERS,
                words=(),
                utterances_per_word=0,
                unknown_words=known,
                num_unknown=6,
                num_silence=6,
            ),
            SpeakerGroup(
                name="validation",
                num_speakers=validation_speakers,
                words=speakable(vocabulary.targets, scenario.lexicon),
                utterances_per_word=2,
                unknown_words=(*held_out, *known),
                num_unknown=4,
                num_silence=4,
            ),
        ),
    )


def _recorded(
    scenario: Scenario, settings: DividedSpeakers, corpus: Corpus, base: Base | None
) -> SpeakerSplit:
    """Recorded words: corpora, phones and target words."""
    seed = scenario.seed
    partition = split_speakers(corpus, settings, seed, () if base is None else base.speakers)
    known = () if base is None else Kws.known(base)
    roles = word_roles(partition.held_out, scenario.vocabulary, seed, known)
    said = {clip.word for clip in corpus.utterances} - {SILENCE, UNKNOWN}
    missing = sorted(set(roles.targets) - said)
    if missing:
        raise ScenarioError(
            f"the vocabulary asks for {', '.join(missing)}, which nobody says in {corpus.name}; "
            f"it has {', '.join(sorted(said)[:20])}"
        )
    other = None
    if settings.other_words:
        other = open_other_words(Path(settings.other_words), roles.targets, seed)
        roles = other.roles(roles)
    partition = usable(roles, partition)
    partition = _phones(partition, settings, corpus, seed)
    if settings.quantity_skew:
        partition = with_quantity_skew(partition, seed=seed, spread=settings.quantity_skew)
    if settings.devices_per_speaker > 1:
        partition, corpus = with_devices(partition, corpus, settings.devices_per_speaker, seed)
    if other is not None:
        corpus = JoinedCorpus(corpus, other.corpus)
        partition = dataclasses.replace(
            partition,
            validation=(*partition.validation, *other.validation),
            held_out=tuple(other.heard_by(phone, seed) for phone in partition.held_out),
        )
    words = Vocabulary(roles.targets)
    if scenario.base.source == MADE:  # the synthesizer will say them to the base
        for word in words.targets:
            pronunciation(word, scenario.lexicon)
    made = SyntheticCorpus(public_spec(scenario, words))
    synthetic = by_group(made, seed=seed)
    public_corpus: Corpus = JoinedCorpus(corpus, made)
    public = (*synthetic.public, *_with_other_words(partition.public, roles))
    if other is not None:
        public = (*public, *other.public)
    if settings.noise:
        noise = NoiseCorpus(Path(settings.noise))
        public_corpus = JoinedCorpus(public_corpus, noise)
        public = (*public, *_background_noise(noise))
    # The server decides on public speech alone: where a corpus is too small to spare speakers,
    # those of the synthesizer stand in for them.
    if not partition.validation:
        partition = dataclasses.replace(partition, validation=synthetic.validation)
    return SpeakerSplit(_spotting(scenario, roles), corpus, public_corpus, public, partition)


def _phones(
    partition: Partition, settings: DividedSpeakers, corpus: Corpus, seed: int
) -> Partition:
    """Makes phones of something else than speakers, where the scenario says so."""
    if settings.phones_by == "speaker":
        return partition
    if settings.phones_by == "device":
        return with_recorded_devices(partition, getattr(corpus, "devices", {}), seed=seed)
    rule: LabelSkew = (
        Dirichlet(settings.dirichlet_alpha)
        if settings.phones_by == "dirichlet"
        else Pathological(settings.words_per_phone)
    )
    phones = settings.mixed_phones or len(partition.federated)
    try:
        return with_label_skew(partition, rule, phones=phones, seed=seed)
    except ValueError as error:
        raise ScenarioError(f"corpus.phones_by: {error}") from error


def _with_other_words(phones: Sequence[Phone], roles: WordRoles) -> tuple[Phone, ...]:
    """Public phones with silence and the non-target words that may train."""
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


def without_pretraining_speakers(speakers: SpeakerSplit, base: Base) -> SpeakerSplit:
    """Makes the pre-training speakers of the base public."""
    partition = made_public(speakers.partition, set(base.speakers))
    return dataclasses.replace(speakers, partition=partition)


def _background_noise(noise: Corpus) -> tuple[Phone, ...]:
    """Each noise recording as a public phone."""
    clips: dict[str, list[Utterance]] = {}
    for clip in noise.utterances:
        clips.setdefault(clip.speaker_id, []).append(clip)
    return tuple(
        Phone(phone_id=name, speaker_id=name, segments={}, utterances=tuple(said))
        for name, said in sorted(clips.items())
    )
