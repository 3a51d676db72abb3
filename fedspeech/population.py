"""What the phones of a population hold: arrays in a folder, mapped and never copied."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.errors import ScenarioError
from fedspeech.seeds import canonical
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.virtual_phones import VirtualPhones
from fedspeech.vectors import FloatVector


@dataclass(frozen=True, eq=False)
class PopulationArrays:
    """What the phones hold, memory-mapped. Printing it shows shapes only.

    Attributes:
      embeddings: clips of all phones, one phone after the other, (n, *embedding_shape), float32.
      labels: shape (n,), or (n, characters) of sentences, int64; see `LocalDataset`.
      offsets: phone p owns clips offsets[p] to offsets[p + 1]; shape (phones + 1,), int64.
      background: public unknown and silence clips that ship to phones.
      background_offsets: phone p gets clips background_offsets[g] to background_offsets[g + 1] of
        the background, with g = p modulo the number of such groups; shape (groups + 1,), int64.
        Empty, and no file, where every phone gets all of it.
      validation: public validation speakers; the only clips that the server sees.
      initial: the adapter before the first round, shape (d,), float32.
      frozen: what phones train through, if the adapter stands inside the encoder: a
        `models.frozen_graph` as bytes, uint8. Empty, and no file, for other adapters.
      events: telemetry of all phones, one phone after the other, shape (events, columns), int16;
        see `LocalDataset`. Empty, and no file, where phones keep none.
      event_offsets: phone p owns events event_offsets[p] to event_offsets[p + 1]; shape
        (phones + 1,), int64. Counts phones, also where phones are drawn from voices.
      attributes: of every phone, shape (phones, attributes), int16. Empty, and no file, where
        phones say nothing of themselves.
      virtual_phones: where phones are drawn from voices: the clips are then those of voice p, and
        phones as many as the plan says; None: one phone per voice.
      held: which of so many clips of its user a phone holds, ascending, where clips come and go
        (`Job.as_of`); None: all of them. In no file.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    offsets: NDArray[np.int64]
    background: LocalDataset
    validation: LocalDataset
    initial: FloatVector
    frozen: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, dtype=np.uint8))
    events: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0), np.int16))
    event_offsets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    attributes: NDArray[np.int16] = field(default_factory=lambda: np.zeros((0, 0), np.int16))
    virtual_phones: VirtualPhones | None = None
    background_offsets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    held: Callable[[int, int], NDArray[np.int64]] | None = None

    @classmethod
    def without_clips(cls, phones: int, **telemetry: Any) -> PopulationArrays:
        """Phones without a clip; `events`, `event_offsets` and `attributes` as given."""
        nothing = LocalDataset(np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
        return cls(
            embeddings=nothing.embeddings,
            labels=nothing.labels,
            offsets=np.zeros(phones + 1, np.int64),
            background=nothing,
            validation=nothing,
            initial=np.zeros(1, np.float32),
            **telemetry,
        )

    def __repr__(self) -> str:
        """Shows shapes only."""
        return (
            f"PopulationArrays(voices={len(self.offsets) - 1}, embeddings={self.embeddings.shape})"
        )

    def phone(self, index: int) -> LocalDataset:
        """Returns what one phone holds: its own clips, then its background set; its telemetry."""
        own: slice | NDArray[np.int64]
        if self.virtual_phones is None:
            own = slice(self.offsets[index], self.offsets[index + 1])
        else:
            own = self.virtual_phones.clips(index, self.offsets)
        clips = LocalDataset(self.embeddings[own], self.labels[own], **self._telemetry(index))
        if self.held is not None:
            clips = clips.take(self.held(index, len(clips)))
        return clips.joined(self.background_of(index))

    def background_of(self, index: int) -> LocalDataset:
        """Returns the background set of one phone."""
        if not self.background_offsets.size:
            return self.background
        group = index % (len(self.background_offsets) - 1)
        first, last = self.background_offsets[group : group + 2]
        return self.background.take(np.arange(first, last))

    def _telemetry(self, index: int) -> dict[str, Any]:
        found: dict[str, NDArray[np.int16]] = {}
        if self.event_offsets.size:
            found["events"] = self.events[self.event_offsets[index] : self.event_offsets[index + 1]]
        if self.attributes.size:
            found["attributes"] = self.attributes[index]
        return found

    def save(self, folder: Path) -> None:
        """Writes one .npy file per array into a new folder, visible only when complete."""
        partial = folder.with_name(folder.name + f".partial-{os.getpid()}")
        partial.mkdir(parents=True)
        for name, array in self._flat().items():
            np.save(partial / f"{name}.npy", np.ascontiguousarray(array))
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # somebody else made the same folder first: same content
                raise

    @classmethod
    def checked(cls, folder: Path, sha256: str) -> PopulationArrays:
        """Maps the arrays of a folder if they are the ones that are meant.

        Their bytes are read once in a process, and again only when a file has changed since.

        Raises:
          ScenarioError: if they are missing, damaged or others.
        """
        arrays, found = _hashed(folder, tuple(_stamp(folder, name) for name in _names(folder)))
        if found != sha256:
            raise ScenarioError(
                f"job arrays in {folder} are not those of this job: expected SHA-256 "
                f"{sha256[:12]}..., got {found[:12]}..."
            )
        return arrays

    @classmethod
    def load(cls, folder: Path) -> PopulationArrays:
        """Maps the arrays of a folder.

        Raises:
          ScenarioError: if one is missing or damaged.
        """
        arrays: dict[str, Any] = {}
        for name in _names(folder):
            try:
                found = np.load(folder / f"{name}.npy", mmap_mode="r")
            except (OSError, ValueError) as error:
                raise ScenarioError(f"job array {folder / name}.npy: {error}") from error
            arrays[name] = np.asarray(found) if name in _MAPPED else np.array(found)
        for name in _DATASETS:
            parts = (arrays.pop(f"{name}_embeddings"), arrays.pop(f"{name}_labels"))
            arrays[name] = LocalDataset(*parts)
        return cls(**arrays)

    def _flat(self) -> dict[str, NDArray[np.generic]]:
        arrays = dict(vars(self))
        for name in _DATASETS:
            data = arrays[name]
            arrays |= {f"{name}_embeddings": data.embeddings, f"{name}_labels": data.labels}
        held = [name for name, needed in _OPTIONAL.items() if arrays[needed].size]
        return {name: arrays[name] for name in (*_ARRAY_NAMES, *held)}

    def sha256(self) -> str:
        """Digest over names, types, shapes and bytes of all arrays, hex."""
        digest = hashlib.sha256()
        for name, array in self._flat().items():
            digest.update(canonical(name, array.dtype.str, *array.shape))
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


_ARRAY_NAMES = (
    "embeddings", "labels", "offsets", "background_embeddings", "background_labels",
    "validation_embeddings", "validation_labels", "initial",
)  # fmt: skip
# Without a file where the array on the right is empty, as in the jobs before there was one.
_OPTIONAL = {
    "frozen": "frozen",
    "events": "event_offsets",
    "event_offsets": "event_offsets",
    "attributes": "attributes",
    "background_offsets": "background_offsets",
}
_MAPPED = ("embeddings", "labels", "events", "attributes")  # grow with the population
_DATASETS = ("background", "validation")


def _names(folder: Path) -> tuple[str, ...]:
    """The arrays that a folder must hold, and those of the others that it holds."""
    held = [name for name in _OPTIONAL if (folder / f"{name}.npy").exists()]
    return (*_ARRAY_NAMES, *held)


@functools.lru_cache(maxsize=4)
def _hashed(folder: Path, stamps: tuple[object, ...]) -> tuple[PopulationArrays, str]:
    """The arrays of a folder whose files have these stamps, and their digest."""
    arrays = PopulationArrays.load(folder)
    return arrays, arrays.sha256()


def _stamp(folder: Path, name: str) -> tuple[int, ...]:
    """What changes when a file does."""
    file = folder / f"{name}.npy"
    try:
        found = file.stat()
    except OSError as error:
        raise ScenarioError(f"job array {file}: {error}") from error
    # Instead of a digest, for which all bytes would be read each time.
    return found.st_ino, found.st_size, found.st_mtime_ns
