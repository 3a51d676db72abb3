"""A search of clip norm and noise from Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fedspeech.errors import ArgumentRefused, FedspeechError
from simulations.api.records import Records
from simulations.api.run import path_of
from simulations.api.scenarios import read_scenario, require_part, runnable
from simulations.api.shown import Page
from simulations.console import preformatted
from simulations.progress import RunProgress, progress_for
from simulations.scenario.schema import Scenario

if TYPE_CHECKING:
    from simulations.setup.definition import Experiment
    from simulations.tuning.results import Mode, Tuning
    from simulations.tuning.space import Axis


class Tuned:
    """A finished search: what was tried, and what it recommends.

    Attributes:
      path: the folder.
      results: everything, as results.json has it.
    """

    def __init__(self, path: Path) -> None:
        """Reads the folder of a search.

        Raises:
          FedspeechError: if no search has ended there.
        """
        from simulations.tuning.results import Tuning

        file = path / "results.json"
        if not file.is_file():
            raise FedspeechError(f"{path} holds no finished search: it has no results.json")
        self.path = path
        self.results: Tuning = Tuning.model_validate_json(file.read_bytes())

    @property
    def tried(self) -> Records:
        """One row per setting.

        Columns: number, clip_norm, noise_multiplier, server_learning_rate, local_epochs;
        accuracy with low and high, the ends of its 95 % interval over seeds and phones;
        epsilon_release and epsilon_server of all planned rounds; within_budget; stopped.
        """
        return Records(
            {
                "number": one.number,
                "clip_norm": one.clip_norm,
                "noise_multiplier": one.noise_multiplier,
                "server_learning_rate": one.server_learning_rate,
                "local_epochs": one.local_epochs,
                "accuracy": one.accuracy.mean,
                "low": one.accuracy.low,
                "high": one.accuracy.high,
                "epsilon_release": one.guarantee.epsilon_release,
                "epsilon_server": one.guarantee.epsilon_server,
                "within_budget": one.within_budget,
                "stopped": one.stopped or None,
            }
            for one in self.results.tried
        )

    @property
    def recommended(self) -> Scenario | None:
        """The scenario to run; None if no setting is within the budget."""
        file = self.path / "recommended.toml"
        return read_scenario(file) if file.is_file() else None

    def report(self) -> Page:
        """The page of the search; in a notebook it shows inline."""
        return Page(self.path / "tuning.html")

    def __repr__(self) -> str:
        """The folder and how much was tried."""
        return f"Tuned({str(self.path)!r}, {len(self.results.tried)} settings)"

    def __str__(self) -> str:
        """The recommendation in words."""
        return "\n".join((*self.results.short, *self.results.words))

    def _repr_html_(self) -> str:
        return preformatted(str(self))


def tune(
    what: Experiment | Scenario | str | Path = "quick",
    *,
    mode: Mode = "grid",
    clip_norm: str | float | Iterable[float] | None = None,
    noise_multiplier: str | float | Iterable[float] | None = None,
    server_learning_rate: str | float | Iterable[float] | None = None,
    local_epochs: str | int | Iterable[int] | None = None,
    seeds: int | None = None,
    trials: int = 24,
    max_accuracy_drop_points: float = 0.5,
    public: bool = False,
    charge: str | Path | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    progress: bool | RunProgress | None = None,
    workers: int | None = None,
    cache: str | Path | None = None,
    device: str | None = None,
) -> Tuned:
    """Searches clip norm and noise: a recommendation with its uncertainty, and a scenario to run.

        >>> import fedspeech as fs
        >>> fs.tune("real-commands")
        Traceback (most recent call last):
        ...
        fedspeech.errors.ArgumentRefused: tuning on people's recordings costs privacy: ...

    Args:
      what: an experiment, a scenario, its name or file.
      mode: "grid", or "pareto": accuracy against epsilon.
      clip_norm: values to try, or "LO:HI:STEPS" (log-spaced); None: around the scenario's own.
      noise_multiplier: likewise.
      server_learning_rate: likewise; None: learning rate x clip norm stays constant.
      local_epochs: likewise, whole numbers; None: as it is.
      seeds: how many; None: three, one where trials are charged.
      trials: of mode "pareto".
      max_accuracy_drop_points: percentage points of accuracy that privacy may cost.
      public: declares the recordings public, so that looking at results costs nobody privacy.
      charge: ledger of the population that pays for every trial.
      seed: as in `simulate`.
      out: a new folder, or one of the same search to go on with; None: runs/tune-NAME-DATE.
      progress: as in `simulate`.
      workers: processes; None: one per core. Results do not depend on it.
      cache: where features are kept; None: the user's cache.
      device: as in `simulate`.

    Raises:
      ScenarioError: if recordings are people's and nothing says who pays, an axis is none, or the
        product is at a stage without federated training (docs/stages.md).
      BudgetExhausted: if the budget covers no trial.
    """
    from fedspeech.models.compute import computing_on
    from simulations.tuning.tuner import Request
    from simulations.tuning.tuner import tune as run

    axes = {
        name: _axis(name, given)
        for name, given in (
            ("clip_norm", clip_norm), ("noise_multiplier", noise_multiplier),
            ("server_learning_rate", server_learning_rate), ("local_epochs", local_epochs),
        )
        if given is not None
    }  # fmt: skip
    request = Request(
        mode=mode, **axes, seeds=seeds, trials=trials, within=max_accuracy_drop_points / 100,
        public=public, charge=path_of(charge),
    )  # fmt: skip
    chosen = runnable(what, seed)
    require_part(chosen, "tune")
    with computing_on(device):
        folder = run(
            chosen, request, out=path_of(out), workers=workers,
            cache=path_of(cache), progress=progress_for(progress),
        )  # fmt: skip
    return Tuned(folder)


def _axis(name: str, given: str | float | Iterable[float]) -> Axis:
    """Values to try."""
    from simulations.tuning.space import parse_axis

    if not isinstance(given, str):
        values = [given] if isinstance(given, int | float) else given
        given = ",".join(str(float(value)) for value in values)
    try:
        return parse_axis(given, f"`{name}`")
    except FedspeechError as error:
        raise ArgumentRefused(str(error)) from error
