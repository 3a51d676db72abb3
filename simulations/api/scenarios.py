"""Scenarios that ship, and the experiment behind a name, a file or objects."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulations.api.records import Records
from simulations.scenario import reading
from simulations.scenario.schema import Scenario
from simulations.scenario.stages import require_stage

if TYPE_CHECKING:
    from simulations.setup.definition import Experiment


def scenarios() -> Records:
    """Names and descriptions of the scenarios that ship.

    >>> import fedspeech as fs
    >>> "quick" in fs.scenarios().column("scenario")
    True
    """
    names = reading.scenario_names()
    return Records(
        {"scenario": name, "what it is": reading.read_scenario(name).description} for name in names
    )


def read_scenario(name_or_file: str | Path, changes: Iterable[str] = ()) -> Scenario:
    """Reads a shipped scenario by name, or a .toml file.

        >>> import fedspeech as fs
        >>> fs.read_scenario("quick", ["privacy.rounds=3"]).privacy.rounds
        3

    Args:
      name_or_file: such as "quick", or the path of a file.
      changes: `section.key=value`, values as TOML has them.

    Raises:
      ScenarioError: naming the file, the key and the nearest valid one.
    """
    return reading.read_scenario(str(name_or_file), changes)


def to_toml(scenario: Scenario | Experiment) -> str:
    """A scenario as the text of a file, each key below its meaning and its default.

    >>> import fedspeech as fs
    >>> "noise_multiplier = 1.0" in fs.to_toml(fs.read_scenario("quick"))
    True
    """
    from simulations.scenario.writing import to_toml as written

    return written(scenario if isinstance(scenario, Scenario) else scenario.scenario)


def experiment_of(what: Experiment | Scenario | str | Path) -> Experiment:
    """The experiment itself, or the one that a scenario builds."""
    from simulations.setup.definition import Experiment

    if isinstance(what, Experiment):
        return what
    return Experiment.from_scenario(scenario_of(what))


def scenario_of(what: Scenario | str | Path) -> Scenario:
    """The scenario itself, or the one of a name or a file."""
    return what if isinstance(what, Scenario) else read_scenario(what)


def runnable(what: Any, seed: int | None) -> Scenario | Experiment:
    """An experiment, or a scenario that is not yet opened, under a seed.

    A scenario is opened where the run shows its progress.
    """
    found: Scenario | Experiment
    found = scenario_of(what) if isinstance(what, Scenario | str | Path) else what
    return found if seed is None else found.with_seed(seed)


def require_part(what: Scenario | Experiment, part: str) -> None:
    """Refuses a part of the tool that comes at a later stage of the product; see docs/stages.md.

    Raises:
      ScenarioError: naming the part and both stages.
    """
    scenario = what if isinstance(what, Scenario) else what.scenario
    require_stage(scenario.name, scenario.stage, part)
