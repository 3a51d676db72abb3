"""Files of speech tokens: the codes of recordings, and which codec they are of.

A file of tokens lies beside the recordings that it was made of and is for who made it: tokens tell
a voice (docs/speech-tokens.md), and a phone has no way of sending them (`fedspeech.device.egress`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from fedspeech.corpora.corpus import SILENCE, Utterance
from fedspeech.corpora.files import UnusableError, decode
from fedspeech.corpora.synthetic import SpeakerGroup, SyntheticCorpus, SyntheticSpec
from fedspeech.errors import CorpusError, ScenarioError
from fedspeech.files import read_at_most, write_whole
from fedspeech.models.codec import Codec, text_beside

TAKES = 5
MOST_BYTES = 1 << 30
MOST_SECONDS = 60.0
_KEY = "fedspeech_tokens"

IntArray = NDArray[np.int64]


def voices(words: Sequence[str], speakers: int, seed: int, takes: int = TAKES) -> SyntheticCorpus:
    """Synthesized speakers who say each word so many times; other seeds are other speakers."""
    group = SpeakerGroup(
        name="public", num_speakers=speakers, words=tuple(words), utterances_per_word=takes
    )
    return SyntheticCorpus(SyntheticSpec(seed=4_000_000 + seed, groups=(group,)))


def spoken(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Those in which somebody speaks."""
    return [one for one in utterances if one.word != SILENCE]


def encoded(codec: Codec, path: Path) -> IntArray:
    """Codes of one recording, shape (tokens, codebooks).

    Raises:
      CorpusError: if it cannot be read, is shorter than 0.1 s, or longer than a minute.
    """
    rate = codec.frontend.rate_hz
    try:
        content = read_at_most(path, MOST_BYTES)
        samples = decode(content, rate_hz=rate, max_seconds=MOST_SECONDS, flat=True).samples
    except (UnusableError, ValueError) as error:
        raise CorpusError(f"{path}: {error}") from None
    codes: IntArray = codec.encode(codec.features(samples[None]))[0]
    return codes


def write_tokens(path: Path, codec: Codec, codes: Mapping[str, IntArray]) -> None:
    """Writes codes by recording, shape (tokens, codebooks) each, one byte or two a code."""
    small = np.uint8 if codec.spec.entries <= 256 else np.uint16
    arrays = {name: np.ascontiguousarray(rows, dtype=small) for name, rows in codes.items()}
    described = {"codec": codec.sha256, "rate_hz": codec.rate_hz, "entries": codec.spec.entries}
    metadata = {_KEY: json.dumps(described, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, bytes(safetensors_numpy.save(arrays, metadata=metadata)))


def read_tokens(path: Path, codec: Codec) -> dict[str, IntArray]:
    """Reads codes by recording.

    Raises:
      ScenarioError: if the file is none of tokens, or of another codec.
    """
    try:
        content = read_at_most(path, MOST_BYTES)
        described = text_beside(content, _KEY)
        arrays = safetensors_numpy.load(content)
        made_by = str(described["codec"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"{path} is no file of `fedspeech tokens encode` ({error})") from None
    if made_by != codec.sha256:
        raise ScenarioError(
            f"{path} is of another codec: its SHA-256 is {made_by[:12]}, this one's "
            f"{codec.sha256[:12]}"
        )
    return {name: rows.astype(np.int64) for name, rows in sorted(arrays.items())}
