"""How fast is a phone's store? Encrypted writes and reads a second, beside SQLite alone.

    python -m benchmarks.phone_store [--records 5000] [--bytes 1024] [--json]

A ratio says what encryption, keys and checks cost on any machine; the rates are of this one. CPU
seconds of one core, since a single write waits for the disk: `put` alone is bound by its fsync.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedspeech.device.database import Database
from fedspeech.device.key_store import SoftwareKeyStore
from fedspeech.device.store import Store

LEAST = {"encrypted writes": 2000, "encrypted reads": 5000}
"""A second, on one core: what the store promises."""


def rate(count: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Records per CPU second, and what the work returned."""
    begin = time.process_time()
    found = work()
    return count / (time.process_time() - begin), found


def plain(folder: Path, contents: list[bytes]) -> dict[str, float]:
    """SQLite with the same settings and no encryption."""
    connection = Database(folder).connection
    connection.execute("CREATE TABLE plain (id TEXT UNIQUE, content BLOB)")
    rows = [(os.urandom(16).hex(), content) for content in contents]

    def write() -> None:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO plain VALUES (?, ?)", rows)
        connection.execute("COMMIT")

    def read() -> None:
        for row in rows:
            connection.execute("SELECT content FROM plain WHERE id = ?", row[:1]).fetchone()

    return {"plain writes": rate(len(rows), write)[0], "plain reads": rate(len(rows), read)[0]}


def measure(records: int, size: int) -> dict[str, float]:
    """All rates, per CPU second, and the seconds of one erasure among the records."""
    contents = [os.urandom(size) for _ in range(records)]
    with tempfile.TemporaryDirectory() as folder:
        found = plain(Path(folder) / "plain", contents)
        store = Store(Path(folder) / "phone", SoftwareKeyStore(Path(folder) / "keys"))
        events = [("event", content) for content in contents]
        found["encrypted writes"], ids = rate(records, lambda: store.put_all(events, consent="r"))  # type: ignore[arg-type]
        found["encrypted reads"], _ = rate(records, lambda: [store.get(one) for one in ids])
        few = events[: records // 10]
        found["encrypted writes, one by one"], _ = rate(
            len(few),
            lambda: [store.put(*one, consent="r") for one in few],  # type: ignore[arg-type]
        )
        begin = time.perf_counter()
        store.erase(ids[:1], "measured")
        found["seconds of an erasure"] = time.perf_counter() - begin
        store.close()
    return found


def main() -> None:
    """Prints rates, ratios, and whether the promise holds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.records, options.bytes)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{name:30} {value:12,.3g}" if value < 10 else f"{name:30} {value:12,.0f}")
    for what in ("writes", "reads"):
        ratio = found[f"plain {what}"] / found[f"encrypted {what}"]
        least = LEAST[f"encrypted {what}"]
        kept = "kept" if found[f"encrypted {what}"] >= least else "BROKEN"
        print(f"{what}: {ratio:.1f} times SQLite alone; at least {least:,} a second: {kept}")


if __name__ == "__main__":
    main()
