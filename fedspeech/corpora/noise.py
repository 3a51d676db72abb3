"""Noise recordings: rooms and machines without speech, which are cut into `_silence_`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Skipped
from fedspeech.corpora.delimited import read_columns, read_table
from fedspeech.corpora.files import AUDIO_SUFFIXES, MAX_NOISE_SECONDS, Folder, UnusableError, decode
from fedspeech.corpora.formats.manifest import find_table, place_of
from fedspeech.corpora.identity import plain
from fedspeech.corpora.recorded import RecordedCorpus, license_of
from fedspeech.corpora.records import NOBODY, File, Listing, Row
from fedspeech.errors import CorpusError

_EXAMPLE = ("file,kind", "tap.wav,running tap")


@dataclass(frozen=True, eq=False)
class Noise:
    """One recording without speech.

    Attributes:
      kind: source of the noise, in words.
      samples: shape (n,), float32, full scale 1, at the rate of the front end.
      digest: hex SHA-256 of the file.
    """

    kind: str
    samples: NDArray[np.float32] = field(repr=False)
    digest: str


@dataclass(frozen=True)
class NoiseFolder:
    """The usable recordings of a folder, and those left out."""

    noises: tuple[Noise, ...]
    skipped: tuple[Skipped, ...]


def read_noise(folder: Path, spec: FrontendSpec = LOG_MEL) -> NoiseFolder:
    """Reads a folder with a manifest (file, or member and shard; kind) or with sound files.

    They may also lie in its subfolder `_background_noise_`.

    Raises:
      CorpusError: if there is no usable noise in it.
    """
    folder = _inner(folder)
    reader = Folder(folder)
    noises, skipped = [], []
    for kind, source in _sources(folder):
        try:
            data = reader.read(source.file, source.shard)
            recording = decode(data, rate_hz=spec.rate_hz, max_seconds=MAX_NOISE_SECONDS)
        except UnusableError as problem:
            skipped.append(Skipped(str(source), str(problem)))
            continue
        noises.append(Noise(kind, recording.samples, hashlib.sha256(data).hexdigest()))
    if not noises:
        reasons = "".join(f"\n  {skip.where}: {skip.reason}" for skip in skipped[:5])
        raise CorpusError(
            f"no usable noise in {folder}: expected sound files ({' '.join(AUDIO_SUFFIXES)}), or a "
            f"manifest.csv with the columns file and kind{reasons}"
        )
    return NoiseFolder(tuple(noises), tuple(skipped))


def holds_noise(folder: Path) -> bool:
    """Whether a folder's manifest names recordings but neither speakers nor words."""
    path = find_table(folder)
    columns = set() if path is None else set(read_columns(path))
    return bool(columns & {"file", "member"}) and not columns & {"speaker", "word", "transcript"}


def _inner(folder: Path) -> Path:
    """The folder of noise itself, which may be a corpus's subfolder."""
    folder = folder / NOBODY if (folder / NOBODY).is_dir() else folder
    if not folder.is_dir():
        raise CorpusError(f"no such folder of noise: {folder}")
    return folder


def _sources(folder: Path) -> Iterator[tuple[str, File]]:
    """Yields kind and place of every recording, by manifest or by listing."""
    path = find_table(folder)
    if path is None:
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in AUDIO_SUFFIXES:
                yield file.stem, File(file.name)
        return
    for row in read_table(path, needed=(("file", "member"),), example=_EXAMPLE).rows:
        place = place_of(row.cells)
        yield plain(row.cells.get("kind", "")) or Path(place.file).stem, place


class NoiseCorpus(RecordedCorpus):
    """A folder of noise as a corpus of `_silence_`."""

    def __init__(self, folder: Path, spec: FrontendSpec = LOG_MEL) -> None:
        """Reads the noise and cuts it; see `read_noise`.

        Raises:
          CorpusError: if there is no usable noise, or none as long as a clip.
        """
        folder = _inner(folder)
        rows = tuple(
            Row(str(place), place, "", SILENCE, columns={"noise": kind})
            for kind, place in _sources(folder)
        )
        super().__init__(
            Listing(layout="noise", rows=rows, table=folder),
            Folder(folder),
            name=folder.resolve().name,
            license=license_of(folder),
            spec=spec,
        )
