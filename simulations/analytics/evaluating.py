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

from fedspeech.device.telemetry import Events, telemetry_schema
from fedspeech.errors import FedspeechError, ScenarioError
from fedspeech.models.adapters.files import WEIGHTS_FILE, load_adapter
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.queries.analytics import Analytics
from fedspeech.queries.axes import Axis
from fedspeech.queries.estimate import Estimate, Sampling
from fedspeech.queries.evaluation import NEW, OLD, VERSION, Evaluation, sha256_of
from fedspeech.rollout.decisions import Rollout
from fedspeech.rollout.guardrails import SegmentCounts
from fedspeech.rollout.stages import SECRET_BYTES
from fedspeech.seeds import streams
from fedspeech.vectors import FloatVector
from simulations.analytics.answer import EvaluationCounts
from simulations.analytics.asking import require_known, segments_of
from simulations.analytics.clips import AskedOfClips
from simulations.analytics.plan_file import PlanFile
from simulations.results.run_folder import RunFolder
from simulations.setup.definition import Experiment
from simulations.setup.experiment import BuiltExperiment

BASE = "base"
_SETTINGS = ("adapter", "sha256", "measure", "threshold", "old", "rollout")


@dataclass(frozen=True, eq=False)
class AskedToEvaluate(AskedOfClips):
    """A plan file that asks how well an adapter does on the clips of an experiment's phones."""

    def asks(self, built: BuiltExperiment) -> tuple[Analytics, FloatVector]:
        """The query, and the adapter that it names.

        Raises:
          ScenarioError: if the adapter is not there, is another, or is of another kind or base.
        """
        query, file = self.release.query, self.release.file
        assert isinstance(query, Evaluation)
        vector = _parameters(file, built, "adapter")
        if query.version_sha256:
            both = (_parameters(file, built, "old"), vector)
            versions = tuple(map(sha256_of, both))
            _require_served(file, versions)
            query, vector = (
                dataclasses.replace(query, version_sha256=versions),
                np.concatenate(both),
            )
        return dataclasses.replace(query, adapter_sha256=sha256_of(vector)), vector

    def attributes(self, stated: Events) -> Events:
        """With the version that each phone serves, where segments divide by it.

        A phone finds that out by the draw that it made for the roll-out; nobody lists it.
        """
        file = self.release.file
        if "rollout" not in file.settings:
            return stated
        rollout, seed = _rollout(file), self.experiment.scenario.seed
        opened = streams(seed, "secret of a roll-out")
        serves_new = [
            rollout.serves(opened(phone).bytes(SECRET_BYTES)) == rollout.release.version
            for phone in range(len(stated))
        ]
        return np.column_stack([stated, np.array(serves_new, stated.dtype)])


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
            segments=_segments(file, experiment.sizes.population),
            version_sha256=("", "") if "rollout" in file.settings else (),
            max_cells=file.bound.max_cells,
            max_per_cell=file.bound.max_per_cell or 1,
            adapter=experiment.adapter,
            alphabet="" if labels.output_unit == "clip" else "".join(labels.labels[1:]),
            **settings,
        )
    except ValueError as error:
        raise ScenarioError(f"{file.name}: {error}") from error


def _segments(file: PlanFile, population: int) -> tuple[Axis, ...]:
    """What divides the phones: attributes, and first the version where each scores its own.

    Raises:
      ScenarioError: if the version goes without a roll-out, or the other way round, or as
        `segments_of`.
    """
    by_version = VERSION in file.segments
    if by_version != ("rollout" in file.settings) or ("old" in file.settings and not by_version):
        raise ScenarioError(
            f"{file.name}: the segment {VERSION!r} and settings.rollout, the folder of the "
            "roll-out that says which phones serve which version, come together, and settings.old "
            f"with them alone, got segments={list(file.segments)} with settings "
            f"{sorted(file.settings)}"
        )
    stated = tuple(one for one in file.segments if one != VERSION)
    schema = telemetry_schema()
    found = segments_of(file.model_copy(update={"segments": stated}), schema, population)
    if not by_version:
        return found
    place = len(schema.attributes)  # beside those that telemetry states
    return (Axis(name=VERSION, place=place, names=(OLD, NEW), cells=(0, 1)), *found)


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
        adapter_sha256=query.version_sha256[-1] if query.version_sha256 else query.adapter_sha256,
        old_sha256=query.version_sha256[0] if query.version_sha256 else "",
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


def _rollout(file: PlanFile) -> Rollout:
    """The roll-out whose stage says which phones serve which version.

    Raises:
      ScenarioError: if there is none.
    """
    try:
        return Rollout.open(Path(str(file.settings["rollout"])))
    except FedspeechError as error:
        raise ScenarioError(f"{file.name}: settings.rollout: {error}") from error


def _require_served(file: PlanFile, versions: Sequence[str]) -> None:
    """Refuses adapters that the roll-out does not serve; the base alone has no file of its own."""
    rollout = _rollout(file)
    for key, bound, found in zip(
        ("old", "adapter"), (rollout.control, rollout.release), versions, strict=True
    ):
        if bound is not None and bound.parameters_sha256 != found:
            raise ScenarioError(
                f"{file.name}: settings.{key} must be {bound.model} {bound.version}, which the "
                f"roll-out serves ({bound.parameters_sha256[:12]}...), got {found[:12]}..."
            )


def _parameters(file: PlanFile, built: BuiltExperiment, key: str) -> FloatVector:
    """The adapter that a key of the settings names, flat.

    Raises:
      ScenarioError: if it is not there, is another, or is of another kind or base.
    """
    spec, named = built.adapter.spec, str(file.settings.get(key, BASE))
    if named == BASE:
        return spec.flatten(built.adapter.initial(built.base.head_weight, built.base.head_bias))
    folder = Path(named)
    if RunFolder(folder).adapter.is_dir():
        folder = RunFolder(folder).adapter
    try:
        found = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
        wanted = str(file.settings.get("sha256", found)) if key == "adapter" else found
        if found != wanted:
            raise ValueError(f"settings.sha256 must be that of its weights, {found}, got {wanted}")
        return spec.flatten(load_adapter(folder, built.base)[1]).astype(np.float32)
    except (OSError, ValueError) as error:
        raise ScenarioError(
            f"{file.name}: settings.{key} must be {BASE!r}, a run folder or the folder of an "
            f"adapter {built.adapter.name!r} of this base: {error}"
        ) from error
