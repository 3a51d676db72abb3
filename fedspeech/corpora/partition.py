"""Speakers as phones, in four groups that never overlap: public, validation, federated, held-out.

    partition = by_speaker(open_corpus(folder), seed=0, held_out=Heavy(min_clips=30))
    len(partition.federated), len(partition.held_out)

A phone is one speaker and the unit of privacy is the user. Where a speaker may have several phones
the unit is the phone, and `Partition.unit_note` says what that covers: where a corpus promises no
people behind its ids, on simulated devices (`with_devices`), on recorded ones (`by_device`), and
where papers mix the clips of speakers (`label_skew`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fedspeech.audio.channel import draw_device
from fedspeech.corpora.corpus import SILENCE, Corpus, Skipped, Utterance
from fedspeech.corpora.device_corpus import DeviceCorpus, Variant
from fedspeech.errors import TooFewSpeakers
from fedspeech.seeds import canonical, stream

Unit = Literal["user", "phone"]
GROUPS = ("public", "validation", "federated", "held_out")
NO_PEOPLE = (
    "the corpus's speaker ids are browsers or accounts and no people: the privacy unit is one id; "
    "a person with two ids is two phones, is protected by twice the epsilon, and may be judged as "
    "never trained on though the other id trains"
)
MIN_CLIPS = 2  # a phone with one clip has nothing left to be judged by


@dataclass(frozen=True)
class Phone:
    """One device and the recordings on it. Printing it names no speaker and no word.

    Attributes:
      phone_id: pseudonym, unique in the partition; it depends on the seed.
      speaker_id: the speaker; of a phone of several people, the pseudonym again.
      segments: of the speaker and of a simulated device.
      lent: clips of people who have no phone, which only judge a held-out phone.
    """

    phone_id: str
    speaker_id: str = field(repr=False)
    segments: Mapping[str, str] = field(repr=False)
    utterances: tuple[Utterance, ...] = field(repr=False)
    lent: tuple[Utterance, ...] = field(default=(), repr=False)

    @property
    def people(self) -> frozenset[str]:
        """Everybody whose clips are on the phone: its speaker, or several who share it."""
        return frozenset(clip.speaker_id for clip in self.utterances) or frozenset(
            (self.speaker_id,)
        )


def utterances_of(phones: Iterable[Phone]) -> list[Utterance]:
    """All utterances of some phones, phone after phone."""
    return [utterance for phone in phones for utterance in phone.utterances]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The four groups.

    Attributes:
      public: for pre-training, feature constants and the clips that every phone receives.
      validation: public too; the server may base decisions on them.
      federated: phones that train.
      held_out: phones that never train; personalization and evaluation.
      unit: of privacy; "user" if every speaker has at most one phone and is one person.
      unit_note: what a unit that is no user covers, in a sentence; empty for users.
      skipped: speakers left out, with the reason.

    Raises:
      ValueError: if a speaker is in two groups, a phone id repeats, or a speaker has two phones
        and the unit is still called "user".
    """

    public: tuple[Phone, ...]
    validation: tuple[Phone, ...]
    federated: tuple[Phone, ...]
    held_out: tuple[Phone, ...]
    unit: Unit = "user"
    unit_note: str = ""
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        """Checks that no speaker is in two groups."""
        home: dict[str, str] = {}
        phones: set[str] = set()
        for group in GROUPS:
            speakers: set[str] = set()
            for phone in getattr(self, group):
                for person in phone.people:
                    other = home.setdefault(person, group)
                    if other != group:
                        raise ValueError(
                            "a speaker must be in one group only, got speaker "
                            f"{person!r} in {other} and {group}"
                        )
                    if person in speakers and self.unit == "user":
                        raise ValueError(
                            "with unit='user' a speaker has one phone, got two of speaker "
                            f"{person!r} in {group}"
                        )
                if phone.phone_id in phones:
                    raise ValueError(f"phone ids must be unique, got {phone.phone_id!r} twice")
                speakers |= phone.people
                phones.add(phone.phone_id)


@dataclass(frozen=True)
class Heavy:
    """Speakers with at least `min_clips` clips are held-out; the others federate."""

    min_clips: int = 30

    def __str__(self) -> str:
        return f"speakers with {self.min_clips} clips or more are held-out"


@dataclass(frozen=True)
class AllBut:
    """`federated` speakers, drawn by the seed, federate; the rest are held-out."""

    federated: int

    def __str__(self) -> str:
        return f"{self.federated} speakers federate, drawn by the seed, and the rest are held-out"


@dataclass(frozen=True)
class Named:
    """The speakers named are held-out, by a file or by an official test list."""

    speakers: Collection[str]
    by: str = "a file"

    def __str__(self) -> str:
        return f"{len(self.speakers)} speakers are held-out, named by {self.by}"


Rule = Heavy | AllBut | Named


