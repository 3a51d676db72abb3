"""Manifests of Lhotse: recordings and supervisions, lines of JSON, perhaps gzipped.

    dev_recordings.jsonl.gz    {"id": "r1", "sources": [{"type": "file", "channels": [0],
                                "source": "/data/r1.wav"}], "sampling_rate": 16000, ...}
    dev_supervisions.jsonl.gz  {"id": "u1", "recording_id": "r1", "start": 0.5, "duration": 1.75,
                                "channel": 0, "text": "yes", "speaker": "anna"}

A source that is no file (a command, an address) is refused, never run. Paths may be absolute;
relative ones are relative to the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.formats.json_lines import read_objects, seconds, tables, text
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.written import spoken

_ABOUT_THE_SPEAKER = ("gender", "language", "accent", "age")


def has_layout(folder: Path) -> bool:
    """Whether there are manifests of recordings and of supervisions, by their names."""
    return bool(_named(folder, "recordings") and _named(folder, "supervisions"))


def list_rows(folder: Path) -> Listing:
    """Lists the supervisions of a folder.

    Raises:
      CorpusError: if a manifest cannot be read.
    """
    skipped: list[Skipped] = []
    recordings = {
        text(found, "id"): found
        for path in _named(folder, "recordings")
        for _, found in read_objects(path, skipped)
    }
    rows: list[Row] = []
    for path in _named(folder, "supervisions"):
        for where, found in read_objects(path, skipped):
            place = _place(found, recordings)
            if isinstance(place, str):
                skipped.append(Skipped(where, place))
                continue
            rows.append(
                Row(
                    where=where,
                    source=place,
                    speaker=text(found, "speaker"),
                    said=spoken(text(found, "text")),
                    clip_id=text(found, "id"),
                    columns={name: text(found, name) for name in _ABOUT_THE_SPEAKER},
                )
            )
    return Listing(
        layout="Lhotse", rows=tuple(rows), table=folder, skipped=tuple(skipped), absolute=True
    )


def _named(folder: Path, kind: str) -> list[Path]:
    return [path for path in tables(folder) if kind in path.name]


def _place(
    supervision: Mapping[str, Any], recordings: Mapping[str, Mapping[str, Any]]
) -> File | str:
    """The part of a file that a supervision is about, or why there is none."""
    recording = recordings.get(text(supervision, "recording_id"))
    if recording is None:
        return "no such recording: its recording_id is in no manifest of recordings"
    start_s, length_s = seconds(supervision, "start"), seconds(supervision, "duration")
    if start_s is None or not length_s:
        return "not a part of a recording: start and duration must be times in seconds"
    channel = supervision.get("channel", 0)
    channel = channel[0] if isinstance(channel, list) and len(channel) == 1 else channel
    sources = recording.get("sources")
    for source in sources if isinstance(sources, list) else ():
        channels = source.get("channels", [0]) if isinstance(source, dict) else ()
        if isinstance(channels, list) and channel in channels:
            if source.get("type") != "file" or not isinstance(source.get("source"), str):
                return f"a source that is no file, which is not opened: {source.get('type')!r}"
            one_of_many = None if len(channels) == 1 else channels.index(channel)
            whole = start_s == 0 and length_s == seconds(recording, "duration")
            length = None if whole else length_s
            return File(source["source"], None, start_s, length, one_of_many)
    return f"no such channel: {channel!r} is of no source of the recording"
