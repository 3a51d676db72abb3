"""A data folder of Kaldi: wav.scp, utt2spk and text, perhaps segments and spk2gender.

    wav.scp    rec1 /corpus/rec1.wav        or   rec1 sox ... |      which is refused, never run
    segments   utt1 rec1 0.5 2.25           recording, start and end in seconds
    utt2spk    utt1 anna
    text       utt1 turn the light on

Paths may be absolute, as Kaldi's scripts write them; relative ones are relative to the folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.text_lines import read_lines
from fedspeech.corpora.written import spoken
from fedspeech.errors import CorpusError

_NEEDED = ("wav.scp", "utt2spk", "text")


def has_layout(folder: Path) -> bool:
    """Whether there is a wav.scp."""
    return (folder / "wav.scp").is_file()


def list_rows(folder: Path) -> Listing:
    """Lists the utterances of a data folder.

    Raises:
      CorpusError: if a file is missing or cannot be read.
    """
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise CorpusError(
            f"{folder} has a wav.scp and lacks {', '.join(missing)}: a data folder of Kaldi needs "
            f"{', '.join(_NEEDED)}"
        )
    skipped: list[Skipped] = []
    recordings = _table(folder / "wav.scp", skipped)
    speakers = _table(folder / "utt2spk", skipped)
    texts = _table(folder / "text", skipped)
    optional = {name: folder / name for name in ("segments", "spk2gender")}
    genders = _table(optional["spk2gender"], skipped) if optional["spk2gender"].is_file() else {}
    parts = _table(optional["segments"], skipped) if optional["segments"].is_file() else None
    rows = []
    for name in parts if parts is not None else recordings:
        found = _source(name, recordings, None if parts is None else parts[name])
        if isinstance(found, str):
            skipped.append(Skipped(f"utterance {name}", found))
            continue
        speaker = speakers.get(name, "")
        gender = {"gender": genders[speaker]} if speaker in genders else {}
        said = spoken(texts.get(name, ""))
        rows.append(Row(f"utterance {name}", found, speaker, said, name, gender))
    return Listing(
        layout="Kaldi", rows=tuple(rows), table=folder, skipped=tuple(skipped), absolute=True
    )


def _table(path: Path, skipped: list[Skipped]) -> Mapping[str, str]:
    """Reads lines of a name and the rest; a name that stands twice is skipped."""
    found: dict[str, str] = {}
    for line in read_lines(path):
        name, _, rest = line.text.strip().partition(" ")
        if "\t" in name:
            name, _, rest = line.text.strip().partition("\t")
        if line.problem or name in found:
            reason = line.problem or f"named twice: {name!r} stands in an earlier line"
            skipped.append(Skipped(f"{path.name} line {line.number}", reason))
        elif name:
            found[name] = rest.strip()
    return found


def _source(name: str, recordings: Mapping[str, str], segment: str | None) -> File | str:
    """The place of an utterance, or why it has none."""
    start_s, seconds, recording = 0.0, None, name
    if segment is not None:
        try:
            recording, first, last = segment.split()
            start_s, end_s = float(first), float(last)
        except ValueError:
            return "not a segment: expected a recording, start and end in seconds"
        seconds = end_s - start_s if end_s != -1 else None  # -1: to the end of the recording
        if not (math.isfinite(start_s) and start_s >= 0 and math.isfinite(end_s)) or (
            seconds is not None and seconds <= 0
        ):
            return f"not a segment: from {first} to {last} s"
    file = recordings.get(recording)
    if file is None:
        return f"no such recording: {recording} is not in wav.scp"
    if file.endswith("|") or file.startswith("|") or file == "-":
        return "a command in wav.scp, which is not run: write the recordings to files first"
    return File(file, start_s=start_s, seconds=seconds)
