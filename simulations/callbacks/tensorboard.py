"""Figures as event files of TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedspeech.extras import importing, require
from simulations.callbacks.callback import Callback, Figure, RunEnd, RunInfo


class TensorBoardLogger(Callback):
    """Writes a scalar per figure; rounds are the steps. `tensorboard --logdir FOLDER` shows them.

    Args:
      folder: for the event files; one that is relative begins at the run folder.

    Raises:
      MissingExtra: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path | str = "tensorboard") -> None:
        require("tensorboard")
        self._folder, self._round = Path(folder), 0
        self._writer: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Opens an event file; rounds that come again replace what a killed run wrote of them."""
        with importing("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._round = run.known
        again = run.known + 1 if run.known else None
        self._writer = SummaryWriter(str(run.folder / self._folder), purge_step=again)
        lines = (f"    {name} = {value}" for name, value in run.settings.items())
        self._writer.add_text("settings", "\n".join(lines), run.known)

    def on_round(self, round_number: int, figures: Sequence[Figure]) -> None:
        """Adds the figures of a round, on disk at once."""
        self._round = round_number
        self._add(figures)

    def on_stage(self, stage: str, figures: Sequence[Figure]) -> None:
        """Adds those of a stage, under the last round."""
        self._add(figures)

    def on_end(self, end: RunEnd) -> None:
        """Adds those of the run and closes the file."""
        self._add(end.figures)
        self._writer.close()

    def _add(self, figures: Sequence[Figure]) -> None:
        for figure in figures:
            self._writer.add_scalar(figure.tag, figure.value, self._round)
        self._writer.flush()
