"""Recordings as phones: who trains, who is judged, and what the words outside the vocabulary do.

    partition = split_speakers(corpus, FolderCorpus(path="recordings"), seed=1)
    roles = word_roles(partition.unseen, ("yes", "no"), seed=1)

Whoever knows target words only learns that a voice is a keyword. So words outside the vocabulary
train too, guard thresholds and judge, and nobody's clips have two of these roles: those that train
are the phones' own and public speakers', those that guard are other public speakers', and those
that judge are of phones that never train. Where a corpus has enough other words, the words that
judge are never trained on either.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedspeech.corpora.corpus import SILENCE, UNKNOWN, Corpus, Skipped, Utterance
from fedspeech.corpora.partition import (
    MIN_CLIPS,
    AllBut,
    Heavy,
    Named,
    Partition,
    Phone,
    Rule,
    by_speaker,
    default_rule,
)
from fedspeech.errors import CorpusError, TooFewSpeakers
from fedspeech.seeds import stream
from simulations.scenario.schema import FolderCorpus

MOST_TARGETS = 12
TARGET_SHARE = 2 / 3  # of the words that a corpus has, if the scenario names none
ENOUGH_WORDS = 6  # fewer are all targets; fewer other words all train and judge
ENOUGH_SPEAKERS = 20  # of fewer nobody is spared: who federates would be too few to add up
PUBLIC_SHARE, VALIDATION_SHARE, UNSEEN_SHARE = 0.15, 0.1, 0.3


@dataclass(frozen=True)
class WordRoles:
    """What each word may be used for.

    Attributes:
      targets: words of the vocabulary; they train and judge.
      training: other words that train, and of which a phone adapts on own takes.
      evaluation: other words that judge; None: all of them.
    """

    targets: tuple[str, ...]
    training: frozenset[str] = frozenset()
    evaluation: frozenset[str] | None = None

    @property
    def own(self) -> frozenset[str]:
        """Words of which a phone that personalizes has takes of its own."""
        return self.training | set(self.targets)

    def trains(self, word: str) -> bool:
        """Whether a phone may train on a word; one that nobody has named is as good as any."""
        judged_only = frozenset() if self.evaluation is None else self.evaluation - self.training
        return word not in judged_only

    def judges(self, word: str) -> bool:
        """Whether a phone may be judged by a word."""
        named = word == SILENCE or word in self.targets
        return named or self.evaluation is None or word in self.evaluation

    @property
    def words(self) -> str:
        """What the other words that judge are, in words."""
        if not self.evaluation:
            return "synthetic other words and silence: the recordings have no other word"
        count = len(self.evaluation)
        said = f"{count} recorded other word{'' if count == 1 else 's'}"
        if self.evaluation & self.training:
            return f"{said}, in training said by other speakers"
        return f"{said}, none of them in training"


def split_speakers(
    corpus: Corpus, settings: FolderCorpus, seed: int, taught: Collection[str] = ()
) -> Partition:
    """Says who is where: public, validation, federated or unseen.

    Args:
      corpus: recordings.
      settings: what the scenario says of it.
      seed: draws the speakers.
      taught: speakers from whom the base has learned; they are public.

    Raises:
      CorpusError: if nobody is left to train or to judge by, or somebody is named who is not there.
    """
    partition = by_speaker(corpus, seed=seed, unseen=unseen_rule(corpus, settings))
    if taught:
        partition = moved(partition, set(taught))
    speakers = len(partition.federated) + (
        0 if _heavy_are_unseen(corpus, settings) else len(partition.unseen)
    )
    public, validation = _spared(settings, speakers)
    if public + validation >= len(partition.federated):
        raise TooFewSpeakers(
            f"nobody is left to federate: {len(partition.federated)} speakers, of whom "
            f"corpus.public_speakers={public} and corpus.validation_speakers={validation}",
            len(partition.federated) + len(partition.unseen),
        )
    drawn = [partition.federated[i] for i in _order(len(partition.federated), seed)]
    chosen = {phone.phone_id for phone in drawn[public + validation :]}
    return dataclasses.replace(
        partition,
        public=(*partition.public, *drawn[:public]),
        validation=tuple(drawn[public : public + validation]),
        federated=tuple(phone for phone in partition.federated if phone.phone_id in chosen),
    )


def moved(partition: Partition, taught: Collection[str]) -> Partition:
    """Makes public whoever the base learned from: a teacher of the base is never a phone."""
    groups = (partition.validation, partition.federated, partition.unseen)
    teachers = [phone for group in groups for phone in group if phone.speaker_id in taught]
    validation, federated, unseen = (
        tuple(phone for phone in group if phone.speaker_id not in taught) for group in groups
    )
    return dataclasses.replace(
        partition,
        public=(*partition.public, *teachers),
        validation=validation,
        federated=federated,
        unseen=unseen,
    )


def word_roles(unseen: Sequence[Phone], vocabulary: Sequence[str], seed: int) -> WordRoles:
    """Says which words are targets, which others train and which judge.

    Words are counted on phones that never train: the vocabulary is published, and no epsilon of
    the run covers a choice made on the speech of phones that federate.

    Args:
      unseen: phones that never train.
      vocabulary: target words; empty: the most frequent words, at most `MOST_TARGETS` and two
        thirds of them, so that some are left to be no target.
      seed: draws the words that judge.
    """
    counts = Counter(clip.word for phone in unseen for clip in phone.utterances)
    said = [word for word in sorted(counts) if word not in (SILENCE, UNKNOWN)]
    targets = tuple(vocabulary) or _frequent(said, counts)
    others = [word for word in said if word not in targets]
    stream(seed, "other words").shuffle(others)
    if len(others) < ENOUGH_WORDS:
        return WordRoles(targets, frozenset(others), frozenset(others))
    judged = len(others) // 3
    # As many others as targets are enough takes to ask of anybody.
    return WordRoles(
        targets,
        training=frozenset(others[judged : judged + len(targets)]),
        evaluation=frozenset(others[:judged]),
    )


def applied(roles: WordRoles, partition: Partition) -> Partition:
    """Leaves every phone the clips that its role may use; phones without any are skipped."""
    skipped: list[Skipped] = []

    def kept(phones: Sequence[Phone], of_targets: bool) -> tuple[Phone, ...]:
        left = []
        for phone in phones:
            clips = tuple(clip for clip in phone.utterances if _usable(roles, clip, of_targets))
            if not any(clip.word in roles.targets or not of_targets for clip in clips):
                skipped.append(Skipped(f"speaker {phone.speaker_id}", "no clip of a target word"))
            elif clips:
                left.append(dataclasses.replace(phone, utterances=clips))
        return tuple(left)

    federated, validation = kept(partition.federated, False), kept(partition.validation, True)
    unseen = kept(partition.unseen, True)
    return dataclasses.replace(
        partition,
        federated=federated,
        validation=validation,
        unseen=unseen,
        skipped=(*partition.skipped, *skipped),
    )


def _usable(roles: WordRoles, clip: Utterance, may_judge: bool) -> bool:
    """Whether a clip has a use on a phone that trains, or on one that is judged."""
    return roles.trains(clip.word) or (may_judge and roles.judges(clip.word))


def _frequent(said: Sequence[str], counts: Counter[str]) -> tuple[str, ...]:
    """The words said most often, in alphabetical order."""
    most = min(MOST_TARGETS, int(TARGET_SHARE * len(said)))
    if len(said) < ENOUGH_WORDS:
        most = len(said)
    return tuple(sorted(sorted(said, key=lambda word: (-counts[word], word))[:most]))


def unseen_rule(corpus: Corpus, settings: FolderCorpus) -> Rule:
    """Who is unseen."""
    if settings.unseen_speakers:
        return Named(named_speakers(corpus, Path(settings.unseen_speakers)))
    if settings.federated_speakers:
        most = sum(_spared(settings, _speaking(corpus)))
        return AllBut(settings.federated_speakers + most)
    rule = default_rule(corpus)
    if isinstance(rule, AllBut) and any(_spared(settings, _speaking(corpus))):
        return AllBut(round((1 - UNSEEN_SHARE) * _speaking(corpus)))
    return rule


def _heavy_are_unseen(corpus: Corpus, settings: FolderCorpus) -> bool:
    """Whether those who are unseen are another kind of speakers than those who federate."""
    return isinstance(unseen_rule(corpus, settings), Heavy | Named)


def _spared(settings: FolderCorpus, speakers: int) -> tuple[int, int]:
    """How many of so many speakers are public, and how many validate."""
    enough = speakers >= ENOUGH_SPEAKERS
    public, validation = settings.public_speakers, settings.validation_speakers
    return (
        round(PUBLIC_SHARE * speakers) * enough if public is None else public,
        max(2, round(VALIDATION_SHARE * speakers)) * enough if validation is None else validation,
    )


def _speaking(corpus: Corpus) -> int:
    """Speakers with enough clips to be a phone."""
    counts = Counter(clip.speaker_id for clip in corpus.utterances)
    speaking = {clip.speaker_id for clip in corpus.utterances if clip.word != SILENCE}
    return sum(counts[name] >= MIN_CLIPS for name in speaking)


def _order(count: int, seed: int) -> list[int]:
    """An order of phones, drawn by the seed."""
    return [int(index) for index in stream(seed, "public speakers").permutation(count)]


def named_speakers(corpus: Corpus, file: Path) -> list[str]:
    """The speakers that a file names, one a line.

    Raises:
      CorpusError: if the file cannot be read, names nobody or somebody who is not there.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{file} must name speakers, one a line: {error}") from error
    names = sorted({line.strip() for line in lines if line.strip()})
    missing = sorted(set(names) - set(corpus.speakers))
    if missing or not names:
        raise CorpusError(
            f"{file} must name speakers of {corpus.name}, one a line; "
            + (f"it has no {', '.join(missing[:5])}" if missing else "it names nobody")
        )
    return names
