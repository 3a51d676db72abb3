"""Manifests of NeMo: lines of JSON, in files such as train_manifest.json.

    {"audio_filepath": "/data/anna_1.wav", "duration": 1.2, "text": "yes", "speaker": "anna"}

`offset` and `duration` are the part of the file. What is said stands in `text`, or in `command` or
`label` as manifests of words have it; who speaks in `speaker` or `speaker_id`. Paths may be
absolute; relative ones are relative to the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.formats.json_lines import first_keys, read_objects, seconds, tables, text
from fedspeech.corpora.records import File, Listing, Row
from fedspeech.corpora.written import spoken

_ABOUT_THE_SPEAKER = ("gender", "accent", "age", "device", "lang")


def has_layout(folder: Path) -> bool:
    """Whether a file's first line names a sound file as NeMo does."""
    return any("audio_filepath" in first_keys(path) for path in tables(folder))


def list_rows(folder: Path) -> Listing:
    """Lists the rows of every manifest in a folder.

    Raises:
      CorpusError: if a manifest cannot be read.
    """
    rows: list[Row] = []
    skipped: list[Skipped] = []
    manifests = [path for path in tables(folder) if "audio_filepath" in first_keys(path)]
    for path in manifests:
        for where, found in read_objects(path, skipped):
            columns = {name: text(found, name) for name in _ABOUT_THE_SPEAKER}
            rows.append(
                Row(
                    where=where,
                    source=_part(found),
                    speaker=text(found, "speaker", "speaker_id"),
                    said=spoken(text(found, "text", "command", "label")),
                    columns=columns,
                )
            )
    return Listing(
        layout="NeMo",
        rows=tuple(rows),
        table=manifests[0] if len(manifests) == 1 else folder,
        skipped=tuple(skipped),
        absolute=True,
    )


def _part(found: Mapping[str, Any]) -> File:
    """The file, or its part where the row has an offset."""
    file = text(found, "audio_filepath")
    if found.get("offset") is None:
        return File(file)
    start_s = seconds(found, "offset")
    # A row whose offset is no time names no recording.
    return File("") if start_s is None else File(file, None, start_s, seconds(found, "duration"))
