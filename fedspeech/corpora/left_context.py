"""What a model hears before a word: digital silence, noise, or other words.

A phone that listens never meets a word by itself, but a corpus holds words that were cut out of
whatever came before them. So each clip gets a left context, drawn from here by a stream that the
clip's fingerprint names: the same clip always follows the same sound, in training, in evaluation
and in every check of a file. The sounds are synthesized and public. What one phone recorded would
teach another phone's model, and no accountant would know of it.

    heard = with_left_context(corpus, utterances, 23_040)       # (n, 23040 + 16000)
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
from fedspeech.synthesis.lexicon import PRONUNCIATIONS, pronunciation
from fedspeech.synthesis.render_plan import Take
from fedspeech.synthesis.voices import ACCENTS, Spread, draw_voice

FloatArray = NDArray[np.float32]

LEFT_CONTEXT_VERSION = 1
"""Raised by whoever changes what the same fingerprint is preceded by."""

SOUNDS_PER_KIND = 64
SOUND_SAMPLES = 2 * RATE_HZ
_LONGEST_PAUSE = RATE_HZ // 2  # between the last of the other words and the clip


def with_left_context(
    corpus: Corpus, utterances: Sequence[Utterance], num_samples: int
) -> FloatArray:
    """Returns clips after what is heard before them, shape (n, num_samples + clip).

    Args:
      corpus: of the utterances.
      utterances: n of them.
      num_samples: of left context; 0 returns the corpus's waveforms as they are.

    Raises:
      ValueError: see `sounds_before`.
    """
    clips = corpus.waveforms(utterances)
    if not num_samples:
        return clips
    sounds = sounds_before(num_samples)
    drawn = [
        stream(0, "left context", LEFT_CONTEXT_VERSION, corpus.fingerprint(one)).integers(
            len(sounds)
        )
        for one in utterances
    ]
    return np.concatenate([sounds[drawn], clips], axis=1)


def sounds_before(num_samples: int) -> FloatArray:
    """Returns the sounds that a clip may follow, shape (sounds, num_samples), float32 at 16 kHz.

    A third of them is digital silence, a third noise as simulated devices record it in their rooms.
    A third is words of the lexicon, by voices of all accents, which end up to half a second before
    the clip. The array is read-only: every caller shares it.

    Raises:
      ValueError: if more samples are asked for than the sounds have.
    """
    if num_samples > SOUND_SAMPLES:
        raise ValueError(f"a left context has at most {SOUND_SAMPLES} samples, got {num_samples}")
    return _sounds()[:, SOUND_SAMPLES - num_samples :]


@cache
def _sounds() -> FloatArray:
    """Synthesizes the sounds once per process, shape (sounds, SOUND_SAMPLES)."""
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
    """Lets each row end with two to four words of one voice, and a pause."""
    words, accents = sorted(PRONUNCIATIONS), sorted(ACCENTS)
    takes = [
        Take(
            voice=draw_voice(rng, str(rng.choice(accents)), Spread()),
            words=tuple(
                pronunciation(str(word), {}) for word in rng.choice(words, int(rng.integers(2, 5)))
            ),
            seed=int(rng.integers(2**62)),
        )
        for rng in rngs
    ]
    for row, sound, rng in zip(dry, sentences(takes, SOUND_SAMPLES), rngs, strict=True):
        end = len(row) - int(rng.integers(_LONGEST_PAUSE))
        kept = sound[-end:]
        row[end - len(kept) : end] = kept
