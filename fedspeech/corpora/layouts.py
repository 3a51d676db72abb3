"""The layout of a folder of recordings, and the corpus to open it with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora import speech_commands
from fedspeech.corpora.corpus import Corpus
from fedspeech.corpora.files import AUDIO_SUFFIXES
from fedspeech.corpora.manifest import EXAMPLE, ManifestCorpus, find_table, read_columns
from fedspeech.corpora.noise import holds_noise
from fedspeech.corpora.speech_commands import SpeechCommandsCorpus
from fedspeech.corpora.transcribed import FEATURE_COLUMNS, FeatureCorpus
from fedspeech.errors import CorpusError

Layout = Literal["noise", "features", "manifest", "Speech Commands", "recordings", "none"]


def layout_of(folder: Path) -> Layout:
    """Returns the layout of a folder.

    A manifest decides, wherever the files lie that it names. Without one, word folders come before
    sound files in the folder itself, "recordings", which have neither speakers nor words.

    Raises:
      CorpusError: if there is no such folder.
    """
    if not folder.exists():
        raise CorpusError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise CorpusError(
            f"expected a folder of recordings, got the file {folder}: unpack it first"
        )
    if holds_noise(folder):
        return "noise"
    if (table := find_table(folder)) is not None:
        return "features" if set(FEATURE_COLUMNS) <= set(read_columns(table)) else "manifest"
    if speech_commands.has_layout(folder):
        return "Speech Commands"
    holds_sound = any(path.suffix.lower() in AUDIO_SUFFIXES for path in folder.iterdir())
    return "recordings" if holds_sound else "none"


def open_corpus(
    folder: Path, spec: FrontendSpec = LOG_MEL
) -> ManifestCorpus | SpeechCommandsCorpus:
    """Opens a folder of recordings: by its manifest if it has one, else as Speech Commands.

    Raises:
      CorpusError: if the folder has neither layout, or nothing in it is usable.
    """
    match layout_of(folder):
        case "manifest":
            return ManifestCorpus(folder, spec)
        case "Speech Commands":
            return SpeechCommandsCorpus(folder, spec)
        case "noise":
            raise CorpusError(
                f"{folder} names neither speakers nor words: as noise it can be a corpus's "
                "`_silence_`, but nobody speaks in it"
            )
        case "features":
            raise CorpusError(
                f"{folder} holds features and no sound; a scenario for sentences on features reads "
                f"it: fedspeech simulate --scenario asr-an4 --corpus {folder}"
            )
        case _:
            raise CorpusError(_neither(folder))


def open_transcribed(folder: Path, spec: FrontendSpec) -> Corpus:
    """Opens a folder of transcribed sentences: a manifest beside recordings, or beside features.

    Sentences longer than a clip of the front end are left out.

    Raises:
      CorpusError: if there is no manifest, it must be corrected, or nothing in it is usable.
    """
    if folder.is_dir() and layout_of(folder) == "features":
        return FeatureCorpus(folder, spec)
    return ManifestCorpus(folder, spec, sentences=True)


def _neither(folder: Path) -> str:
    """Explains both layouts, and names subfolders that have one of them."""
    message = (
        f"{folder} has neither layout of a corpus. Expected either\n"
        "  a manifest.csv (or metadata.csv) beside the recordings, whose first line names the "
        "columns:\n"
        f"    {EXAMPLE[0]}\n"
        f"    {EXAMPLE[1]}\n"
        "  or the layout of Speech Commands, one folder per word:\n"
        "    yes/anna_nohash_0.wav"
    )
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    fitting = [str(path) for path in children if layout_of(path) in ("manifest", "Speech Commands")]
    return f"{message}\nDid you mean {' or '.join(fitting[:5])}?" if fitting else message
