"""The job of a release: whose phones are asked, with what they hold for the question."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from fedspeech.device.virtual_time import TimeAxis
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.population import PopulationArrays
from fedspeech.queries.analytics import Analytics
from simulations.analytics.asking import query_of
from simulations.analytics.plan_file import PlanFile
from simulations.analytics.pricing import PricedRelease, priced_release
from simulations.setup.definition import Experiment, time_axis
from simulations.setup.experiment import kept, virtual_phones_of
from simulations.setup.planning import PlanSizes
from simulations.setup.telemetry import schema_of, with_telemetry


@dataclass(frozen=True, eq=False)
class Asked:
    """A plan file and the experiment whose phones it asks.

    Attributes:
      experiment: of the scenario.
      release: the plan file with its query, and the price of the answer.
    """

    experiment: Experiment
    release: PricedRelease

    @property
    def time(self) -> TimeAxis | None:
        """Virtual time of the rounds: each builds on the answer to the last, so none overlap."""
        time = time_axis(self.experiment.scenario)
        return time and dataclasses.replace(time, open_rounds=1)

    def job(self, cache: Path, simulation_only: Path) -> Job:
        """Makes the job and keeps its arrays in the cache: telemetry, and no clip.

        What only a simulation knows of it goes to `simulation_only`.
        """
        scenario, release = self.experiment.scenario, self.release
        arrays = PopulationArrays.without_clips(release.plan.population)
        drawn = virtual_phones_of(scenario)
        arrays = with_telemetry(arrays, self.experiment, drawn, simulation_only)
        return Job(
            seed=scenario.seed,
            noise_entropy=scenario.noise_entropy,
            num_shards=scenario.simulation.shards,
            plan=release.plan,
            query=release.query,
            base_sha256="",  # nothing that phones are asked depends on one
            time=self.time,
            faults=scenario.simulation.faults,
            deadline_s=scenario.simulation.deadline_s,
            **kept(arrays, cache),
        )


def asked(file: PlanFile, experiment: Experiment) -> Asked:
    """Prices a question to the phones of an experiment; builds and sends nothing.

    Raises:
      ScenarioError: if the phones remember nothing, or nothing of the window, if they have no such
        column or attribute, or no noise is enough.
    """
    _require_days(file, experiment)
    query = query_of(file, schema_of(experiment), experiment.sizes.population)
    return Asked(experiment, priced(file, query, experiment))


def priced(file: PlanFile, query: Analytics, experiment: Experiment) -> PricedRelease:
    """Prices a query for the phones of an experiment.

    Raises:
      ScenarioError: if no noise is enough, or a rule of privacy is broken.
    """
    settings = experiment.scenario.privacy
    return priced_release(file, query, settings, _sizes(experiment, query.rounds))


def _sizes(experiment: Experiment, rounds: int) -> PlanSizes:
    """Inputs of the plan, for as many rounds as the answer takes."""
    time = time_axis(experiment.scenario)
    sizes = experiment.sizes
    availability = 1.0 if time is None else time.least_available(rounds, sizes.population)
    return dataclasses.replace(sizes, availability=availability)


def _require_days(file: PlanFile, experiment: Experiment) -> None:
    """Refuses a window of which phones remember nothing."""
    telemetry = experiment.scenario.telemetry
    if telemetry is None:
        raise ScenarioError(
            f"{file.name}: the phones of scenario {experiment.scenario.name} remember nothing to "
            "count: it has no section telemetry. Choose one that has, or change it by "
            "telemetry.days=7 (docs/telemetry.md)"
        )
    if file.window.last_day >= telemetry.days:
        raise ScenarioError(
            f"{file.name}: window must lie in the days that phones remember, 0 to "
            f"{telemetry.days - 1}, got first_day={file.window.first_day} with "
            f"days={file.window.days}"
        )
