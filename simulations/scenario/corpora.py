"""The five kinds of corpus that a scenario may name."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from fedspeech.corpora.records import MAX_UNUSABLE_SHARE
from fedspeech.limits import Count, NotNegative, Positive, Share, WholeNumber
from simulations.scenario.sections import Section

MOST_SPOKEN = 100_000  # phones whose every utterance is synthesized before the first round


UnusableShare = Annotated[
    Share,
    Field(
        description="Share of the rows of the corpus's table that may lack a cell, be unreadable "
        "or repeat an id; above it the table is refused. Missing and damaged recordings do not "
        "count: they are left out and named."
    ),
]


class _Synthetic(Section):
    """Phones whose speech is synthesized."""

    kind: str
    federated_phones: Count = Field(default=3000, description="Number of phones that train.")
    held_out_phones: Count = Field(
        default=60,
        description="Number of phones that never train, on which personalization is evaluated.",
    )
    validation_speakers: Count = Field(
        default=24, description="Number of public speakers that the server may decide on."
    )
    new_accent_share: Share = Field(
        default=0.8,
        description="Share of federated and held-out phones whose accent is not in the "
        "pre-training data of the base.",
    )


class EmbeddedCorpus(_Synthetic):
    """Synthetic words, spoken on demand by synthetic speakers."""

    kind: Literal["embedded"] = Field(default="embedded", description="The synthesizer's words.")
    voices: Count | None = Field(
        default=None,
        description="Number of distinct voices. Each speaks twice the utterances of one phone; a "
        "phone is one of them with a random half of its utterances, and the unit of privacy is "
        "the phone. Not set: each phone has a voice of its own.",
    )
    utterances_per_phone: Count = Field(
        default=10,
        description="Mean number of training utterances of target words per federated phone.",
    )
    unknown_per_phone: WholeNumber = Field(
        default=4, description="Number of utterances of other words per federated phone."
    )
    near_misses_per_phone: WholeNumber = Field(
        default=0,
        description="Number of utterances per federated phone that almost are a target word, by "
        "phoneme distance. The phone keeps those at which the base would wake, as other words: "
        "its user cancels what it does then, and so labels them.",
    )
    silence_per_phone: WholeNumber = Field(
        default=1, description="Number of utterances without speech per federated phone."
    )
    quantity_skew: NotNegative = Field(
        default=0.4,
        description="Standard deviation of the natural logarithm of the number of target "
        "utterances over federated phones; 0: the same number on all.",
    )
    utterances_per_word: Annotated[int, Field(ge=2)] = Field(
        default=8, description="Number of utterances per target word of a held-out phone."
    )

    @model_validator(mode="after")
    def _can_be_spoken(self) -> Self:
        if self.voices is None and self.federated_phones > MOST_SPOKEN:
            raise ValueError(
                f"above {MOST_SPOKEN:,} federated_phones set voices, the number of voices from "
                f"which they are drawn, got federated_phones={self.federated_phones}"
            )
        if self.voices is not None and self.voices > self.federated_phones:
            raise ValueError(
                f"voices must be at most federated_phones={self.federated_phones}, "
                f"got voices={self.voices}"
            )
        return self


class DividedSpeakers(Section):
    """Recorded words whose speakers are divided by rule and seed."""

    kind: str
    federated_speakers: Count | None = Field(
        default=None,
        description="Number of speakers, drawn by the seed, who federate; whoever is neither "
        "public nor validation is held out. Not set: speakers with at least 30 utterances are held "
        "out if the corpus has both kinds, else 30 % of the speakers (40 % if nobody is public).",
    )
    held_out_speakers: str | None = Field(
        default=None,
        description="File with the names of the held-out speakers, one a line, such as an "
        "official test list.",
    )
    public_speakers: WholeNumber | None = Field(
        default=None,
        description="Number of public speakers, drawn by the seed: other words of some are "
        "training negatives on every phone, those of the others are guard negatives. Not set: "
        "15 % of the speakers with fewer than 30 utterances; none in a corpus of fewer than 20.",
    )
    validation_speakers: WholeNumber | None = Field(
        default=None,
        description="Number of public speakers by whom the released stage is chosen. Not set: "
        "10 %, likewise.",
    )
    official_split: bool = Field(
        default=True,
        description="Whether the testing speakers of the corpus's published lists are held out and "
        "its validation speakers are the validation speakers, where it has such lists and neither "
        "held_out_speakers nor federated_speakers is set.",
    )
    phones_by: Literal["speaker", "device", "dirichlet", "pathological"] = Field(
        default="speaker",
        description='What a phone is: a "speaker"; a recorded "device" (a column of that name); '
        "or, for comparison with papers, one of mixed_phones phones onto which the clips of "
        'federated speakers are mixed, by a Dirichlet draw over words ("dirichlet") or with '
        'words_per_phone words each ("pathological"). But for "speaker" the unit of privacy is the '
        "phone, and for the last two no figure covers a person.",
    )
    mixed_phones: Count | None = Field(
        default=None,
        description="Number of phones onto which clips are mixed. Not set: as many as federated "
        "speakers.",
    )
    dirichlet_alpha: Positive = Field(
        default=0.5,
        description="Concentration of the Dirichlet draw: 100 is nearly even, 0.1 leaves a phone "
        "one or two words.",
    )
    words_per_phone: Count = Field(
        default=2, description='Number of words on a phone where phones_by is "pathological".'
    )
    devices_per_speaker: Count = Field(
        default=1,
        description="Number of simulated devices per speaker; above 1 the unit of privacy is the "
        "phone.",
    )
    quantity_skew: NotNegative = Field(
        default=0.0,
        description="Standard deviation of the natural logarithm of the share of its utterances "
        "that a federated phone keeps; 0: all of them.",
    )
    noise: str | None = Field(
        default=None,
        description="Folder of background noise for the silence label. Not set: the synthesizer's "
        "rooms.",
    )
    other_words: str | None = Field(
        default=None,
        description="Folder of recorded words, said by other people, of which those that are no "
        "targets are unknown: its speakers train, guard, validate and judge, each one of these. "
        "Not set: unknown words are those of this corpus that are no targets.",
    )

    @model_validator(mode="after")
    def _one_kind_of_phone(self) -> Self:
        if self.devices_per_speaker > 1 and self.phones_by != "speaker":
            raise ValueError(
                "devices_per_speaker simulates phones of a speaker and needs "
                f'phones_by = "speaker", got "{self.phones_by}"'
            )
        return self


class FolderCorpus(DividedSpeakers):
    """Recorded words in a folder, in any layout (docs/own-data.md)."""

    kind: Literal["folder"] = Field(default="folder", description="Recorded words.")
    path: str = Field(description="Folder of the recordings.")
    max_unusable_share: UnusableShare = MAX_UNUSABLE_SHARE


class SentenceCorpus(_Synthetic):
    """Synthetic sentences: digits, codes, commands, names of each phone's own contacts."""

    kind: Literal["sentences"] = Field(
        default="sentences", description="The synthesizer's sentences."
    )
    sentences_per_phone: Count = Field(
        default=4, description="Number of training sentences of a federated phone."
    )
    sentences_per_held_out_phone: Annotated[int, Field(ge=3)] = Field(
        default=24,
        description="Number of sentences of a held-out phone, those it adapts on included.",
    )
    contacts: Annotated[int, Field(ge=2, le=60)] = Field(
        default=12,
        description="Number of names in the contextual biasing list of a phone; half of all names "
        "are not in the pre-training data.",
    )


