"""Figures as metrics of an MLflow run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedspeech.extras import importing, require
from simulations.callbacks.callback import Callback, Figure, RunEnd, RunInfo

EXPERIMENT = "fedspeech"
KEY = "fedspeech.key"
LONGEST_PARAMETER = 500  # characters; servers of older versions take no more


class MLflowLogger(Callback):
    """Logs to a tracking server or to files; settings are the parameters, rounds the steps.

    Args:
      uri: of the tracking store, such as "sqlite:///mlflow.db" or "http://localhost:5000".
      experiment: its name there; made if it is new.

    Raises:
      MissingExtra: if MLflow is not installed.
    """

    def __init__(self, uri: str, experiment: str = EXPERIMENT) -> None:
        require("mlflow")
        self._uri, self._experiment = uri, experiment
        self._client: Any = None
        self._run, self._round = "", 0

    def on_start(self, run: RunInfo) -> None:
        """Begins a run, or takes up the one of the same key."""
        with importing("mlflow"):
            from mlflow import MlflowClient
        self._client, self._round = MlflowClient(tracking_uri=self._uri), run.known
        found = self._client.get_experiment_by_name(self._experiment)
        experiment = (
            found.experiment_id if found else self._client.create_experiment(self._experiment)
        )
        before = self._client.search_runs([experiment], f"tags.`{KEY}` = '{run.key}'")
        if before:
            self._run = before[0].info.run_id
            return
        tags = {KEY: run.key}
        created = self._client.create_run(experiment, tags=tags, run_name=run.name)
        self._run = created.info.run_id
        for name, value in run.settings.items():
            self._client.log_param(self._run, name, str(value)[:LONGEST_PARAMETER])

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
        if end.stopped:
            self._client.set_tag(self._run, "fedspeech.stopped", end.stopped)
        status = "FINISHED" if end.status == "complete" else "KILLED"
        self._client.set_terminated(self._run, status)

    def _log(self, figures: Sequence[Figure]) -> None:
        for figure in figures:
            self._client.log_metric(self._run, figure.tag, figure.value, step=self._round)
