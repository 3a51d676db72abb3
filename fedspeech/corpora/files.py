"""One recording from one file: what is read, what is refused, and how it becomes a clip.

Everything odd has a defined answer. `Folder.read` and `decode` raise `UnusableError` for what must
not be used; a corpus turns that into a `Skipped` and goes on. What is read all the same, stereo and
other sample rates, is counted (`Recording.channels`, `Recording.rate_hz`).

    folder = Folder(Path("recordings"))
    recording = decode(folder.read("anna/yes_1.wav"), rate_hz=16_000)
    clip = fit(recording.samples, clip_samples=16_000)

| file | answer |
|---|---|
| not there, outside the folder, larger than `MAX_FILE_BYTES` | unusable |
| not wav, flac, ogg or mp3, whatever its name says | unusable |
| shorter than its header promises | unusable |
| no samples, under `MIN_SECONDS`, over the limit of the caller | unusable |
| NaN or infinity; a peak over `MAX_PEAK`; every sample the same | unusable |
| 2 to 8 channels; more | mean of the channels; unusable |
| another rate, 8 to 192 kHz | resampled (soxr, HQ); 8 kHz has nothing above 4 kHz |
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
MAX_FILE_BYTES = 64 * 2**20
MAX_CLIP_SECONDS = 10.0
MAX_NOISE_SECONDS = 600.0
MIN_SECONDS = 0.1
MIN_RATE_HZ = 8_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8
MAX_PEAK = 4.0  # decoded mp3 and float wav overshoot 1 a little; integers stored as float do by far

_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
_UNKNOWN_LENGTH = 0x7FFF0000  # what wav writers into a pipe declare, or more


class UnusableError(Exception):
    """A recording that is left out.

    Attributes:
      rule: the rule that it breaks, in a few words that are the same for every such file.
    """

    def __init__(self, rule: str, detail: str) -> None:
        """Joins rule and detail to the message `rule: detail`."""
        super().__init__(f"{rule}: {detail}")
        self.rule = rule


@dataclass(frozen=True, eq=False)
class Recording:
    """A decoded file.

    Attributes:
      samples: mono, shape (n,), float32, full scale 1, at the rate asked for.
      rate_hz: sample rate of the file.
      channels: channels of the file.
      seconds: length of the file.
    """

    samples: NDArray[np.float32] = field(repr=False)
    rate_hz: int
    channels: int
    seconds: float


class Folder:
    """Reads the bytes of files, or of members of uncompressed tars, under one folder."""

    def __init__(self, root: Path) -> None:
        """Remembers the folder; nothing is opened yet."""
        self.root = root.resolve()
        self._members: dict[str, dict[str, tuple[int, int]]] = {}

    def read(self, file: str, shard: str | None = None) -> bytes:
        """Returns the bytes of a file, or of member `file` of the tar `shard`, read in place.

        Args:
          file: path relative to the folder, or name of a member.
          shard: path of the tar relative to the folder.

        Raises:
          UnusableError: if it is not there, leads outside the folder, is too large, or the tar is
            compressed or damaged.
        """
        if shard is None:
            path = self._inside(file)
            offset, size = 0, path.stat().st_size
        else:
            if shard not in self._members:
                self._members[shard] = _index(self._inside(shard), shard)
            place = self._members[shard].get(posixpath.normpath(file))
            if place is None:
                raise UnusableError(
                    "no such member", f"{file} is not in {shard}, or is cut off there"
                )
            path, (offset, size) = self.root / shard, place
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

    def _inside(self, file: str) -> Path:
        """Resolves links and `..` and refuses what is not a file of this folder."""
        try:
            path = (self.root / file).resolve()
            if not path.is_relative_to(self.root):
                raise UnusableError("outside the folder", f"{file} leads to another place")
            if not path.is_file():
                raise UnusableError("no such file", f"nothing is at {self.root / file}")
        except (OSError, ValueError, RuntimeError) as error:  # too long, NUL, a loop of links
            raise UnusableError(
                "no such file", f"{type(error).__name__} for {file[:80]!r}"
            ) from error
        return path


def _index(path: Path, shard: str) -> dict[str, tuple[int, int]]:
    """Maps the regular members of an uncompressed tar to (offset, size); what is cut off is out."""
    members: dict[str, tuple[int, int]] = {}
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and member.offset_data + member.size <= length:
                    place = (member.offset_data, member.size)
                    members[posixpath.normpath(member.name)] = place
    except tarfile.TarError as error:
        if not members:
            raise UnusableError("not an uncompressed tar", f"{shard} ({error})") from error
    return members


def decode(
    data: bytes, *, rate_hz: int, max_seconds: float = MAX_CLIP_SECONDS, flat: bool = False
) -> Recording:
    """Decodes a file to mono at `rate_hz`.

    Args:
      data: the bytes of a wav, flac, ogg (vorbis, opus) or mp3 file.
      rate_hz: sample rate of the result.
      max_seconds: the longest recording that is decoded.
      flat: whether a recording in which nothing happens (every sample the same) is acceptable,
        as it is for silence.

    Raises:
      UnusableError: by the table of this module.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            if sound.format not in _FORMATS:
                raise UnusableError("not wav, flac, ogg or mp3", f"the format is {sound.format}")
            file_rate_hz, frames = int(sound.samplerate), int(sound.frames)
            if not MIN_RATE_HZ <= file_rate_hz <= MAX_RATE_HZ:
                raise UnusableError(
                    f"sample rate not in {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz", f"{file_rate_hz} Hz"
                )
            if sound.channels > MAX_CHANNELS:
                raise UnusableError(
                    "too many channels", f"{sound.channels}, at most {MAX_CHANNELS}"
                )
            seconds = frames / file_rate_hz
            _check_length(data, seconds, max_seconds)
            samples = sound.read(dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        problem = str(error).split(": ", 1)[-1].strip()
        raise UnusableError("not a readable sound file", problem or "empty") from error
    if len(samples) != frames:
        raise UnusableError("cut short", f"{len(samples)} of {frames} samples can be decoded")
    if not np.isfinite(samples).all():
        bad = np.count_nonzero(~np.isfinite(samples))
        raise UnusableError("NaN or infinite samples", f"{bad} of {samples.size}")
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        raise UnusableError("not at full scale 1", f"the peak is {peak:g}, at most {MAX_PEAK:g}")
    mono = samples.mean(axis=1, dtype=np.float32)
    if np.ptp(mono) == 0 and not flat:
        raise UnusableError("no sound", f"every sample is {mono[0]:g}")
    if file_rate_hz != rate_hz:
        mono = soxr.resample(mono, file_rate_hz, rate_hz, quality="HQ").astype(np.float32)
    return Recording(samples=mono, rate_hz=file_rate_hz, channels=samples.shape[1], seconds=seconds)


def _check_length(data: bytes, seconds: float, max_seconds: float) -> None:
    """Refuses what is empty, too short, too long, or shorter than a wav header promises."""
    promised, held = _wav_data_bytes(data)
    if held < promised < _UNKNOWN_LENGTH:
        raise UnusableError(
            "cut short", f"the header promises {promised} bytes of sound, found {held}"
        )
    if seconds == 0:
        raise UnusableError("no samples", "the recording is empty")
    if seconds < MIN_SECONDS:
        raise UnusableError("too short", f"{seconds:.3f} s, at least {MIN_SECONDS:g} s")
    if seconds > max_seconds:
        raise UnusableError("too long", f"{seconds:.1f} s, at most {max_seconds:g} s")


def _wav_data_bytes(data: bytes) -> tuple[int, int]:
    """Returns the bytes that a wav's data chunk declares and holds; (0, 0) for other files.

    libsndfile reads a truncated wav as if it were merely shorter, so nobody else notices.
    """
    if data[:4] not in (b"RIFF", b"RIFX"):
        return 0, 0
    order = "big" if data[:4] == b"RIFX" else "little"
    start = 12
    while start + 8 <= len(data):
        size = int.from_bytes(data[start + 4 : start + 8], order)  # type: ignore[arg-type]
        if data[start : start + 4] == b"data":
            return size, len(data) - start - 8
        start += 8 + size + size % 2
    return 0, 0


def fit(samples: NDArray[np.float32], clip_samples: int) -> NDArray[np.float32]:
    """Makes a recording exactly `clip_samples` long.

    Shorter ones are centred between zeros: with the front end's floor of 1e-6, digital silence lies
    closer to a quiet room than made-up noise does. (300 recordings of Speech Commands, cut to their
    loudest 0.4 s and padded again, differ from the originals outside the cut by 0.2 in log-mel;
    padded with noise shaped like their own quietest frames by 0.6.) Of longer ones the
    window is kept in which the energy, weighted by a Hann window as long as the clip, is largest:
    the loudest second, with the word in its middle. It is searched in steps of 1/100 of a clip.

    Args:
      samples: shape (n,), n >= 1.
      clip_samples: length of the result, at least 100.

    Returns:
      Shape (clip_samples,), float32.
    """
    missing = clip_samples - len(samples)
    if missing >= 0:
        return np.pad(samples, (missing // 2, missing - missing // 2))
    step = clip_samples // 100
    blocks = len(samples) // step
    energy = np.square(samples[: blocks * step], dtype=np.float64).reshape(blocks, step).sum(1)
    weights = np.hanning(clip_samples // step + 2)[1:-1]
    if blocks <= len(weights):  # longer by less than one step
        return samples[:clip_samples]
    start = int(np.convolve(energy, weights, mode="valid").argmax()) * step
    start = min(start, len(samples) - clip_samples)
    return samples[start : start + clip_samples]
