"""LibriSpeech (Panayotov et al. 2015) and LibriTTS (Zen et al. 2019, arXiv:1904.02882).

LibriSpeech: dev-clean/1272/128104/1272-128104-0000.flac, and beside them 1272-128104.trans.txt,
             a line of which is an id and what is read. SPEAKERS.TXT names the sex of speakers.
LibriTTS:    dev-clean/1272/128104/1272_128104_000001_000000.wav, each beside its .normalized.txt.

The folder is one subset or holds several; those whose names begin with dev and test are the
official validation and testing speakers. Recordings are sentences, up to half a minute long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.text_lines import read_lines
from fedspeech.corpora.written import spoken

_TRANSCRIPTS = "*.trans.txt"
_TEXT = ".normalized.txt"
_PARTS = {"dev": "validation", "test": "testing"}


def has_layout(folder: Path) -> bool:
    """Whether transcripts lie where readers and chapters have their folders."""
    return any(True for _ in _texts(folder, _TRANSCRIPTS)) or any(
        True for _ in _texts(folder, f"*{_TEXT}")
    )


def list_rows(folder: Path) -> Listing:
    """Lists every subset in a folder.

    Raises:
      CorpusError: if a transcript cannot be opened.
    """
    skipped: list[Skipped] = []
    rows = (*_librispeech(folder, skipped), *_libritts(folder))
    official = {}
    for row in rows:
        subset = Path(row.where).parts[0]
        if part := _PARTS.get(subset.partition("-")[0]):
            official[row.speaker] = part
    return Listing(
        layout="LibriTTS" if rows and rows[0].where.endswith(_TEXT) else "LibriSpeech",
        rows=rows,
        table=folder,
        skipped=tuple(skipped),
        official=official,
    )


def _texts(folder: Path, pattern: str) -> Iterator[Path]:
    """Transcripts below <reader>/<chapter> or <subset>/<reader>/<chapter>."""
    for depth in ("*/*/", "*/*/*/"):
        yield from folder.glob(depth + pattern)


def _librispeech(folder: Path, skipped: list[Skipped]) -> Iterator[Row]:
    """Rows of LibriSpeech's transcripts."""
    sex = _sex(folder)
    for path in sorted(_texts(folder, _TRANSCRIPTS)):
        place = path.relative_to(folder)
        for line in read_lines(path):
            name, _, said = line.text.partition(" ")
            where = f"{place} line {line.number}"
            if line.problem:
                skipped.append(Skipped(where, line.problem))
            elif name:
                speaker = name.partition("-")[0]
                columns = {"sex": sex[speaker]} if speaker in sex else {}
                file = (place.parent / f"{name}.flac").as_posix()
                yield Row(where, File(file), speaker, spoken(said), name, columns)


def _libritts(folder: Path) -> Iterator[Row]:
    """Rows of LibriTTS's files, each of which has its text beside it."""
    for path in sorted(_texts(folder, f"*{_TEXT}")):
        place = path.relative_to(folder)
        name = path.name.removesuffix(_TEXT)
        said = " ".join(line.text for line in read_lines(path) if not line.problem)
        file = (place.parent / f"{name}.wav").as_posix()
        yield Row(place.as_posix(), File(file), name.partition("_")[0], spoken(said), name)


def _sex(folder: Path) -> Mapping[str, str]:
    """Reads SPEAKERS.TXT, in the folder or above it: id | sex | subset | minutes | name."""
    for path in (folder / "SPEAKERS.TXT", folder.parent / "SPEAKERS.TXT"):
        if path.is_file():
            cells = (line.text.split("|") for line in read_lines(path) if line.text[:1].isdigit())
            return {row[0].strip(): row[1].strip() for row in cells if len(row) > 1}
    return {}
