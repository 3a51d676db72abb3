"""The loggers that a scenario asks for."""

from __future__ import annotations

from collections.abc import Iterator

from simulations.callbacks.callback import Callback
from simulations.callbacks.csv_file import CsvLogger
from simulations.callbacks.mlflow import MLflowLogger
from simulations.callbacks.tensorboard import TensorBoardLogger
from simulations.callbacks.wandb import WandbLogger
from simulations.scenario.schema import CallbackSettings


def loggers(settings: CallbackSettings) -> Iterator[Callback]:
    """Yields the loggers of a scenario.

    Raises:
      MissingExtra: if a package is not installed, before anything of the run is made.
    """
    if settings.csv:
        yield CsvLogger()
    if settings.tensorboard:
        yield TensorBoardLogger(settings.tensorboard)
    if settings.mlflow:
        yield MLflowLogger(settings.mlflow)
    if settings.wandb:
        yield WandbLogger(settings.wandb)
