"""Transcribed sentences as features, for corpora that are distributed without waveforms.

    clip_id,first_frame,frames,speaker,transcript
    a1,0,250,anna,call my mother

Beside the manifest lies an .npz file of one array, and a clip is rows of that array: AN4 is
distributed as the 13 cepstra that Sphinx computes, which are the features of bases for sentences.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import Skipped, Speaker, Utterance
from fedspeech.corpora.delimited import read_table
from fedspeech.corpora.formats.manifest import find_table
from fedspeech.corpora.identity import plain
from fedspeech.corpora.recorded import license_of, unusable_transcript
from fedspeech.corpora.records import (
    MAX_UNUSABLE_SHARE,
    File,
    Listing,
    Row,
    speakers_of,
    usable_rows,
)
from fedspeech.corpora.written import spoken
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical

FEATURE_COLUMNS = ("first_frame", "frames", "clip_id")


class FeatureCorpus:
    """A `Corpus` of sentences as features."""

    def __init__(
        self, folder: Path, spec: FrontendSpec, *, max_unusable_share: float = MAX_UNUSABLE_SHARE
    ) -> None:
        """Reads the manifest and the one array of the one .npz file, shape (frames, features).

        Sentences longer than a clip of the front end are left out.

        Raises:
          CorpusError: if the array is missing or does not fit, more than a share of the rows
            cannot be used, or nothing is usable.
        """
        listing = _listing(folder)
        found = usable_rows(listing, max_unusable_share)
        self.name, self.license, self.persons = folder.name, license_of(folder), found.persons
        self._spec = spec
        self._frames = _read_array(folder, spec)
        self._places: dict[str, slice] = {}
        utterances, skipped = [], []
        for row in found.rows:
            place = _place(row.columns)
            if reason := unusable_transcript(row.said) or self._unusable(place):
                skipped.append(Skipped(row.where, reason))
                continue
            self._places[row.clip_id] = place
            utterances.append(Utterance(row.clip_id, row.speaker, row.said))
        self.utterances: Sequence[Utterance] = utterances
        self.skipped: Sequence[Skipped] = (*skipped, *found.skipped)
        if not utterances:
            first = self.skipped[0]  # a manifest without rows was refused before
            raise CorpusError(
                f"no usable sentence in {folder}: all {len(self.skipped)} were skipped, for "
                f"instance {first.where}: {first.reason}"
            )
        about_the_clip = ("first_frame", "frames", "official_split")
        speakers, _ = speakers_of(
            replace(row, columns={k: v for k, v in row.columns.items() if k not in about_the_clip})
            for row in found.rows
        )
        recorded = {utterance.speaker_id for utterance in utterances}
        self.speakers: Mapping[str, Speaker] = {
            name: speaker for name, speaker in speakers.items() if name in recorded
        }

    def _unusable(self, place: slice) -> str:
        """Why these rows are no sentence; empty if they are usable."""
        count = place.stop - place.start
        if place.start < 0 or count < 1 or place.stop > len(self._frames):
            return f"no such frames: the array has {len(self._frames)}"
        if count > self._spec.frames_per_clip:
            return f"too long: {count} frames, at most {self._spec.frames_per_clip}"
        if not np.isfinite(self._frames[place]).all():
            return "not finite: a feature is NaN or infinite"
        return ""

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the features and the length of a clip."""
        frames = self._frames[self._places[utterance.utterance_id]]
        recipe = canonical("features 1", frames.tobytes(), self._spec.frames_per_clip)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Returns features, shape (n, frames, features), float32, zeros after each sentence."""
        shape = (len(utterances), self._spec.frames_per_clip, self._spec.num_features)
        clips = np.zeros(shape, dtype=np.float32)
        for clip, utterance in zip(clips, utterances, strict=True):
            frames = self._frames[self._places[utterance.utterance_id]]
            clip[: len(frames)] = frames
        return clips


def _listing(folder: Path) -> Listing:
    """The rows of the manifest; what a manifest of sound names is here a clip of the array."""
    path = find_table(folder)
    if path is None:
        raise CorpusError(f"no manifest.csv or metadata.csv in {folder}")
    table = read_table(
        path,
        needed=(("speaker",), ("transcript",), *((name,) for name in FEATURE_COLUMNS)),
        example=("clip_id,first_frame,frames,speaker,transcript", "a1,0,250,anna,call me"),
    )
    named = ("clip_id", "speaker", "transcript")
    rows = tuple(
        Row(
            where=f"line {row.line}",
            source=File(clip_id := plain(row.cells["clip_id"])),
            speaker=row.cells["speaker"],
            said=spoken(row.cells["transcript"]),
            clip_id=clip_id,
            columns={name: cell for name, cell in row.cells.items() if name not in named},
        )
        for row in table.rows
    )
    return Listing(layout="features", rows=rows, table=path, skipped=table.skipped)


def _read_array(folder: Path, spec: FrontendSpec) -> NDArray[np.float32]:
    """The one array of the one .npz file."""
    files = sorted(folder.glob("*.npz"))
    if len(files) != 1:
        raise CorpusError(f"expected one .npz file of features in {folder}, got {len(files)}")
    try:
        with np.load(files[0], allow_pickle=False) as arrays:  # a pickle would run code
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
    """Rows of a clip; an impossible slice for cells that are no numbers."""
    try:
        first, count = int(cells["first_frame"]), int(cells["frames"])
    except ValueError:
        return slice(-1, -1)
    return slice(first, first + count)
