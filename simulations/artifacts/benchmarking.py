"""Size, load time and latency of an exported file beside torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulations.artifacts.loaded_run import FinishedRun, card_of, run_of
from simulations.console import Console, Printed, table
from simulations.setup.definition import Experiment
from tflite_export.files import read_model

if TYPE_CHECKING:  # LiteRT, which help and rounds do without
    from tflite_export.benchmark import Benchmark


@dataclass(frozen=True, eq=False, repr=False)
class Timings(Printed):
    """What a file costs on one thread, beside torch.

    Attributes:
      file: its name.
      found: size in bytes, load time and latencies in milliseconds.
    """

    file: str
    found: Benchmark

    def record(self) -> dict[str, Any]:
        """Every figure as plain data."""
        timings = [
            {
                **dataclasses.asdict(timing),
                "times_faster": timing.times_faster,
                "real_time_factor": timing.real_time_factor,
            }
            for timing in self.found.timings
        ]
        return {**dataclasses.asdict(self.found), "file": self.file, "timings": timings}

    def print(self, console: Console) -> None:
        """Prints a line for each call."""
        console.print(
            f"{self.file} ({self.found.kind}): {self.found.size_bytes / 1000:.1f} KB, loads in "
            f"{self.found.load_ms:.1f} ms; one thread, milliseconds"
        )
        rows = []
        for timing in self.found.timings:
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


def benchmark_file(file: Path, run: Path | None, experiment: Experiment | None = None) -> Timings:
    """Times a .tflite or .cc file on one thread.

    `run` is the run that it came of; None: the run folder in which it lies.

    Raises:
      ExportRefused: if the file cannot be read or timed.
      ScenarioError: if it is for sentences.
    """
    from tflite_export.benchmark import measure

    finished = FinishedRun.open(run or run_of(file), experiment=experiment)
    finished.require_words("benchmark")
    # The card says whose adapter the file holds; torch must compute by the same.
    trained, _ = finished.trained(card_of(file).get("phone") or "global")
    return Timings(file.name, measure(read_model(file), trained, finished.speech[0]))
