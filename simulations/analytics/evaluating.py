"""An evaluation plan: which adapter phones score on their own clips, and what they count."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fedspeech.device.telemetry import telemetry_schema
from fedspeech.errors import ScenarioError
from fedspeech.job import Job
from fedspeech.models.adapters.files import WEIGHTS_FILE, load_adapter
from fedspeech.population import PopulationArrays
from fedspeech.queries.evaluation import Evaluation, sha256_of
from fedspeech.vectors import FloatVector
from simulations.analytics.asked import Asked
from simulations.analytics.asking import require_known, segments_of
from simulations.analytics.plan_file import PlanFile
from simulations.results.run_folder import RunFolder
from simulations.setup.definition import Experiment
from simulations.setup.experiment import BuiltExperiment, build_experiment, kept
from simulations.setup.telemetry import phone_attributes

BASE = "base"
_SETTINGS = ("adapter", "sha256", "measure", "threshold")


@dataclass(frozen=True, eq=False)
class AskedToEvaluate(Asked):
    """A plan file that asks how well an adapter does on the clips of an experiment's phones."""

    def job(self, cache: Path, simulation_only: Path) -> Job:
        """Makes the job: the phones' own clips, and the adapter as what they are sent.

        Raises:
          ScenarioError: if the adapter is not there, is another, or is of another kind or base.
        """
        file, query = self.release.file, self.release.query
        assert isinstance(query, Evaluation)
        built = build_experiment(
            self.experiment,
            cache=cache,
            simulation_only=None,
            workers=1,
            progress=lambda done, total: None,
        )
        vector = _parameters(file, built)
        arrays = built.job.load_arrays()
        if query.segments and not arrays.attributes.size:
            arrays = self._with_attributes(arrays, built)
        # The clips that a phone scores are its own: public ones say nothing of it.
        nothing = arrays.background.first(0)
        arrays = dataclasses.replace(arrays, initial=vector, background=nothing, validation=nothing)
        return dataclasses.replace(
            built.job,
            plan=self.release.plan,
            query=dataclasses.replace(query, adapter_sha256=sha256_of(vector)),
            early_stopping=None,
            time=self.time,
            **kept(arrays, cache),
        )

    def _with_attributes(
        self, arrays: PopulationArrays, built: BuiltExperiment
    ) -> PopulationArrays:
        schema, drawn = telemetry_schema(), built.job.virtual_phones
        attributes = phone_attributes(self.experiment, schema, drawn)
        return dataclasses.replace(arrays, attributes=attributes)


def evaluation_of(file: PlanFile, experiment: Experiment) -> Evaluation:
    """The query of an evaluation plan; which parameters it sends, the job says.

    Raises:
      ScenarioError: naming the key, the rule, the value and the nearest name.
    """
    for key in file.settings:
        require_known("settings", key, _SETTINGS, "setting of evaluation")
    if file.where:
        raise ScenarioError(
            f"{file.name}: where must be left out of an evaluation, which counts clips and no "
            f"events, got {dict(file.where)}"
        )
    hints = get_type_hints(Evaluation, include_extras=True)
    settings: dict[str, Any] = {}
    for key in ("measure", "threshold"):
        if key in file.settings:
            given = file.settings[key]
            try:
                settings[key] = TypeAdapter(hints[key]).validate_python(given)
            except ValidationError as error:
                raise ScenarioError(
                    f"settings.{key}: {error.errors()[0]['msg']}, got {given!r:.60}"
                ) from error
    labels = experiment.speakers.task.labels
    try:
        return Evaluation(
            first_day=file.window.first_day,
            last_day=file.window.last_day,
            segments=segments_of(file, telemetry_schema(), experiment.sizes.population),
            max_cells=file.bound.max_cells,
            max_per_cell=file.bound.max_per_cell or 1,
            adapter=experiment.adapter,
            alphabet="" if labels.output_unit == "clip" else "".join(labels.labels[1:]),
            **settings,
        )
    except ValueError as error:
        raise ScenarioError(f"{file.name}: {error}") from error


def _parameters(file: PlanFile, built: BuiltExperiment) -> FloatVector:
    """The adapter that phones are sent, flat.

    Raises:
      ScenarioError: if it is not there, is another, or is of another kind or base.
    """
    spec, named = built.adapter.spec, str(file.settings.get("adapter", BASE))
    if named == BASE:
        return spec.flatten(built.adapter.initial(built.base.head_weight, built.base.head_bias))
    folder = Path(named)
    if RunFolder(folder).adapter.is_dir():
        folder = RunFolder(folder).adapter
    try:
        found = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
        wanted = str(file.settings.get("sha256", found))
        if found != wanted:
            raise ValueError(f"settings.sha256 must be that of its weights, {found}, got {wanted}")
        return spec.flatten(load_adapter(folder, built.base)[1]).astype(np.float32)
    except (OSError, ValueError) as error:
        raise ScenarioError(
            f"{file.name}: settings.adapter must be {BASE!r}, a run folder or the folder of an "
            f"adapter {built.adapter.name!r} of this base: {error}"
        ) from error
