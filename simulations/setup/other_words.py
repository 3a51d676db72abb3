"""Recorded words that are no targets, said by other people than the phones.

A corpus whose every word is a target says nothing of false accepts. So another one lends its
words: each of its speakers has one role, to be public (half train, half guard thresholds), to
validate or to judge. A held-out phone is judged on its own target words, and on a draw of what the
judging speakers say and of rooms without speech.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedspeech.corpora.corpus import SILENCE, UNKNOWN, Corpus, Utterance
from fedspeech.corpora.joined import JoinedCorpus
from fedspeech.corpora.layouts import open_corpus
from fedspeech.corpora.partition import Phone
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.errors import CorpusError
from fedspeech.seeds import stream
from fedspeech.tasks.kws import WordRoles

SHARES = {"public": 0.55, "validation": 0.15, "judging": 0.3}
LEAST_SPEAKERS = 4  # two of them public
UNKNOWN_SHARE, SILENCE_SHARE = 0.25, 0.125  # of the clips of a held-out phone, in addition
LEAST_UNKNOWN, LEAST_SILENCE = 8, 4
_ROOMS, _CLIPS_PER_ROOM = 12, 6


@dataclass(frozen=True, kw_only=True)
class OtherWords:
    """Speakers of other words by role.

    Attributes:
      corpus: their recordings, and rooms.
      public: those whose clips ship to phones.
      validation: those by whom the server decides.
      judging: their clips, and clips without speech.
    """

    corpus: Corpus
    public: tuple[Phone, ...]
    validation: tuple[Phone, ...]
    judging: tuple[Utterance, ...]

    @property
    def words(self) -> frozenset[str]:
        """The words that judge."""
        return frozenset(clip.word for clip in self.judging) - {SILENCE}

    def roles(self, roles: WordRoles) -> WordRoles:
        """What each word may be used for, these included."""
        evaluation = (roles.evaluation or frozenset()) | self.words
        return dataclasses.replace(roles, evaluation=evaluation, borrowed=True)

    def heard_by(self, phone: Phone, seed: int) -> Phone:
        """A held-out phone with other words and silence to be judged on."""
        unknown = [clip for clip in self.judging if clip.word != SILENCE]
        silence = [clip for clip in self.judging if clip.word == SILENCE]
        clips = len(phone.utterances)
        rng = stream(seed, "other words heard", phone.phone_id)
        drawn: list[Utterance] = []
        for kind, share, least in (
            (unknown, UNKNOWN_SHARE, LEAST_UNKNOWN), (silence, SILENCE_SHARE, LEAST_SILENCE),
        ):  # fmt: skip
            count = min(len(kind), max(least, round(share * clips)))
            drawn += [kind[index] for index in rng.permutation(len(kind))[:count]]
        return dataclasses.replace(phone, lent=tuple(drawn))


def open_other_words(path: Path, targets: Collection[str], seed: int) -> OtherWords:
    """Opens a folder and deals its speakers.

    Raises:
      CorpusError: if it cannot be read or has fewer speakers of other words than roles.
    """
    recorded = open_corpus(path)
    said: dict[str, list[Utterance]] = {}
    for clip in recorded.utterances:
        if clip.word not in targets and clip.word not in (SILENCE, UNKNOWN):
            said.setdefault(clip.speaker_id, []).append(clip)
    names = sorted(said)
    if len(names) < LEAST_SPEAKERS:
        raise CorpusError(
            f"corpus.other_words: {path} must have at least {LEAST_SPEAKERS} speakers of words "
            f"that are no targets, for each role ({', '.join(SHARES)}), got {len(names)}"
        )
    stream(seed, "speakers of other words").shuffle(names)
    groups = dict(zip(SHARES, _dealt(names), strict=True))
    rooms = SyntheticCorpus(
        SyntheticSpec(
            seed=seed,
            groups=(
                SpeakerGroup(
                    name="rooms", num_speakers=_ROOMS, words=(), utterances_per_word=0,
                    num_silence=_CLIPS_PER_ROOM,
                ),
            ),
        )
    )  # fmt: skip
    phones = {
        role: tuple(Phone(f"{role}-{name}", name, {}, tuple(said[name])) for name in members)
        for role, members in groups.items()
    }
    judging = [clip for phone in phones["judging"] for clip in phone.utterances]
    return OtherWords(
        corpus=JoinedCorpus(recorded, rooms),
        public=phones["public"],
        validation=phones["validation"],
        judging=(*judging, *rooms.utterances),
    )


def _dealt(names: Sequence[str]) -> list[Sequence[str]]:
    """Cuts shuffled names into one part a role, none empty."""
    spare = len(names) - len(SHARES)
    parts, first, share = [], 0, 0.0
    for place, own in enumerate(SHARES.values(), start=1):
        share += own
        last = place + round(share * spare)
        parts.append(names[first:last])
        first = last
    return parts
