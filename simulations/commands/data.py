"""`fedspeech data list` and `fedspeech data check DIR`: what there is to hear, what it is good for.

check = check_folder(Path("recordings"))
render_check(check, Console())
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import SPEECH_RMS, speech_rms
from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Skipped, Utterance
from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.corpora.manifest import EXAMPLE, ManifestCorpus
from fedspeech.corpora.noise import NoiseCorpus
from fedspeech.corpora.recorded import RecordedCorpus
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.synthesis.lexicon import COMMAND_WORDS, PRONUNCIATIONS
from simulations.console import Console
from simulations.scenario.schema import FolderCorpus, read_scenario
from simulations.setup.experiment import sizes_of_speakers
from simulations.setup.planning import nearest_accepted, options, plan_of
from simulations.setup.recordings import applied, split_speakers, unseen_rule, word_roles

_BRACKETS = ((30, None), (10, 29), (2, 9), (1, 1))  # clips per speaker, most first
_FEW_PHONES = 1_000
_SHOWN = 5  # names of one kind
LOWEST_LEVEL_DB = -30.0
"""Of speech from nominal: the lowest that bases are trained on (docs/real-speech.md)."""

_LEVEL_CLIPS = 500


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus that fedspeech reads, and where its recordings are to be had."""

    name: str
    licence: str
    size: str
    layout: str
    source: str


KNOWN = (
    KnownCorpus(
        "embedded",
        "Apache-2.0, as fedspeech",
        f"unlimited speakers, {len(PRONUNCIATIONS)} words and any you spell",
        "none: synthesized on demand",
        "nothing to fetch; the default of every scenario without --corpus",
    ),
    KnownCorpus(
        "Speech Commands v0.02",
        "CC BY 4.0",
        f"105,829 clips, 2,618 speakers, {len(COMMAND_WORDS)} words, 16 kHz, 2.4 GB packed",
        "Speech Commands",
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    ),
    KnownCorpus(
        "Speech Commands v0.01",
        "CC BY 4.0",
        "64,727 clips, 1,881 speakers, 30 words, 16 kHz, 1.5 GB packed",
        "Speech Commands",
        "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
    ),
    KnownCorpus(
        "AudioMNIST",
        "MIT",
        "30,000 clips, 60 speakers, 10 digits, 48 kHz",
        "manifest (write one: data/01/0_01_0.wav is digit_speaker_take)",
        "https://github.com/soerenab/AudioMNIST",
    ),
    KnownCorpus(
        "Free Spoken Digit Dataset",
        "CC BY-SA 4.0 (share alike)",
        "3,000 clips, 6 speakers, 10 digits, 8 kHz",
        "manifest (write one: recordings/0_george_0.wav is digit_speaker_take)",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
    ),
    KnownCorpus(
        "your own recordings",
        "yours",
        "from 6 speakers with a few clips per word",
        "manifest",
        f"a folder with manifest.csv: {EXAMPLE[0]} / {EXAMPLE[1]}",
    ),
)
"""What `fedspeech data list` shows. Sizes as published (Warden 2018, arXiv:1804.03209; READMEs)."""


@dataclass(frozen=True)
class SkippedGroup:
    """Recordings left out for one reason.

    Attributes:
      rule: the reason without its details.
      count: how many.
      examples: the first three, with details.
    """

    rule: str
    count: int
    examples: tuple[Skipped, ...]


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
    sizes = sizes_of_speakers(scenario, phones, targets)
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


def group_skipped(skipped: Iterable[Skipped]) -> tuple[SkippedGroup, ...]:
    """Groups what was left out by its rule, the part of the reason before the colon."""
    groups: dict[str, list[Skipped]] = {}
    for skip in skipped:
        groups.setdefault(skip.reason.partition(": ")[0], []).append(skip)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return tuple(SkippedGroup(rule, len(found), tuple(found[:3])) for rule, found in ordered)


