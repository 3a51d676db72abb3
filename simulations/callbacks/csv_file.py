"""Figures as one CSV file: a line per figure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fedspeech.files import write_text
from simulations.callbacks.callback import Callback, Figure, RunEnd, RunInfo

HEADER = ("round", "stage", "figure", "value")


class CsvLogger(Callback):
    """Writes `round,stage,figure,value`; a line is on disk when the round is over.

    The columns are the same for every task, whatever its figures are called; a table by round is
    one `pivot` away.

        pandas.read_csv("figures.csv").pivot(index="round", columns="figure", values="value")

    Args:
      path: of the file; None: figures.csv in the run folder.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._given, self._path, self._round = path, Path(), 0

    def on_start(self, run: RunInfo) -> None:
        """Begins the file, or drops what a killed run wrote of rounds that come again."""
        self._path = Path(self._given or run.folder / "figures.csv")
        self._round = run.known
        kept: list[list[str]] = []
        if run.known and self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in list(csv.reader(file))[1:] if len(row) == len(HEADER)]
            kept = [row for row in rows if row[1] == "rounds" and int(row[0]) <= run.known]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, "")
        self._write([list(HEADER), *kept])

    def on_round(self, round_number: int, figures: Sequence[Figure]) -> None:
        """Adds the figures of a round."""
        self._round = round_number
        self._add("rounds", figures)

    def on_stage(self, stage: str, figures: Sequence[Figure]) -> None:
        """Adds those of a stage, under the last round."""
        self._add(stage, figures)

    def on_end(self, end: RunEnd) -> None:
        """Adds those of the run."""
        self._add(end.status, end.figures)

    def _add(self, stage: str, figures: Sequence[Figure]) -> None:
        number = str(self._round)
        self._write([[number, stage, figure.tag, repr(figure.value)] for figure in figures])

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
