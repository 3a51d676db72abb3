"""A base for a wake word behind an encoder that answers a stream in one pass.

Its head is a small network that is fit on words of public speakers and on hours of synthesized
sound without one, and mined for hard negatives (`fedspeech.training.mining`); the hardest of these
ship with the base, to every phone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.corpora.altered import AlteredCorpus
from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.corpora.left_context import LEFT_CONTEXT_VERSION, sounds_before
from fedspeech.corpora.negative_scenes import negative_scenes
from fedspeech.files import write_whole
from fedspeech.models.base import Base
from fedspeech.models.exported.encoder import ForeignEncoder
from fedspeech.seeds import canonical, stream
from fedspeech.training.encoder_cache import Progress, encoder_outputs
from fedspeech.training.mining import SHIPPED, HeardWord, Mining, fit_listener
from simulations.setup.heads import HeadLesson

FloatArray = NDArray[np.float32]

COPIES = 2  # altered, of each recorded word
CONTEXT_SAMPLES = 12_800  # of other sound before a word: as far as its first window hears
LATE_SAMPLES = 6_400  # after the end of a clip in which a word may still be found
EARLY_SAMPLES = 4_800  # after its beginning
AFTER_END_SAMPLES = 5_120  # after a word's last sound: windows that end there are words
MINED_SEED = 2_000  # of the first hour that is mined; a run's seed draws phones, never the base
SOUND_VERSION = 1
"""Raise it with any change of the sound of the same hour, or of its frames."""

_LOUD = 0.02  # of the largest power: below it a word is over
_HOUR = 3600


def taught_listener(
    base: Base,
    lesson: HeadLesson,
    cache: Path,
    provenance: Mapping[str, str | int | float],
    *,
    hours: float,
    lexicon: Mapping[str, str],
    mining: Mining | None = None,
    progress: Progress | None = None,
) -> Base:
    """The base with a network and a head for a lesson's words, and its hardest negatives.

    Args:
      base: with an encoder that streams in one pass, without padding.
      lesson: words, other words and silence of public speakers.
      cache: for frames of synthesized hours.
      provenance: what the base's file says of how it was made.
      hours: of synthesized sound that is mined.
      lexicon: pronunciations of words that are not built in.
      mining: sizes.
      progress: called with hours heard and all hours.

    Raises:
      ValueError: if a target word has no clip, or the encoder does not stream.
    """
    if lesson.corpus is None:
        raise ValueError("a head is fit on clips of public speakers, got none")
    mining = mining or Mining()
    words = list(heard_words(base, lesson))
    sounds = [
        windows(base, frames)
        for frames in hours_of_negatives(base, lesson, hours, cache, lexicon, progress)
    ]
    others = [clip for clip in lesson.clips if clip.word not in lesson.vocabulary.targets]
    if others:
        sounds.append(np.array(encoder_outputs(base, lesson.corpus, others, cache)))
    fitted = fit_listener(
        words, sounds, len(lesson.vocabulary.labels), seed=lesson.seed, mining=mining
    )
    found: dict[str, str | int | float] = {
        "head": "network on windows, mined for hard negatives",
        "head_mined_hours": hours,
        "head_recorded_speakers": len(set(lesson.speakers) - set(lesson.synthetic)),
        "head_words": len(words),
    }
    return dataclasses.replace(
        base,
        vocabulary=lesson.vocabulary,
        head_weight=fitted.weight,
        head_bias=fitted.bias,
        pooling=fitted.pooling,
        hard_negatives=fitted.hard[:SHIPPED],
        provenance={**base.provenance, **provenance, **found},
        speakers=tuple(sorted({*base.speakers, *lesson.speakers})),
    )


def windows(base: Base, frames: FloatArray) -> FloatArray:
    """Clips that end one hop apart, (hops, w, f), as a view of a stream's frames (n, f)."""
    view = np.lib.stride_tricks.sliding_window_view(frames, base.encoder.num_windows, axis=0)
    return view.transpose(0, 2, 1)


def heard_words(base: Base, lesson: HeadLesson) -> Iterator[HeardWord]:
    """Yields each target clip of a lesson in a stream, and altered copies of recorded ones."""
    assert lesson.corpus is not None
    said = [clip for clip in lesson.clips if clip.word in lesson.vocabulary.targets]
    yield from _heard(base, lesson, lesson.corpus, said)
    recorded = [clip for clip in said if clip.speaker_id not in lesson.synthetic]
    copies = AlteredCorpus(lesson.corpus, rate_hz=base.encoder.rate_hz, copies=COPIES)
    yield from _heard(base, lesson, copies, copies.of(recorded))