def render_check(check: FolderCheck, console: Console) -> None:
    """Prints a check as plain lines, the verdict last."""
    for line in _lines(check):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(check: FolderCheck) -> Iterable[str]:
    """Yields the lines of a check."""
    yield f"{check.folder}: {check.layout}, licence {check.licence}"
    yield (
        f"{_count(check.clips, 'clip')}, {_count(check.speakers, 'speaker')}, "
        f"{_count(len(check.words), 'word')}, {_length(check.hours)}"
    )
    if check.silence:
        yield f"  {check.silence} of the clips are silence or noise"
    if check.rates_hz:
        rates = (f"{count:,} at {rate / 1000:g} kHz" for rate, count in check.rates_hz)
        yield "recordings: " + ", ".join(rates)
        yield (
            f"  {check.downmixed:,} mixed down to mono, {check.padded:,} padded to a clip, "
            f"{check.cut:,} cut to a clip"
        )
    if check.level_db is not None:
        median, low = (round(level) for level in check.level_db)
        yield (
            f"level of speech: {median:+d} dB from nominal in the median clip, {low:+d} dB in "
            f"the quietest tenth (nominal: root mean square {SPEECH_RMS:g} of full scale)"
        )
    if check.quiet:
        yield (
            f"  {check.quiet:.0%} of the clips lie more than {-LOWEST_LEVEL_DB:g} dB below "
            "nominal, where words are heard badly: record them louder, or raise their level first"
        )
    if check.canceled:
        yield (
            f"  {_count(check.canceled, 'recording')} with channels that cancel each other: of "
            "these the loudest channel is taken"
        )
    if any(rate < 16_000 for rate, _ in check.rates_hz):
        yield "  those below 16 kHz are resampled; above half their rate there is nothing to hear"
    if check.words:
        more = f", and {len(check.words) - 40} more" if len(check.words) > 40 else ""
        yield "words: " + ", ".join(f"{word} {count}" for word, count in check.words[:40]) + more
    if check.lexicon_lacks:
        lacks = ", ".join(check.lexicon_lacks[:20]) + (" ..." if check.lexicon_lacks[20:] else "")
        yield f"  not in the lexicon, to be spelt in the scenario if they are targets: {lacks}"
    if check.speakers:
        yield "clips per speaker: " + ", ".join(
            f"{_count(number, 'speaker')} with {_bracket(least, most)}"
            for least, most, number in check.clips_per_speaker
            if number
        )
    yield from people(check.merged, check.alike)
    if check.segments:
        values = ", ".join(f"{name} ({_count(found, 'value')})" for name, found in check.segments)
        yield f"segments: {values}"
    if check.unused_columns:
        yield f"  no segment, since it changes within a speaker: {', '.join(check.unused_columns)}"
    yield f"skipped: {sum(group.count for group in check.skipped)}"
    for group in check.skipped:
        yield f"  {group.count} x {group.rule}"
        for skip in group.examples:
            yield f"      {skip.where}: {skip.reason.partition(': ')[2]}"
    if split := check.split:
        yield (
            f"real-commands can run on it: {_count(split.federated, 'phone')} would federate, "
            f"{split.unseen} would be unseen ({split.rule}), {split.public} public, "
            f"{split.validation} to choose by"
        )
        yield f"  target words: {', '.join(split.targets)}; judged by {split.non_words}"
        if split.federated < _FEW_PHONES:
            yield "  so few phones cannot buy a small epsilon: the report prints the one they get"
        command = f"fedspeech simulate --scenario real-commands --corpus {check.folder}"
        yield f"  {command} {split.options}".rstrip()
    else:
        yield f"real-commands cannot run on it: {check.obstacle}"


def people(merged: Collection[Sequence[str]], alike: Collection[Sequence[str]]) -> Iterable[str]:
    """Yields who was taken for one person and who, though it looks alike, was not."""
    for names in islice(merged, _SHOWN):
        yield f"  one speaker, written in several ways: {_quoted(names)}"
    for names in islice(alike, _SHOWN):
        yield (
            f"  taken for different people: {_quoted(names)}; if they are one, the unit of privacy "
            "is wrong and people are judged on themselves: write them alike"
        )
    if hidden := max(len(merged) - _SHOWN, 0) + max(len(alike) - _SHOWN, 0):
        yield f"  and {hidden} more speakers with names of this kind"


def _quoted(names: Iterable[str]) -> str:
    """Writes names so that characters without width can be seen."""
    return ", ".join(ascii(name) if not name.isprintable() else repr(name) for name in names)


def _count(number: int, noun: str) -> str:
    """Writes a number and its noun."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _length(hours: float) -> str:
    """Writes hours, or minutes below a tenth of an hour."""
    return f"{hours:.2f} hours" if hours >= 0.1 else f"{60 * hours:.1f} minutes"


def _bracket(least: int, most: int | None) -> str:
    """Writes a range of clips."""
    if most is None:
        return f"{least} or more"
    return str(least) if least == most else f"{least} to {most}"


def render_list(console: Console) -> None:
    """Prints the corpora that fedspeech reads, with licence, size, layout and source."""
    for known in KNOWN:
        for line in (
            f"{known.name} ({known.licence})",
            f"  {known.size}",
            f"  layout: {known.layout}",
            f"  from: {known.source}",
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print("To look at a folder: fedspeech data check DIR", highlight=False)
