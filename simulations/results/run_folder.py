"""The folder of one run: where everything stands, how it is written and read back.

    folder = RunFolder.create(Path("runs/quick"))
    folder.append(row)                       # on disk when the call returns
    folder.write_summary(summary)
    results = read(folder.path)              # rows, summary, scenario, environment

What the files say: `simulations.results.rows`, `summary` and `environment`.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import ValidationError

from fedspeech import hash_chain
from fedspeech.errors import ArgumentRefused, FedspeechError
from fedspeech.files import hold, remove_made, write_text
from simulations.results.environment import Environment
from simulations.results.record import SCHEMA_VERSION, Record
from simulations.results.rows import RoundRow
from simulations.results.summary import Summary

MINIMUM_FREE_BYTES = 200_000_000

RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True)
class Results:
    """Everything that a report or a comparison reads.

    Attributes:
      summary: None if the run stopped before it was written.
      scenario: the resolved scenario, as TOML text; "" if missing.
      environment: None if missing.
      torn: the last line of metrics.jsonl was cut short and left out.
    """

    name: str
    rows: tuple[RoundRow, ...]
    summary: Summary | None
    scenario: str
    environment: Environment | None
    torn: bool = False

    def settings(self) -> dict[str, Any]:
        """Returns the scenario's settings under dotted names."""
        return dict(flat("", tomllib.loads(self.scenario)))


class RunFolder:
    """The folder of one run: where everything stands and how it is written.

    Attributes:
      lock: held by the process that runs or resumes here.
      metrics: one `RoundRow` a line.
      summary: one `Summary`.
      environment: one `Environment`.
      ledger: the privacy ledger, which the library writes.
      checkpoint: where the run stands after its last round.
      job: what the server and every shard of phones agree on.
      durable_state: of simulated phones; removed once the run is complete.
      adapter: the adapter that ships, its configuration and model card.
    """

    def __init__(self, path: Path) -> None:
        """Names the places in `path`; touches nothing."""
        self.path = path
        self.lock = path / "run.lock"
        self.scenario = path / "scenario.toml"
        self.metrics = path / "metrics.jsonl"
        self.summary = path / "summary.json"
        self.environment = path / "environment.json"
        self.ledger = path / "ledger.jsonl"
        self.checkpoint = path / "checkpoints" / "last.safetensors"
        self.job = path / "job.json"
        self.base = path / "base.safetensors"
        self.durable_state = path / "phones"
        self.adapter = path / "adapter"
        self.export = path / "export"
        self.report = path / "report.html"
        self.published_report = path / "report-public.html"
        self._made = False

    @classmethod
    def create(cls, path: Path, *, minimum_free_bytes: int = MINIMUM_FREE_BYTES) -> RunFolder:
        """Makes the folder and its subfolders for a new run.

        Raises:
          FedspeechError: if it holds something, cannot be written to, or the disk is full.
        """
        folder = cls(path)
        folder._made = not path.exists()
        if path.exists() and not path.is_dir():
            raise FedspeechError(f"a run needs a folder, and {path} is a file")
        if not folder._made and any(path.iterdir()):
            raise ArgumentRefused(_occupied(path))
        check_place(path, "a run folder", minimum_free_bytes)
        hash_chain.forget_head(folder.ledger)  # of a run that stood here and was removed
        for subfolder in (folder.checkpoint.parent, folder.adapter, folder.export):
            subfolder.mkdir()
        return folder

    def give_up(self) -> None:
        """Removes, by name, what a run made here that never began; whatever else is here stays.

        The folder itself goes if this run made it and nothing else is in it.
        """
        files = (
            self.scenario, self.environment, self.job, self.base, self.lock, self.checkpoint,
            self.ledger,  # of a shared ledger this is the link alone
        )  # fmt: skip
        folders = (self.checkpoint.parent, self.adapter, self.export)
        remove_made(files, (*folders, self.path) if self._made else folders)

    def hold(self) -> BinaryIO:
        """Makes this process the only one that runs or resumes here, until the file is closed.

        Raises:
          FedspeechError: if another process does.
        """
        return hold_alone(self.lock, "run")

    def write_scenario(self, toml: str) -> None:
        """Writes the resolved scenario."""
        write_text(self.scenario, toml)

    def write_environment(self, environment: Environment) -> None:
        """Writes what the run stands on."""
        write_text(self.environment, environment.model_dump_json(indent=2) + "\n")

    def write_summary(self, summary: Summary) -> None:
        """Writes or replaces the summary; a reader sees the old one or the new one."""
        write_text(self.summary, summary.model_dump_json(indent=2) + "\n")

    def callbacks_key(self) -> str:
        """By which loggers know this run again; drawn once, and not derived from any setting."""
        place = self.path / "callbacks.key"
        if not place.exists():
            write_text(place, uuid.uuid4().hex + "\n")
        return place.read_text("utf-8").strip()

    def append(self, row: RoundRow) -> None:
        """Adds a row; it is on disk when the call returns. A torn last line is dropped first."""
        with self.metrics.open("ab+") as file:
            file.seek(0)
            written = file.read()
            # A torn line has no newline at its end, so this row would be glued to it.
            file.truncate(written.rfind(b"\n") + 1)
            file.write(row.model_dump_json().encode() + b"\n")
            file.flush()
            # The round's checkpoint goes once this returns: a power cut must not take both.
            os.fsync(file.fileno())

    def keep_rows(self, rounds: int) -> tuple[RoundRow, ...]:
        """Drops the rows of all rounds but the first `rounds`, and a torn line; returns them."""
        rows = tuple(row for row in _read_rows(self.metrics)[0] if row.round <= rounds)
        write_text(self.metrics, "".join(row.model_dump_json() + "\n" for row in rows))
        return rows


