"""What a callback is told of a run: figures by name, each with who could see it.

    class Printing(Callback):
        def on_round(self, round_number, figures):
            print(round_number, {figure.tag: figure.value for figure in figures})

    simulate(scenario, callbacks=[Printing()], ...)

A callback gets figures and no model, no delta and nothing of a single phone. A figure's tag begins
with who could see it: `public/`, `server/` or `simulation/`. Of a run that releases its models a
callback is told public figures alone, and all of them at the end (`simulations.callbacks.told`).

What a callback raises ends its own work and not the run, whose rounds are paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspeech.evaluation.metric import Visibility

_PREFIX: Mapping[Visibility, str] = {
    "public": "public",
    "server": "server",
    "simulation_only": "simulation",
}


@dataclass(frozen=True)
class Figure:
    """One number of a run.

    Attributes:
      name: such as "validation_accuracy" or "error/federated".
      value: finite.
      visibility: who could see it.
    """

    name: str
    value: float
    visibility: Visibility

    @property
    def tag(self) -> str:
        """The name by which loggers keep it."""
        return f"{_PREFIX[self.visibility]}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What is known before the first round.

    Attributes:
      name: of the scenario.
      folder: the run folder.
      key: of this run and of no other, also when it is resumed.
      rounds: planned.
      known: rounds that were over before, of a run that is resumed.
      settings: the scenario by dotted names; of a released run without seeds and paths.
      released: whether only public figures are told, and all of them at the end.
    """

    name: str
    folder: Path
    key: str
    rounds: int
    known: int
    settings: Mapping[str, Any]
    released: bool


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """What came of it.

    Attributes:
      status: "complete" or "partial".
      stopped: why it stopped early; "" if it did not, and of a released run.
      figures: of the whole run, such as what was spent.
    """

    status: str
    stopped: str
    figures: Sequence[Figure]


class Callback:
    """Follows a run; every method does nothing until a subclass says otherwise."""

    def on_start(self, run: RunInfo) -> None:
        """Before the first round, or before the next one of a run that is resumed."""

    def on_round(self, round_number: int, figures: Sequence[Figure]) -> None:
        """After a round, counted from 1."""

    def on_stage(self, stage: str, figures: Sequence[Figure]) -> None:
        """After a stage: "rounds", "personalize" or "export"."""

    def on_end(self, end: RunEnd) -> None:
        """After the report, whatever stopped the run."""