def _heard(
    base: Base, lesson: HeadLesson, corpus: Corpus, clips: Sequence[Utterance]
) -> Iterator[HeardWord]:
    """Yields clips between other sounds."""
    labels = lesson.vocabulary.encode([clip.word for clip in clips])
    for first in range(0, len(clips), 64):  # a corpus of recordings does not fit into memory
        part = clips[first : first + 64]
        for clip, sound, label in zip(
            part, corpus.waveforms(part), labels[first : first + 64], strict=True
        ):
            rng = stream(0, "heard word", LEFT_CONTEXT_VERSION, corpus.fingerprint(clip))
            around, ends = heard_word(base, sound, rng)
            yield HeardWord(around, ends, int(label), clip.speaker_id in lesson.synthetic)


def heard_word(
    base: Base, clip: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, NDArray[np.int64]]:
    """A clip between other sounds: windows that may find it, and which end with the word.

    Returns:
      Windows (hops, w, f) that end from soon after the clip's beginning to soon after its end, and
      the places (n,) of those that end at most 320 ms after the word's last sound.
    """
    encoder = base.encoder
    assert isinstance(encoder, ForeignEncoder)
    sounds = sounds_before(CONTEXT_SAMPLES)
    before, after = sounds[rng.integers(len(sounds), size=2)]
    after = after[: LATE_SAMPLES + encoder.hop_samples]
    before = before[rng.integers(encoder.hop_samples) :]  # hops fall anywhere in a word
    sound = np.concatenate([before, clip, after])
    found = windows(base, encoder.stream_frames(sound).numpy())
    ends = base.heard_samples + encoder.hop_samples * np.arange(len(found)) - len(before)
    there = (ends >= EARLY_SAMPLES) & (ends <= len(clip) + LATE_SAMPLES)
    found, ends = found[there], ends[there]
    late = ends - word_end(clip)
    places = np.flatnonzero((late >= 0) & (late <= AFTER_END_SAMPLES))
    return found, places if len(places) else np.array([len(found) - 1])


def word_end(clip: FloatArray) -> int:
    """The last sample of a clip (n,) around which it is loud."""
    power = np.convolve(np.square(clip, dtype=np.float64), np.ones(320) / 320, "same")
    return int(np.flatnonzero(power >= _LOUD * power.max())[-1])


def hours_of_negatives(
    base: Base,
    lesson: HeadLesson,
    hours: float,
    cache: Path,
    lexicon: Mapping[str, str],
    progress: Progress | None = None,
) -> Iterator[FloatArray]:
    """Yields frames (n, f) of synthesized sound without a target word, hour by hour."""
    whole, targets = int(np.ceil(hours)), lesson.vocabulary.targets
    for number in range(whole):
        seconds = min(1.0, hours - number) * _HOUR
        yield negative_frames(base, seconds, targets, MINED_SEED + number, lexicon, cache)
        if progress is not None:
            progress(number + 1, whole)


def negative_frames(
    base: Base,
    seconds: float,
    targets: Sequence[str],
    seed: int,
    lexicon: Mapping[str, str],
    cache: Path,
) -> FloatArray:
    """Frames (n, f) of scenes without a target word one after another, from the cache.

    They are kept in half precision: what is lost is a thousandth of a frame.
    """
    encoder = base.encoder
    assert isinstance(encoder, ForeignEncoder)
    spoken = canonical(*(part for item in sorted(lexicon.items()) for part in item))
    named = canonical(
        "negative frames", SOUND_VERSION, encoder.sha256, repr(seconds), seed, *targets
    )
    path = cache / "negatives" / f"{hashlib.sha256(named + spoken).hexdigest()}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = negative_scenes(seconds, targets, seed, lexicon)
        sound = np.concatenate([scene.sound for scene in made])
        frames = encoder.stream_frames(sound).numpy().astype(np.float16)
        _keep(path, frames)
    kept: FloatArray = np.load(path, allow_pickle=False).astype(np.float32)
    return kept


def _keep(path: Path, frames: NDArray[np.float16]) -> None:
    """Writes an array, all of it or nothing."""
    buffer = io.BytesIO()
    np.save(buffer, frames)
    write_whole(path, buffer.getvalue())
