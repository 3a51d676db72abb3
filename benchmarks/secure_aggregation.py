"""What masked sums cost: CPU seconds beside their primitives alone, bytes per phone, memory.

    python -m benchmarks.secure_aggregation [--growth] [--unshared] [--bits 24] [--json]

Each row is `fedspeech secagg bench` in a process of its own, on one core: one session of which a
tenth of the phones drops out, then the primitives that it used in loops of their own. `--growth`
goes through numbers of phones instead of dimensions; `--unshared` also runs each session with every
computation where it is asked for, as separate phones would.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

Row = tuple[int, int, str]  # phones, dimension, server

TABLE: tuple[Row, ...] = (
    (100, 10_000, "semi_honest"), (100, 100_000, "semi_honest"),
    (1000, 10_000, "semi_honest"), (1000, 100_000, "semi_honest"),
    (1000, 10_000, "malicious"), (1000, 100_000, "malicious"),
)  # fmt: skip
GROWTH: tuple[Row, ...] = tuple((phones, 10_000, "malicious") for phones in (250, 500, 1000, 2000))
COLUMNS = {
    "phones": "{phones:,}",
    "dimension": "{dimension:,}",
    "server": "{threat_model}",
    "k": "{neighbors}",
    "t": "{threshold}",
    "CPU s": "{cpu_seconds:.2f}",
    "primitives alone": "{primitives_cpu_seconds:.2f}",
    "ratio": "{ratio:.2f}",
    "not shared": "{unshared}",
    "kB sent": "{kb_sent:.0f}",
    "kB received": "{kb_received:.0f}",
    "peak MB": "{peak_mb:.0f}",
}


def measure(row: Row, *, bits: int, unshared: bool) -> dict[str, Any]:
    """Runs one row in a process of its own and returns what it printed."""
    phones, dimension, server = row
    command = [
        str(Path(sys.executable).with_name("fedspeech")), "secagg", "bench", "--json",
        "--phones", str(phones), "--dimension", str(dimension), "--bits", str(bits),
        "--threat-model", server, "--dropout", "0.1", *(["--unshared"] if unshared else []),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    cost: dict[str, Any] = json.loads(done.stdout)
    return cost


def line(cost: dict[str, Any]) -> str:
    """Writes a row of the table."""
    seconds = cost["cpu_seconds_unshared"]
    stages = cost["bytes_per_phone"].values()
    values = {
        **cost,
        "unshared": "" if seconds is None else f"{seconds:.2f}",
        "kb_sent": sum(stage["sent"] for stage in stages) / 1e3,
        "kb_received": sum(stage["received"] for stage in stages) / 1e3,
        "peak_mb": cost["peak_memory_bytes"] / 1e6,
    }
    return "| " + " | ".join(form.format(**values) for form in COLUMNS.values()) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--growth", action="store_true", help="number of phones instead")
    parser.add_argument("--unshared", action="store_true", help="also share nothing")
    parser.add_argument("--bits", type=int, default=24)
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a table")
    options = parser.parse_args()
    if not options.json:
        print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for row in GROWTH if options.growth else TABLE:
        cost = measure(row, bits=options.bits, unshared=options.unshared)
        print(json.dumps(cost) if options.json else line(cost), flush=True)


if __name__ == "__main__":
    main()
