"""Whole runs, bit for bit: what was recorded before a change to the structure, and what is now.

Record before such a change, check after each of its steps; the record itself is not kept in git.

    python -m benchmarks.pins record            # writes benchmarks/pins.json
    python -m benchmarks.pins check             # says what differs; exit 1 if anything does
    python -m benchmarks.pins check quick deployment

Every run draws the noise of one pinned run id, so that a setting which only gets another name
changes nothing here. Exports are left out: their files have tests of their own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from server import rounds
from simulations.results.run_folder import RunFolder
from simulations.run import preparing, runner
from simulations.run.resume import resume
from simulations.scenario.reading import read_scenario

FILE = Path(__file__).with_suffix(".json")
RUN_ID = "0123456789abcdef"
RUNS: Mapping[str, tuple[str, tuple[str, ...], str]] = {  # scenario, settings, engine
    "quick": ("quick", (), "inprocess"),
    "flower": ("quick", (), "flower"),
    "deployment": ("quick", (), "deployment"),
    "resumed": ("quick", (), "inprocess"),
    "sentences": ("asr-quick", (), "inprocess"),
    "million": ("million", ("privacy.rounds=1",), "inprocess"),
    "default": ("default", (), "inprocess"),
}
OF_THE_MACHINE = {"seconds", "cpu_seconds", "command", "time", "sha256", "previous", "commitment"}


class Interrupted(Exception):
    """Stands for Ctrl-C after the second round."""


def main(verb: str, *names: str) -> int:
    """Records or checks the runs of these names, all of them if none is given."""
    recorded = json.loads(FILE.read_text()) if FILE.exists() else {}
    differ = []
    for name in names or RUNS:
        found = pin(name)
        if verb == "check":
            different = list(differences(recorded.get(name), found, name))
            differ += different
            print("\n".join(different) or f"{name}: the same bits", flush=True)
            continue
        recorded[name] = found
        FILE.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        print(f"{name}: recorded", flush=True)
    return int(bool(differ))


def pin(name: str) -> dict[str, Any]:
    """Runs one of `RUNS` in a folder of its own and says what came of it."""
    scenario, settings, engine = RUNS[name]
    sums: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fedspeech-pins-") as place, ExitStack() as patches:
        for patch in (pinned(), watched(sums), unexported()):
            patches.enter_context(patch)
        folder = Path(place) / "run"
        arguments: dict[str, Any] = {"workers": os.cpu_count(), "cache": None, "engine": engine}
        read = read_scenario(scenario, list(settings))
        if name == "resumed":
            with interrupted(), suppress(Interrupted):
                runner.simulate(read, out=folder, **arguments)
            resume(folder, **arguments)
        else:
            runner.simulate(read, out=folder, **arguments)
        return outcome(RunFolder(folder), sums)


def pinned() -> Any:
    """The run id of every job is the pinned one, on the nodes of other processes too."""
    build = preparing.build_experiment

    def built(*arguments: Any, **named: Any) -> Any:
        built = build(*arguments, **named)
        return dataclasses.replace(built, job=dataclasses.replace(built.job, repeats=RUN_ID))

    return mock.patch.object(preparing, "build_experiment", built)


def watched(sums: list[str]) -> Any:
    """Keeps the digest of every sum that a server in this process opens."""
    open_sum = rounds.open_sum

    def opened(query: Any, state: Any, job: Any, key: Any, total: Any, survivors: int) -> Any:
        sums.append(hashlib.sha256(np.ascontiguousarray(total)).hexdigest())
        return open_sum(query, state, job, key, total, survivors)

    return mock.patch.object(rounds, "open_sum", opened)


def unexported() -> Any:
    """Leaves the export out."""
    return mock.patch.object(runner, "export_files", return_value={})


def interrupted() -> Any:
    """Stops the run when its second round is over."""
    keep = runner.Run._on_round

    def stopping(self: Any, record: Any, state: Any) -> None:
        keep(self, record, state)
        if record.round == 1:
            raise Interrupted

    return mock.patch.object(runner.Run, "_on_round", stopping)


def outcome(folder: RunFolder, sums: list[str]) -> dict[str, Any]:
    """What must stay as it is: sums, adapter, ledger, rows and summary."""
    files = sorted(folder.adapter.glob("*.safetensors"))
    return {
        "sums": sums,
        "adapter": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "ledger": [bare(json.loads(line)) for line in folder.ledger.read_text().splitlines()],
        "rows": [bare(json.loads(line)) for line in folder.metrics.read_text().splitlines()],
        "summary": bare(json.loads(folder.summary.read_text())),
    }


def bare(value: Any) -> Any:
    """The value without what belongs to the machine or the minute."""
    if isinstance(value, dict):
        return {name: bare(one) for name, one in value.items() if name not in OF_THE_MACHINE}
    return [bare(one) for one in value] if isinstance(value, list) else value


def differences(before: Any, after: Any, place: str) -> Iterator[str]:
    """Says where two outcomes differ, one line each."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from differences(before.get(name), after.get(name), f"{place}.{name}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif before != after:
        yield f"{place}: {before!r} before, {after!r} now"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