def hold_alone(lock: Path, what: str) -> BinaryIO:
    """Makes this process the only one that works in the folder of a lock, until it is closed.

    Raises:
      FedspeechError: if another process does.
    """
    held = hold(lock)
    if held is None:
        raise FedspeechError(f"the {what} in {lock.parent} is still going on in another process")
    return held


def _occupied(path: Path) -> str:
    """Why no new run may begin in a folder that holds something, and what may be done instead."""
    folder = RunFolder(path)
    if not folder.scenario.is_file():
        return (
            f"a run needs a new or empty folder, and {path} holds files; choose another with `out`"
        )
    summary = read_summary(path)
    if summary is not None and summary.status == "complete":
        return f"{path} holds a complete run; choose another folder with `out`"
    return (
        f"{path} holds a run that did not end: `fedspeech resume {path}` goes on with it. Choose "
        "another folder with `out` for a new run, and keep this one: its ledger is the only record "
        "of what its phones have spent"
    )


def share_ledger(link: Path, ledger: Path) -> None:
    """Makes whoever charges the ledger at `link` charge the population's own, which outlives it.

    The population's ledger is made when it is first charged, if it is not there.

    Raises:
      FedspeechError: if its folder is missing, or it is no file.
    """
    # Resolved: a relative link would be read from the run folder and not from where it was typed.
    target = ledger.resolve()
    if target.exists() and not target.is_file():
        raise ArgumentRefused(f"`ledger` needs a file, and {ledger} is none")
    if not target.parent.is_dir():
        raise ArgumentRefused(f"`ledger` {ledger}: there is no folder {ledger.parent}")
    check_place(target.parent, "the folder of the ledger")
    link.symlink_to(target)


def check_place(path: Path, what: str, minimum_free_bytes: int = MINIMUM_FREE_BYTES) -> None:
    """Makes a folder and checks, before work is put into it, that more can be written there.

    Raises:
      ArgumentRefused: if it cannot be written to, or the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ArgumentRefused(f"{what} must be writable: {path}: {error}") from error
    free = shutil.disk_usage(path).free
    if free < minimum_free_bytes:
        raise ArgumentRefused(
            f"{what} needs {minimum_free_bytes / 1e6:.0f} MB of free disk, "
            f"got {free / 1e6:.0f} MB at {path}"
        )


def read(path: Path) -> Results:
    """Reads a run folder, also one whose run was cut short.

    Raises:
      FedspeechError: if it is no run folder, or a file in it is damaged; the message names which.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise ArgumentRefused(f"no run folder at {path}")
    if not folder.metrics.exists() and not folder.summary.exists():
        raise ArgumentRefused(
            f"{path} is no run folder, or its run stopped before the first round: "
            "it has neither metrics.jsonl nor summary.json"
        )
    rows, torn = _read_rows(folder.metrics)
    try:
        scenario = folder.scenario.read_text("utf-8") if folder.scenario.exists() else ""
        tomllib.loads(scenario)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentRefused(f"{folder.scenario} is damaged: {error}") from error
    return Results(
        name=path.resolve().name,
        rows=rows,
        summary=read_summary(path),
        scenario=scenario,
        environment=read_environment(path),
        torn=torn,
    )


def read_summary(path: Path) -> Summary | None:
    """The summary of a run folder; None if there is none."""
    return _read_record(RunFolder(path).summary, Summary)


def read_environment(path: Path) -> Environment | None:
    """What the run in a folder stood on; None if that is unknown."""
    return _read_record(RunFolder(path).environment, Environment)


def _read_rows(path: Path) -> tuple[tuple[RoundRow, ...], bool]:
    """Rows of metrics.jsonl, and whether a torn last line was left out."""
    if not path.exists():
        return (), False
    # A kill can tear nothing but what follows the last newline; damage before it is an error.
    *lines, tail = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            # First, since fields of another version would only be called unknown.
            require_schema(path, line)
            rows.append(RoundRow.model_validate_json(line))
        except ValidationError as error:
            raise ArgumentRefused(f"{path}, line {number} is damaged: {_first(error)}") from error
    return tuple(rows), bool(tail)


def _read_record(path: Path, kind: type[RecordT]) -> RecordT | None:
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        if "schema_version" in kind.model_fields:
            require_schema(path, content)
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ArgumentRefused(f"{path} is damaged: {_first(error)}") from error


def require_schema(path: Path, content: bytes) -> None:
    """Refuses a record that another version of fedspeech wrote.

    Raises:
      FedspeechError: naming both versions and the way out. What is no JSON is left to its reader.
    """
    try:
        record = json.loads(content)
    except ValueError:
        return
    # Records of version 1 did not state it.
    written = record.get("schema_version", 1) if isinstance(record, dict) else SCHEMA_VERSION
    if written != SCHEMA_VERSION:
        raise ArgumentRefused(
            f"{path} has schema version {written}, and this fedspeech reads version "
            f"{SCHEMA_VERSION}: open the folder with the fedspeech that its environment.json "
            "names, or simulate its scenario.toml again into a new folder"
        )


def _first(error: ValidationError) -> str:
    complaint = error.errors()[0]
    where = ".".join(str(part) for part in complaint["loc"])
    return f"{where}: {complaint['msg']}" if where else complaint["msg"]


def flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the values of nested tables under dotted names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value
