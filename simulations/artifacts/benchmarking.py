"""`fedspeech export --benchmark FILE`: size, load time and latency beside torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from simulations.artifacts.loaded_run import FinishedRun, card_of, run_of
from simulations.console import Console, table
from tflite_export.files import read_model


def benchmark_file(file: Path, run: Path | None, *, as_json: bool) -> None:
    """Times a .tflite or .cc file and prints what it costs, on one thread.

    `run` is the run that it came of; None: the run folder in which it lies.

    Raises:
      ExportRefused: if the file cannot be read or timed.
      ScenarioError: if it is for sentences.
    """
    from tflite_export.benchmark import measure

    finished = FinishedRun.open(run or run_of(file))
    finished.require_words("--benchmark")
    # The card says whose adapter the file holds; torch must compute by the same.
    trained, _ = finished.trained(card_of(file).get("phone") or "global")
    found = measure(read_model(file), trained, finished.speech[0])
    console = Console()
    if as_json:
        timings = [
            {
                **dataclasses.asdict(timing),
                "times_faster": timing.times_faster,
                "real_time_factor": timing.real_time_factor,
            }
            for timing in found.timings
        ]
        facts = {**dataclasses.asdict(found), "file": file.name, "timings": timings}
        console.out(json.dumps(facts, indent=1))
        return
    console.print(
        f"{file.name} ({found.kind}): {found.size_bytes / 1000:.1f} KB, loads in "
        f"{found.load_ms:.1f} ms; one thread, milliseconds"
    )
    rows = []
    for timing in found.timings:
        share = timing.real_time_factor
        rows.append(
            (
                timing.what, f"{timing.p50_ms:.3f}", f"{timing.p95_ms:.3f}",
                "" if share is None else f"{100 * share:.2f} %",
                timing.torch_does, f"{timing.torch_p50_ms:.3f}", f"{timing.torch_p95_ms:.3f}",
                f"{timing.times_faster:.1f} x",
            )
        )  # fmt: skip
    header = ("call", "p50", "p95", "real time", "torch", "p50", "p95", "faster")
    console.print(table(header, rows, right=("p50", "p95", "real time", "faster")))
    console.print("real time: p95 over the sound that one call stands for", style="dim")
