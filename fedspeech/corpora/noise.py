"""Noise recordings: rooms and machines without speech, which are cut into `_silence_`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
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
      kind: source of the noise, in words.
      samples: shape (n,), float32, full scale 1, at the rate of the front end.
      digest: hex SHA-256 of the file.
    """

    kind: str
    samples: NDArray[np.float32] = field(repr=False)
    digest: str

    @property
    def speaker(self) -> Speaker:
        """The speaker of the recording's clips."""
        # Each recording is one: silence for training and evaluation can come from different ones.
        return Speaker(f"{NOISE_FOLDER}/{self.kind}", {"noise": self.kind})

    def silences(self, clip_samples: int) -> Iterator[Entry]:
        """Cuts the recording into clips of `_silence_`, without overlap."""
        speaker_id = self.speaker.speaker_id
        for index in range(len(self.samples) // clip_samples):
            start = index * clip_samples
            # Samples are not hashed: file and place determine them.
            digest = hashlib.sha256(canonical("cut", self.digest, start)).hexdigest()
            yield Entry(
                Utterance(f"{speaker_id}/{index}", speaker_id, SILENCE),
                Cut(self.samples[start : start + clip_samples], digest),
            )


@dataclass(frozen=True)
class NoiseFolder:
    """The usable recordings of a folder, and those left out."""

    noises: tuple[Noise, ...]
    skipped: tuple[Skipped, ...]

    @property
    def speakers(self) -> dict[str, Speaker]:
        """The speakers of all recordings."""
        return {noise.speaker.speaker_id: noise.speaker for noise in self.noises}

    def silences(self, spec: FrontendSpec) -> list[Entry]:
        """Clips of `_silence_` from all recordings."""
        return [entry for noise in self.noises for entry in noise.silences(spec.clip_samples)]


def read_noise(folder: Path, spec: FrontendSpec = LOG_MEL) -> NoiseFolder:
    """Reads a folder with a manifest (file, or member and shard; kind) or with sound files.

    They may also lie in its subfolder `_background_noise_`.

    Raises:
      CorpusError: if there is no usable noise in it.
    """
    if (folder / NOISE_FOLDER).is_dir():
        folder = folder / NOISE_FOLDER
    if not folder.is_dir():
        raise CorpusError(f"no such folder of noise: {folder}")
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


def _sources(folder: Path) -> Iterator[tuple[str, File]]:
    """Yields kind and place of every recording, by manifest or by listing."""
    if find_table(folder) is None:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                yield path.stem, File(path.name)
        return
    table = read_table(folder, needed=(("file", "member"),), example=_EXAMPLE)
    for row in table.rows:
        yield row.cells.get("kind") or Path(row.source.file).stem, row.source


class NoiseCorpus(RecordedCorpus):
    """A folder of noise as a corpus of `_silence_`."""

    def __init__(self, folder: Path, spec: FrontendSpec = LOG_MEL) -> None:
        """Reads the noise and cuts it; see `read_noise`.

        Raises:
          CorpusError: if there is no usable noise, or none as long as a clip.
        """
        noise = read_noise(folder, spec)
        super().__init__(
            layout="noise",
            folder=Folder(folder),
            speakers=noise.speakers,
            persons=Persons(()),
            entries=noise.silences(spec),
            skipped=noise.skipped,
            spec=spec,
        )