def clips_per_speaker(corpus: Corpus) -> list[int]:
    """Numbers of clips of the speakers of words who have enough for a phone."""
    said = _by_speaker(corpus).values()
    return [len(clips) for clips in said if _speaks(clips) and len(clips) >= MIN_CLIPS]


def default_rule(corpus: Corpus) -> Rule:
    """Returns `Heavy(30)` if it leaves two speakers on both sides, else 60 % federate.

    Where a corpus has both kinds, speakers with few clips train and those with many evaluate.
    """
    counts = clips_per_speaker(corpus)
    heavy = sum(count >= Heavy().min_clips for count in counts)
    if heavy >= 2 and len(counts) - heavy >= 2:
        return Heavy()
    return AllBut(round(0.6 * len(counts)))


def by_group(corpus: Corpus, *, seed: int) -> Partition:
    """Takes the groups from the speaker ids, as the embedded corpus names them: "held_out-000017".

    Raises:
      ValueError: if a speaker id does not begin with a group's name and a hyphen.
    """
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for speaker_id in corpus.speakers:
        group = speaker_id.partition("-")[0]
        if group not in groups:
            raise ValueError(
                f"a speaker id must begin with one of {', '.join(GROUPS)} and a hyphen, "
                f"got {speaker_id!r}"
            )
        groups[group].append(speaker_id)
    return _partition(corpus, _by_speaker(corpus), groups, seed)


def by_speaker(
    corpus: Corpus,
    *,
    seed: int,
    held_out: Rule,
    public: int = 0,
    validation: int = 0,
    min_clips: int = MIN_CLIPS,
    pretraining_speakers: Collection[str] = (),
) -> Partition:
    """Makes each speaker of a real corpus one phone.

    Speakers of nothing but silence (background noise) and pre-training speakers of the base are
    public. Of the others, except those that the rule makes held-out, the seed draws `public` and
    `validation` speakers; the rest federate. Speakers with less than `min_clips` clips are skipped.

    Raises:
      TooFewSpeakers: if no speaker would federate or none would be held-out.
      ValueError: if a number is negative, or `min_clips` is not positive.
    """
    if min(public, validation) < 0 or min_clips < 1:
        raise ValueError(
            "public and validation must not be negative, min_clips positive, got "
            f"public={public}, validation={validation}, min_clips={min_clips}"
        )
    clips = _by_speaker(corpus)
    noise = [name for name, said in clips.items() if said and not _speaks(said)]
    enough = [name for name in clips if name not in noise and len(clips[name]) >= min_clips]
    skipped = tuple(
        Skipped(f"speaker {name}", f"too few clips: {len(said)}, at least {min_clips}")
        for name, said in clips.items()
        if name not in noise and len(said) < min_clips
    )
    # Taken out before the draw: as phones they would be evaluated on a base that has heard them.
    pretraining = [name for name in enough if name in set(pretraining_speakers)]
    enough = [name for name in enough if name not in set(pretraining_speakers)]
    order = sorted(enough)  # the draw does not depend on the order of files
    stream(seed, "speakers").shuffle(order)
    match held_out:
        case Heavy(least):
            away = {name for name in order if len(clips[name]) >= least}
        case AllBut(count):
            away = set(order[public + validation + count :])
        case Named(names):
            away = set(order) & set(names)
    drawn = [name for name in order if name not in away]
    groups = {
        "public": noise + pretraining + drawn[:public],
        "validation": drawn[public : public + validation],
        "federated": drawn[public + validation :],
        "held_out": [name for name in order if name in away],
    }
    _refuse_empty(groups, held_out, clips, enough)
    divided = _partition(corpus, clips, groups, seed)
    if getattr(corpus, "one_id_one_person", True):
        return replace(divided, skipped=skipped)
    return replace(divided, skipped=skipped, unit="phone", unit_note=NO_PEOPLE)


def _refuse_empty(
    groups: Mapping[str, Sequence[str]],
    rule: Rule,
    clips: Mapping[str, Sequence[Utterance]],
    enough: Sequence[str],
) -> None:
    """Refuses a partition without phones that train or without phones for evaluation."""
    empty = [group for group in ("federated", "held_out") if not groups[group]]
    if empty:
        counts = sorted(len(clips[name]) for name in enough)
        spread = f", {counts[0]} to {counts[-1]} clips each" if counts else ""
        raise TooFewSpeakers(
            f"nobody is left in the group {' and '.join(empty)}: {len(enough)} speakers with "
            f"enough clips{spread}; {len(groups['public'])} public, {len(groups['validation'])} "
            f"for validation; {rule}. Fewer public or validation speakers, or another number of "
            "federated ones, leave somebody in every group",
            len(enough),
        )


