"""Exported files on disk: .tflite files, and C arrays for firmware that has no file system."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedspeech.errors import ExportRefused

_PER_LINE = 16
_ARRAY = re.compile(r"\[\]\s*=\s*\{(?P<bytes>[0-9a-fx,\s]*)\};", re.DOTALL)
_LENGTH = re.compile(r"_len\s*=\s*(?P<length>\d+);")


def read_file(file: Path) -> bytes:
    """Reads an exported file.

    Raises:
      ExportRefused: if it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ExportRefused(f"cannot read the exported file {file}: {error}") from error


def json_bytes(value: Any) -> bytes:
    """Renders JSON for people and programs."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def model_bytes(content: bytes, name: str) -> bytes:
    """The model in a file of this name: the file itself, or what a C array (.cc) holds.

    Raises:
      ExportRefused: if there is no array in it.
    """
    if not name.endswith(".cc"):
        return content
    return from_c_array(content.decode("utf-8", errors="replace"))


def read_model(file: Path) -> bytes:
    """Reads the model in a file.

    Raises:
      ExportRefused: if it cannot be read, or there is no array in it.
    """
    return model_bytes(read_file(file), file.name)


def to_c_array(content: bytes, name: str, notes: Sequence[str]) -> str:
    """Renders a .tflite file as C++ source: array `name`, its length `<name>_len`, notes on top."""
    lines = [
        "  " + ", ".join(f"0x{byte:02x}" for byte in content[start : start + _PER_LINE]) + ","
        for start in range(0, len(content), _PER_LINE)
    ]
    comments = [f"// {line}".rstrip() for note in notes for line in note.splitlines()]
    return "\n".join(
        [
            *comments,
            "#include <cstddef>",
            "",
            # A const array has internal linkage in C++ unless it was declared before.
            f'extern "C" const unsigned char {name}[];',
            f'extern "C" const size_t {name}_len;',
            "",
            # The runtime reads weights in place, which takes the alignment of the FlatBuffer.
            f"alignas(16) const unsigned char {name}[] = {{",
            *lines,
            "};",
            f"const size_t {name}_len = {len(content)};",
            "",
        ]
    )


def from_c_array(source: str) -> bytes:
    """Reads the bytes back.

    Raises:
      ExportRefused: if there is no array, or not as long as the source says.
    """
    array, length = _ARRAY.search(source), _LENGTH.search(source)
    if array is None or length is None:
        raise ExportRefused("C array: the source holds no array with its length")
    content = bytes(int(value, 16) for value in array["bytes"].split(",") if value.strip())
    if len(content) != int(length["length"]):
        raise ExportRefused(
            f"C array: the source says {length['length']} bytes, the array has {len(content)}"
        )
    return content
