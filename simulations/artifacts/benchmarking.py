"""`fedspeech export --benchmark FILE`: size, load time and latency beside torch."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.table import Table

from simulations.artifacts.loaded_run import FinishedRun, card_of, run_of
from simulations.console import Console
from tflite_export.files import read_model


def benchmark_file(file: Path, run: Path | None, *, as_json: bool) -> None:
    """Times a model file and prints what it costs, on one thread.

    Args:
      file: a .tflite or .cc file of the family.
      run: the run that it came of; None: the run folder in which it lies.
      as_json: prints one JSON object.

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
        rows = [
            {
                **dataclasses.asdict(timing),
                "times_faster": timing.times_faster,
                "real_time_factor": timing.real_time_factor,
            }
            for timing in found.timings
        ]
        print_json = {**dataclasses.asdict(found), "file": file.name, "timings": rows}
        console.out(json.dumps(print_json, indent=1), highlight=False)
        return
    console.print(
        f"{file.name} ({found.kind}): {found.size_bytes / 1000:.1f} KB, loads in "
        f"{found.load_ms:.1f} ms; one thread, milliseconds",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    for name in ("call", "p50", "p95", "real time", "torch", "p50", "p95", "faster"):
        table.add_column(
            name, justify="left" if name in ("call", "torch") else "right", no_wrap=name == "call"
        )
    for timing in found.timings:
        share = timing.real_time_factor
        table.add_row(
            timing.what,
            f"{timing.p50_ms:.3f}",
            f"{timing.p95_ms:.3f}",
            "" if share is None else f"{100 * share:.2f} %",
            timing.torch_does,
            f"{timing.torch_p50_ms:.3f}",
            f"{timing.torch_p95_ms:.3f}",
            f"{timing.times_faster:.1f} x",
        )
    console.print(table)
    console.print("real time: p95 over the sound that one call stands for", style="dim")
