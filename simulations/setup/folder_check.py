"""What a folder of recordings is good for, and how `real-commands` would divide its speakers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import SPEECH_RMS, speech_rms
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, SkippedGroup, Utterance, group_skipped
from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.corpora.manifest import ManifestCorpus
from fedspeech.corpora.noise import NoiseCorpus
from fedspeech.corpora.recorded import RecordedCorpus
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.synthesis.lexicon import PRONUNCIATIONS
from fedspeech.tasks.kws import word_roles
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.reading import read_scenario
from simulations.setup.experiment import sizes_of_speakers
from simulations.setup.planning import nearest_accepted, options, plan_of
from simulations.setup.recordings import applied, split_speakers, unseen_rule

_BRACKETS = ((30, None), (10, 29), (2, 9), (1, 1))  # clips per speaker, most first
LOWEST_LEVEL_DB = -30.0
"""Of speech from nominal: the lowest that bases are trained on (docs/real-speech.md)."""

_LEVEL_CLIPS = 500


@dataclass(frozen=True, kw_only=True)
class Split:
    """How `real-commands` would divide a folder if the scenario says nothing of it.

    Attributes:
      rule: how it would choose the unseen speakers, in words.
      public, validation, federated, unseen: how many speakers, or phones, that gives.
      targets: the words that the model would know.
      non_words: what the words are that judge false accepts, in words.
      options: of the command line that the privacy rules ask of so few phones; mostly "".
    """

    rule: str
    public: int
    validation: int
    federated: int
    unseen: int
    targets: tuple[str, ...]
    non_words: str
    options: str


@dataclass(frozen=True, kw_only=True)
class FolderCheck:
    """What a folder of recordings is good for.

    Attributes:
      folder: where it is.
      layout: how it is arranged.
      licence: what its licence file says.
      clips: usable recordings, silence included.
      speakers: speakers of words.
      hours: length of the usable recordings.
      words: word to number of clips, most frequent first, without silence.
      silence: clips of silence.
      clips_per_speaker: (least, most or None, number of speakers) of each bracket.
      rates_hz: sample rate to recordings.
      downmixed, padded, cut: recordings that were stereo, shorter, longer than a clip.
      canceled: stereo recordings whose channels cancel each other, so that one was taken.
      level_db: root mean square of speech while it lasts, relative to nominal, of the median clip
        and of the quietest tenth; None without words.
      quiet: share of the clips that lie too low to be heard well.
      merged: ways to write one speaker's name, of those with several.
      alike: different speakers whose names differ by punctuation alone.
      segments: segment to number of its values.
      unused_columns: columns that change within a speaker.
      skipped: recordings and speakers left out, by reason, most frequent first.
      lexicon_lacks: words that the synthesizer cannot say without being told how.
      split: how `real-commands` would divide it; None if it cannot.
      obstacle: why `real-commands` cannot run on it, or None if it can.
    """

    folder: Path
    layout: str
    licence: str
    clips: int
    speakers: int
    hours: float
    words: tuple[tuple[str, int], ...]
    silence: int
    clips_per_speaker: tuple[tuple[int, int | None, int], ...]
    rates_hz: tuple[tuple[int, int], ...]
    downmixed: int
    canceled: int
    padded: int
    cut: int
    segments: tuple[tuple[str, int], ...]
    unused_columns: tuple[str, ...]
    level_db: tuple[float, float] | None
    quiet: float
    merged: tuple[tuple[str, ...], ...]
    alike: tuple[tuple[str, ...], ...]
    skipped: tuple[SkippedGroup, ...]
    lexicon_lacks: tuple[str, ...]
    split: Split | None
    obstacle: str | None


def check_folder(folder: Path, spec: FrontendSpec | None = None) -> FolderCheck:
    """Decodes every recording of a folder and says what it could be used for.

    Args:
      folder: a corpus of speakers, or a folder of noise.
      spec: sample rate and length of clips; `FrontendSpec()` if None.

    Raises:
      CorpusError: if the folder has no known layout, its manifest must be corrected, or nothing
        in it is usable.
    """
    corpus: RecordedCorpus
    noise = layout_of(folder) == "noise"
    corpus = NoiseCorpus(folder, spec) if noise else open_corpus(folder, spec)
    spoken = [utterance for utterance in corpus.utterances if utterance.word != SILENCE]
    words = Counter(utterance.word for utterance in spoken)
    counts = Counter(utterance.speaker_id for utterance in spoken)
    skipped = list(corpus.skipped)
    levels = _levels_db(corpus, spoken)
    split, obstacle = None, _obstacle(len(counts), len(words))
    if obstacle is None:
        settings = FolderCorpus(path=str(folder))
        try:
            partition = split_speakers(corpus, settings, seed=0)
            roles = word_roles(partition.unseen, (), seed=0)
            partition = applied(roles, partition)
            split = Split(
                rule=str(unseen_rule(corpus, settings)),
                public=sum(phone.speaker_id in counts for phone in partition.public),
                validation=len(partition.validation),
                federated=len(partition.federated),
                unseen=len(partition.unseen),
                targets=roles.targets,
                non_words=roles.words,
                options=_asked_for(settings, len(partition.federated), roles.targets),
            )
            skipped += partition.skipped
        except (CorpusError, ScenarioError) as problem:
            obstacle = str(problem)
    return FolderCheck(
        folder=folder,
        layout=corpus.layout,
        licence=corpus.licence,
        clips=len(corpus.utterances),
        speakers=len(counts),
        hours=corpus.tally.seconds / 3600,
        words=tuple(words.most_common()),
        silence=len(corpus.utterances) - len(spoken),
        clips_per_speaker=tuple(
            (least, most, sum(least <= n <= (most or n) for n in counts.values()))
            for least, most in _BRACKETS
        ),
        rates_hz=tuple(sorted(corpus.tally.rates_hz.items())),
        downmixed=corpus.tally.downmixed,
        canceled=corpus.tally.canceled,
        level_db=None if not len(levels) else (np.median(levels), np.quantile(levels, 0.1)),
        quiet=float((levels < LOWEST_LEVEL_DB).mean()) if len(levels) else 0.0,
        merged=tuple(corpus.persons.merged.values()),
        alike=corpus.persons.alike,
        padded=corpus.tally.padded,
        cut=corpus.tally.cut,
        segments=_segments(corpus),
        unused_columns=corpus.unused_columns if isinstance(corpus, ManifestCorpus) else (),
        skipped=group_skipped(skipped),
        lexicon_lacks=tuple(sorted(set(words) - set(PRONUNCIATIONS))),
        split=split,
        obstacle=obstacle,
    )


def _asked_for(settings: FolderCorpus, phones: int, targets: Sequence[str]) -> str:
    """Options with which the privacy rules accept so many phones; empty if they do without.

    Raises:
      ScenarioError: if they accept them with none.
    """
    scenario = read_scenario("real-commands", [f"corpus.path={json.dumps(settings.path)}"])
    sizes = sizes_of_speakers(scenario, phones, len(targets))
    changes = nearest_accepted(scenario.privacy, sizes)
    if changes is None:
        plan_of(scenario.privacy, sizes)
    return options(changes or {})


def _levels_db(corpus: RecordedCorpus, spoken: Sequence[Utterance]) -> NDArray[np.float64]:
    """Levels of speech relative to nominal, of at most `_LEVEL_CLIPS` clips."""
    chosen = spoken[:: -(-len(spoken) // _LEVEL_CLIPS) or 1]
    found = [speech_rms(corpus.waveforms([clip])[0]) for clip in chosen]
    return 20 * np.log10(np.maximum(found, 1e-9) / SPEECH_RMS)


def _obstacle(speakers: int, words: int) -> str | None:
    """Says what is missing for `real-commands`, if anything is."""
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
