"""Lines of JSON that strangers wrote, as tables of NeMo and Lhotse have them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedspeech.corpora.corpus import Skipped
from fedspeech.corpora.text_lines import read_lines

SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def tables(folder: Path) -> list[Path]:
    """The files of a folder whose names say that they hold lines of JSON."""
    return sorted(
        path for path in folder.iterdir() if path.name.endswith(SUFFIXES) and path.is_file()
    )


def first_keys(path: Path) -> frozenset[str]:
    """The keys of the first line that is an object; none of another file."""
    # One line only: a file of something else may be long, and every folder is looked through.
    first = next((line for line in read_lines(path)), None)
    found = None if first is None or first.problem else _object(first.text)
    return frozenset(found or ())


def read_objects(path: Path, skipped: list[Skipped]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields place and object of every line; a line that is none is added to `skipped`.

    Raises:
      CorpusError: if the file cannot be read.
    """
    for line in read_lines(path):
        where = f"{path.name} line {line.number}"
        if not line.text.strip() and not line.problem:
            continue
        found = None if line.problem else _object(line.text)
        if found is not None:
            yield where, found
        else:
            skipped.append(Skipped(where, line.problem or "not a row: no object of JSON"))


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):  # brackets a thousand deep
        return None
    return found if isinstance(found, dict) else None


def text(found: Mapping[str, Any], *names: str) -> str:
    """The first of these values that is there, as text; empty for objects and lists."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return str(value)
    return ""


def seconds(found: Mapping[str, Any], name: str) -> float | None:
    """A time that is finite and not negative; None for anything else."""
    value = found.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) and value >= 0 else None
    return None