def with_quantity_skew(
    partition: Partition, *, seed: int, spread: float, min_clips: int = MIN_CLIPS
) -> Partition:
    """Leaves each federated phone a share exp(-|N(0, spread^2)|) of its clips, `min_clips` or more.

    Raises:
      ValueError: if the spread is negative or not finite.
    """
    if not 0 <= spread < float("inf"):
        raise ValueError(f"spread must be finite and not negative, got spread={spread}")
    thinned = []
    for phone in partition.federated:
        rng = stream(seed, "quantity", phone.phone_id)
        share = float(np.exp(-abs(rng.normal(0.0, spread))))
        count = len(phone.utterances)
        kept = rng.permutation(count)[: max(min_clips, round(share * count))]
        clips = tuple(phone.utterances[index] for index in sorted(kept))
        thinned.append(replace(phone, utterances=clips))
    return replace(partition, federated=tuple(thinned))


def with_devices(
    partition: Partition, corpus: Corpus, devices_per_speaker: int, seed: int
) -> tuple[Partition, DeviceCorpus]:
    """Gives every speaker several simulated phones: a large population from real speakers.

    Each phone has all of its speaker's clips, recorded again on its own device (`audio.channel`).
    Public speakers stay as they are. All phones of a speaker stay in the speaker's group, but
    the guarantee now covers one phone, not the person: the unit becomes "phone".

    Returns:
      The larger partition, and the corpus of its utterances.

    Raises:
      ValueError: if devices_per_speaker < 1, or speakers have several phones already.
    """
    names = [phone.speaker_id for group in GROUPS for phone in getattr(partition, group)]
    if devices_per_speaker < 1 or len(set(names)) < len(names):
        raise ValueError(
            "expected at least one device per speaker and one phone per speaker so far, got "
            f"devices_per_speaker={devices_per_speaker}, {len(names) - len(set(names))} speakers "
            "with several phones"
        )
    variants: dict[str, Variant] = {}

    def multiply(phones: tuple[Phone, ...]) -> tuple[Phone, ...]:
        return in_order(
            on_device(phone, number) for phone in phones for number in range(devices_per_speaker)
        )

    def on_device(phone: Phone, number: int) -> Phone:
        device = draw_device(stream(seed, "device", phone.speaker_id, number))
        rng = stream(seed, "device noise", phone.speaker_id, number)
        clips = []
        for original in phone.utterances:
            clip = replace(original, utterance_id=f"{original.utterance_id}@{number}")
            noise_seed = int(rng.integers(2**63))
            variants[clip.utterance_id] = Variant(clip, original, device, noise_seed)
            clips.append(clip)
        return Phone(
            pseudonym(seed, phone.speaker_id, number),
            phone.speaker_id,
            {**phone.segments, "device": device.kind, "noise": device.noise_level},
            tuple(clips),
        )

    larger = replace(
        partition,
        validation=multiply(partition.validation),
        federated=multiply(partition.federated),
        held_out=multiply(partition.held_out),
        unit="phone",
        unit_note=joined_notes(
            partition.unit_note,
            f"each speaker has {devices_per_speaker} simulated phones: the privacy unit is one of "
            f"them, and a person on all of them is protected by {devices_per_speaker} times the "
            "epsilon",
        )
        if devices_per_speaker > 1
        else partition.unit_note,
    )
    return larger, DeviceCorpus(corpus, variants)


def _by_speaker(corpus: Corpus) -> dict[str, list[Utterance]]:
    """Clips by speaker; empty for a speaker without clips."""
    clips: dict[str, list[Utterance]] = {name: [] for name in corpus.speakers}
    for utterance in corpus.utterances:
        clips[utterance.speaker_id].append(utterance)
    return clips


def _speaks(clips: Sequence[Utterance]) -> bool:
    return any(clip.word != SILENCE for clip in clips)


def _partition(
    corpus: Corpus,
    clips: Mapping[str, Sequence[Utterance]],
    groups: Mapping[str, Iterable[str]],
    seed: int,
) -> Partition:
    """Makes each named speaker one phone of its group."""

    def phone(name: str) -> Phone:
        segments = corpus.speakers[name].segments
        return Phone(pseudonym(seed, name, 0), name, segments, tuple(clips[name]))

    public, validation, federated, held_out = (
        in_order(map(phone, groups[group])) for group in GROUPS
    )
    return Partition(public=public, validation=validation, federated=federated, held_out=held_out)


def joined_notes(*notes: str) -> str:
    """Joins what is said about a unit; empty parts fall away."""
    return "; ".join(filter(None, notes))


def in_order(phones: Iterable[Phone]) -> tuple[Phone, ...]:
    """Sorts by pseudonym: the order says nothing about the speakers."""
    return tuple(sorted(phones, key=lambda phone: phone.phone_id))


def pseudonym(seed: int, speaker_id: str, number: int) -> str:
    """Names a phone by 64 bits of a hash. It hides nothing from who can list the speakers."""
    digest = hashlib.sha256(canonical("fedspeech phone", seed, speaker_id, number))
    return f"phone-{digest.hexdigest()[:16]}"
