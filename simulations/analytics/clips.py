"""Questions about what phones hold as clips: their own, with labels, and nothing public."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedspeech.device.telemetry import Events, telemetry_schema
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.queries.analytics import Analytics
from fedspeech.vectors import FloatVector
from simulations.analytics.asked import Asked, priced
from simulations.analytics.asking import query_of
from simulations.analytics.plan_file import PlanFile
from simulations.setup.definition import Experiment
from simulations.setup.experiment import BuiltExperiment, build_experiment, kept
from simulations.setup.telemetry import phone_attributes


@dataclass(frozen=True, eq=False)
class AskedOfClips(Asked):
    """A plan file that asks about the clips of an experiment's phones."""

    def job(self, cache: Path, simulation_only: Path) -> Job:
        """Makes the job: the phones' own clips, their attributes, and what they are sent.

        Raises:
          ScenarioError: if what is to be sent is not there.
        """
        built = build_experiment(
            self.experiment,
            cache=cache,
            simulation_only=None,
            workers=1,
            progress=lambda done, total: None,
        )
        query, sent = self.asks(built)
        arrays = built.job.load_arrays()
        if not arrays.attributes.size:
            drawn = built.job.virtual_phones
            attributes = phone_attributes(self.experiment, telemetry_schema(), drawn)
            arrays = dataclasses.replace(arrays, attributes=attributes)
        arrays = dataclasses.replace(arrays, attributes=self.attributes(arrays.attributes))
        nothing = arrays.background.first(0)  # public clips say nothing of a phone
        arrays = dataclasses.replace(arrays, initial=sent, background=nothing, validation=nothing)
        return dataclasses.replace(
            built.job,
            plan=self.release.plan,
            query=query,
            early_stopping=None,
            defense=None,
            time=self.time,
            **kept(arrays, cache),
        )

    def attributes(self, stated: Events) -> Events:
        """What segments divide the phones by, (phones, attributes), from what telemetry states."""
        return stated

    def asks(self, built: BuiltExperiment) -> tuple[Analytics, FloatVector]:
        """The query, and the adapter that phones are sent for it; here none."""
        del built
        return self.release.query, np.zeros(1, np.float32)


def asked_for_words(file: PlanFile, experiment: Experiment) -> AskedOfClips:
    """Prices a search for the words that most phones hold.

    Raises:
      ScenarioError: if the phones hold no sentences, or as `asked`.
    """
    if experiment.speakers.task.labels.output_unit == "clip":
        raise ScenarioError(
            f"{file.name}: query must be another than {file.query!r} for scenario "
            f"{experiment.scenario.name}: it looks for words of sentences, and these phones hold "
            'single words. A "histogram" of the column word_or_intent counts those'
        )
    query = query_of(file, telemetry_schema(), experiment.sizes.population)
    return AskedOfClips(experiment, priced(file, query, experiment))
