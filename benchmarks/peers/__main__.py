"""Phones per CPU-second beside Flower's engine and pfl, one table.

    python -m benchmarks.peers [--phones 1000] [--rounds 3] [--json]

Makes pfl's environment beside this file on the first call (a few hundred megabytes from the package
index, the same torch as here). Contenders run one after the other in processes of their own, so the
machine's other work hits all alike; ratios tell more than figures. Never in CI.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.peers import task
from fedspeech.source import source_sha256
from simulations.run.environment import capture_environment

HERE = Path(__file__).parent
PFL = "pfl[pytorch]==0.6.0"
ROWS = {
    "local training": ("local", ("flower", "pfl", "fedspeech")),
    "private rounds": ("private", ("pfl", "fedspeech")),
}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phones", type=int, default=1_000, help="per round")
    parser.add_argument("--rounds", type=int, default=3, help="counted, after one that warms up")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    python = pfl_environment()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        task.write(Path(folder), arguments.phones)
        for name, (kind, contenders) in ROWS.items():
            results[name] = {
                contender: measured(contender, kind, python, folder, arguments)
                for contender in contenders
            }
    if arguments.json:
        described = capture_environment(torch_threads=1, source_sha256=source_sha256())
        report = {"date": str(datetime.date.today()), "phones": arguments.phones}
        print(json.dumps({**report, "machine": described.model_dump(), "rows": results}, indent=1))
    else:
        show(results, arguments.phones)


def pfl_environment() -> Path:
    """Returns the Python of pfl's environment; makes it if it is not there."""
    folder = HERE / ".venv"
    python = folder / "bin" / "python"
    made = folder / "installed"
    if not made.exists():
        print(f"making pfl's environment in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        torch = f"torch=={version('torch').split('+')[0]}"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--progress-bar", "off", PFL, torch],
            check=True, stdout=sys.stderr,
        )  # fmt: skip
        made.touch()
    return python


def measured(
    contender: str, kind: str, pfl: Path, folder: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Runs one contender in a process of its own."""
    sizes = [folder, str(arguments.phones), str(arguments.rounds)]
    command = {
        "flower": [sys.executable, "-m", "benchmarks.peers.with_flower", *sizes],
        "pfl": [str(pfl), str(HERE / "with_pfl.py"), *sizes, kind],
        "fedspeech": [sys.executable, "-m", "benchmarks.peers.ours", *sizes, kind],
    }[contender]
    quiet = {
        "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_ADDRESS": "local",
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=HERE.parents[1], env={**os.environ, **quiet, task.TOKEN: uuid4().hex},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{contender} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    result["phones_per_cpu_second"] = result["phones"] / result["cpu_seconds"]
    result["phones_per_second"] = result["phones"] / result["seconds"]
    return result


def show(results: dict[str, dict[str, Any]], phones: int) -> None:
    """Prints the table."""
    print(
        f"{task.PARAMETERS:,} parameters, {phones:,} phones a round, one thread; ratio: fedspeech"
    )
    print(f"{'':<16}{'':<11}{'version':<9}{'phones/CPU s':>13}{'wall s/round':>14}{'ratio':>8}")
    for name, row in results.items():
        ours = row["fedspeech"]["phones_per_cpu_second"]
        for contender, found in row.items():
            print(
                f"{name:<16}{contender:<11}{found['version']:<9}"
                f"{found['phones_per_cpu_second']:>13,.0f}"
                f"{found['seconds'] / found['rounds']:>14.2f}"
                f"{ours / found['phones_per_cpu_second']:>8.1f}"
            )


if __name__ == "__main__":
    main()
