"""AudioMNIST (Becker et al. 2018, arXiv:1807.03418) and the Free Spoken Digit Dataset.

data/01/0_01_0.wav            digit _ speaker _ take; data/audioMNIST_meta.txt describes speakers
recordings/0_george_0.wav     the same in one folder

Digits are English words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fedspeech.corpora.files import AUDIO_SUFFIXES
from fedspeech.corpora.records import File, Listing, Row

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_/]+)_(?P<take>\d+)")
_META = "audioMNIST_meta.txt"
_SEGMENTS = ("accent", "age", "gender", "native speaker", "origin", "recordingroom")
_MAX_META_BYTES = 2**20


def has_layout(folder: Path) -> bool:
    """Whether a sound file one or two folders down is named digit_speaker_take."""
    return next(_clips(folder), None) is not None


def list_rows(folder: Path) -> Listing:
    """Lists the clips of all digits."""
    clips = sorted(_clips(folder))
    meta = _meta(folder)
    rows = []
    for path in clips:
        file = path.relative_to(folder).as_posix()
        match = _NAME.fullmatch(path.stem)
        if match is None:  # `_clips` yields only what matches
            continue
        speaker = match["speaker"]
        rows.append(
            Row(file, File(file), speaker, _WORDS[int(match["digit"])], "", meta.get(speaker, {}))
        )
    return Listing(layout="AudioMNIST" if meta else "digits", rows=tuple(rows), table=folder)


def _clips(folder: Path) -> Iterator[Path]:
    for pattern in ("*/[0-9]_*_*.*", "*/*/[0-9]_*_*.*"):
        for path in folder.glob(pattern):
            if path.suffix.lower() in AUDIO_SUFFIXES and _NAME.fullmatch(path.stem):
                yield path


def _meta(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Reads what is known about speakers; nothing if it is not there or damaged."""
    for path in (folder / _META, *sorted(folder.glob(f"*/{_META}"))):
        try:
            if not path.is_file() or path.stat().st_size > _MAX_META_BYTES:
                continue
            read = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(read, dict):
            return {
                speaker: {name: str(about[name]) for name in _SEGMENTS if name in about}
                for speaker, about in read.items()
                if isinstance(about, dict)
            }
    return {}
