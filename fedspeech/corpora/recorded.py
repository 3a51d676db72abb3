"""Recordings on disk as a corpus: one validating pass on opening, then decoding on demand.

Opening decodes every file once, in order, and keeps hashes, not samples, so that memory does not
grow with the corpus. Every member of `utterances` is readable. `waveforms` decodes again (about
0.4 ms a clip) and refuses a file that has changed since the corpus was opened.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import FrontendSpec
from fedspeech.corpora.corpus import SILENCE, Skipped, Speaker, Utterance
from fedspeech.corpora.files import Folder, Recording, UnusableError, decode, fit
from fedspeech.corpora.identity import Persons
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical

_READING = "reading 2"  # raise it when `decode` or `fit` change what they return


@dataclass(frozen=True)
class File:
    """The place of a clip: a path relative to the folder, or a member of the tar `shard`."""

    file: str
    shard: str | None = None

    def __str__(self) -> str:
        """Name in reports; bytes that are no UTF-8 as escapes."""
        name = self.file if self.shard is None else f"{self.shard}:{self.file}"
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, eq=False)
class Cut:
    """A clip of silence: samples of a noise recording in memory, shape (clip_samples,), float32.

    The digest is the hex SHA-256 of the noise file and the place of the clip in it.
    """

    samples: NDArray[np.float32] = field(repr=False)
    digest: str


@dataclass(frozen=True)
class Entry:
    """An utterance and the source of its waveform."""

    utterance: Utterance
    source: File | Cut


@dataclass(kw_only=True)
class Tally:
    """Properties of the usable recordings of a corpus, before they became clips.

    Attributes:
      seconds: total length.
      rates_hz: sample rate to number of recordings.
      downmixed: recordings with more than one channel.
      canceled: those of them whose channels cancel each other, so that the loudest was taken.
      padded: recordings shorter than a clip.
      cut: recordings longer than a clip.
    """

    seconds: float = 0.0
    rates_hz: Counter[int] = field(default_factory=Counter)
    downmixed: int = 0
    canceled: int = 0
    padded: int = 0
    cut: int = 0

    def add(self, recording: Recording, clip_samples: int) -> None:
        """Counts one recording."""
        self.seconds += recording.seconds
        self.rates_hz[recording.rate_hz] += 1
        self.downmixed += recording.channels > 1
        self.canceled += recording.canceled
        self.padded += len(recording.samples) < clip_samples
        self.cut += len(recording.samples) > clip_samples


class RecordedCorpus:
    """A `Corpus` over files; subclasses list the files and the speakers of one layout.

    Attributes:
      unused_columns: columns of a manifest that change within a speaker, so are no segment.
    """

    unused_columns: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        layout: str,
        folder: Folder,
        speakers: Mapping[str, Speaker],
        persons: Persons,
        entries: Iterable[Entry],
        skipped: Sequence[Skipped] = (),
        spec: FrontendSpec,
        sentences: bool = False,
    ) -> None:
        """Reads and checks every recording once.

        Entries come in the order of the corpus, with unique utterance ids; `skipped` holds those
        that the layout left out before any file was opened. Speakers without a usable recording
        are left out. With `sentences`, a clip starts with its recording and a longer recording is
        left out, since its transcript would not fit the part that is kept.

        Raises:
          CorpusError: if not one recording is usable.
        """
        self.layout, self.persons, self.tally = layout, persons, Tally()
        self.name, self.license = folder.root.name, license_of(folder.root)
        self._folder, self._spec, self._sentences = folder, spec, sentences
        self._entries: dict[str, Entry] = {}
        self._digests: dict[str, str] = {}
        left_out = list(skipped)
        first: dict[str, File] = {}
        for entry in entries:
            try:
                self._digests[entry.utterance.utterance_id] = self._check(entry, first)
            except UnusableError as problem:
                left_out.append(Skipped(str(entry.source), str(problem)))
                continue
            self._entries[entry.utterance.utterance_id] = entry
        self.skipped: Sequence[Skipped] = tuple(left_out)
        if not self._entries:
            examples = "\n".join(f"  {skip.where}: {skip.reason}" for skip in left_out[:5])
            raise CorpusError(
                f"no usable recording in {folder.root}: all {len(left_out)} were skipped, "
                f"for instance\n{examples}"
            )
        self.utterances: Sequence[Utterance] = tuple(e.utterance for e in self._entries.values())
        recorded = {utterance.speaker_id for utterance in self.utterances}
        self.speakers: Mapping[str, Speaker] = {
            name: speaker for name, speaker in speakers.items() if name in recorded
        }

    def _check(self, entry: Entry, first: dict[str, File]) -> str:
        """Decodes and counts an entry; returns its digest, or raises `UnusableError`."""
        clip_samples, source = self._spec.clip_samples, entry.source
        if isinstance(source, Cut):
            self.tally.seconds += len(source.samples) / self._spec.rate_hz
            return source.digest
        data = self._folder.read(source.file, source.shard)
        digest = hashlib.sha256(data).hexdigest()
        # A copy under another name would be trained on and evaluated as never trained on.
        if digest in first:
            raise UnusableError("the same bytes as an earlier file", f"equals {first[digest]}")
        flat = entry.utterance.word == SILENCE  # digital silence is a usable negative
        recording = decode(data, rate_hz=self._spec.rate_hz, flat=flat)
        excess = len(recording.samples) - clip_samples
        if self._sentences and excess > 0:
            raise UnusableError("too long for a sentence", f"{excess} samples more than a clip")
        first[digest] = source
        self.tally.add(recording, clip_samples)
        return digest

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the file's bytes, the clip format and the rules of reading."""
        spec = self._spec
        digest = self._digests[utterance.utterance_id]
        kind = "sentence" * self._sentences
        recipe = canonical(_READING + kind, digest, spec.rate_hz, spec.clip_samples)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Decodes clips, shape (n, clip_samples), float32, full scale 1.

        Raises:
          CorpusError: if a file is no longer what it was when the corpus was opened.
        """
        clips = np.empty((len(utterances), self._spec.clip_samples), dtype=np.float32)
        for row, utterance in zip(clips, utterances, strict=True):
            row[:] = self._clip(self._entries[utterance.utterance_id])
        return clips

    def _clip(self, entry: Entry) -> NDArray[np.float32]:
        """Reads one clip."""
        if isinstance(entry.source, Cut):
            return entry.source.samples
        try:
            data = self._folder.read(entry.source.file, entry.source.shard)
        except UnusableError as problem:
            raise CorpusError(f"{entry.source} can no longer be read: {problem}") from problem
        # What is computed from a clip is cached under its digest, so other bytes must not pass for
        # it.
        if hashlib.sha256(data).hexdigest() != self._digests[entry.utterance.utterance_id]:
            raise CorpusError(f"{entry.source} has changed since the corpus was opened")
        recording = decode(data, rate_hz=self._spec.rate_hz, flat=True)  # checked on opening
        if self._sentences:
            missing = self._spec.clip_samples - len(recording.samples)
            return np.pad(recording.samples, (0, missing))
        return fit(recording.samples, self._spec.clip_samples)


def license_of(root: Path) -> str:
    """Reads `LICENSE.CC-BY-4.0.txt` as CC-BY-4.0, and of a plain LICENSE the first line."""
    for path in sorted(root.glob("LICEN[CS]E*")):
        name = path.name.removesuffix(".txt").removesuffix(".md")[len("LICENSE") :].strip(".-_ ")
        if name:
            return name
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), "not stated")[:100]
    return "not stated"
