"""Noise recordings: rooms and machines without speech, the stuff of `_silence_`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Skipped, Speaker, Utterance
from fedspeech.corpora.files import AUDIO_SUFFIXES, MAX_NOISE_SECONDS, Folder, UnusableError, decode
from fedspeech.corpora.identity import Persons
from fedspeech.corpora.manifest import find_table, read_columns, read_table
from fedspeech.corpora.recorded import Cut, Entry, File, RecordedCorpus
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical

NOISE_FOLDER = "_background_noise_"
_EXAMPLE = ("file,kind", "tap.wav,running tap")


@dataclass(frozen=True, eq=False)
class Noise:
    """One recording without speech.

    Attributes:
      kind: what makes the noise.
      samples: shape (n,), float32, full scale 1, at the rate of the front end.
      digest: hex SHA-256 of the file.
    """

    kind: str
    samples: NDArray[np.float32] = field(repr=False)
    digest: str


@dataclass(frozen=True)
class NoiseFolder:
    """The usable recordings of a folder, and what was left out."""

    noises: tuple[Noise, ...]
    skipped: tuple[Skipped, ...]


def read_noise(folder: Path, spec: FrontendSpec | None = None) -> NoiseFolder:
    """Reads a folder of noise: a manifest with file (or member and shard) and kind, or just files.

    Args:
      folder: a folder with a manifest, with sound files, or with `_background_noise_` in it.
      spec: sample rate; `FrontendSpec()` if None.

    Raises:
      CorpusError: if there is no usable noise in it.
    """
    spec = spec or FrontendSpec()
    if (folder / NOISE_FOLDER).is_dir():
        folder = folder / NOISE_FOLDER
    if not folder.is_dir():
        raise CorpusError(f"no such folder of noise: {folder}")
    reader = Folder(folder)
    noises, skipped = [], []
    for kind, source in _sources(folder):
        try:
            data = reader.read(source.file, source.shard)
            recording = decode(
                data, rate_hz=spec.rate_hz, max_seconds=MAX_NOISE_SECONDS, flat=False
            )
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


def _sources(folder: Path) -> Iterator[tuple[str, File]]:
    """Yields kind and place of every recording, by manifest or by listing."""
    if find_table(folder) is None:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                yield path.stem, File(path.name)
        return
    table = read_table(folder, needed=(("file", "member"),), example=_EXAMPLE)
    for row in table.rows:
        file = row.cells.get("file") or row.cells.get("member", "")
        yield row.cells.get("kind") or Path(file).stem, File(file, row.cells.get("shard") or None)


def noise_speakers(noises: Sequence[Noise]) -> dict[str, Speaker]:
    """Makes each noise recording a speaker of its own, `_background_noise_/<kind>`.

    So silence to train on and silence to judge by can come from different recordings.
    """
    return {
        _speaker_id(noise): Speaker(_speaker_id(noise), {"noise": noise.kind}) for noise in noises
    }


def _speaker_id(noise: Noise) -> str:
    """Returns the id under which a recording's clips go."""
    return f"{NOISE_FOLDER}/{noise.kind}"


def silences(noises: Sequence[Noise], spec: FrontendSpec) -> Iterator[Entry]:
    """Cuts noise into clips of `_silence_`, one after the other, without overlap."""
    for noise in noises:
        speaker_id = _speaker_id(noise)
        for index in range(len(noise.samples) // spec.clip_samples):
            start = index * spec.clip_samples
            digest = hashlib.sha256(canonical("cut", noise.digest, start)).hexdigest()
            yield Entry(
                Utterance(f"{speaker_id}/{index}", speaker_id, SILENCE),
                Cut(noise.samples[start : start + spec.clip_samples], digest),
            )


class NoiseCorpus(RecordedCorpus):
    """A folder of noise as a corpus whose every clip is `_silence_`."""

    def __init__(self, folder: Path, spec: FrontendSpec | None = None) -> None:
        """Reads the noise and cuts it.

        Args:
          folder: see `read_noise`.
          spec: sample rate and length of clips; `FrontendSpec()` if None.

        Raises:
          CorpusError: if there is no usable noise, or none as long as a clip.
        """
        spec = spec or FrontendSpec()
        noise = read_noise(folder, spec)
        super().__init__(
            layout="noise",
            folder=Folder(folder),
            speakers=noise_speakers(noise.noises),
            persons=Persons(()),
            entries=silences(noise.noises, spec),
            skipped=noise.skipped,
            spec=spec,
        )
