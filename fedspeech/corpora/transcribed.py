"""Real sentences with transcripts: sound files, or features where a corpus comes without sound.

    file,speaker,transcript,accent
    anna/7.wav,anna,call my mother,Scottish

The manifest is that of words, with a column `transcript`. With columns `first_frame` and `frames`
and an .npz file of one array beside it, a clip is rows of that array: AN4 is distributed as the 13
cepstra that Sphinx computes, which are the features of bases for sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Corpus, Skipped, Speaker, Utterance
from fedspeech.corpora.manifest import (
    ManifestCorpus,
    Table,
    find_table,
    read_columns,
    read_table,
    segments_by_speaker,
    unusable_transcript,
)
from fedspeech.corpora.recorded import licence_of
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical

FEATURE_COLUMNS = ("first_frame", "frames", "clip_id")


def open_transcribed(folder: Path, spec: FrontendSpec) -> Corpus:
    """Opens a folder of transcribed sentences.

    Args:
      folder: with a manifest.
      spec: front end of the base; its clip length is the longest sentence that is kept.

    Raises:
      CorpusError: if there is no manifest, it must be corrected, or nothing in it is usable.
    """
    path = find_table(folder) if folder.is_dir() else None
    if path is not None and set(FEATURE_COLUMNS) <= set(read_columns(path)):
        return FeatureCorpus(folder, spec)
    return ManifestCorpus(folder, spec, sentences=True)


class FeatureCorpus:
    """Sentences as features; see `fedspeech.corpora.corpus.Corpus`.

    Attributes:
      persons: how the names of speakers are written.
      skipped: what was left out; reasons show no transcript.
    """

    def __init__(self, folder: Path, spec: FrontendSpec) -> None:
        """Reads manifest and features.

        Args:
          folder: with the manifest and one .npz file of one array, shape (frames, features).
          spec: what the features must be; sentences longer than its clips are left out.

        Raises:
          CorpusError: if the array is missing or does not fit, or nothing is usable.
        """
        table = read_table(
            folder,
            needed=(("speaker",), ("transcript",), *((name,) for name in FEATURE_COLUMNS)),
            example=("clip_id,first_frame,frames,speaker,transcript", "a1,0,250,anna,call me"),
        )
        self._folder, self._spec, self.persons = folder, spec, table.persons
        self._frames = _read_array(folder, spec)
        self._places: dict[str, slice] = {}
        self._utterances: list[Utterance] = []
        self._skipped: list[Skipped] = []
        for row in table.rows:
            clip_id = row.cells["clip_id"]
            said = " ".join(row.cells["transcript"].lower().split())
            place = _place(row.cells)
            if reason := unusable_transcript(said) or self._unusable(place):
                self._skipped.append(Skipped(f"line {row.line}", reason))
                continue
            self._places[clip_id] = place
            self._utterances.append(Utterance(clip_id, row.cells["speaker"], said))
        self._skipped += table.skipped
        if not self._utterances:
            first = self._skipped[0]  # a manifest without rows was refused before
            raise CorpusError(
                f"no usable sentence in {folder}: all {len(self._skipped)} were skipped, for "
                f"instance {first.where}: {first.reason}"
            )
        self._speakers = _speakers(table, {clip.speaker_id for clip in self._utterances})

    def _unusable(self, place: slice) -> str:
        """Why these rows are no sentence; empty if they are one."""
        count = place.stop - place.start
        if place.start < 0 or count < 1 or place.stop > len(self._frames):
            return f"no such frames: the array has {len(self._frames)}"
        if count > self._spec.frames_per_clip:
            return f"too long: {count} frames, at most {self._spec.frames_per_clip}"
        if not np.isfinite(self._frames[place]).all():
            return "not finite: a feature is NaN or infinite"
        return ""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._folder.name

    @property
    def licence(self) -> str:
        """What the folder's licence file is called or begins with."""
        return licence_of(self._folder)

    @property
    def speakers(self) -> Mapping[str, Speaker]:
        """Speakers with at least one usable sentence, by id."""
        return self._speakers

    @property
    def utterances(self) -> Sequence[Utterance]:
        """Every usable sentence, in the order of the manifest."""
        return self._utterances

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What was left out."""
        return self._skipped

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the features and the length of a clip."""
        frames = self._frames[self._places[utterance.utterance_id]]
        recipe = canonical("features 1", frames.tobytes(), self._spec.frames_per_clip)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns features, shape (n, frames, m), float32, zeros after each sentence."""
        shape = (len(utterances), self._spec.frames_per_clip, self._spec.num_features)
        clips = np.zeros(shape, dtype=np.float32)
        for clip, utterance in zip(clips, utterances, strict=True):
            frames = self._frames[self._places[utterance.utterance_id]]
            clip[: len(frames)] = frames
        return clips


def _read_array(folder: Path, spec: FrontendSpec) -> NDArray[np.float32]:
    """The one array of the one .npz file."""
    files = sorted(folder.glob("*.npz"))
    if len(files) != 1:
        raise CorpusError(f"expected one .npz file of features in {folder}, got {len(files)}")
    try:
        with np.load(files[0], allow_pickle=False) as arrays:
            (array,) = (arrays[name] for name in arrays.files)
    except (OSError, ValueError) as error:
        raise CorpusError(f"{files[0]} holds no usable array: {error}") from error
    if array.ndim != 2 or array.shape[1] != spec.num_features:
        raise CorpusError(
            f"{files[0]} must hold frames of {spec.num_features} features, got {array.shape}"
        )
    frames: NDArray[np.float32] = array.astype(np.float32)
    return frames


def _place(cells: Mapping[str, str]) -> slice:
    """Rows of a clip; an impossible place for what is no number."""
    try:
        first, count = int(cells["first_frame"]), int(cells["frames"])
    except ValueError:
        return slice(-1, -1)
    return slice(first, first + count)


def _speakers(table: Table, heard: set[str]) -> dict[str, Speaker]:
    """Speakers with their segments."""
    segments, _ = segments_by_speaker(table, ("first_frame", "frames", "official_split"))
    return {name: Speaker(name, found) for name, found in segments.items() if name in heard}
