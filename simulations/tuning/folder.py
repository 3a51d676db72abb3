"""The folder of a tuning: one search and no other is gone on with in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from fedspeech.errors import FedspeechError
from fedspeech.files import hold, write_text
from simulations.run_folder import check_place
from simulations.scenario import FolderCorpus, Scenario


def flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the values of nested tables under dotted names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def open_folder(folder: Path, settings: dict[str, str]) -> BinaryIO:
    """Makes the folder, or checks that it is of the same tuning, and keeps other processes out.

    Returns:
      What holds it until it is closed.

    Raises:
      FedspeechError: if it holds something else, naming what differs; if it is in use, cannot be
        written to, or the disk is full.
    """
    path = folder / "settings.json"
    if folder.exists() and not folder.is_dir():
        raise FedspeechError(f"a tuning needs a folder, and {folder} is a file")
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise FedspeechError(
                f"a tuning needs a new or empty folder, or its own to go on, and {folder} holds "
                "other files"
            )
        check_place(folder, "a tuning's folder")
        held = _hold(folder)
        write_text(path, json.dumps(settings, indent=1) + "\n")
        return held
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FedspeechError(f"{path} is damaged: {error}") from error
    names = sorted({*before, *settings})
    differing = [
        f"{name} was {before.get(name, 'unset')}, is {settings.get(name, 'unset')}"
        for name in names
        if before.get(name) != settings.get(name)
    ]
    if differing:
        raise FedspeechError(
            f"{folder} holds another tuning; go on with the same settings or choose another --out:"
            "\n  " + "\n  ".join(differing)
        )
    return _hold(folder)


def _hold(folder: Path) -> BinaryIO:
    held = hold(folder / "tune.lock")
    if held is None:
        raise FedspeechError(f"the tuning in {folder} is still going on in another process")
    return held


def portable(scenario: Scenario) -> Scenario:
    """A scenario whose paths hold wherever it is run from."""
    changes: dict[str, Any] = {}
    if isinstance(scenario.corpus, FolderCorpus):
        paths = {"path": str(Path(scenario.corpus.path).resolve())}
        if scenario.corpus.noise:
            paths["noise"] = str(Path(scenario.corpus.noise).resolve())
        changes["corpus"] = scenario.corpus.model_copy(update=paths)
    if scenario.base.source not in ("shipped", "synthetic"):
        source = str(Path(scenario.base.source).resolve())
        changes["base"] = scenario.base.model_copy(update={"source": source})
    return scenario.model_copy(update=changes)
