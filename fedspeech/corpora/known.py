"""Corpora that fedspeech reads: license, size, layout, and where the recordings are published.

Sizes as published (Warden 2018, arXiv:1804.03209; Mazumder et al. 2021; Panayotov et al. 2015; Zen
et al. 2019, arXiv:1904.02882; the README of each corpus).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedspeech.corpora.formats.manifest import EXAMPLE
from fedspeech.synthesis.lexicon import COMMAND_WORDS, PRONUNCIATIONS


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus that fedspeech reads, and the place of its recordings."""

    name: str
    license: str
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
        "AudioMNIST",
        "https://github.com/soerenab/AudioMNIST",
    ),
    KnownCorpus(
        "Free Spoken Digit Dataset",
        "CC BY-SA 4.0 (share alike)",
        "3,000 clips, 6 speakers, 10 digits, 8 kHz",
        "AudioMNIST (recordings/0_george_0.wav is digit_speaker_take)",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
    ),
    KnownCorpus(
        "Mozilla Common Voice",
        "CC0",
        "single words and sentences in more than 100 languages, mp3",
        "Common Voice (a speaker is a client id, not a person)",
        "https://commonvoice.mozilla.org/datasets",
    ),
    KnownCorpus(
        "Multilingual Spoken Words",
        "CC BY 4.0",
        "23.4 million clips of 340,000 words in 50 languages, opus",
        "MSWC (a speaker is a client id of Common Voice, not a person)",
        "https://mlcommons.org/datasets/multilingual-spoken-words",
    ),
    KnownCorpus(
        "LibriSpeech",
        "CC BY 4.0",
        "1,000 hours of read sentences, 2,484 speakers, 16 kHz flac",
        "LibriSpeech (for sentences)",
        "https://www.openslr.org/12",
    ),
    KnownCorpus(
        "LibriTTS",
        "CC BY 4.0",
        "585 hours of read sentences, 2,456 speakers, 24 kHz wav",
        "LibriTTS (for sentences)",
        "https://www.openslr.org/60",
    ),
    KnownCorpus(
        "tables of another toolkit",
        "the corpus's",
        "any",
        "Kaldi (wav.scp, utt2spk, text), NeMo or Lhotse (lines of JSON)",
        "docs/own-data.md",
    ),
    KnownCorpus(
        "your own recordings",
        "yours",
        "from 6 speakers with a few clips per word",
        "manifest",
        f"a folder with manifest.csv: {EXAMPLE[0]} / {EXAMPLE[1]}",
    ),
)
