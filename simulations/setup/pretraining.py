"""Training of a base for any vocabulary or for sentences, on synthetic or public speakers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedspeech.corpora.corpus import SILENCE, Corpus, Utterance, Vocabulary
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus, open_transcribed
from fedspeech.corpora.partition import Phone, by_group, utterances_of
from fedspeech.corpora.synthetic import SyntheticCorpus
from fedspeech.errors import ArgumentRefused
from fedspeech.evaluation.kws import KwsCounts
from fedspeech.models.base import Base, sentence_base_path
from fedspeech.models.exported.encoder import ENCODER_FILES
from fedspeech.seeds import stream
from fedspeech.tasks.kws import Kws, WordRoles, word_roles
from fedspeech.training.base_training import Lesson
from fedspeech.training.hard_negatives import (
    against_hard_negatives,
    scene_features,
    synthetic_listener,
)
from fedspeech.training.pretrain import BLOCK_CLIPS, PretrainSettings, pretrain, synthetic_base
from fedspeech.training.pretrain_sentences import (
    pretrain_sentences,
    synthetic_sentence_base,
    tuning,
)
from fedspeech.training.stream_training import HardNegatives
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.schema import EMBEDDING, Scenario
from simulations.setup.bases import PLACEHOLDER, embedding_base
from simulations.setup.heads import HeadLesson, taught_head, with_synthetic
from simulations.setup.listeners import taught_listener
from simulations.setup.recordings import named_speakers, split_speakers
from simulations.setup.sentences import long_sentences
from simulations.setup.speakers import public_spec

Advance = Callable[[str, int, int], None]

VALIDATION_SHARE = 0.1
# The rate of the headline metric of docs/real-speech.md.
FALSE_ACCEPT_RATE = 0.05


def named_base(name: str, license_: str, *, listens: bool = False) -> Base:
    """The base in a file or folder, or the encoder in a file or known by name, without a head.

    Args:
      name: "speech-embedding", or a path.
      license_: of the weights in a `.pt2` or `.tflite` file; a base states its own.
      listens: whether its head will be mined for hard negatives.

    Raises:
      ScenarioError: if it cannot be read.
      FedspeechError: if it needs a package that is not installed.
    """
    if name == EMBEDDING:
        return embedding_base(Vocabulary(PLACEHOLDER), listens=listens)
    if listens:
        raise ArgumentRefused(
            f'`hard_negative_hours` are for the built-in encoder and for base "{EMBEDDING}", whose '
            f"frames go on from clip to clip, got {name!r}"
        )
    try:
        if Path(name).suffix in ENCODER_FILES:
            return Base.from_file(name, words=PLACEHOLDER, license=license_)
        return Base.load(Path(name))
    except (OSError, ValueError) as error:
        raise ArgumentRefused(f"`base`: {error}") from error


@dataclass(frozen=True)
class _Public:
    """Utterances of public speakers: those that train the base, and those that evaluate it."""

    training: list[Utterance]
    held_out: list[Utterance]


@dataclass(frozen=True, kw_only=True)
class BaseTraining:
    """Training of a base, on the synthesizer or on public speakers of a corpus.

    Attributes:
      corpus: folder of recordings; None for the synthesizer.
      speakers: with a corpus: text file of its public speakers, one a line, or how many to draw of
        those who are not held-out by default.
      held_out: with a corpus: text file of the speakers who evaluate the base; None draws a tenth
        of the public speakers.
      cache: folder of synthetic bases.
      command: of the user, for the provenance.
      encoder: size of the encoder of a base for words; a name in `kws.ENCODERS`.
      hard_negative_hours: of synthesized sound without a target word, that is mined for what the
        base takes for one; 0: none is.
      progress: called with the part of the work, how much is done and how much there is.
    """

    corpus: Path | None
    speakers: str | None
    held_out: Path | None
    seed: int
    cache: Path
    command: str
    progress: Advance
    encoder: str = "standard"
    hard_negative_hours: float = 0.0

    def keywords(self, targets: tuple[str, ...], lexicon: Mapping[str, str]) -> Base:
        """Trains a base for keywords; `lexicon` maps further words to ARPAbet strings.

        With a corpus and without targets, two thirds of the words that its public speakers say most
        often are targets, and the others negatives.

        Raises:
          ValueError: if the words cannot be used.
          CorpusError: if the recordings or speakers cannot.
        """
        if self.corpus is None or self.speakers is None:
            return self._synthetic(Vocabulary(targets), lexicon)
        corpus = open_corpus(self.corpus)
        public = self._public(corpus, self.speakers)
        roles = word_roles(
            [Phone("public", "public", {}, tuple(public.training))], targets, self.seed
        )
        vocabulary = Vocabulary(roles.targets)
        spec = public_spec(Scenario(name="pretrain", seed=self.seed), vocabulary)
        synthetic = SyntheticCorpus(spec)
        negatives = utterances_of(by_group(synthetic, seed=self.seed).public)
        lesson = Lesson(
            corpus=JoinedCorpus(corpus, synthetic),
            utterances=[clip for clip in public.training if roles.trains(clip.word)] + negatives,
            validation=[clip for clip in public.held_out if roles.trains(clip.word)],
            seed=self.seed,
            provenance={"command": self._command()},
            progress=self.progress,
        )
        base = pretrain(lesson, vocabulary, PretrainSettings.of(self.encoder))
        if self.hard_negative_hours:
            mining, frontend = HardNegatives(hours=self.hard_negative_hours), base.built_in.frontend
            scenes = scene_features(frontend, mining, roles.targets, lexicon, self.progress)
            base = against_hard_negatives(base, lesson, scenes, mining)
        held_out = [c for c in public.held_out if roles.judges(c.word) and c.word != SILENCE]
        figures = _figures(_counts(base, corpus, held_out), roles)
        return dataclasses.replace(base, provenance={**base.provenance, **figures})

    def _synthetic(self, vocabulary: Vocabulary, lexicon: Mapping[str, str]) -> Base:
        """Trains on the synthesizer, against hard negatives if there are any."""
        settings, first = PretrainSettings.of(self.encoder), {"command": self.command}
        if not self.hard_negative_hours:
            return synthetic_base(
                vocabulary, seed=self.seed, cache_dir=self.cache, lexicon=lexicon,
                settings=settings, provenance=first, progress=self.progress,
            )  # fmt: skip
        return synthetic_listener(
            vocabulary, HardNegatives(hours=self.hard_negative_hours), seed=self.seed,
            cache_dir=self.cache, lexicon=lexicon, settings=settings,
            provenance=(first, {"command": self._mined}), progress=self.progress,
        )  # fmt: skip

    def head(self, base: Base, targets: tuple[str, ...], lexicon: Mapping[str, str]) -> Base:
        """Fits a head for keywords behind the encoder of a base; see `keywords`.

        Without targets, its words are those of the base; of an encoder alone they are found.

        Raises:
          ValueError: if the words cannot be used.
          CorpusError: if the recordings or speakers cannot.
        """
        if not targets and base.vocabulary != Vocabulary(PLACEHOLDER):
            targets = Kws.known(base)
        if self.corpus is None or self.speakers is None:
            if not targets:
                raise ArgumentRefused("a head needs `words`, or a `corpus` to find them in")
            return self._taught(base, self._lesson(Vocabulary(targets), None, ()), lexicon)
        corpus = open_corpus(self.corpus)
        public = self._public(corpus, self.speakers)
        roles = word_roles(
            [Phone("public", "public", {}, tuple(public.training))], targets, self.seed
        )
        clips = [clip for clip in public.training if roles.trains(clip.word)]
        lesson = self._lesson(Vocabulary(roles.targets), corpus, clips)
        made = self._taught(base, lesson, lexicon)
        held_out = [c for c in public.held_out if roles.judges(c.word) and c.word != SILENCE]
        figures = _figures(_counts(made, corpus, held_out), roles)
        recorded = {"corpus": corpus.name, "corpus_license": corpus.license}
        return dataclasses.replace(made, provenance={**made.provenance, **recorded, **figures})

    def _lesson(
        self, vocabulary: Vocabulary, corpus: Corpus | None, clips: Sequence[Utterance]
    ) -> HeadLesson:
        return HeadLesson(corpus, clips, frozenset(), vocabulary, self.seed)

    def _taught(self, base: Base, lesson: HeadLesson, lexicon: Mapping[str, str]) -> Base:
        """The base with a head that was fit on a lesson and synthetic speakers."""
        if self.hard_negative_hours:
            return taught_listener(
                base, with_synthetic(lesson, lexicon), self.cache, {"command": self._command()},
                hours=self.hard_negative_hours, lexicon=lexicon,
                progress=lambda done, total: self.progress("hours", done, total),
            )  # fmt: skip
        return taught_head(
            base,
            with_synthetic(lesson, lexicon),
            self.cache,
            {"command": self._command()},
            lambda done, total: self.progress("encoder", done, total),
        )

    def sentences(self) -> Base:
        """Trains a base for sentences on synthetic speakers, or fine-tunes the shipped one.

        Raises:
          CorpusError: if the recordings or speakers cannot be used.
        """
        if self.corpus is None or self.speakers is None:
            return synthetic_sentence_base(
                seed=self.seed, cache_dir=self.cache, provenance={"command": self.command},
                progress=self.progress,
            )  # fmt: skip
        start = long_sentences(Base.load(sentence_base_path()))
        corpus = open_transcribed(self.corpus, start.built_in.frontend)
        public = self._public(corpus, self.speakers)
        lesson = Lesson(
            corpus=corpus, utterances=public.training, seed=self.seed, validation=public.held_out,
            provenance={"command": self._command()}, progress=self.progress,
        )  # fmt: skip
        return pretrain_sentences(lesson, tuning(start), start=start)

    def _command(self) -> str:
        """The command with what it took speech from; folders by their names alone."""
        if self.corpus is None:
            return self._mined
        speakers = Path(self.speakers or "").name
        return f"{self._mined} --corpus {self.corpus.name} --speakers {speakers}"

    @property
    def _mined(self) -> str:
        """The command with the hours that are mined."""
        hours = self.hard_negative_hours
        return self.command + (f" --hard-negative-hours {hours:g}" if hours else "")

    def _public(self, corpus: Corpus, speakers: str) -> _Public:
        """The public speakers that are named, or so many drawn by the seed.

        Raises:
          CorpusError: if a speaker is named who is not in the corpus, or a group would be empty.
        """
        if speakers.isdecimal():
            names = _drawn(corpus, int(speakers), self.seed)
        else:
            names = named_speakers(corpus, Path(speakers))
        stream(self.seed, "public speakers").shuffle(names)
        if self.held_out is None:
            evaluating = set(names[: max(1, round(VALIDATION_SHARE * len(names)))])
        else:
            evaluating = set(named_speakers(corpus, self.held_out))
        training = set(names) - evaluating
        if not training:
            raise ArgumentRefused(
                f"`speakers` must leave at least one speaker to learn from, got {len(names)} of "
                f"whom {len(evaluating)} are held out"
            )
        return _Public(
            [clip for clip in corpus.utterances if clip.speaker_id in training],
            [clip for clip in corpus.utterances if clip.speaker_id in evaluating],
        )


def _drawn(corpus: Corpus, count: int, seed: int) -> list[str]:
    """Draws speakers of those who are not held-out by default."""
    # As a run with default settings splits the corpus: whom it holds out must not teach its base.
    none_spared = FolderCorpus(path="", public_speakers=0, validation_speakers=0)
    partition = split_speakers(corpus, none_spared, seed)
    names = sorted(phone.speaker_id for phone in partition.federated)
    if not 2 <= count < len(names):
        raise ArgumentRefused(
            f"`speakers` must be at least 2 and leave somebody to federate, got {count} of the "
            f"{len(names)} speakers of {corpus.name} who are not held-out"
        )
    stream(seed, "public speakers by number").shuffle(names)
    return names[:count]


def _counts(base: Base, corpus: Corpus, clips: Sequence[Utterance]) -> KwsCounts:
    """Counts answers of the base's own head."""
    nothing = np.zeros((0, len(base.vocabulary.labels)), dtype=np.float32)
    counts = KwsCounts.of(nothing, np.zeros(0, dtype=np.int64))
    for start in range(0, len(clips), BLOCK_CLIPS):
        block = clips[start : start + BLOCK_CLIPS]
        logits = base.logits(base.encoder_output(base.heard(corpus, block))).numpy()
        counts += KwsCounts.of(logits, base.vocabulary.encode([clip.word for clip in block]))
    return counts


def _figures(counts: KwsCounts, roles: WordRoles) -> dict[str, str | int | float]:
    """Errors of a base on held-out speakers, for its provenance."""
    figures: dict[str, str | int | float] = {
        "held_out_target_clips": counts.num_positives,
        "held_out_other_clips": counts.num_negatives,
        "held_out_other_words": roles.words if counts.num_negatives else "none",
    }
    error = counts.frr_at_far(FALSE_ACCEPT_RATE)
    if counts.false_accepts is not None and error is not None:
        figures["held_out_false_accepts"] = round(counts.false_accepts, 4)
        figures["held_out_false_rejects_at_5_percent_false_accepts"] = round(error, 4)
    if counts.num_positives:
        figures["held_out_target_words_right"] = round(counts.target_words_right, 4)
    return figures
