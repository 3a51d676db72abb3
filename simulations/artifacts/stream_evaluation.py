"""How often an exported file is wrong while it listens: to recordings, or to synthesized hours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.corpus import SILENCE
from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.corpora.long_recordings import recordings_in
from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.corpora.noise import read_noise
from fedspeech.corpora.stream_scenes import with_keywords
from fedspeech.errors import ArgumentRefused, CorpusError, FedspeechError
from fedspeech.evaluation.streaming import (
    Keyword,
    ListeningCounts,
    ListeningRules,
    OperatingPoint,
)
from fedspeech.files import write_text
from fedspeech.synthesis.lexicon import speakable
from simulations.artifacts.det_plot import det_svg
from simulations.artifacts.listening import Detecting, logits_of, open_listener
from simulations.artifacts.loaded_run import run_of
from simulations.artifacts.model_listening import ModelListener
from simulations.console import Console, Printed
from simulations.scenario.reading import read_scenario

if TYPE_CHECKING:  # LiteRT, which help does without
    from tflite_export.listening import Listener
    from tflite_export.micro.listening import MicroListener

FloatArray = NDArray[np.float32]

# Enough that a few percent of false rejects are some tens of words.
KEYWORDS_PER_HOUR = 600
TARGET_RATES = (10.0, 1.0, 0.5, 0.1)

PICTURE_FILE = "det.svg"


@dataclass
class Heard:
    """What was counted so far.

    Attributes:
      counts: of everything.
      parts: name of a kind of sound, or of a recording, to what was counted in it without keywords.
      unread: recordings that could not be read, with the reason.
    """

    counts: ListeningCounts = field(default_factory=ListeningCounts.nothing)
    parts: dict[str, ListeningCounts] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def add(self, counts: ListeningCounts, part: str = "") -> None:
        """Adds a stream, under a name if it has one."""
        self.counts += counts
        if part:
            self.parts[part] = self.parts.get(part, ListeningCounts.nothing()) + counts


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Rates(Printed):
    """How often a listening file is wrong.

    Attributes:
      file: its name.
      source: what it listened to.
      detecting: how scores become detections.
      hop_ms: milliseconds of a hop.
      counts: false accepts and rejects at every threshold.
      points: rates at the threshold of `detecting`, then at a few rates of false accepts.
      parts: kind of sound, or recording, to its rate at that threshold.
      unread: recordings that could not be read, with the reason.
      picture: the DET curve; None where there is too little for one.
    """

    file: str
    source: str
    detecting: Detecting
    hop_ms: float
    counts: ListeningCounts
    points: tuple[OperatingPoint, ...]
    parts: Mapping[str, OperatingPoint]
    unread: tuple[str, ...]
    picture: Path | None

    def record(self) -> dict[str, Any]:
        """Every figure as plain data."""
        return {
            "file": self.file,
            "source": self.source,
            "rules": dataclasses.asdict(self.detecting.rules),
            "threshold": self.detecting.threshold,
            "origin": self.detecting.origin,
            "hours": self.counts.hours,
            "added_silent_hours": self.counts.silent_hours,
            "recordings_left_out": list(self.unread),
            "parts": {name: _point(point) for name, point in self.parts.items()},
            "points": [_point(point) for point in self.points],
            "curve": [_point(point) for point in self.counts.curve()],
        }

    def print(self, console: Console) -> None:
        """Prints the rates at the threshold that was asked for and at a few of false accepts."""
        _show(console, self)


def evaluate(
    file: Path,
    *,
    folder: Path | None,
    hours: float | None,
    detecting: Detecting,
    seed: int,
    out: Path | None,
) -> Rates:
    """Counts false accepts per hour and false rejects, and draws one against the other.

    Args:
      file: a streaming file.
      folder: recordings: a corpus, noise, or long recordings in which no keyword is said.
      hours: of synthesized sound instead.
      detecting: how scores become detections.
      seed: of synthesized sound.
      out: the picture; default det.svg beside the file.

    Raises:
      FedspeechError: if the file cannot listen or there is nothing to listen to.
    """
    listener = open_listener(file)
    if folder is not None:
        heard, source = in_folder(listener, folder, detecting.rules), folder.name
    elif hours and hours > 0:
        heard, source = _synthesized(listener, file, hours, detecting.rules, seed)
    else:
        raise ArgumentRefused("evaluation takes a `folder`, or `synthetic_hours` above 0")
    counts = heard.counts
    points = [counts.at(detecting.threshold)]
    points += [point for rate in TARGET_RATES if (point := counts.at_most(rate)) is not None]
    picture = out or (file if file.is_dir() else file.parent) / PICTURE_FILE
    drawn = bool(counts.hours and counts.keywords)
    if drawn:
        write_text(picture, det_svg(counts.curve(), points[0], f"{file.name}, {source}"))
    return Rates(
        file=file.name, source=source, detecting=detecting, hop_ms=listener.spec.hop_ms,
        counts=counts, points=tuple(points),
        parts={name: part.at(detecting.threshold) for name, part in heard.parts.items()},
        unread=tuple(heard.unread), picture=picture if drawn else None,
    )  # fmt: skip


def _synthesized(
    listener: Listener | ModelListener, file: Path, hours: float, rules: ListeningRules, seed: int
) -> tuple[Heard, str]:
    """Counts scenes without keywords by their kind, and keywords; also says what was heard."""
    # The last two labels are the negatives, unknown and silence, which are never detected.
    targets, lexicon, heard = listener.labels[:-2], _lexicon(file), Heard()
    for scene in negative_scenes(hours * 3600, targets, seed, lexicon):
        heard.add(_without_keywords(listener, scene.sound, rules), scene.kind.replace("_", " "))
    # A word of another language is no reason to count no false accepts.
    said = speakable(targets, lexicon)
    keywords = max(1, round(KEYWORDS_PER_HOUR * hours))
    for sound, spoken in with_keywords(keywords, said, seed, lexicon) if said else ():
        marks = [(word.word, word.start, word.stop) for word in spoken]
        heard.add(keyword_counts(listener, sound, marks, rules))
    source = f"{heard.counts.hours:.2f} synthesized hours"
    if unsaid := sorted(set(targets) - set(said)):
        source += f" without {', '.join(unsaid)}, for which the lexicon has no sounds"
    return heard, source


def _show(console: Console, rates: Rates) -> None:
    """Prints the rates at the threshold that was asked for and at a few rates of false accepts."""
    counts = rates.counts

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(
        f"{counts.hours:.2f} hours without keywords and {counts.keywords} keywords, "
        f"{rates.source}; {rates.detecting.in_words(rates.hop_ms)}; intervals are exact, of 95 %"
    )
    if counts.silent_hours:
        say(
            f"{counts.silent_hours:.2f} hours of digital silence were added after recordings "
            "without keywords, and are counted in no rate"
        )
    for index, point in enumerate(rates.points):
        lead = "" if index == 0 else f"at most {TARGET_RATES[index - 1]:g} per hour: "
        say(lead + ", ".join(_in_words(point, rates.detecting.threshold if index == 0 else None)))
    for rate_limit in TARGET_RATES[len(rates.points) - 1 :]:
        if counts.hours:
            say(f"at most {rate_limit:g} per hour: no threshold")
    for name, point in rates.parts.items():
        say(f"  {name}: {point.false_accepts} false accepts in {point.hours:.2f} hours")
    if counts.hours < 1 - 1e-6:
        say("less than an hour without keywords: too little to state a rate by")
    if rates.unread:
        say(f"{len(rates.unread)} recordings were left out:")
        for problem in rates.unread:
            say(f"  {problem}")
    if rates.picture is not None:
        say(f"DET curve: {rates.picture}")


def _in_words(point: OperatingPoint, asked: float | None) -> Iterator[str]:
    """Threshold and both rates of a point; `asked` is the threshold that was asked for."""
    said = f"threshold {point.threshold:.4f}"
    if asked is not None and not math.isclose(point.threshold, asked, abs_tol=5e-5):
        said += f" (the next that is counted to {asked:g})"
    yield said
    rate, share = point.false_accepts_interval, point.frr_interval
    if rate is not None:
        yield (
            f"{point.false_accepts_per_hour:.2f} false accepts per hour ({rate[0]:.2f} to "
            f"{rate[1]:.2f})"
        )
    if share is not None:
        yield f"FRR {point.frr:.1%} ({share[0]:.1%} to {share[1]:.1%})"


def _point(point: OperatingPoint) -> dict[str, Any]:
    return {
        **dataclasses.asdict(point),
        "false_accepts_per_hour": point.false_accepts_per_hour,
        "false_accepts_interval": point.false_accepts_interval,
        "frr": point.frr,
        "frr_interval": point.frr_interval,
    }


def _without_keywords(
    listener: Listener | ModelListener,
    sound: FloatArray,
    rules: ListeningRules,
    added_hops: int = 0,
) -> ListeningCounts:
    """Counts a stream of its own: what was heard in another recording is forgotten."""
    listener.reset()
    return ListeningCounts.without_keywords(
        listener.feed(sound), rules, listener.spec.hop_ms, added_hops
    )


def keyword_counts(
    listener: Listener | ModelListener,
    sound: FloatArray,
    spoken: list[tuple[str, int, int]],
    rules: ListeningRules,
) -> ListeningCounts:
    """Counts a stream of its own, with words of which are said between which samples."""
    listener.reset()
    return ListeningCounts.of_keywords(listener.feed(sound), keywords_of(listener, spoken), rules)


def keywords_of(
    listener: Listener | ModelListener | MicroListener, spoken: list[tuple[str, int, int]]
) -> list[Keyword]:
    """Words that are said between these samples, by hops."""
    hop = listener.spec.hop_samples
    return [
        Keyword(listener.labels.index(word), start // hop, stop // hop)
        for word, start, stop in spoken
    ]


def in_folder(listener: Listener | ModelListener, folder: Path, rules: ListeningRules) -> Heard:
    """Counts recordings: noise and long files without keywords, or a corpus of single words.

    A recording that cannot be read is left out and named.

    Raises:
      CorpusError: if nothing can be read.
    """
    heard = Heard()
    match layout_of(folder):
        case "noise":
            for noise in read_noise(folder, listener.spec).noises:
                heard.add(_without_keywords(listener, noise.samples, rules), noise.kind)
        case "recordings":
            _in_recordings(listener, folder, rules, heard)
        case _:
            heard.add(_in_corpus(listener, folder, rules))
    if heard.unread and not heard.counts.hours:
        raise CorpusError(f"nothing in {folder} can be listened to, for instance {heard.unread[0]}")
    return heard


def _in_recordings(
    listener: Listener | ModelListener, folder: Path, rules: ListeningRules, heard: Heard
) -> None:
    """Streams each recording by itself, a few seconds of it in memory at a time."""
    for path in recordings_in(folder):
        listener.reset()
        try:
            counts = ListeningCounts.of_blocks(
                logits_of(listener, path), rules, listener.spec.hop_ms
            )
        except CorpusError as problem:
            heard.unread.append(str(problem))
        else:
            heard.add(counts, str(path.relative_to(folder)))


def _in_corpus(
    listener: Listener | ModelListener, folder: Path, rules: ListeningRules
) -> ListeningCounts:
    """Counts clips of single words, each after digital silence and before some more of it."""
    corpus = open_corpus(folder, listener.spec)
    hop_samples = listener.spec.hop_samples
    added_hops = rules.patience_hops + rules.smoothing_hops
    counts = ListeningCounts.nothing()
    # In blocks: a corpus of recordings does not fit into memory.
    for start in range(0, len(corpus.utterances), 64):
        clips = corpus.utterances[start : start + 64]
        for clip, sound in zip(clips, corpus.waveforms(clips), strict=True):
            whole = np.pad(sound, (0, added_hops * hop_samples))
            if clip.word in listener.labels[:-2]:
                counts += keyword_counts(listener, whole, [(clip.word, 0, len(sound))], rules)
            # Nothing is added after background noise: no detection of a word is still to come.
            elif clip.word == SILENCE:
                counts += _without_keywords(listener, sound, rules)
            else:
                counts += _without_keywords(listener, whole, rules, added_hops)
    return counts


def _lexicon(file: Path) -> Mapping[str, str]:
    """Pronunciations that the run of a file added, if it lies in a run folder."""
    try:
        run = file if file.is_dir() else run_of(file)
        return read_scenario(str(run / "scenario.toml")).lexicon
    except FedspeechError:
        return {}
