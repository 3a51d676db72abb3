"""What simulated phones remember of their use, beside the clips that they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedspeech.corpora.corpus import SILENCE, UNKNOWN
from fedspeech.device.simulated_user import TRUTH, SimulatedUsers
from fedspeech.device.telemetry import OTHER, Events, Schema, telemetry_schema
from fedspeech.errors import ScenarioError
from fedspeech.files import write_text
from fedspeech.population import PopulationArrays
from fedspeech.training.virtual_phones import VirtualPhones
from simulations.setup.definition import Experiment

TRUTH_FILE = "telemetry_truth.csv"


def schema_of(experiment: Experiment) -> Schema:
    """The telemetry schema over the words or intents of an experiment's product.

    Raises:
      ScenarioError: if sentences are recognized and the scenario names no intents.
    """
    labels = experiment.speakers.task.labels
    rates = experiment.scenario.telemetry
    if rates is not None and rates.intents:
        return telemetry_schema(rates.intents)
    if labels.output_unit != "clip":
        raise ScenarioError(
            "telemetry.intents must name the intents of a product that recognizes sentences: its "
            "labels are characters, got intents = []"
        )
    return telemetry_schema([word for word in labels.labels if word not in (UNKNOWN, SILENCE)])


def with_telemetry(
    arrays: PopulationArrays,
    experiment: Experiment,
    virtual_phones: VirtualPhones | None,
    simulation_only: Path | None,
) -> PopulationArrays:
    """The arrays with events and attributes of all phones, if the scenario simulates users.

    What no phone knows, such as false accepts that nobody canceled, is written to
    `simulation_only` where there is such a folder.

    Raises:
      ScenarioError: if the rates name what the schema has not.
    """
    rates = experiment.scenario.telemetry
    if rates is None:
        return arrays
    schema = schema_of(experiment)
    attributes = phone_attributes(experiment, schema, virtual_phones)
    found = SimulatedUsers(schema, attributes, rates, experiment.scenario.seed).events()
    if simulation_only is not None:
        simulation_only.mkdir(parents=True, exist_ok=True)
        table = _truth_table(schema, attributes, found.truth)
        write_text(simulation_only / TRUTH_FILE, table)
    return dataclasses.replace(
        arrays, events=found.events, event_offsets=found.offsets, attributes=attributes
    )


def phone_attributes(
    experiment: Experiment, schema: Schema, virtual_phones: VirtualPhones | None
) -> Events:
    """Attributes of the phones of an experiment as their corpus has them, (phones, attributes)."""
    rows = voice_attributes(experiment, schema)
    if virtual_phones is None:
        return rows
    phones = range(experiment.sizes.population)
    found: Events = rows[[virtual_phones.voice(phone, len(rows)) for phone in phones]]
    return found


def voice_attributes(experiment: Experiment, schema: Schema) -> Events:
    """Attributes of the federated speakers, each as of one phone, shape (speakers, attributes)."""
    speakers = experiment.speakers.partition.federated
    return np.stack([schema.encode_attributes(_known(schema, one.segments)) for one in speakers])


def _known(schema: Schema, segments: Mapping[str, str]) -> dict[str, str]:
    """Segments that are attributes; a value that the schema does not have is `OTHER`."""
    return {
        name: segments[name] if segments[name] in schema.names(name) else OTHER
        for name in schema.attributes
        if name in segments
    }


def _truth_table(schema: Schema, attributes: Events, truth: np.ndarray) -> str:
    """Sums of the truth over all phones and over those that share an attribute's value."""
    lines = [",".join(("attribute", "value", "phones", *TRUTH))]
    groups = [("", "", np.ones(len(truth), dtype=bool))]
    for place, name in enumerate(schema.attributes):
        codes = enumerate(schema.names(name))
        groups += [(name, value, attributes[:, place] == code) for code, value in codes]
    for name, value, members in groups:
        if members.any():
            sums = truth[members].sum(axis=0, dtype=np.float64)
            lines.append(",".join((name, value, str(members.sum()), *(f"{x:.9g}" for x in sums))))
    return "\n".join(lines) + "\n"
