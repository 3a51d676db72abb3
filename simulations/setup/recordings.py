"""Recordings as phones in four groups: public, validation, federated, held-out.

partition = split_speakers(corpus, FolderCorpus(path="recordings"), seed=1)
partition = usable(word_roles(partition.held_out, ("yes", "no"), seed=1), partition)
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from fedspeech.corpora.corpus import Corpus, Skipped, Utterance
from fedspeech.corpora.partition import (
    MIN_CLIPS,
    AllBut,
    Heavy,
    Named,
    Partition,
    Phone,
    Rule,
    by_speaker,
    clips_per_speaker,
    default_rule,
)
from fedspeech.errors import CorpusError, TooFewSpeakers
from fedspeech.seeds import stream
from fedspeech.tasks.kws import WordRoles
from simulations.scenario.corpora import DividedSpeakers

ENOUGH_SPEAKERS = 20  # with fewer, public speakers would leave too few to federate
PUBLIC_SHARE, VALIDATION_SHARE, HELD_OUT_SHARE = 0.15, 0.1, 0.3


def split_speakers(
    corpus: Corpus,
    settings: DividedSpeakers,
    seed: int,
    pretraining_speakers: Collection[str] = (),
) -> Partition:
    """Divides speakers by the seed; pre-training speakers of the base are public.

    Raises:
      CorpusError: if a group would be empty, or a speaker is named who is not in the corpus.
    """
    partition = by_speaker(corpus, seed=seed, held_out=held_out_rule(corpus, settings))
    # A base is better on its own training speakers than on others, so they evaluate nothing.
    partition = made_public(partition, set(pretraining_speakers))
    # Shares are of those among whom chance decides: who is held out by a property or by name never
    # belonged to them.
    speakers = len(partition.federated) + (
        0 if _heavy_are_held_out(corpus, settings) else len(partition.held_out)
    )
    public, validation = _spared(settings, speakers)
    if public + validation >= len(partition.federated):
        raise TooFewSpeakers(
            f"nobody is left to federate: {len(partition.federated)} speakers, of whom "
            f"corpus.public_speakers={public} and corpus.validation_speakers={validation}",
            len(partition.federated) + len(partition.held_out),
        )
    order = stream(seed, "public speakers").permutation(len(partition.federated))
    drawn = [partition.federated[index] for index in order]
    listed = [] if settings.validation_speakers is not None else [
        phone for phone in drawn if phone.speaker_id in official(corpus, settings, "validation")
    ]  # fmt: skip
    if listed:
        others = [phone for phone in drawn if phone not in listed]
        drawn, validation = [*others[:public], *listed, *others[public:]], len(listed)
    chosen = {phone.phone_id for phone in drawn[public + validation :]}
    return dataclasses.replace(
        partition,
        public=(*partition.public, *drawn[:public]),
        validation=tuple(drawn[public : public + validation]),
        federated=tuple(phone for phone in partition.federated if phone.phone_id in chosen),
    )


def official(corpus: Corpus, settings: DividedSpeakers, part: str) -> frozenset[str]:
    """Speakers of a part by the corpus's published lists, if two of them have clips for a phone.

    None where a setting says otherwise.
    """
    if not settings.official_split or settings.held_out_speakers or settings.federated_speakers:
        return frozenset()
    lists: Mapping[str, str] = getattr(corpus, "official", {})
    clips = Counter(clip.speaker_id for clip in corpus.utterances if lists)
    listed = frozenset(
        name for name, of in lists.items() if of == part and clips[name] >= MIN_CLIPS
    )
    # A few clips of a large corpus may lack its test speakers.
    return listed if len(listed) >= 2 else frozenset()


def made_public(partition: Partition, speakers: Collection[str]) -> Partition:
    """Moves all phones of some speakers to the public group."""
    groups = (partition.validation, partition.federated, partition.held_out)
    moved = [phone for group in groups for phone in group if phone.speaker_id in speakers]
    validation, federated, held_out = (
        tuple(phone for phone in group if phone.speaker_id not in speakers) for group in groups
    )
    return dataclasses.replace(
        partition,
        public=(*partition.public, *moved),
        validation=validation,
        federated=federated,
        held_out=held_out,
    )


def usable(roles: WordRoles, partition: Partition) -> Partition:
    """Leaves every phone the clips that its group may use; phones without any are skipped."""
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

    # Words that only judge are kept on speakers who never train: trained on, they would show how
    # well a word is remembered and not how well an unknown one is rejected.
    federated, validation = kept(partition.federated, False), kept(partition.validation, True)
    held_out = kept(partition.held_out, True)
    return dataclasses.replace(
        partition,
        federated=federated,
        validation=validation,
        held_out=held_out,
        skipped=(*partition.skipped, *skipped),
    )


def _usable(roles: WordRoles, clip: Utterance, may_judge: bool) -> bool:
    """Whether a clip may train, or may evaluate on a phone that never trains."""
    return roles.trains(clip.word) or (may_judge and roles.judges(clip.word))


def held_out_rule(corpus: Corpus, settings: DividedSpeakers) -> Rule:
    """The rule by which speakers are held-out."""
    if settings.held_out_speakers:
        return Named(named_speakers(corpus, Path(settings.held_out_speakers)))
    speakers = len(clips_per_speaker(corpus))
    public, validation = _spared(settings, speakers)
    if settings.federated_speakers:
        return AllBut(settings.federated_speakers + public + validation)
    if testing := official(corpus, settings, "testing"):
        return Named(testing, by="the corpus's official list of testing speakers")
    rule = default_rule(corpus)
    if isinstance(rule, AllBut) and public + validation:
        return AllBut(round((1 - HELD_OUT_SHARE) * speakers))
    return rule


def _heavy_are_held_out(corpus: Corpus, settings: DividedSpeakers) -> bool:
    """Whether held-out speakers are chosen by a property, not drawn."""
    return isinstance(held_out_rule(corpus, settings), Heavy | Named)


def _spared(settings: DividedSpeakers, speakers: int) -> tuple[int, int]:
    """Numbers of public and of validation speakers."""
    enough = speakers >= ENOUGH_SPEAKERS
    public, validation = settings.public_speakers, settings.validation_speakers
    return (
        round(PUBLIC_SHARE * speakers) * enough if public is None else public,
        max(2, round(VALIDATION_SHARE * speakers)) * enough if validation is None else validation,
    )


def spares_speakers(settings: object, speakers: int) -> bool:
    """Whether there are to be public and validation speakers among so few."""
    return not isinstance(settings, DividedSpeakers) or speakers >= ENOUGH_SPEAKERS


def named_speakers(corpus: Corpus, file: Path) -> list[str]:
    """The speakers that a file names, one a line.

    Raises:
      CorpusError: if the file is unreadable, empty, or names a speaker who is not in the corpus.
    """
    try:
        # With `-sig`: the byte order mark of some editors would become part of the first name.
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
