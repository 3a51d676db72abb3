"""A scenario with users fills the phones of a job; one without leaves the job as it was."""

import csv
from pathlib import Path

import numpy as np
import pytest
from tiny_experiment import cache, tiny_experiment, tiny_scenario

from fedspeech.errors import ScenarioError
from fedspeech.population import PopulationArrays
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment
from simulations.setup.experiment import build_experiment
from simulations.setup.telemetry import TRUTH_FILE, phone_attributes, schema_of


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulation_only")
    made = build_experiment(
        tiny_scenario("telemetry.days=2"),
        cache=cache(),
        simulation_only=folder,
        workers=1,
        progress=lambda done, total: None,
    )
    return made, folder


def arrays_of(experiment):
    return PopulationArrays.load(Path(experiment.job.arrays))


@pytest.mark.slow
def test_phones_hold_the_events_of_the_schema_over_the_target_words(built):
    made, _ = built
    scenario = tiny_scenario("telemetry.days=2")
    schema = schema_of(Experiment.from_scenario(scenario))
    assert schema.column("answered").buckets == made.base.vocabulary.labels[:-2]
    arrays = arrays_of(made)
    schema.check(arrays.events)
    phone = arrays.phone(11)
    assert (phone.events[:, schema.place("event")] == schema.code("event", "listening")).sum() == 2
    stated = made.partition.federated[11].segments
    accent = schema.names("accent")[phone.attributes[schema.place("accent")]]
    assert accent == stated["accent"]


@pytest.mark.slow
def test_without_users_the_clips_are_the_same_and_there_are_no_events(built):
    with_users, without = arrays_of(built[0]), arrays_of(tiny_experiment())
    assert np.array_equal(with_users.embeddings, without.embeddings)
    assert not without.events.size
    assert not without.attributes.size


@pytest.mark.slow
def test_the_truth_of_all_phones_and_of_each_segment_stays_in_the_simulation(built):
    _, folder = built
    rows = list(csv.DictReader((folder / TRUTH_FILE).read_text().splitlines()))
    everybody = next(row for row in rows if not row["attribute"])
    assert everybody["phones"] == "12"
    accents = [row for row in rows if row["attribute"] == "accent"]
    for name in ("phones", "invocations", "false rejects", "false accepts"):
        assert sum(int(row[name]) for row in accents) == int(everybody[name])
    assert float(everybody["hours"]) > 0


def test_an_attribute_of_a_corpus_that_the_schema_lacks_is_other():
    experiment = Experiment.from_scenario(tiny_scenario("telemetry.days=2"))
    voices = experiment.speakers.partition.federated
    object.__setattr__(voices[0], "segments", {"accent": "scottish", "microphone": "x"})
    schema = schema_of(experiment)
    row = phone_attributes(experiment, schema, None)[0]
    assert schema.names("accent")[row[schema.place("accent")]] == "other"
    assert row.sum() == row[schema.place("accent")]


@pytest.mark.slow
def test_sentences_need_the_names_of_intents():
    scenario = read_scenario("asr-quick", ("telemetry.days=1",))
    with pytest.raises(ScenarioError, match=r"telemetry\.intents"):
        schema_of(Experiment.from_scenario(scenario))
    named = read_scenario("asr-quick", ('telemetry.intents=["call","play"]',))
    schema = schema_of(Experiment.from_scenario(named))
    assert schema.names("answered") == ("none", "call", "play")
