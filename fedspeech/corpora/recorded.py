"""Recordings on disk as a corpus: one validating pass when it is opened, decoding on demand.

Opening decodes every file once, in order, and keeps verdicts and hashes, not samples: what
`utterances` names can be read. `waveforms` decodes again (about 0.4 ms a clip) and refuses a file
that has changed in between, so that the memory needed does not grow with the corpus.
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
from fedspeech.corpora.files import Folder, UnusableError, decode, fit
from fedspeech.corpora.identity import Persons
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical

_READING = "reading 2"  # raise it when `decode` or `fit` change what they return


@dataclass(frozen=True)
class File:
    """Where a clip is stored.

    Attributes:
      file: path relative to the folder, or member of the tar.
      shard: path of the tar relative to the folder, if there is one.
    """

    file: str
    shard: str | None = None

    def __str__(self) -> str:
        """The name by which it is reported; bytes that are no UTF-8 as escapes."""
        name = self.file if self.shard is None else f"{self.shard}:{self.file}"
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, eq=False)
class Cut:
    """A clip of silence: a piece of a noise recording that is held in memory.

    Attributes:
      samples: shape (clip_samples,), float32.
      digest: hex SHA-256 of the noise file and the place of the piece.
    """

    samples: NDArray[np.float32] = field(repr=False)
    digest: str


@dataclass(frozen=True)
class Entry:
    """An utterance and where its sound comes from."""

    utterance: Utterance
    source: File | Cut


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What the recordings of a corpus were like before they became clips.

    Attributes:
      seconds: length of all usable recordings together.
      rates_hz: sample rate to number of recordings.
      downmixed: recordings with more than one channel.
      canceled: those of them whose channels cancel each other, so that the loudest was taken.
      padded: recordings shorter than a clip.
      cut: recordings longer than a clip.
    """

    seconds: float
    rates_hz: Mapping[int, int]
    downmixed: int
    canceled: int
    padded: int
    cut: int


class RecordedCorpus:
    """A `Corpus` over files. The layouts derive from it and only say which files and who spoke."""

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

        Args:
          layout: what the arrangement of files is called.
          folder: where the files are.
          speakers: every speaker that an entry names.
          persons: how their names are written.
          entries: in the order that the corpus will have; utterance ids are unique.
          skipped: what the layout left out before any file was opened.
          spec: sample rate and length of clips.
          sentences: whether a clip begins with its recording and a longer recording is left out,
            since its transcript would not fit what is kept.

        Raises:
          CorpusError: if not one recording is usable.
        """
        self.layout, self.persons = layout, persons
        self._folder = folder
        self._spec = spec
        self._sentences = sentences
        self._skipped = list(skipped)
        self._entries: dict[str, Entry] = {}
        self._digests: dict[str, str] = {}
        self._scan(entries)
        if not self._entries:
            examples = "\n".join(f"  {skip.where}: {skip.reason}" for skip in self._skipped[:5])
            raise CorpusError(
                f"no usable recording in {folder.root}: all {len(self._skipped)} were skipped, "
                f"for instance\n{examples}"
            )
        self._utterances = tuple(entry.utterance for entry in self._entries.values())
        heard = {utterance.speaker_id for utterance in self._utterances}
        self._speakers = {name: who for name, who in speakers.items() if name in heard}

    def _scan(self, entries: Iterable[Entry]) -> None:
        """Decodes every entry, keeps what is usable and counts the rest."""
        first: dict[str, File] = {}
        rates: Counter[int] = Counter()
        seconds, downmixed, canceled, padded, cut = 0.0, 0, 0, 0, 0
        for entry in entries:
            if isinstance(entry.source, File):
                try:
                    data = self._folder.read(entry.source.file, entry.source.shard)
                    digest = hashlib.sha256(data).hexdigest()
                    if digest in first:
                        raise UnusableError(
                            "the same bytes as an earlier file", f"equals {first[digest]}"
                        )
                    recording = decode(
                        data, rate_hz=self._spec.rate_hz, flat=entry.utterance.word == SILENCE
                    )
                    missing = self._spec.clip_samples - len(recording.samples)
                    if self._sentences and missing < 0:
                        raise UnusableError(
                            "too long for a sentence", f"{-missing} samples more than a clip"
                        )
                except UnusableError as problem:
                    self._skipped.append(Skipped(str(entry.source), str(problem)))
                    continue
                first[digest] = entry.source
                rates[recording.rate_hz] += 1
                seconds += recording.seconds
                downmixed += recording.channels > 1
                canceled += recording.canceled
                padded += len(recording.samples) < self._spec.clip_samples
                cut += len(recording.samples) > self._spec.clip_samples
            else:
                digest = entry.source.digest
                seconds += len(entry.source.samples) / self._spec.rate_hz
            self._entries[entry.utterance.utterance_id] = entry
            self._digests[entry.utterance.utterance_id] = digest
        self.tally = Tally(
            seconds=seconds,
            rates_hz=rates,
            downmixed=downmixed,
            canceled=canceled,
            padded=padded,
            cut=cut,
        )

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._folder.root.name

    @property
    def licence(self) -> str:
        """What the folder's licence file is called or begins with."""
        return licence_of(self._folder.root)

    @property
    def speakers(self) -> Mapping[str, Speaker]:
        """Speakers with at least one usable recording, by id."""
        return self._speakers

    @property
    def utterances(self) -> Sequence[Utterance]:
        """Every recording that was decoded and found usable, in the order of the layout."""
        return self._utterances

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What was left out; reasons read `rule: detail`."""
        return tuple(self._skipped)

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the file's bytes, the clip format and the rules of reading."""
        spec = self._spec
        digest = self._digests[utterance.utterance_id]
        kind = "sentence" * self._sentences
        recipe = canonical(_READING + kind, digest, spec.rate_hz, spec.clip_samples)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Decodes clips, shape (n, clip_samples), float32, full scale 1; each for itself.

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
        if hashlib.sha256(data).hexdigest() != self._digests[entry.utterance.utterance_id]:
            raise CorpusError(f"{entry.source} has changed since the corpus was opened")
        recording = decode(data, rate_hz=self._spec.rate_hz, flat=True)
        if self._sentences:
            missing = self._spec.clip_samples - len(recording.samples)
            return np.pad(recording.samples, (0, missing))
        return fit(recording.samples, self._spec.clip_samples)


def licence_of(root: Path) -> str:
    """Reads `LICENSE.CC-BY-4.0.txt` as CC-BY-4.0, and of a plain LICENSE the first line."""
    for path in sorted(root.glob("LICEN[CS]E*")):
        name = path.name.removesuffix(".txt").removesuffix(".md")[len("LICENSE") :].strip(".-_ ")
        if name:
            return name
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), "not stated")[:100]
    return "not stated"
