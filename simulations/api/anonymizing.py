"""Anonymization of recordings from Python."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspeech.errors import ArgumentRefused, CorpusError
from fedspeech.files import write_whole
from simulations.console import Console, Printed

if TYPE_CHECKING:
    from fedspeech.anonymization.voices import Anonymizer, MethodName, Per
    from fedspeech.corpora.corpus import Skipped

RATE_HZ = 16_000
_SUFFIXES = (".wav", ".flac")
_SHOWN = 5

NOT_PRIVATE = (
    "These recordings are not private: an attacker who trains on recordings changed by the same "
    "method still recognizes speakers (docs/anonymization.md). File and folder names are kept."
)


@dataclass(frozen=True, eq=False)
class Anonymized(Printed):
    """What was written.

    Attributes:
      method: by which.
      per: "utterance" or "speaker".
      recordings: how many were written.
      seconds: of sound.
      real_time_factor: CPU seconds a second of sound.
      skipped: files that could not be read, with the reason.
      seeded: whether the draws follow from a seed.
    """

    method: str
    per: str
    recordings: int
    seconds: float
    real_time_factor: float
    skipped: tuple[Skipped, ...]
    seeded: bool

    def record(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "method": self.method, "per": self.per, "recordings": self.recordings,
            "seconds": round(self.seconds, 3), "real_time_factor": round(self.real_time_factor, 4),
            "skipped": [{"file": one.where, "reason": one.reason} for one in self.skipped],
            "seeded": self.seeded, "notice": NOT_PRIVATE,
        }  # fmt: skip

    def print(self, console: Console) -> None:
        """Prints it in a few lines."""
        console.print(
            f"{self.recordings} recordings, {self.seconds:.1f} s, by {self.method}, a voice per "
            f"{self.per}; {self.real_time_factor:.3f} CPU seconds a second of sound"
        )
        for one in self.skipped[:_SHOWN]:
            console.print(f"left out: {one.where}: {one.reason}", markup=False)
        if len(self.skipped) > _SHOWN:
            console.print(f"left out: {len(self.skipped) - _SHOWN} more")
        if self.seeded:
            console.print("Seeded: whoever knows the seed knows every draw.")
        if self.per == "speaker":
            console.print("One voice per speaker is pseudonymization: recordings stay linked.")
        console.print(NOT_PRIVATE)


def anonymize(
    source: str | Path,
    target: str | Path,
    *,
    method: MethodName,
    per: Per = "utterance",
    seed: int | None = None,
) -> Anonymized:
    """Writes a recording, or a folder of recordings, in other voices, 16 kHz, 16 bit, one channel.

        >>> import fedspeech as fs
        >>> import numpy, soundfile
        >>> soundfile.write("yes.wav", numpy.sin(numpy.arange(8000) / 20), 16_000)
        >>> found = fs.anonymize("yes.wav", "changed.wav", method="mcadams", seed=1)
        >>> found.seeded
        True

    Args:
      source: a file or a folder, read with everything below it; a speaker is the folder of a file.
      target: a new file (.wav or .flac), or a new or empty folder, in which names are kept.
      method: "mcadams", "resampling", "f0-reversion" (needs the extra `world`) or "noise".
      per: "utterance": every recording has a voice of its own; "speaker": every speaker has.
      seed: of the draws, which then repeat; None: the operating system draws.

    Raises:
      ArgumentRefused: if a path or a name cannot be used.
      CorpusError: if no recording can be read.
      MissingExtra: if the method needs a package that is not installed.
    """
    from fedspeech.corpora.corpus import Skipped
    from fedspeech.corpora.files import UnusableError

    anonymizer = _anonymizer(method, per, seed)
    found: list[float] = []
    skipped: list[Skipped] = []
    started = time.process_time()
    for name, file, place in _pairs(Path(source), Path(target)):
        try:
            found.append(_written(anonymizer, file, place, name))
        except UnusableError as error:
            skipped.append(Skipped(name, str(error)))
    if not found:
        reason = f": {skipped[0].where}: {skipped[0].reason}" if skipped else ""
        raise CorpusError(f"{source} has no recording that can be read{reason}")
    return Anonymized(
        method, per, len(found), sum(found), (time.process_time() - started) / sum(found),
        tuple(skipped), seed is not None,
    )  # fmt: skip


def _anonymizer(method: MethodName, per: Per, seed: int | None) -> Anonymizer:
    from fedspeech.anonymization.voices import Anonymizer
    from fedspeech.seeds import NoiseEntropy

    entropy = NoiseEntropy.os() if seed is None else NoiseEntropy.seeded(seed, "anonymize")
    try:
        return Anonymizer(method=method, entropy=entropy, per=per)
    except ValueError as error:
        raise ArgumentRefused(str(error)) from None


def _pairs(source: Path, target: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, file and where it is written; nothing that is there already is written over."""
    from fedspeech.corpora.files import AUDIO_SUFFIXES

    if source.is_file():
        if target.suffix.lower() not in _SUFFIXES or target.exists():
            raise ArgumentRefused(
                f"{target} must be a new file that ends in {' or '.join(_SUFFIXES)}"
            )
        yield source.name, source, target
        return
    if not source.is_dir():
        raise ArgumentRefused(f"{source} must be a recording or a folder of recordings")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ArgumentRefused(f"{target} must be a new or an empty folder")
    if target.resolve().is_relative_to(source.resolve()):
        raise ArgumentRefused(f"{target} must lie outside {source}")
    taken: set[Path] = set()
    for file in sorted(source.rglob("*")):
        if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file():
            name = file.relative_to(source)
            place = name.with_suffix(".wav")
            if place in taken:  # yes.wav and yes.flac: neither may write over the other
                place = name.with_name(f"{name.name}.wav")
            taken.add(place)
            yield name.as_posix(), file, target / place


def _written(anonymizer: Anonymizer, file: Path, place: Path, name: str) -> float:
    """Changes one recording and writes it; its length in seconds."""
    import soundfile

    from fedspeech.corpora.files import MAX_NOISE_SECONDS, Folder, decode

    data = Folder(file.parent).read(file.name)
    sound = decode(data, rate_hz=RATE_HZ, max_seconds=MAX_NOISE_SECONDS).samples
    changed = anonymizer(sound, RATE_HZ, utterance=name, speaker=file.resolve().parent.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    kind = place.suffix.lower().removeprefix(".")
    soundfile.write(made, changed, RATE_HZ, format=kind.upper(), subtype="PCM_16")
    write_whole(place, made.getvalue())
    return len(sound) / RATE_HZ
