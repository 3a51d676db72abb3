"""The members of a `.pt2` file, read without torch, and a new file made of those that are data.

A `.pt2` file is a zip archive, and torch's own loader unpickles three kinds of its members: sample
inputs, tensors and objects that are marked as pickles. Nothing here is unpickled. What torch loads
later is an archive that was written here, of members that were read here, so that no difference
between two readers of zip files matters.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping

import torch

MAX_BYTES = 512 * 1024 * 1024
MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
PT2_ARCHIVE = "torch.export.pt2_archive"

_DATA = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]{1,6}")
# Torch writes these, and a new archive gets its own.
_DROPPED = re.compile(
    r"data/sample_inputs/model\.pt|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
)


def read_members(data: bytes) -> dict[str, bytes]:
    """Returns the members that hold graph, weights and constants, by their place in the archive.

    Raises:
      ValueError: if the bytes are no `.pt2` archive, are damaged, are compressed, hold a member
        twice, or hold a member that is neither graph nor numbers; the message names the member.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a .pt2 file may have at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            members = {}
            for entry in entries:
                place = entry.filename.partition("/")[2]
                if not _DROPPED.fullmatch(place):
                    members[place] = archive.read(entry)
            order = archive.read(f"{entries[0].filename.partition('/')[0]}/byteorder")
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"not a whole .pt2 archive: {error}") from error
    if order != b"little":
        raise ValueError(f"numbers of a .pt2 file must be little-endian, got {order[:16]!r}")
    missing = [name for name in (MODEL, WEIGHTS, CONSTANTS) if name not in members]
    if missing:
        raise ValueError(f"a .pt2 file must have the members {missing} (`torch.export.save`)")
    return members


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    """Refuses what torch.export does not write, before anything is read."""
    if not entries:
        raise ValueError("a .pt2 file must have members, got an empty archive")
    root = entries[0].filename.partition("/")[0]
    seen: set[str] = set()
    for entry in entries:
        folder, _, place = entry.filename.partition("/")
        if folder != root or entry.filename in seen:
            raise ValueError(
                f"members of a .pt2 file must be distinct and lie in one folder, "
                f"got {entry.filename!r}"
            )
        seen.add(entry.filename)
        known = (MODEL, WEIGHTS, CONSTANTS)
        if place not in known and not _DATA.fullmatch(place) and not _DROPPED.fullmatch(place):
            raise ValueError(
                "a .pt2 file may hold one graph, its weights and tensor constants, and no code, "
                f"no object and no other file; got the member {entry.filename!r}"
            )
        # Torch stores its members as they are; one that is packed could unpack to anything.
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(
                f"members of a .pt2 file must be stored without compression, got {entry.filename!r}"
            )


def write_members(members: Mapping[str, bytes]) -> bytes:
    """Returns a `.pt2` archive of these members, without sample inputs: the same bytes each time.

    The member of the sample inputs is empty, which torch takes as none.

    Raises:
      ValueError: if this torch is older than the format.
    """
    # Imported late: torch's exporter takes seconds, and most runs load no such file.
    try:
        from torch.export.pt2_archive import PT2ArchiveWriter
    except ImportError as error:
        if error.name not in ("torch.export", PT2_ARCHIVE):
            raise  # of something that torch itself needs: its name helps, and no other torch
        raise ValueError(
            f"a base with a .pt2 file needs torch 2.8 or later, this is torch {torch.__version__}"
        ) from None

    buffer = io.BytesIO()
    with PT2ArchiveWriter(buffer) as writer:
        for place in sorted(members):
            writer.write_bytes(place, members[place])
        writer.write_bytes(SAMPLE_INPUTS, b"")
    return buffer.getvalue()
