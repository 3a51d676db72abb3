"""Figures as a run of Weights and Biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedspeech.extras import importing, require
from simulations.callbacks.callback import Callback, Figure, RunEnd, RunInfo


class WandbLogger(Callback):
    """Logs figures and settings, and nothing else: no code, console, packages, host or git state.

    Without a network set `mode="offline"`, or the variable WANDB_MODE.

    Args:
      project: its name there.
      mode: "online", "offline" or "disabled"; None: as WANDB_MODE says.

    Raises:
      MissingExtra: if the package is not installed.
    """

    def __init__(self, project: str, mode: str | None = None) -> None:
        require("wandb")
        self._project, self._mode, self._round = project, mode, 0
        self._run: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Begins a run, or takes up the one of the same key."""
        with importing("wandb"):
            import wandb
        self._round = run.known
        self._run = wandb.init(
            project=self._project,
            name=run.name,
            id=run.key,
            resume="allow",
            mode=self._mode,
            dir=str(run.folder),
            config=dict(run.settings),
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                host="",
                save_code=False,
                silent=True,
                x_disable_machine_info=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
        )

    def on_round(self, round_number: int, figures: Sequence[Figure]) -> None:
        """Logs the figures of a round."""
        self._round = round_number
        self._log(figures)

    def on_stage(self, stage: str, figures: Sequence[Figure]) -> None:
        """Logs those of a stage, under the last round."""
        self._log(figures)

    def on_end(self, end: RunEnd) -> None:
        """Logs those of the run and ends it."""
        self._log(end.figures)
        self._run.summary["status"] = end.status
        if end.stopped:
            self._run.summary["stopped"] = end.stopped
        self._run.finish(exit_code=0 if end.status == "complete" else 1)

    def _log(self, figures: Sequence[Figure]) -> None:
        if figures:
            self._run.log({figure.tag: figure.value for figure in figures}, step=self._round)
