"""Publishes the files of one trained model, or refuses the ones that fail.

    exported = export_family(family, card, ("float", "personal"), folder=folder)

A file is converted, gets its card, is checked as the bytes that would be published, and only then
written. One that fails is not written, and no other stands in its way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspeech.errors import ExportRefused
from fedspeech.extras import require
from fedspeech.files import write_whole
from tflite_export.card import (
    CARD_FILE,
    Card,
    detection_table,
    file_list,
    files_table,
    require_identity,
    runtime_table,
)
from tflite_export.converter import Converter
from tflite_export.family import Family
from tflite_export.files import json_bytes
from tflite_export.needed import extra_of
from tflite_export.verification import Verification, verify_content

PARITY_FILE = "parity.json"
CARD_TEXT_FILE = "card.md"

Progress = Callable[[str, int, int, str], None]
"""Told a file's name, the files that are done, how many there will be, and what is at work."""


Detection = Callable[[bytes], Mapping[str, Any] | None]
"""Chooses the detection recipe of a file, for the card; None for one that does not listen."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was published in a folder.

    Attributes:
      verified: figures of the published bytes, in the order of the kinds asked for.
      refused: kind to why it was not published.
      cpu_seconds: "convert" and "verify", over all files.
    """

    folder: Path
    verified: tuple[Verification, ...]
    refused: Mapping[str, str]
    cpu_seconds: Mapping[str, float]


def export_family(
    family: Family,
    card: Card,
    kinds: Sequence[str],
    *,
    folder: Path,
    progress: Progress = lambda *_: None,
    detection: Detection = lambda _: None,
) -> Exported:
    """Converts, checks and publishes.

    Where there is a model, the card and the figures beside it are there too, and speak of it: they
    are written first. Files of an earlier export that are not made again stay if they are of this
    model and as they were published, and are deleted if not.

    Raises:
      MissingExtra: if LiteRT is not installed, or TensorFlow, where it converts the files.
      ExportRefused: if the card speaks of another model, there is no file of a kind, or what it is
        made of is missing; and if not one file passed. Nothing is written then.
    """
    require(extra_of(family.trained.base))
    files = family.files
    require_identity(card.to_json(), family.trained, family.task.name)
    if unknown := sorted(set(kinds) - set(files)):
        raise ExportRefused(
            f"there is no format {', '.join(unknown)}; there are {', '.join(files)}"
        )
    # Before TensorFlow starts: what is missing is said in a second and not in minutes.
    family.prepare(kinds)
    contents, verified, refused = {}, [], {}
    seconds = {"convert": 0.0, "verify": 0.0}

    def make(kind: str) -> tuple[bytes, float]:
        """A file, and the seconds that it took beside TensorFlow's process."""
        started = time.thread_time()
        return family.make(kind, card, converter), time.thread_time() - started

    recipes, started = Recipes(detection), time.process_time()
    with Converter() as converter, _one_ahead() as ahead:
        # In turn, by a thread of its own: while one file is checked, the next is converted.
        made = [ahead.submit(make, kind) for kind in kinds]
        for done, (kind, future) in enumerate(zip(kinds, made, strict=True)):
            at_work = functools.partial(progress, files[kind], done, len(kinds))
            at_work("conversion")
            try:
                content, took = future.result()
                seconds["convert"] += took
                found = verify_content(content, files[kind], family, at_work)
                if files[kind].endswith(".tflite"):
                    at_work("detection recipe on public streams")
                    found = dataclasses.replace(found, detection=recipes.of(content, found))
                verified.append(found)
            except ExportRefused as error:
                refused[kind] = str(error)
                continue
            contents[files[kind]] = content
    # Checks work on every core, so what this process took is theirs unless it was conversion's.
    seconds["verify"] = time.process_time() - started - seconds["convert"]
    seconds["convert"] += converter.cpu_seconds
    if not contents:
        raise ExportRefused("; ".join(f"{files[kind]}: {why}" for kind, why in refused.items()))
    exported = Exported(
        folder=folder,
        verified=tuple(verified),
        refused=refused,
        cpu_seconds={name: round(value, 3) for name, value in seconds.items()},
    )
    _publish(family, card, exported, contents, _kept(family, card, folder, kinds))
    return exported


class Recipes:
    """Detection recipes; files that answer every hop as the trained model does share one."""

    def __init__(self, choose: Detection) -> None:
        self._choose = choose
        self._of_trained: Mapping[str, Any] | None = None

    def of(self, content: bytes, found: Verification) -> Mapping[str, Any] | None:
        """The recipe of a file with these figures."""
        if found.figure("listening, largest difference") is None:
            return self._choose(content)
        if self._of_trained is None:
            self._of_trained = self._choose(content)
        return self._of_trained


@contextlib.contextmanager
def _one_ahead() -> Iterator[ThreadPoolExecutor]:
    """A thread for work that is needed soon; what has not begun at the end is dropped."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        # Without waiting: whoever stops an export ends the process that converts next.
        pool.shutdown(wait=False, cancel_futures=True)


def _publish(
    family: Family,
    card: Card,
    exported: Exported,
    contents: Mapping[str, bytes],
    kept: Sequence[dict[str, Any]],
) -> None:
    """Writes what stands beside the models, card and figures, then the models."""
    folder, order = exported.folder, list(family.files)
    folder.mkdir(parents=True, exist_ok=True)
    entries = [*kept, *(dataclasses.asdict(entry) for entry in exported.verified)]
    entries.sort(key=lambda entry: order.index(entry["kind"]))
    # Before the card is written, so that no card ever stands beside a file that it does not list.
    for name in set(family.files.values()) - {entry["file"] for entry in entries}:
        (folder / name).unlink(missing_ok=True)
    for name, needed_by in family.beside.items():
        if makers := [entry for entry in exported.verified if entry.kind in needed_by]:
            write_whole(folder / name, family.write_beside(name, makers[0].detection))
        elif not any(entry["kind"] in needed_by for entry in kept):
            (folder / name).unlink(missing_ok=True)
    files = file_list(entries)
    text = (
        card.to_markdown()
        + "\n"
        + files_table(files)
        + runtime_table(files)
        + detection_table(files)
    )
    write_whole(folder / CARD_TEXT_FILE, text.encode())
    write_whole(folder / CARD_FILE, json_bytes({**card.to_json(), "files": files}))
    figures = {
        "files": entries,
        "refused": dict(exported.refused),
        "cpu_seconds": dict(exported.cpu_seconds),
    }
    write_whole(folder / PARITY_FILE, json_bytes(figures))
    for name, content in contents.items():
        write_whole(folder / name, content)


def _kept(family: Family, card: Card, folder: Path, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Figures of files of this model that an earlier export left and this one does not make."""
    try:
        before = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        figures = json.loads((folder / PARITY_FILE).read_text(encoding="utf-8"))
        now = json.loads(json.dumps(card.to_json()))
        now["files"] = before["files"]
        # Any difference of the card is another model, another price or another version.
        if before != now:
            return []
        return [
            entry
            for entry in figures["files"]
            if entry["kind"] not in kinds
            # Figures of a version that measured something else would leave holes in the card.
            and set(entry) == {field.name for field in dataclasses.fields(Verification)}
            and family.files.get(entry["kind"]) == entry["file"]
            # A file that somebody changed since is no file of this export.
            and hashlib.sha256((folder / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # there was none, or it is not of this family
