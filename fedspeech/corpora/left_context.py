"""The left context of a word: digital silence, noise, or other words.

A listening phone never meets a word by itself, but the words of a corpus are cut out of their
context. So each clip gets a left context, drawn by a stream that the clip's fingerprint names: a
clip always has the same context, in training, in evaluation and in every check of a file. All
contexts are synthesized and public. One phone's recordings as another phone's context would leak
through that phone's model, and no accountant would know.

    clips = with_left_context(corpus, utterances, 23_040)       # (n, 23040 + 16000)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.channel import RATE_HZ, apply_devices, draw_device
from fedspeech.corpora.corpus import Corpus, Utterance
from fedspeech.seeds import stream
from fedspeech.synthesis.formants import sentences
from fedspeech.synthesis.lexicon import PRONUNCIATIONS
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import ACCENTS, Spread, draw_voice

FloatArray = NDArray[np.float32]

LEFT_CONTEXT_VERSION = 1
"""Raise it with any change of the context of the same fingerprint."""

SOUNDS_PER_KIND = 64
SOUND_SAMPLES = 2 * RATE_HZ
_LONGEST_PAUSE = RATE_HZ // 2  # between the last of the other words and the clip


def with_left_context(
    corpus: Corpus, utterances: Sequence[Utterance], num_samples: int
) -> FloatArray:
    """Returns clips after their left context, shape (n, num_samples + clip).

    Raises:
      ValueError: see `sounds_before`.
    """
    clips = corpus.waveforms(utterances)
    if not num_samples:
        return clips
    sounds = sounds_before(num_samples)
    drawn = [
        # Not the run's seed: whoever checks a file later hears the clip after the same context.
        stream(0, "left context", LEFT_CONTEXT_VERSION, corpus.fingerprint(one)).integers(
            len(sounds)
        )
        for one in utterances
    ]
    return np.concatenate([sounds[drawn], clips], axis=1)


def sounds_before(num_samples: int) -> FloatArray:
    """Returns all left contexts, shape (contexts, num_samples), float32 at 16 kHz, read-only.

    A third is digital silence, a third noise as simulated devices record it in their rooms, a third
    words of the lexicon by voices of all accents, which end up to half a second before the clip.

    Raises:
      ValueError: if num_samples exceeds `SOUND_SAMPLES`.
    """
    if num_samples > SOUND_SAMPLES:
        raise ValueError(f"a left context has at most {SOUND_SAMPLES} samples, got {num_samples}")
    return _sounds()[:, SOUND_SAMPLES - num_samples :]


@cache
def _sounds() -> FloatArray:
    """Synthesizes the contexts once per process, shape (contexts, SOUND_SAMPLES)."""
    rngs = [
        stream(0, "sounds before", LEFT_CONTEXT_VERSION, number)
        for number in range(2 * SOUNDS_PER_KIND)
    ]
    dry = np.zeros((len(rngs), SOUND_SAMPLES), dtype=np.float32)
    _speak(dry[SOUNDS_PER_KIND:], rngs[SOUNDS_PER_KIND:])
    devices = [draw_device(rng) for rng in rngs]
    recorded = apply_devices(dry, devices, [int(rng.integers(2**62)) for rng in rngs])
    silence = np.zeros((SOUNDS_PER_KIND, SOUND_SAMPLES), dtype=np.float32)
    sounds = np.concatenate([silence, recorded])
    sounds.setflags(write=False)
    return sounds


def _speak(dry: FloatArray, rngs: Sequence[np.random.Generator]) -> None:
    """Ends each row with two to four words of one voice, and a pause."""
    words, accents = sorted(PRONUNCIATIONS), sorted(ACCENTS)
    takes = []
    for rng in rngs:
        voice = draw_voice(rng, str(rng.choice(accents)), Spread())
        takes.append(Take.of(voice, rng.choice(words, int(rng.integers(2, 5))), rng))
    for row, sound, rng in zip(dry, sentences(takes, SOUND_SAMPLES), rngs, strict=True):
        end = len(row) - int(rng.integers(_LONGEST_PAUSE))
        kept = sound[-end:]
        row[end - len(kept) : end] = kept
