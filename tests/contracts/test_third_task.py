"""A task that no folder of the product knows goes the whole way from a corpus to a report."""

import re

import pytest
from sources import ROOT
from tiny_experiment import cache, tiny_scenario
from tones import TONES, tone_base, tone_speakers

from fedspeech.errors import ScenarioError
from fedspeech.models.base import Base, default_base_path
from simulations.results.run_folder import read
from simulations.run.runner import simulate
from simulations.scenario.corpora import ProvidedCorpus
from simulations.setup.definition import Experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of an experiment that is made of objects, and of no scenario file."""
    whole = tiny_scenario(
        "name=tones", "personalization.shots=[1,2]", "training.learning_rate=0.5",
        # With this noise ten seeds of ten ended below 5 % mistakes; 30 % are allowed.
        "privacy.noise_multiplier=0.2", "privacy.clip_norm=1.0", "privacy.rounds=8",
        "export.at_end=true",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tones") / "run"
    scenario = whole.model_copy(update={"corpus": ProvidedCorpus()})
    experiment = Experiment(scenario=scenario, speakers=tone_speakers(), base=tone_base())
    return simulate(experiment, out=folder, workers=1, cache=cache())


@pytest.mark.slow
def test_it_learns_and_says_so_in_its_own_words(run):
    summary = read(run).summary
    sections = {section.key: section for section in summary.sections}
    error = sections["error"].by_model("tones mistaken")
    assert error["base"].value == pytest.approx(0.5, abs=0.01), "a head of zeros knows nothing"
    assert error["federated"].value < 0.3
    assert sections["accuracy"].names[0] == "tones told apart"
    assert sections["pitch"].metrics[0].value == 900.0


@pytest.mark.slow
def test_its_figures_stand_in_the_report(run):
    page = (run / "report.html").read_text("utf-8")
    assert "tones mistaken" in page
    assert "Pitch of the whistles" in page


@pytest.mark.slow
def test_a_task_without_files_for_phones_is_refused_by_name_and_stops_nothing(run):
    summary = read(run).summary
    assert summary.status == "complete"
    assert "none of 'tones'" in summary.export_refused
    assert not list((run / "export").glob("*"))


@pytest.mark.slow
def test_its_adapter_is_read_back(run):
    from fedspeech.models.adapters.files import load_adapter

    adapter, parameters = load_adapter(run / "adapter", tone_base())
    assert parameters["head_bias"].shape == (len(TONES),)
    assert adapter.name == "head"


def test_without_the_program_that_made_it_nobody_opens_it():
    scenario = tiny_scenario().model_copy(update={"name": "tones", "corpus": ProvidedCorpus()})
    with pytest.raises(ScenarioError, match=r"a Python program handed over the speech of tones"):
        Experiment.from_scenario(scenario)


def test_a_base_that_answers_something_else_is_refused_whoever_hands_it_over():
    scenario = tiny_scenario().model_copy(update={"corpus": ProvidedCorpus()})
    with pytest.raises(ScenarioError, match="it knows no tones"):
        Experiment(scenario=scenario, speakers=tone_speakers(), base=Base.load(default_base_path()))


ASKS = re.compile(
    r"isinstance\([^)]*\b(Vocabulary|Alphabet|Kws|Asr)\b|\.task\s*[!=]=|labels\.ndim|"
    r"startswith\(\"frame_|\bwer is\b|\.roles is\b"
)


def test_nobody_outside_the_tasks_asks_which_task_it_is():
    """The scenario's schema may, which has a word for each; arrays of labels have two shapes."""
    may = ("fedspeech/tasks/", "simulations/scenario/", "fedspeech/training/dataset.py")
    asking = [
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for package in ("fedspeech", "clients", "server", "simulations")
        for file in sorted((ROOT / package).rglob("*.py"))
        if not str(file.relative_to(ROOT)).startswith(may)
        for line in file.read_text("utf-8").splitlines()
        if ASKS.search(line)
    ]
    assert not asking
