"""Recordings of any length, read a few seconds at a time: a night fits into no memory.

    for samples in blocks_of(Path("night.flac"), rate_hz=16_000):       # (at most 160000,)
        listener.feed(samples)

Read are the formats of `fedspeech.corpora.files`, of any number of hours. A wav whose length is not
its header's is refused before anything is read; what else cannot be read is found when it is
reached, so a recording that is cut short ends in an error.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from fedspeech.corpora.files import (
    AUDIO_SUFFIXES,
    MAX_CHANNELS,
    MAX_PEAK,
    MAX_RATE_HZ,
    MIN_RATE_HZ,
    UnusableError,
    check_declared_length,
)

FloatArray = NDArray[np.float32]

BLOCK_SECONDS = 10


def recordings_in(folder: Path) -> list[Path]:
    """Sound files of a folder and of the folders in it, in order; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def blocks_of(path: Path, rate_hz: int) -> Iterator[FloatArray]:
    """Yields a recording as mono blocks at `rate_hz`, full scale 1; several channels are averaged.

    Raises:
      UnusableError: if it is no sound file, is cut short, or holds NaN or values far above 1.
    """
    _check_length(path)
    try:
        with soundfile.SoundFile(path) as sound:
            _check(sound)
            file_rate_hz = int(sound.samplerate)
            resampler = soxr.ResampleStream(file_rate_hz, rate_hz, 1, quality="HQ")
            read = 0
            for block in sound.blocks(
                blocksize=BLOCK_SECONDS * file_rate_hz, dtype="float32", always_2d=True
            ):
                read += len(block)
                mono = block.mean(axis=1, dtype=np.float32)
                _check_samples(mono)
                last = read >= sound.frames
                if file_rate_hz != rate_hz:
                    mono = resampler.resample_chunk(mono, last=last)
                yield np.asarray(mono, dtype=np.float32)
            if read < sound.frames:
                raise UnusableError("cut short", f"{read} of {sound.frames} samples can be decoded")
    except OSError as error:
        raise UnusableError("cannot be read", str(error.strerror or error)) from error
    except soundfile.SoundFileError as error:
        problem = str(error).split(": ", 1)[-1].strip()
        raise UnusableError("not a readable sound file", problem or "empty") from error


def _check_length(path: Path) -> None:
    """Refuses a wav that its header does not describe: libsndfile reads what is there as all."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_declared_length(data)
    except (OSError, ValueError):
        return  # not there or empty, which opening it as sound says


def _check(sound: soundfile.SoundFile) -> None:
    """Refuses recordings without samples, and rates and channels that are not read."""
    if not sound.frames:
        raise UnusableError("no samples", "the recording is empty")
    if not MIN_RATE_HZ <= sound.samplerate <= MAX_RATE_HZ:
        raise UnusableError(
            f"sample rate not in {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz", f"{sound.samplerate} Hz"
        )
    if sound.channels > MAX_CHANNELS:
        raise UnusableError("too many channels", f"{sound.channels}, at most {MAX_CHANNELS}")


def _check_samples(mono: FloatArray) -> None:
    if not np.isfinite(mono).all():
        raise UnusableError("NaN or infinite samples", f"{np.count_nonzero(~np.isfinite(mono))}")
    peak = float(np.abs(mono).max(initial=0.0))
    if peak > MAX_PEAK:
        raise UnusableError("not at full scale 1", f"the peak is {peak:g}, at most {MAX_PEAK:g}")
