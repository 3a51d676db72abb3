"""The published layout of Speech Commands v0.01 and v0.02 (Warden 2018, arXiv:1804.03209).

yes/0132a06d_nohash_0.wav       word / speaker _nohash_ take
_background_noise_/tap.wav      long recordings, cut into clips of silence
validation_list.txt             paths of the official validation speakers' clips
testing_list.txt                paths of the official testing speakers' clips

The lists name clips and mean speakers: whoever has a clip in the testing list is a testing speaker,
else whoever has one in the validation list is a validation speaker. A speaker whose clips stand
partly in a list is named, since a model that was trained by the lists has heard that speaker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from fedspeech.corpora.corpus import SILENCE, Skipped
from fedspeech.corpora.files import AUDIO_SUFFIXES
from fedspeech.corpora.records import NOBODY, File, Listing, Row
from fedspeech.corpora.text_lines import read_lines
from fedspeech.corpora.written import spoken

_CLIP_NAME = re.compile(r"(?P<speaker>[^_/]+)_nohash_(?P<take>\d+)")
_NAMED = 5  # speakers named in a note


def has_layout(folder: Path) -> bool:
    """Whether a folder has at least one `<word>/<speaker>_nohash_<k>.wav`."""
    return next(folder.glob("*/*_nohash_*.wav"), None) is not None


def list_rows(folder: Path) -> Listing:
    """Lists a folder with one subfolder per word, or any folder arranged in the same way.

    Raises:
      CorpusError: if a list of speakers cannot be read.
    """
    skipped: list[Skipped] = []
    clips = tuple(_clips(folder, skipped))
    parts, bad_lines = _lists(folder)
    official: dict[str, str] = {}
    for part in ("validation", "testing"):  # testing last: it wins
        official |= dict.fromkeys(
            (speaker_of(clip) for clip, of in parts.items() if of == part), part
        )
    return Listing(
        layout="Speech Commands",
        rows=(*clips, *_noises(folder)),
        table=folder,
        skipped=(*skipped, *bad_lines),
        official=official,
        notes=tuple(_split_speakers(clips, parts)),
    )


def speaker_of(file: str) -> str:
    """The speaker of a clip by its file; empty for a file of another name."""
    match = _CLIP_NAME.fullmatch(Path(file).stem)
    return "" if match is None else match["speaker"]


def _clips(folder: Path, skipped: list[Skipped]) -> Iterator[Row]:
    """Yields the clips of every word folder by name; sound files of another name are skipped."""
    for word_folder in sorted(folder.iterdir()):
        if not word_folder.is_dir() or word_folder.name.startswith(("_", ".")):
            continue
        for path in sorted(word_folder.iterdir()):
            if path.suffix.lower() not in AUDIO_SUFFIXES:
                continue
            file = f"{word_folder.name}/{path.name}"
            speaker = speaker_of(file)
            if speaker:
                yield Row(file, File(file), speaker, spoken(word_folder.name))
            else:
                skipped.append(Skipped(file, "not named <speaker>_nohash_<k>.wav: " + path.name))


def _noises(folder: Path) -> Iterator[Row]:
    """Yields the recordings of background noise, which have no speaker."""
    if not (folder / NOBODY).is_dir():
        return
    for path in sorted((folder / NOBODY).iterdir()):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            file = f"{NOBODY}/{path.name}"
            yield Row(file, File(file), "", SILENCE, columns={"noise": path.stem})


def _lists(folder: Path) -> tuple[dict[str, str], list[Skipped]]:
    """Reads the published lists into clip -> part, and lines that name no clip."""
    parts: dict[str, str] = {}
    bad = []
    for part in ("validation", "testing"):
        path = folder / f"{part}_list.txt"
        for line in read_lines(path) if path.is_file() else ():
            if line.problem or (line.text.strip() and not speaker_of(line.text.strip())):
                reason = line.problem or "no clip of the layout: expected <word>/<speaker>_nohash_"
                bad.append(Skipped(f"{path.name} line {line.number}", reason))
            elif line.text.strip():
                parts[line.text.strip()] = part
    return parts, bad


def _split_speakers(clips: tuple[Row, ...], parts: dict[str, str]) -> Iterator[str]:
    """Says which speakers have clips in a list and others outside of it, or in both."""
    if not parts:
        return
    found: dict[str, set[str]] = {}
    for row in clips:
        found.setdefault(row.speaker, set()).add(parts.get(row.source.file, "training"))  # type: ignore[union-attr]
    split = sorted(speaker for speaker, of in found.items() if len(of) > 1)
    if split:
        more = f" and {len(split) - _NAMED} more" if len(split) > _NAMED else ""
        yield (
            f"the official lists split {', '.join(split[:_NAMED])}{more}: all clips of such a "
            "speaker are taken as testing, or else as validation"
        )
