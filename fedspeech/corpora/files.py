"""Reading, decoding and fitting of one recording.

`Folder.read` and `decode` raise `UnusableError` for files that must not be used; a corpus turns
that into a `Skipped` and goes on.

    folder = Folder(Path("recordings"))
    recording = decode(folder.read("anna/yes_1.wav"), rate_hz=16_000)
    clip = fit(recording.samples, clip_samples=16_000)

| file | answer |
|---|---|
| not there, named outside the folder, larger than `MAX_FILE_BYTES` | unusable |
| an absolute path outside the folder, where the layout's convention has them (`absolute`) | read |
| a link that its owner placed in the folder | read, wherever it leads |
| not wav (RIFF, RF64, W64), flac, ogg or mp3, whatever its name says | unusable |
| shorter than its header promises, or longer | unusable |
| an mp3 without a tag that states its length | its frames are counted |
| a part that begins or ends after the end of the recording | unusable |
| a wav whose header states no length (0, or the largest number) | read to its end |
| no samples, under `MIN_SECONDS`, over the limit of the caller | unusable |
| NaN or infinity; a peak over `MAX_PEAK`; every sample the same | unusable |
| 2 to 8 channels | their mean; where they cancel each other, the loudest of them |
| more channels | unusable |
| another rate, 8 to 192 kHz | resampled (soxr, HQ); 8 kHz has nothing above 4 kHz |
"""

from __future__ import annotations

import io
import mmap
import os
import posixpath
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from fedspeech.corpora.mp3 import LENGTH_TAGS, with_length_tag

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MAX_FILE_BYTES = 64 * 2**20
MAX_CLIP_SECONDS = 10.0
MAX_NOISE_SECONDS = 600.0
MIN_SECONDS = 0.1
MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8
MAX_PEAK = 4.0  # decoded mp3 and float wav overshoot 1 a little; integers stored as float do by far

_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3")
_UNKNOWN_LENGTH = 0x7FFF0000  # what wav writers into a pipe declare, or more
_UNEXPLAINED_SHARE = 0.05  # of bytes after the sound that no header explains: tags of old players
_BEYOND_S = 0.1  # how far a part may end after the recording


