"""Bytes of exported files, read back."""

from __future__ import annotations

from pathlib import Path

from fedspeech.errors import ExportRefused
from tflite_export.c_array import from_c_array


def read_file(file: Path) -> bytes:
    """Reads an exported file.

    Raises:
      ExportRefused: if it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ExportRefused(f"cannot read the exported file {file}: {error}") from error


def model_bytes(content: bytes, name: str) -> bytes:
    """The model in a file: the file itself, or what a C array holds.

    Args:
      content: of the file.
      name: of the file, whose ending tells.

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