class JoinedSentences(Section):
    """Sentences joined from the recorded words of one speaker each, in one room each."""

    kind: Literal["joined"] = Field(
        default="joined", description="Sentences joined from recorded words."
    )
    path: str = Field(description="Folder of recorded words.")
    max_unusable_share: UnusableShare = MAX_UNUSABLE_SHARE
    public_speakers: Count = Field(
        default=40,
        description="Number of speakers, drawn by the seed, on whom the base is trained further.",
    )
    validation_speakers: Count = Field(
        default=10,
        description="Number of speakers, drawn by the seed, that the server may decide on.",
    )
    federated_speakers: Count = Field(
        default=100,
        description="Number of speakers, drawn by the seed, who federate; the rest is held out.",
    )
    words_per_sentence: tuple[Count, Count] = Field(
        default=(2, 4), description="Smallest and largest number of words in a sentence."
    )
    sentences_per_speaker: Count = Field(
        default=12,
        description="Largest number of sentences of a speaker, if the recordings suffice.",
    )


class TranscribedCorpus(Section):
    """Recorded sentences with transcripts: sound, or features of the base's own front end."""

    kind: Literal["transcribed"] = Field(default="transcribed", description="Recorded sentences.")
    path: str = Field(
        description="Folder of transcribed recordings in any layout, or of features with a "
        "manifest."
    )
    max_unusable_share: UnusableShare = MAX_UNUSABLE_SHARE
    public_speakers: Count = Field(
        default=24,
        description="Number of speakers, drawn by the seed, on whom the base is trained further.",
    )
    validation_speakers: Count = Field(
        default=6,
        description="Number of speakers, drawn by the seed, that the server may decide on.",
    )
    federated_speakers: Count = Field(
        default=28,
        description="Number of speakers, drawn by the seed, who federate; the rest is held out.",
    )


class ProvidedCorpus(DividedSpeakers):
    """Speech in the memory of a Python program, which hands it over as an `Experiment`."""

    kind: Literal["provided"] = Field(default="provided", description="No file says what it is.")


AnyCorpus = (
    EmbeddedCorpus
    | FolderCorpus
    | SentenceCorpus
    | JoinedSentences
    | TranscribedCorpus
    | ProvidedCorpus
)
CORPORA: dict[str, type[Section]] = {
    corpus.model_fields["kind"].default: corpus for corpus in get_args(AnyCorpus)
}
