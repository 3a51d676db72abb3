"""The check of a folder of recordings: its contents, and its division by `real-commands`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import SPEECH_RMS, speech_rms
from fedspeech.corpora.corpus import SILENCE, Skipped, Utterance, group_skipped
from fedspeech.corpora.layouts import layout_of, list_folder, open_corpus
from fedspeech.corpora.noise import NoiseCorpus
from fedspeech.corpora.recorded import RecordedCorpus
from fedspeech.corpora.records import MAX_UNUSABLE_SHARE, Row
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.synthesis.lexicon import PRONUNCIATIONS
from fedspeech.tasks.kws import word_roles
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.reading import read_scenario
from simulations.setup.bases import layout_of as layout_of_base
from simulations.setup.definition import sizes_of_speakers
from simulations.setup.planning import nearest_accepted, plan_of
from simulations.setup.recordings import held_out_rule, split_speakers, usable

_BRACKETS = ((30, None), (10, 29), (2, 9), (1, 1))  # clips per speaker, most first
LOWEST_LEVEL_DB = -30.0
"""Of speech from nominal: the lowest that bases are trained on (docs/real-speech.md)."""

SENTENCES = "asr-an4"
"""The shipped scenario that reads transcribed sentences."""

_LEVEL_CLIPS = 500


@dataclass(frozen=True, kw_only=True)
class Split:
    """How `real-commands` would divide a folder by default.

    Attributes:
      rule: the choice of the held-out speakers, in words.
      public, validation, federated, held-out: numbers of speakers, or phones.
      non_words: the words on which false accepts are evaluated, in words.
      options: of the command line, without which the privacy rules refuse so few phones.
    """

    rule: str
    public: int
    validation: int
    federated: int
    held_out: int
    targets: tuple[str, ...]
    non_words: str
    options: str


@dataclass(frozen=True, kw_only=True)
class FolderCheck:
    """The contents of a folder of recordings, and its use for `real-commands`.

    Attributes:
      sentences: number of transcribed sentences; 0 in a corpus of single words.
      words: word to number of times it is said, most frequent first, without silence.
      clips_per_speaker: (least, most or None, number of speakers) of each bracket.
      speakers: speakers of words.
      level_db: root mean square of speech while it lasts, relative to nominal, of the median clip
        and of the quietest tenth; None without words.
      quiet: share of the clips below the levels that bases are trained on.
      segments: segment to number of its values.
      skipped: recordings and speakers left out, by rule, most frequent first.
      lexicon_lacks: words without a pronunciation in the lexicon.
      split: the division of `real-commands`; None if it cannot run on the folder.
      obstacle: why it cannot, or None.
    """

    folder: Path
    corpus: RecordedCorpus
    sentences: int
    words: tuple[tuple[str, int], ...]
    clips_per_speaker: tuple[tuple[int, int | None, int], ...]
    speakers: int
    level_db: tuple[float, float] | None
    quiet: float
    segments: tuple[tuple[str, int], ...]
    skipped: Mapping[str, Sequence[Skipped]]
    lexicon_lacks: tuple[str, ...]
    split: Split | None
    obstacle: str | None

    @property
    def silence(self) -> int:
        """Clips without words."""
        return sum(clip.word == SILENCE for clip in self.corpus.utterances)


def check_folder(folder: Path, max_unusable_share: float = MAX_UNUSABLE_SHARE) -> FolderCheck:
    """Decodes every recording of a folder of speakers or of noise.

    Where most rows are more than one word, they are read as sentences.

    Raises:
      CorpusError: if the folder has no known layout, its manifest must be corrected, or nothing
        in it is usable.
    """
    corpus = _opened(folder, max_unusable_share)
    spoken = [utterance for utterance in corpus.utterances if utterance.word != SILENCE]
    words = Counter(word for utterance in spoken for word in utterance.word.split())
    counts = Counter(utterance.speaker_id for utterance in spoken)
    skipped = list(corpus.skipped)
    levels = _levels_db(corpus, spoken)
    split, obstacle = None, _obstacle(corpus, len(counts), len(words))
    if obstacle is None:
        try:
            split, left_out = _split(corpus, folder, counts)
            skipped += left_out
        except (CorpusError, ScenarioError) as problem:
            obstacle = str(problem)
    return FolderCheck(
        folder=folder,
        sentences=len(spoken) if corpus.sentences else 0,
        corpus=corpus,
        words=tuple(words.most_common()),
        clips_per_speaker=tuple(
            (least, most, sum(least <= n <= (most or n) for n in counts.values()))
            for least, most in _BRACKETS
        ),
        speakers=len(counts),
        level_db=None if not len(levels) else (np.median(levels), np.quantile(levels, 0.1)),
        quiet=float((levels < LOWEST_LEVEL_DB).mean()) if len(levels) else 0.0,
        segments=_segments(corpus),
        skipped=group_skipped(skipped),
        lexicon_lacks=tuple(sorted(set(words) - set(PRONUNCIATIONS))),
        split=split,
        obstacle=obstacle,
    )


def _split(
    corpus: RecordedCorpus, folder: Path, speakers: Collection[str]
) -> tuple[Split, Sequence[Skipped]]:
    """Divides speakers as `real-commands` would; also returns the speakers left out.

    Raises:
      CorpusError or ScenarioError: if it would refuse the folder.
    """
    settings = FolderCorpus(path=str(folder))
    partition = split_speakers(corpus, settings, seed=0)
    roles = word_roles(partition.held_out, (), seed=0)
    partition = usable(roles, partition)
    split = Split(
        rule=str(held_out_rule(corpus, settings)),
        public=sum(phone.speaker_id in speakers for phone in partition.public),
        validation=len(partition.validation),
        federated=len(partition.federated),
        held_out=len(partition.held_out),
        targets=roles.targets,
        non_words=roles.words,
        options=_asked_for(settings, len(partition.federated), roles.targets),
    )
    return split, partition.skipped


def _asked_for(settings: FolderCorpus, phones: int, targets: Sequence[str]) -> str:
    """Options with which the privacy rules accept so many phones; empty if none are needed.

    Raises:
      ScenarioError: if no options nearby make the rules accept them.
    """
    scenario = read_scenario("real-commands", [f"corpus.path={json.dumps(settings.path)}"])
    sizes = sizes_of_speakers(scenario, phones, len(targets), layout_of_base(scenario))
    changes = nearest_accepted(scenario.privacy, sizes)
    if changes is None:
        plan_of(scenario.privacy, sizes)
    return " ".join(f"--set privacy.{name}={value:g}" for name, value in (changes or {}).items())


def _levels_db(corpus: RecordedCorpus, spoken: Sequence[Utterance]) -> NDArray[np.float64]:
    """Levels of speech relative to nominal, of at most `_LEVEL_CLIPS` clips."""
    # Evenly over all clips, since the first ones may be of one speaker.
    chosen = spoken[:: -(-len(spoken) // _LEVEL_CLIPS) or 1]
    found = [speech_rms(corpus.waveforms([clip])[0]) for clip in chosen]
    # Digital silence has no level in decibels; 1e-9 stands for it, far below all speech.
    return 20 * np.log10(np.maximum(found, 1e-9) / SPEECH_RMS)


def _opened(folder: Path, max_unusable_share: float) -> RecordedCorpus:
    """The corpus of a folder: noise, single words, or sentences."""
    if layout_of(folder) == "noise":
        return NoiseCorpus(folder)
    rows = list_folder(folder).rows
    if 2 * sum(map(_is_sentence, rows)) <= len(rows):
        return open_corpus(folder, max_unusable_share=max_unusable_share)
    base = layout_of_base(read_scenario(SENTENCES, ["corpus.path='x'"]))
    spec = base.built_in.frontend
    return open_corpus(folder, spec, sentences=True, max_unusable_share=max_unusable_share)


def _is_sentence(row: Row) -> bool:
    return len(row.said.split()) > 1


def _obstacle(corpus: RecordedCorpus, speakers: int, words: int) -> str | None:
    """What `real-commands` needs and the folder lacks, or None."""
    if corpus.sentences:
        return "these are sentences, and it takes single words"
    if not words:
        return "nobody speaks in it: it can only be the noise of another corpus"
    if speakers < 2:
        return f"it needs 2 speakers, one to learn from and one to judge by, and has {speakers}"
    if words < 2:
        return f"it needs 2 different words and has {words}"
    return None


def _segments(corpus: RecordedCorpus) -> tuple[tuple[str, int], ...]:
    """Counts the values of every segment."""
    values: dict[str, set[str]] = {}
    for speaker in corpus.speakers.values():
        for name, value in speaker.segments.items():
            values.setdefault(name, set()).add(value)
    return tuple((name, len(found)) for name, found in values.items())