class UnusableError(Exception):
    """A recording that is left out, with the message `rule: detail`."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")


@dataclass(frozen=True, eq=False)
class Recording:
    """A decoded file.

    Attributes:
      samples: mono, shape (n,), float32, full scale 1, resampled.
      rate_hz, channels, seconds: of the file.
      canceled: whether its channels cancel each other, so that only the loudest was taken.
    """

    samples: NDArray[np.float32] = field(repr=False)
    rate_hz: int
    channels: int
    seconds: float
    canceled: bool = False


@dataclass(frozen=True)
class Part:
    """What of a file is read: from `start_s` for `seconds`, or to the end; one channel, or all."""

    start_s: float = 0.0
    seconds: float | None = None
    channel: int | None = None


WHOLE = Part()


class Folder:
    """Reads the bytes of files, or of members of uncompressed tars, under one folder.

    With `absolute`, a file may also be named by an absolute path and lie anywhere: tables of other
    toolkits do. A relative path that leaves the folder is refused in either case.
    """

    def __init__(self, root: Path, *, absolute: bool = False) -> None:
        self.root = root.resolve()
        self._absolute = absolute
        self._tars: dict[str, tuple[Path, dict[str, tuple[int, int]]]] = {}

    def read(self, file: str, shard: str | None = None) -> bytes:
        """Returns the bytes of a file, or of member `file` of the tar `shard`, read in place.

        Raises:
          UnusableError: if it is not there, leads outside the folder, is too large, or the tar is
            compressed or damaged.
        """
        if shard is None:
            path = self._inside(file)
            offset, size = 0, path.stat().st_size
        else:
            if shard not in self._tars:
                path = self._inside(shard)
                self._tars[shard] = path, _index(path, shard)
            path, members = self._tars[shard]
            names = (posixpath.normpath(name) for name in _spellings(file))
            place = next((members[name] for name in names if name in members), None)
            if place is None:
                raise UnusableError(
                    "no such member", f"{file} is not in {shard}, or is cut off there"
                )
            offset, size = place
        if size > MAX_FILE_BYTES:
            raise UnusableError(
                "file too large", f"{size / 2**20:.0f} MB, at most {MAX_FILE_BYTES / 2**20:.0f} MB"
            )
        try:
            with path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(size)
        except OSError as error:
            raise UnusableError("cannot be opened", error.strerror or str(error)) from error

    def is_outside(self, file: str) -> bool:
        """Whether a name is an absolute path to another place than this folder."""
        return os.path.isabs(file) and not self._is_inside(Path(os.path.normpath(file)))

    def _is_inside(self, path: Path) -> bool:
        return path.is_relative_to(self.root)

    def _inside(self, file: str) -> Path:
        """Finds a file by the spellings of its name, which must not lead outside the folder.

        A link in the folder may lead outside: whoever placed it there owns the folder.
        """
        if any("\ud800" <= character <= "\udfff" for character in file):
            raise UnusableError("not a file name", "its bytes are no UTF-8: rename the file")
        try:
            for name in _spellings(file):
                # Not `resolve`, which follows links: the owner's may lead outside.
                path = Path(os.path.normpath(self.root / name))
                named = self._absolute and os.path.isabs(name)
                if not named and not self._is_inside(path):
                    raise UnusableError(
                        "outside the folder",
                        f"{file} leads to another place; name recordings relative to {self.root}, "
                        "and link those that lie elsewhere into it",
                    )
                if path.is_file():
                    return path
        except (OSError, ValueError, RuntimeError) as error:  # too long, NUL, a loop of links
            raise UnusableError(
                "no such file", f"{type(error).__name__} for {file[:80]!r}"
            ) from error
        raise UnusableError("no such file", f"nothing is at {self.root / file}")


def _spellings(file: str) -> Iterator[str]:
    """A name as written, with the separators of Windows, and with accents in both normal forms."""
    # macOS stores accents apart from their letters, and a manifest is often written elsewhere.
    for name in dict.fromkeys((file, file.replace("\\", "/"))):
        yield name
        for form in ("NFC", "NFD"):
            if (normalized := unicodedata.normalize(form, name)) != name:
                yield normalized


def _index(path: Path, shard: str) -> dict[str, tuple[int, int]]:
    """Maps the regular members of an uncompressed tar that are complete to (offset, size)."""
    members: dict[str, tuple[int, int]] = {}
    length = path.stat().st_size
    try:
        # Only uncompressed ("r:"), since members are read in place, by their offset.
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                # Links and folders have no bytes of their own in an archive.
                if member.isreg() and member.offset_data + member.size <= length:
                    place = (member.offset_data, member.size)
                    members[posixpath.normpath(member.name)] = place
    except tarfile.TarError as error:
        if not members:
            raise UnusableError("not an uncompressed tar", f"{shard} ({error})") from error
    return members


def decode(
    data: bytes,
    *,
    rate_hz: int,
    max_seconds: float = MAX_CLIP_SECONDS,
    flat: bool = False,
    part: Part = WHOLE,
) -> Recording:
    """Decodes the bytes of a wav, flac, ogg (vorbis, opus) or mp3 file to mono at `rate_hz`.

    With `flat`, a recording of equal samples is acceptable, as it is for silence. Of a `part` the
    rest of the file is not decoded, and the recording's length is the part's.

    Raises:
      UnusableError: by the table of this module.
    """
    data = with_length_tag(_with_length(data))
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            _check_format(sound, data)
            file_rate_hz = int(sound.samplerate)
            first, frames = _place(part, int(sound.frames), file_rate_hz)
            # Before anything is decoded: a small compressed file may hold hours of silence.
            _check_length(data, frames / file_rate_hz, max_seconds)
            # A second before the part is decoded too: an mp3's frames need those before them.
            lead = min(first, file_rate_hz)
            if first:
                sound.seek(first - lead)
            samples = sound.read(lead + frames, dtype="float32", always_2d=True)[lead:]
    except (soundfile.SoundFileError, ValueError) as error:  # ValueError: a codec that cannot seek
        problem = str(error).split(": ", 1)[-1].strip()
        raise UnusableError("not a readable sound file", problem or "empty") from error
    if len(samples) != frames:
        raise UnusableError("cut short", f"{len(samples)} of {frames} samples can be decoded")
    if part.channel is not None:
        if part.channel >= samples.shape[1]:
            raise UnusableError(
                "no such channel", f"number {part.channel}, counted from 0, of {samples.shape[1]}"
            )
        samples = samples[:, [part.channel]]
    if not np.isfinite(samples).all():
        bad = np.count_nonzero(~np.isfinite(samples))
        raise UnusableError("NaN or infinite samples", f"{bad} of {samples.size}")
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        raise UnusableError("not at full scale 1", f"the peak is {peak:g}, at most {MAX_PEAK:g}")
    mono, canceled = _mono(samples)
    if np.ptp(mono) == 0 and not flat:
        raise UnusableError("no sound", f"every sample is {mono[0]:g}")
    if file_rate_hz != rate_hz:
        mono = soxr.resample(mono, file_rate_hz, rate_hz, quality="HQ").astype(np.float32)
    return Recording(
        samples=mono,
        rate_hz=file_rate_hz,
        channels=samples.shape[1],
        seconds=frames / file_rate_hz,
        canceled=canceled,
    )


def _place(part: Part, frames: int, rate_hz: int) -> tuple[int, int]:
    """First frame and number of frames of a part of a recording of so many frames."""
    first = round(part.start_s * rate_hz)
    last = frames if part.seconds is None else first + round(part.seconds * rate_hz)
    # Tables round times to hundredths of a second, and a little beyond the end is the end.
    if part != WHOLE and (first >= frames or last > frames + _BEYOND_S * rate_hz):
        raise UnusableError(
            "a part beyond the end", f"it ends at {last / rate_hz:.2f} s of {frames / rate_hz:.2f}"
        )
    return first, min(last, frames) - first


def _check_format(sound: soundfile.SoundFile, data: bytes) -> None:
    """Refuses formats, rates and numbers of channels that are not read."""
    if sound.format not in _FORMATS:
        raise UnusableError("not wav, flac, ogg or mp3", f"the format is {sound.format}")
    if sound.format == "MP3" and not any(tag in data for tag in LENGTH_TAGS):
        raise UnusableError(
            "an mp3 that does not state its length",
            "it has no Xing, Info or VBRI tag, its frames cannot be counted, and reading would "
            "stop at an estimate; convert it to wav or flac",
        )
    if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
        raise UnusableError(
            f"sample rate not in {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz", f"{sound.samplerate} Hz"
        )
    if sound.channels > MAX_CHANNELS:
        raise UnusableError("too many channels", f"{sound.channels}, at most {MAX_CHANNELS}")


def _mono(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """Mixes channels (n, c) down to (n,), and returns whether they cancel each other.

    The mean of c channels has 1/c of their mean energy if they are independent, all of it if they
    are equal. Less than half of 1/c, for instance with one inverted channel, means that they cancel
    each other, and the loudest channel is taken instead.
    """
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    moving = samples - samples.mean(axis=0, dtype=np.float64)  # a constant offset is no sound
    energy = np.square(moving).sum(axis=0)
    kept = np.square(moving.mean(axis=1)).sum()
    channels = samples.shape[1]
    if kept >= 0.5 * energy.mean() / channels:
        return mono, False
    return np.ascontiguousarray(samples[:, int(energy.argmax())]), True


def _check_length(data: bytes, seconds: float, max_seconds: float) -> None:
    """Refuses files that are empty, too short, too long, or differ in length from their header."""
    check_declared_length(data)
    if seconds == 0:
        raise UnusableError("no samples", "the recording is empty")
    if seconds < MIN_SECONDS:
        raise UnusableError("too short", f"{seconds:.3f} s, at least {MIN_SECONDS:g} s")
    if seconds > max_seconds:
        raise UnusableError("too long", f"{seconds:.1f} s, at most {max_seconds:g} s")


def check_declared_length(data: bytes | mmap.mmap) -> None:
    """Refuses a wav that is shorter or longer than its header says.

    Raises:
      UnusableError: naming both lengths.
    """
    sound = _wav_sound(data)
    if sound is None:
        return
    _, declared, held = sound
    if held < declared < _UNKNOWN_LENGTH:
        raise UnusableError(
            "cut short", f"the header promises {declared} bytes of sound, found {held}"
        )
    if _unexplained(data, sound) > _UNEXPLAINED_SHARE * declared:
        raise UnusableError(
            "longer than its header says",
            f"the header promises {declared} bytes of sound, found {held}: which of both is "
            "right cannot be known; write the file anew with a program that plays all of it",
        )


def _with_length(data: bytes) -> bytes:
    """Writes the length into a RIFF wav that states 0 though samples follow.

    Recorders that lose power or write into a pipe leave 0 or the largest number. libsndfile reads
    the former as empty, the latter to the end.
    """
    sound = _wav_sound(data)
    if not sound or data[:4] not in (b"RIFF", b"RIFX") or sound[1] or not _unexplained(data, sound):
        return data
    start, _, held = sound
    order: Literal["big", "little"] = "big" if data[:4] == b"RIFX" else "little"
    return data[: start - 4] + held.to_bytes(4, order) + data[start:]


def _wav_sound(data: bytes | mmap.mmap) -> tuple[int, int, int] | None:
    """Start of a wav's samples, their declared and actual bytes; None for other files.

    libsndfile reads a truncated wav as if it were merely shorter.
    """
    declared_64 = None
    for name, start, declared in _wav_chunks(data):
        if name == b"ds64":  # of RF64: the lengths that do not fit into 32 bits (EBU Tech 3306)
            declared_64 = int.from_bytes(data[start + 8 : start + 16], "little")
        if name == b"data":
            if declared_64 is not None and declared == 0xFFFFFFFF:
                declared = declared_64
            return start, declared, len(data) - start
    return None


def _wav_chunks(data: bytes | mmap.mmap, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and declared length of the chunks of a RIFF, RIFX, RF64 or W64 file."""
    order: Literal["big", "little"] = "big" if data[:4] == b"RIFX" else "little"
    wide = data[:4] == b"riff"  # W64: names of 16 bytes, lengths of 8 that count the header too
    if not wide and data[:4] not in (b"RIFF", b"RIFX", b"RF64"):
        return
    head, unit = (24, 8) if wide else (8, 2)
    start = start or (40 if wide else 12)
    while start + head <= len(data):
        size = int.from_bytes(data[start + (16 if wide else 4) : start + head], order)
        size = max(size - head, 0) if wide else size
        yield data[start : start + 4], start + head, size
        start += head + -(-size // unit) * unit


def _unexplained(data: bytes | mmap.mmap, sound: tuple[int, int, int]) -> int:
    """Bytes after a wav's sound that are no chunks either."""
    start, declared, _ = sound
    end = start + declared + declared % 2
    for name, first, size in _wav_chunks(data, end):
        if not name.isascii() or not name.decode().isprintable() or first + size > len(data):
            break
        end = first + size + size % 2
    return max(len(data) - end, 0)


def fit(samples: NDArray[np.float32], clip_samples: int) -> NDArray[np.float32]:
    """Pads or cuts a recording to shape (clip_samples,), with at least 100 samples.

    Shorter recordings are centered between zeros: every base is trained on words after digital
    silence (`left_context`), and silence invents nothing. (300 recordings of Speech Commands, cut
    to their loudest 0.4 s and padded again, differ from the originals outside the cut by 1.1 in
    log-mel; padded with noise shaped like their own quietest frames by 0.7.) Longer ones are cut
    to the window of the largest energy, weighted by a Hann window as long as the clip: the loudest
    second, with the word in its middle.
    """
    missing = clip_samples - len(samples)
    if missing >= 0:
        return np.pad(samples, (missing // 2, missing - missing // 2))
    step = clip_samples // 100  # of the search
    blocks = len(samples) // step
    energy = np.square(samples[: blocks * step], dtype=np.float64).reshape(blocks, step).sum(1)
    # Without the zeros at both ends of the window, for which blocks would not count at all.
    weights = np.hanning(clip_samples // step + 2)[1:-1]
    if blocks <= len(weights):  # longer by less than one step
        return samples[:clip_samples]
    start = int(np.convolve(energy, weights, mode="valid").argmax()) * step
    start = min(start, len(samples) - clip_samples)
    return samples[start : start + clip_samples]
