"""Recordings as a corpus: one validating pass on opening, then decoding on demand.

Opening decodes every recording once, in order, and keeps hashes, not samples, so that memory does
not grow with the corpus. Every member of `utterances` is readable. `waveforms` decodes again (about
0.4 ms a clip) and refuses a file that has changed since the corpus was opened.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedspeech.audio.spec import LOG_MEL, FrontendSpec
from fedspeech.corpora.corpus import (
    MAX_CHARACTERS,
    SILENCE,
    Alphabet,
    Skipped,
    Speaker,
    Utterance,
)
from fedspeech.corpora.files import (
    MAX_CLIP_SECONDS,
    MAX_FILE_BYTES,
    MAX_NOISE_SECONDS,
    Folder,
    Part,
    Recording,
    UnusableError,
    decode,
    fit,
)
from fedspeech.corpora.formats.python_rows import list_rows
from fedspeech.corpora.identity import Persons
from fedspeech.corpora.records import (
    MAX_UNUSABLE_SHARE,
    NOBODY,
    File,
    Held,
    Listing,
    Row,
    speakers_of,
    usable_rows,
)
from fedspeech.corpora.written import without_dashes
from fedspeech.errors import CorpusError
from fedspeech.seeds import canonical

ENGLISH = Alphabet()
_READING = "reading 2"  # raise it when `decode` or `fit` change what they return
_OVERLAP = 0.5  # of the shorter of two parts of a file, from which on they are one recording


@dataclass(frozen=True, eq=False)
class Cut:
    """A clip of background noise in memory, shape (clip_samples,), float32."""

    samples: NDArray[np.float32] = field(repr=False)


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
      outside: recordings that lie outside the folder, where the layout allows it.
    """

    seconds: float = 0.0
    rates_hz: Counter[int] = field(default_factory=Counter)
    downmixed: int = 0
    canceled: int = 0
    padded: int = 0
    cut: int = 0
    outside: int = 0

    def add(self, recording: Recording, clip_samples: int) -> None:
        """Counts one recording."""
        self.seconds += recording.seconds
        self.rates_hz[recording.rate_hz] += 1
        self.downmixed += recording.channels > 1
        self.canceled += recording.canceled
        self.padded += len(recording.samples) < clip_samples
        self.cut += len(recording.samples) > clip_samples


