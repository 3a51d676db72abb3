"""The layout of a folder of recordings, and the corpus to open it with.

| layout | told by |
|---|---|
| manifest | manifest.csv or metadata.csv: it decides, whatever else is there |
| features | such a table with the columns of a feature corpus |
| noise | such a table without speakers and words |
| any other (`FORMATS`) | its own tables or names; two that fit are an error that names both |
| recordings | sound files in the folder itself, which have neither speakers nor words |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora.corpus import Alphabet, Corpus
from fedspeech.corpora.delimited import read_columns
from fedspeech.corpora.files import AUDIO_SUFFIXES, Folder
from fedspeech.corpora.formats import (
    common_voice,
    digits,
    kaldi,
    lhotse,
    librispeech,
    manifest,
    mswc,
    nemo,
    speech_commands,
)
from fedspeech.corpora.noise import holds_noise
from fedspeech.corpora.recorded import ENGLISH, RecordedCorpus, license_of
from fedspeech.corpora.records import MAX_UNUSABLE_SHARE, Listing
from fedspeech.corpora.transcribed import FEATURE_COLUMNS, FeatureCorpus
from fedspeech.errors import CorpusError


class Format(Protocol):
    """What a file in `formats` has."""

    def has_layout(self, folder: Path) -> bool:
        """Whether a folder has the layout; cheap."""

    def list_rows(self, folder: Path) -> Listing:
        """Lists the recordings; raises `CorpusError`."""


FORMATS: Mapping[str, Format] = {
    "Speech Commands": speech_commands,
    "Common Voice": common_voice,
    "MSWC": mswc,
    "LibriSpeech or LibriTTS": librispeech,
    "AudioMNIST": digits,
    "Kaldi": kaldi,
    "NeMo": nemo,
    "Lhotse": lhotse,
}


def layout_of(folder: Path) -> str:
    """Returns "noise", "features", "manifest", a name in `FORMATS`, "recordings" or "none".

    Raises:
      CorpusError: if there is no such folder, or it has several layouts.
    """
    if not folder.exists():
        raise CorpusError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise CorpusError(
            f"expected a folder of recordings, got the file {folder}: unpack it first"
        )
    if holds_noise(folder):
        return "noise"
    if (table := manifest.find_table(folder)) is not None:
        return "features" if set(FEATURE_COLUMNS) <= set(read_columns(table)) else "manifest"
    fitting = [name for name, layout in FORMATS.items() if layout.has_layout(folder)]
    if len(fitting) > 1:
        raise CorpusError(
            f"{folder} has several layouts, {' and '.join(fitting)}: give a folder with the tables "
            "of one of them, or write a manifest.csv, which decides"
        )
    if fitting:
        return fitting[0]
    holds_sound = any(path.suffix.lower() in AUDIO_SUFFIXES for path in folder.iterdir())
    return "recordings" if holds_sound else "none"


def list_folder(folder: Path) -> Listing:
    """Lists the rows of a folder of recordings in any layout; opens no recording.

    Raises:
      CorpusError: if the folder has no layout or several, or its tables cannot be read.
    """
    layout = layout_of(folder)
    match layout:
        case "noise":
            raise CorpusError(
                f"{folder} names neither speakers nor words: as noise it can be a corpus's "
                "`_silence_`, but nobody speaks in it"
            )
        case "features":
            raise CorpusError(
                f"{folder} holds features and no sound; a scenario for sentences on features reads "
                f"it: `fedspeech simulate --scenario asr-an4 --corpus {folder}`"
            )
        case "recordings" | "none":
            raise CorpusError(_neither(folder))
        case "manifest":
            return manifest.list_rows(folder)
    return FORMATS[layout].list_rows(folder)


def open_corpus(
    folder: Path,
    spec: FrontendSpec = LOG_MEL,
    *,
    sentences: bool = False,
    alphabet: Alphabet = ENGLISH,
    max_unusable_share: float = MAX_UNUSABLE_SHARE,
) -> RecordedCorpus:
    """Opens a folder of recordings in any layout.

    Args:
      folder: the folder.
      spec: the front end, which has the length of a clip and the sample rate.
      sentences: whether clips are sentences, and not single words.
      alphabet: of transcripts; one that leaves it is left out.
      max_unusable_share: of rows that lack a cell, cannot be read or repeat an id, above which
        the table is refused. A recording that is missing or damaged does not count: it is left
        out and named.

    Raises:
      CorpusError: if the folder has no layout or several, or nothing in it is usable.
    """
    listing = list_folder(folder)
    reader = Folder(folder, absolute=listing.absolute)
    return RecordedCorpus(
        listing,
        reader,
        name=reader.root.name,
        license=license_of(folder),
        spec=spec,
        sentences=sentences,
        alphabet=alphabet,
        max_unusable_share=max_unusable_share,
    )


def open_transcribed(
    folder: Path,
    spec: FrontendSpec,
    *,
    alphabet: Alphabet = ENGLISH,
    max_unusable_share: float = MAX_UNUSABLE_SHARE,
) -> Corpus:
    """Opens a folder of transcribed sentences: recordings in any layout, or features.

    Sentences longer than a clip of the front end are left out.

    Raises:
      CorpusError: if the folder has no layout, its table is refused, or nothing is usable.
    """
    if layout_of(folder) == "features":
        return FeatureCorpus(folder, spec, max_unusable_share=max_unusable_share)
    return open_corpus(
        folder, spec, sentences=True, alphabet=alphabet, max_unusable_share=max_unusable_share
    )


def _neither(folder: Path) -> str:
    """Explains the layouts, and names subfolders that have one of them."""
    message = (
        f"{folder} has no layout of a corpus. Expected either\n"
        "  a manifest.csv (or metadata.csv) beside the recordings, whose first line names the "
        "columns:\n"
        f"    {manifest.EXAMPLE[0]}\n"
        f"    {manifest.EXAMPLE[1]}\n"
        "  or the layout of Speech Commands, one folder per word:\n"
        "    yes/anna_nohash_0.wav\n"
        f"  or one of {', '.join(name for name in FORMATS if name != 'Speech Commands')} "
        "(docs/own-data.md)"
    )
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    fitting = [str(path) for path in children if layout_of(path) in ("manifest", *FORMATS)]
    return f"{message}\nDid you mean {' or '.join(fitting[:5])}?" if fitting else message
