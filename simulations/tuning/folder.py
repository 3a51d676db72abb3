"""The folder of a tuning: one search and no other is gone on with in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from fedspeech.errors import ArgumentRefused, FedspeechError
from fedspeech.files import remove_made, write_text
from simulations.results.run_folder import check_place, hold_alone

SETTINGS, LOCK = "settings.json", "tune.lock"


def open_folder(folder: Path, settings: dict[str, str]) -> BinaryIO:
    """Makes the folder, or checks that it is of the same tuning, and keeps other processes out.

    Returns:
      What holds it until it is closed.

    Raises:
      FedspeechError: if it holds something else, naming what differs; if it is in use, cannot be
        written to, or the disk is full.
    """
    path = folder / SETTINGS
    if folder.exists() and not folder.is_dir():
        raise FedspeechError(f"a tuning needs a folder, and {folder} is a file")
    if path.exists():
        _require_same(path, settings)
        return hold_alone(folder / LOCK, "tuning")
    if folder.exists() and any(folder.iterdir()):
        raise FedspeechError(
            f"a tuning needs a new or empty folder, or its own to go on, and {folder} holds "
            "other files"
        )
    check_place(folder, "a tuning's folder")
    held = hold_alone(folder / LOCK, "tuning")
    write_text(path, json.dumps(settings, indent=1) + "\n")
    return held


def give_up(folder: Path) -> None:
    """Removes the files of a tuning that tried nothing, and its folder if nothing else is in it."""
    remove_made((folder / SETTINGS, folder / LOCK), (folder,))


def _require_same(path: Path, settings: dict[str, str]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FedspeechError(f"{path} is damaged: {error}") from error
    differing = [
        f"{name} was {before.get(name, 'unset')}, is {settings.get(name, 'unset')}"
        for name in sorted({*before, *settings})
        if before.get(name) != settings.get(name)
    ]
    if differing:
        raise ArgumentRefused(
            f"{path.parent} holds another tuning; go on with the same settings or choose another "
            "`out`:\n  " + "\n  ".join(differing)
        )