class RecordedCorpus:
    """A `Corpus` over the rows that a layout lists.

    Attributes:
      layout: name of the layout.
      folder: where it was opened; None for rows that a program holds.
      sentences: whether clips are sentences, and not single words.
      persons: the people behind the names of speakers.
      tally: properties of the recordings.
      official: speaker id to "training", "validation" or "testing", by published lists.
      devices: utterance id to the device that recorded it, where the rows have such a column.
      one_id_one_person: whether no person has two speaker ids, as far as the corpus promises.
      notes: what whoever uses the corpus must know, in sentences.
      unused_columns: columns that change within a speaker, so are no segment.
    """

    def __init__(
        self,
        listing: Listing,
        folder: Folder,
        *,
        name: str,
        license: str,  # noqa: A002
        spec: FrontendSpec,
        sentences: bool = False,
        alphabet: Alphabet = ENGLISH,
        max_unusable_share: float = MAX_UNUSABLE_SHARE,
    ) -> None:
        """Reads and checks every recording once.

        Speakers without a usable recording are left out. With `sentences`, a clip starts with its
        recording and a longer recording is left out, since its transcript would not fit the part
        that is kept, and so is a transcript that leaves the alphabet; without, what is more than
        one word is left out.

        Raises:
          CorpusError: if more than a share of the rows cannot be used, or not one recording can.
        """
        self.name, self.license = name, license
        self.layout, self.notes = listing.layout, listing.notes
        self.one_id_one_person = listing.one_id_one_person
        self.tally = Tally()
        self.folder = folder.root if listing.table is not None else None
        self._folder, self._spec, self.sentences = folder, spec, sentences
        self._alphabet = alphabet
        self.max_unusable_share = max_unusable_share
        found = usable_rows(listing, max_unusable_share)
        self.persons: Persons = found.persons
        self.official: Mapping[str, str] = {
            found.persons.of.get(name, name): part for name, part in listing.official.items()
        }
        self.devices: dict[str, str] = {}
        self._sources: dict[str, File | Held | Cut] = {}
        self._digests: dict[str, str] = {}
        speakers, self.unused_columns = speakers_of(found.rows)
        self.utterances, left_out = self._open(found.rows, speakers)
        self.skipped: Sequence[Skipped] = (*found.skipped, *left_out)
        if not self.utterances:
            raise CorpusError(_nothing_usable(listing, self.skipped))
        recorded = {utterance.speaker_id for utterance in self.utterances}
        self.speakers: Mapping[str, Speaker] = {
            name: speaker for name, speaker in speakers.items() if name in recorded
        }

    @classmethod
    def from_records(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        columns: Mapping[str, str] | None = None,
        name: str = "records",
        license: str = "not stated",  # noqa: A002
        spec: FrontendSpec = LOG_MEL,
        sentences: bool = False,
        alphabet: Alphabet = ENGLISH,
        max_unusable_share: float = MAX_UNUSABLE_SHARE,
    ) -> RecordedCorpus:
        """Makes a corpus of rows that a program holds, such as a dataset of Hugging Face.

            RecordedCorpus.from_records(
                [{"audio": samples, "rate_hz": 16_000, "speaker": "anna", "word": "yes"}]
            )

        Args:
          rows: dictionaries; `audio` is a path, the bytes of a sound file, or samples of full
            scale 1, shape (n,) or (n, channels), with `rate_hz` (`formats.python_rows` has a table
            of them). A sequence is read again on demand.
          columns: field (audio, rate_hz, speaker, word, transcript, clip_id) to its column.
          name: name in reports.
          license: of the recordings, for the model card.
          spec: the front end, which has the length of a clip and the sample rate.
          sentences: whether clips are sentences, and not single words.
          alphabet: of transcripts; one that leaves it is left out.
          max_unusable_share: of rows without a usable speaker or word, above which all are refused.

        Raises:
          CorpusError: if a field is missing or ambiguous, or nothing is usable.
        """
        return cls(
            list_rows(rows, columns or {}),
            Folder(Path(), absolute=True),
            name=name,
            license=license,
            spec=spec,
            sentences=sentences,
            alphabet=alphabet,
            max_unusable_share=max_unusable_share,
        )

    def _open(
        self, rows: Sequence[Row], speakers: dict[str, Speaker]
    ) -> tuple[Sequence[Utterance], Sequence[Skipped]]:
        """Checks rows; returns utterances and recordings left out, and adds speakers of noise."""
        read, seen = _Reader(self._folder), _Seen()
        utterances: list[Utterance] = []
        left_out: list[Skipped] = []
        for row in rows:
            try:
                if row.speaker:
                    utterances.append(self._utterance(row, read, seen))
                else:
                    utterances += self._background(row, read, seen, speakers)
            except UnusableError as problem:
                left_out.append(Skipped(str(row.source), str(problem)))
        return tuple(utterances), left_out

    def _utterance(self, row: Row, read: _Reader, seen: _Seen) -> Utterance:
        """Decodes and counts what a speaker said, or raises `UnusableError`."""
        said = row.said
        if self.sentences and said != SILENCE:
            said = said if "-" in self._alphabet.characters else without_dashes(said)
            if reason := unusable_transcript(said, self._alphabet):
                raise UnusableError(*reason.split(": ", 1))
        elif len(said.split()) > 1:
            count = len(said.split())
            raise UnusableError("more than one word", f"{count} words, a clip holds one")
        data, digest = read(row.source)
        seen.check(row.source, digest)
        flat = said == SILENCE  # digital silence is a usable negative
        recording = self._decode(row.source, data, flat=flat)
        excess = len(recording.samples) - self._spec.clip_samples
        if self.sentences and excess > 0:
            raise UnusableError("too long for a sentence", f"{excess} samples more than a clip")
        name = row.utterance_id
        self._keep(name, row.source, _digest_of(row.source, digest))
        seen.add(row.source, digest)
        self.tally.add(recording, self._spec.clip_samples)
        if isinstance(row.source, File):
            self.tally.outside += self._folder.is_outside(row.source.file)
        if device := row.columns.get("device"):
            self.devices[name] = device
        return Utterance(name, row.speaker, said)

    def _background(
        self, row: Row, read: _Reader, seen: _Seen, speakers: dict[str, Speaker]
    ) -> Iterator[Utterance]:
        """Cuts a recording of nobody into clips of silence, without overlap."""
        data, digest = read(row.source)
        seen.check(row.source, digest)
        recording = self._decode(row.source, data, max_seconds=MAX_NOISE_SECONDS, flat=True)
        samples, length = recording.samples, self._spec.clip_samples
        if len(samples) < length:
            raise UnusableError(
                "background noise shorter than a clip", f"{len(samples)} of {length} samples"
            )
        seen.add(row.source, digest)
        self.tally.seconds += len(samples) // length * length / self._spec.rate_hz
        kind = row.columns.get("noise") or row.utterance_id
        # Each recording is one speaker: silence for training and for evaluation can come from
        # different ones.
        nobody = f"{NOBODY}/{kind}"
        nobody = nobody if nobody not in speakers else f"{NOBODY}/{row.utterance_id}"
        speakers[nobody] = Speaker(nobody, {"noise": kind})
        for index in range(len(samples) // length):
            start, name = index * length, f"{nobody}/{index}"
            # Samples are not hashed: file and place determine them.
            cut = canonical("cut", _digest_of(row.source, digest), start)
            cut_digest = hashlib.sha256(cut).hexdigest()
            self._keep(name, Cut(samples[start : start + length]), cut_digest)
            yield Utterance(name, nobody, SILENCE)

    def _keep(self, name: str, source: File | Held | Cut, digest: str) -> None:
        """Keeps the source of an utterance; raises `UnusableError` if its id is taken."""
        if name in self._sources:  # an id that looks like one of background noise
            raise UnusableError("named twice", f"{name!r} is the id of an earlier recording")
        self._sources[name], self._digests[name] = source, digest

    def _decode(
        self,
        source: File | Held,
        data: bytes,
        *,
        max_seconds: float = MAX_CLIP_SECONDS,
        flat: bool = False,
    ) -> Recording:
        """Decodes a recording, or its part; raises `UnusableError`."""
        part = (
            Part(source.start_s, source.seconds, source.channel)
            if isinstance(source, File)
            else Part()
        )
        rate_hz = self._spec.rate_hz
        return decode(data, rate_hz=rate_hz, max_seconds=max_seconds, flat=flat, part=part)

    def fingerprint(self, utterance: Utterance) -> str:
        """Hex SHA-256 of the file's bytes, the part, the clip format and the rules of reading."""
        spec = self._spec
        digest = self._digests[utterance.utterance_id]
        kind = "sentence" * self.sentences
        recipe = canonical(_READING + kind, digest, spec.rate_hz, spec.clip_samples)
        return hashlib.sha256(recipe).hexdigest()

    def waveforms(self, utterances: Sequence[Utterance]) -> NDArray[np.float32]:
        """Decodes clips, shape (n, clip_samples), float32, full scale 1.

        Raises:
          CorpusError: if a file is no longer what it was when the corpus was opened.
        """
        clips = np.empty((len(utterances), self._spec.clip_samples), dtype=np.float32)
        read = _Reader(self._folder)
        for row, utterance in zip(clips, utterances, strict=True):
            row[:] = self._clip(utterance.utterance_id, read)
        return clips

    def _clip(self, name: str, read: _Reader) -> NDArray[np.float32]:
        """Reads one clip."""
        source = self._sources[name]
        if isinstance(source, Cut):
            return source.samples
        try:
            data, digest = read(source)
        except UnusableError as problem:
            raise CorpusError(f"{source} can no longer be read: {problem}") from problem
        # What is computed from a clip is cached under its digest, so other bytes must not pass for
        # it.
        if _digest_of(source, digest) != self._digests[name]:
            raise CorpusError(f"{source} has changed since the corpus was opened")
        recording = self._decode(source, data, flat=True)  # checked on opening
        if self.sentences:
            missing = self._spec.clip_samples - len(recording.samples)
            return np.pad(recording.samples, (0, missing))
        return fit(recording.samples, self._spec.clip_samples)


class _Reader:
    """Reads sources for one pass and keeps the last file, since its parts follow one another."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._last: tuple[File | None, bytes, str] = (None, b"", "")

    def __call__(self, source: File | Held) -> tuple[bytes, str]:
        """Returns the bytes of the whole file and their hex SHA-256, or raises `UnusableError`."""
        if isinstance(source, Held):
            data = source.read()
            if len(data) > MAX_FILE_BYTES:
                raise UnusableError(
                    "file too large", f"{len(data):,} bytes, at most {MAX_FILE_BYTES:,}"
                )
            return data, hashlib.sha256(data).hexdigest()
        if self._last[0] != source.whole:
            data = self._folder.read(source.file, source.shard)
            self._last = (source.whole, data, hashlib.sha256(data).hexdigest())
        return self._last[1], self._last[2]


class _Seen:
    """The recordings of a corpus so far.

    A copy under another name would be trained on and evaluated as never trained on, and so would a
    part of a file that overlaps another part.
    """

    def __init__(self) -> None:
        # Of each file and channel, by start: what was accepted overlaps so little that only
        # neighbors can be in the way of another part.
        self._parts: dict[str, dict[int | None, list[tuple[float, float, str]]]] = {}

    def check(self, source: File | Held, digest: str) -> None:
        """Raises `UnusableError` if the recording, or most of it, was there before."""
        start, end, channel = _span(source)
        for other, parts in self._parts.get(digest, {}).items():
            if None not in (channel, other) and channel != other:
                continue
            place = bisect.bisect(parts, (start, end, ""))
            for first, last, name in parts[max(0, place - 2) : place + 2]:
                shorter = min(end - start, last - first)
                if shorter == float("inf"):
                    raise UnusableError("the same bytes as an earlier file", f"equals {name}")
                if min(end, last) - max(start, first) > _OVERLAP * shorter:
                    raise UnusableError("the same part of a file as before", f"overlaps {name}")

    def add(self, source: File | Held, digest: str) -> None:
        """Counts a usable recording."""
        start, end, channel = _span(source)
        parts = self._parts.setdefault(digest, {}).setdefault(channel, [])
        bisect.insort(parts, (start, end, str(source)))


def _span(source: File | Held) -> tuple[float, float, int | None]:
    """Start and end in seconds, and the channel."""
    if isinstance(source, Held):
        return 0.0, float("inf"), None
    seconds = float("inf") if source.seconds is None else source.seconds
    return source.start_s, source.start_s + seconds, source.channel


def _digest_of(source: File | Held, digest: str) -> str:
    """Digest of the bytes; of a part, with its place."""
    if isinstance(source, Held) or not source.is_part:
        return digest
    place = canonical("part", digest, repr((source.start_s, source.seconds, source.channel)))
    return hashlib.sha256(place).hexdigest()


def _nothing_usable(listing: Listing, skipped: Sequence[Skipped]) -> str:
    """Says that all rows were skipped, with examples and, for sentences, a way out."""
    where = listing.table or listing.layout
    if not skipped:
        return f"no recording in {where}"
    examples = "\n".join(f"  {skip.where}: {skip.reason}" for skip in skipped[:5])
    sentences = sum(skip.reason.startswith("more than one word") for skip in skipped)
    hint = (
        "\nThese are sentences: `fedspeech scenarios show asr-an4` is a scenario that reads them "
        '(corpus.kind = "transcribed")'
        if sentences > len(skipped) / 2
        else ""
    )
    return (
        f"no usable recording in {where}: all {len(skipped)} were skipped, for instance\n"
        f"{examples}{hint}"
    )


def unusable_transcript(said: str, alphabet: Alphabet = ENGLISH) -> str:
    """Why a transcript is unusable; empty if it is usable. Never shows the transcript."""
    if not 1 <= len(said) <= MAX_CHARACTERS:
        return f"transcript length not in 1 to {MAX_CHARACTERS} characters: {len(said)}"
    strange = set(said) - set(alphabet.characters)
    return f"characters outside the alphabet: {len(strange)} kinds of them" if strange else ""


def license_of(root: Path) -> str:
    """Reads `LICENSE.CC-BY-4.0.txt` as CC-BY-4.0, and of a plain LICENSE the first line."""
    for path in sorted(root.glob("LICEN[CS]E*")):
        name = path.name.removesuffix(".txt").removesuffix(".md")[len("LICENSE") :].strip(".-_ ")
        if name:
            return name
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), "not stated")[:100]
    return "not stated"
