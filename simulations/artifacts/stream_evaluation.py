"""What an exported file hears, and how often it is wrong."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE
from fedspeech.corpora.files import AUDIO_SUFFIXES, MAX_NOISE_SECONDS, UnusableError, decode
from fedspeech.corpora.layouts import layout_of, open_corpus
from fedspeech.corpora.noise import read_noise
from fedspeech.corpora.stream_scenes import keyword_free, with_keywords
from fedspeech.errors import (
    ArgumentRefused,
    CorpusError,
    ExportRefused,
    FedspeechError,
    ScenarioError,
)
from fedspeech.evaluation.streaming import (
    DEFAULT_THRESHOLD,
    Keyword,
    ListeningCounts,
    ListeningRules,
    OperatingPoint,
    detections,
    scored,
)
from fedspeech.files import write_text
from fedspeech.models.base import Base
from fedspeech.synthesis.lexicon import speakable
from simulations.artifacts.det_plot import det_svg
from simulations.artifacts.loaded_run import run_of
from simulations.console import Console, Printed
from simulations.results.exported import Listening
from simulations.results.run_folder import read
from simulations.scenario.reading import read_scenario
from simulations.setup.speakers import SpeakerSplit
from tflite_export.files import read_model

if TYPE_CHECKING:  # LiteRT, which help does without
    from tflite_export.listening import Listener

FloatArray = NDArray[np.float32]

# Enough that a few percent of false rejects are some tens of words.
KEYWORDS_PER_HOUR = 600
RUN_KEYWORDS = 64
RUN_SECONDS = 360.0
TARGET_RATES = (10.0, 1.0, 0.5)
QUIET_RATE = 10.0
"""False accepts per hour: one in the minutes that a run counts; fewer cannot be told apart."""

PICTURE_FILE = "det.svg"


@dataclass(frozen=True, kw_only=True, eq=False)
class Detections(Printed):
    """What a file heard in one recording.

    Attributes:
      heard: (seconds from the start, word, smoothed probability) of every detection, in order.
      seconds: of the recording.
      threshold: smoothed probability that was asked for.
      rules: how scores become detections, in words.
    """

    heard: tuple[tuple[float, str, float], ...]
    seconds: float
    threshold: float
    rules: str

    def print(self, console: Console) -> None:
        """Prints every detection with its time."""
        for second, word, score in self.heard:
            console.print(f"{second:9.2f} s  {word:12s} {score:.3f}", highlight=False)
        console.print(
            f"{len(self.heard)} detections in {self.seconds:.2f} s at threshold "
            f"{self.threshold:g} ({self.rules})",
            highlight=False,
        )


def listen_to(file: Path, wav: Path, threshold: float, rules: ListeningRules) -> Detections:
    """Streams one recording.

    Raises:
      FedspeechError: if the file cannot listen or the recording cannot be read.
    """
    listener = _listener(file)
    sound = _read(wav, listener.spec.rate_hz)
    # From a stream that has heard nothing: the file was opened for this recording.
    logits = listener.feed(sound)
    if not len(logits):
        raise CorpusError(f"{wav} is shorter than one hop of {listener.spec.hop_ms:g} ms")
    words, scores = scored(logits, rules)
    seconds_per_hop = listener.spec.hop_ms / 1000
    (marks,) = detections(scores, np.array([threshold]), rules.cooldown_hops)
    return Detections(
        heard=tuple(
            ((int(hop) + 1) * seconds_per_hop, listener.labels[words[hop]], float(scores[hop]))
            for hop in np.flatnonzero(marks)
        ),
        seconds=len(logits) * seconds_per_hop,
        threshold=threshold,
        rules=_in_words(rules, listener.spec.hop_ms),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Rates(Printed):
    """How often a listening file is wrong.

    Attributes:
      file: its name.
      source: what it listened to.
      rules: how scores become detections.
      hop_ms: milliseconds of a hop.
      threshold: that was asked for.
      counts: false accepts and rejects at every threshold.
      points: rates at the threshold that was asked for, then at a few rates of false accepts.
      picture: the DET curve; None where there is too little for one.
    """

    file: str
    source: str
    rules: ListeningRules
    hop_ms: float
    threshold: float
    counts: ListeningCounts
    points: tuple[OperatingPoint, ...]
    picture: Path | None

    def record(self) -> dict[str, Any]:
        """Every figure as plain data."""
        return {
            "file": self.file,
            "source": self.source,
            "rules": dataclasses.asdict(self.rules),
            "hours": self.counts.hours,
            "added_silent_hours": self.counts.silent_hours,
            "points": [_point(point) for point in self.points],
            "curve": [_point(point) for point in self.counts.curve()],
        }

    def print(self, console: Console) -> None:
        """Prints the rates at the threshold that was asked for and at a few of false accepts."""
        _show(
            console, self.counts, list(self.points), self.threshold, self.source,
            _in_words(self.rules, self.hop_ms), self.picture,
        )  # fmt: skip


def evaluate(
    file: Path,
    *,
    folder: Path | None,
    hours: float | None,
    threshold: float,
    rules: ListeningRules,
    seed: int,
    out: Path | None,
) -> Rates:
    """Counts false accepts per hour and false rejects, and draws one against the other.

    Args:
      file: a streaming file.
      folder: recordings: a corpus, noise, or long recordings in which no keyword is said.
      hours: of synthesized sound instead.
      threshold: at which both rates are stated first.
      rules: how scores become detections.
      seed: of synthesized sound.
      out: the picture; default det.svg beside the file.

    Raises:
      FedspeechError: if the file cannot listen or there is nothing to listen to.
    """
    listener = _listener(file)
    # The last two labels are the negatives, unknown and silence, which are never detected.
    targets = listener.labels[:-2]
    if folder is not None:
        counts, unread = _in_folder(listener, folder, rules)
        source = folder.name
        if unread:
            source += f" without {len(unread)} recordings that cannot be read, as {unread[0]}"
    elif hours and hours > 0:
        lexicon = _lexicon(file)
        counts = sum(
            (
                _without_keywords(listener, scene, rules)
                for scene in keyword_free(hours * 3600, targets, seed)
            ),
            ListeningCounts.nothing(),
        )
        keywords = max(1, round(KEYWORDS_PER_HOUR * hours))
        # A word of another language is no reason to count no false accepts.
        said = speakable(targets, lexicon)
        for sound, spoken in with_keywords(keywords, said, seed, lexicon) if said else ():
            marks = [(word.word, word.start, word.stop) for word in spoken]
            counts += _keywords(listener, sound, marks, rules)
        source = f"{counts.hours:.2f} synthesized hours"
        if unsaid := sorted(set(targets) - set(said)):
            source += f" without {', '.join(unsaid)}, for which the lexicon has no sounds"
    else:
        raise ScenarioError("evaluation takes --evaluate DIR or --synthetic-hours H above 0")
    picture = out or file.with_name(PICTURE_FILE)
    points = [counts.at(threshold)]
    points += [point for rate in TARGET_RATES if (point := counts.at_most(rate)) is not None]
    drawn = bool(counts.hours and counts.keywords)
    if drawn:
        write_text(picture, det_svg(counts.curve(), points[0], f"{file.name}, {source}"))
    return Rates(
        file=file.name, source=source, rules=rules, hop_ms=listener.spec.hop_ms,
        threshold=threshold, counts=counts, points=tuple(points),
        picture=picture if drawn else None,
    )  # fmt: skip


def rules_of(smoothing_ms: int, cooldown_ms: int) -> ListeningRules:
    """Rules of listening from durations, each a whole number of hops.

    Raises:
      ArgumentRefused: naming the duration that is none.
    """
    hop_ms, hops = FrontendSpec().hop_ms, {}
    for name, given_ms in (("smoothing_ms", smoothing_ms), ("cooldown_ms", cooldown_ms)):
        if given_ms % hop_ms:
            raise ArgumentRefused(f"`{name}` must be a multiple of {hop_ms:g} ms, got {given_ms}")
        hops[name.replace("_ms", "_hops")] = int(given_ms // hop_ms)
    return ListeningRules(**hops)


def threshold_of(file: Path) -> float:
    """The quiet threshold that the run of a file names; the default one where none is named."""
    try:
        summary = read(run_of(file)).summary
    except FedspeechError:
        return DEFAULT_THRESHOLD
    found = summary.listening if summary else None
    if found is None or found.quiet_threshold is None:
        return DEFAULT_THRESHOLD
    return found.quiet_threshold


def streaming_rates(file: Path, base: Base, voices: SpeakerSplit, seed: int) -> Listening:
    """Counts the errors of a run's streaming file at the default threshold and at a quieter one.

    Args:
      file: the streaming file.
      base: of the run, which says how much left context a word has.
      voices: of the run; its held-out phones say the keywords.
      seed: of the synthesized hours.
    """
    listener, rules = _listener(file), ListeningRules()
    targets = listener.labels[:-2]
    said = [
        clip
        for phone in voices.partition.held_out
        for clip in phone.utterances
        if clip.word in targets
    ]
    # Evenly over the list, which goes phone by phone.
    chosen = said[:: -(-len(said) // RUN_KEYWORDS) or 1]
    counts = ListeningCounts.nothing()
    # A detection may come so much later than the word, and needs sound to come in.
    after = rules.patience_hops * listener.spec.hop_samples
    for clip, sound in zip(chosen, base.heard(voices.corpus, chosen), strict=True):
        marks = [(clip.word, base.encoder.context_samples, len(sound))]
        counts += _keywords(listener, np.pad(sound, (0, after)), marks, rules)
    for scene in keyword_free(RUN_SECONDS, targets, seed):
        counts += _without_keywords(listener, scene, rules)
    point, quiet = counts.at(DEFAULT_THRESHOLD), counts.at_most(QUIET_RATE)
    return Listening(
        file=file.name,
        threshold=point.threshold,
        keywords=point.keywords,
        rejected=point.rejected,
        hours=point.hours,
        false_accepts=point.false_accepts,
        quiet_rate=QUIET_RATE,
        quiet_threshold=quiet.threshold if quiet else None,
        quiet_rejected=quiet.rejected if quiet else None,
    )


def _show(
    console: Console,
    counts: ListeningCounts,
    points: list[OperatingPoint],
    asked: float,
    source: str,
    rules: str,
    picture: Path | None,
) -> None:
    """Prints the rates at the threshold that was asked for and at a few rates of false accepts."""
    console.print(
        f"{counts.hours:.2f} hours without keywords and {counts.keywords} keywords, {source}; "
        f"{rules}; intervals are of 95 %",
        highlight=False,
        soft_wrap=True,
    )
    if counts.silent_hours:
        console.print(
            f"{counts.silent_hours:.2f} hours of digital silence were added after recordings "
            "without keywords, and are counted in no rate",
            highlight=False,
            soft_wrap=True,
        )
    for index, point in enumerate(points):
        said = [f"threshold {point.threshold:.4f}"]
        if index == 0 and not math.isclose(point.threshold, asked, abs_tol=5e-5):
            said[0] += f" (the next that is counted to {asked:g})"
        rate, share = point.false_accepts_interval, point.frr_interval
        if rate is not None:
            said.append(
                f"{point.false_accepts_per_hour:.2f} false accepts per hour ({rate[0]:.2f} to "
                f"{rate[1]:.2f})"
            )
        if share is not None:
            said.append(f"FRR {point.frr:.1%} ({share[0]:.1%} to {share[1]:.1%})")
        lead = "" if index == 0 else f"at most {TARGET_RATES[index - 1]:g} per hour: "
        console.print(lead + ", ".join(said), highlight=False, soft_wrap=True)
    for rate_limit in TARGET_RATES[len(points) - 1 :]:
        if counts.hours:
            console.print(f"at most {rate_limit:g} per hour: no threshold", highlight=False)
    if counts.hours < 1 - 1e-6:
        console.print("less than an hour without keywords: too little to state a rate by")
    if picture is not None:
        console.print(f"DET curve: {picture}", highlight=False)


def _point(point: OperatingPoint) -> dict[str, Any]:
    return {
        **dataclasses.asdict(point),
        "false_accepts_per_hour": point.false_accepts_per_hour,
        "false_accepts_interval": point.false_accepts_interval,
        "frr": point.frr,
        "frr_interval": point.frr_interval,
    }


def _in_words(rules: ListeningRules, hop_ms: float) -> str:
    return (
        f"smoothing {rules.smoothing_hops * hop_ms:g} ms, cooldown "
        f"{rules.cooldown_hops * hop_ms:g} ms"
    )


def _listener(file: Path) -> Listener:
    """Opens a file that can listen.

    Raises:
      ExportRefused: if it cannot; names the files beside it that can.
    """
    from tflite_export.interpreter import TfliteModel
    from tflite_export.listening import Listener

    # Told by its signatures and not by its name, which anybody may change.
    model = TfliteModel(read_model(file))
    if "hop" not in model.signatures:
        beside = sorted(str(path) for path in file.parent.glob("*streaming*.tflite"))
        raise ExportRefused(
            f"listening takes a streaming file, and {file.name} answers whole clips; "
            + (
                f"beside it lies {' and '.join(beside)}"
                if beside
                else "`fedspeech export RUN --formats streaming` makes one"
            )
        )
    return Listener(model)


def _without_keywords(
    listener: Listener, sound: FloatArray, rules: ListeningRules, added_hops: int = 0
) -> ListeningCounts:
    """Counts a stream of its own: what was heard in another recording is forgotten."""
    listener.reset()
    return ListeningCounts.without_keywords(
        listener.feed(sound), rules, listener.spec.hop_ms, added_hops
    )


def _keywords(
    listener: Listener,
    sound: FloatArray,
    spoken: list[tuple[str, int, int]],
    rules: ListeningRules,
) -> ListeningCounts:
    """Counts a stream of its own, with words of which are said between which samples."""
    listener.reset()
    hop = listener.spec.hop_samples
    keywords = [
        Keyword(listener.labels.index(word), start // hop, stop // hop)
        for word, start, stop in spoken
    ]
    return ListeningCounts.of_keywords(listener.feed(sound), keywords, rules)


def _in_folder(
    listener: Listener, folder: Path, rules: ListeningRules
) -> tuple[ListeningCounts, list[str]]:
    """Counts recordings: noise and long files without keywords, or a corpus of single words.

    Also returns what of the folder could not be read, with the reason.

    Raises:
      CorpusError: if nothing could.
    """
    sounds: Iterable[FloatArray]
    unread: list[str] = []
    match layout_of(folder):
        case "noise":
            sounds = (noise.samples for noise in read_noise(folder, listener.spec).noises)
        case "recordings":
            sounds = _readable(folder, listener.spec.rate_hz, unread)
        case _:
            return _in_corpus(listener, folder, rules), unread
    counts = sum(
        (_without_keywords(listener, sound, rules) for sound in sounds), ListeningCounts.nothing()
    )
    if unread and not counts.hours:
        raise CorpusError(f"nothing in {folder} can be listened to, for instance {unread[0]}")
    return counts, unread


def _readable(folder: Path, rate_hz: int, unread: list[str]) -> Iterator[FloatArray]:
    """Yields the recordings in a folder, and adds those that cannot be read to `unread`."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            try:
                yield _read(path, rate_hz)
            except CorpusError as problem:
                unread.append(str(problem))


def _in_corpus(listener: Listener, folder: Path, rules: ListeningRules) -> ListeningCounts:
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
                counts += _keywords(listener, whole, [(clip.word, 0, len(sound))], rules)
            # Nothing is added after background noise: no detection of a word is still to come.
            elif clip.word == SILENCE:
                counts += _without_keywords(listener, sound, rules)
            else:
                counts += _without_keywords(listener, whole, rules, added_hops)
    return counts


def _read(path: Path, rate_hz: int) -> FloatArray:
    """A recording at the model's rate.

    Raises:
      CorpusError: if it cannot be read.
    """
    try:
        data = path.read_bytes()
        return decode(data, rate_hz=rate_hz, max_seconds=MAX_NOISE_SECONDS, flat=True).samples
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror}") from error
    except UnusableError as error:
        raise CorpusError(f"{path} cannot be listened to: {error}") from error


def _lexicon(file: Path) -> Mapping[str, str]:
    """Pronunciations that the run of a file added, if it lies in a run folder."""
    try:
        return read_scenario(str(run_of(file) / "scenario.toml")).lexicon
    except FedspeechError:
        return {}
