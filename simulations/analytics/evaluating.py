"""An evaluation plan: which adapter phones score on their own clips, and what they count."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from fedspeech.device.telemetry import telemetry_schema
from fedspeech.errors import ScenarioError
from fedspeech.models.adapters.files import WEIGHTS_FILE, load_adapter
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.evaluation import Evaluation, sha256_of
from fedspeech.rollout.guardrails import SegmentCounts
from fedspeech.vectors import FloatVector
from simulations.analytics.answer import EvaluationCounts
from simulations.analytics.asking import require_known, segments_of
from simulations.analytics.clips import AskedOfClips
from simulations.analytics.plan_file import PlanFile
from simulations.results.run_folder import RunFolder
from simulations.setup.definition import Experiment
from simulations.setup.experiment import BuiltExperiment

BASE = "base"
_SETTINGS = ("adapter", "sha256", "measure", "threshold")


@dataclass(frozen=True, eq=False)
class AskedToEvaluate(AskedOfClips):
    """A plan file that asks how well an adapter does on the clips of an experiment's phones."""

    def asks(self, built: BuiltExperiment) -> tuple[Analytics, FloatVector]:
        """The query, and the adapter that it names.

        Raises:
          ScenarioError: if the adapter is not there, is another, or is of another kind or base.
        """
        query, vector = self.release.query, _parameters(self.release.file, built)
        assert isinstance(query, Evaluation)
        return dataclasses.replace(query, adapter_sha256=sha256_of(vector)), vector


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


def counts_of(
    query: Analytics, plan: PrivacyPlan, estimates: Sequence[Estimate]
) -> EvaluationCounts | None:
    """The published counts of an evaluation; None: it asks something else, or counts words."""
    if not isinstance(query, Evaluation) or query.measure == "word_errors":
        return None
    sampling, names = Sampling.of(plan), [axis.name for axis in query.segments]
    # Back from totals of the population to the clips that were in the sum.
    came = plan.expected_cohort / sampling.scale_up
    return EvaluationCounts(
        first_day=query.first_day,
        last_day=query.last_day,
        measure=query.measure,
        adapter_sha256=query.adapter_sha256,
        segment_counts=tuple(
            SegmentCounts(
                segment=",".join(
                    f"{name}={value}" for name, value in zip(names, one.segment, strict=True)
                ),
                correct=one.value * one.count * came,
                total=one.count * came,
                noise_stddev=math.sqrt(sampling.noise_variance) * came,
            )
            for one in estimates
            if one.value is not None and one.count is not None
        ),
    )


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
