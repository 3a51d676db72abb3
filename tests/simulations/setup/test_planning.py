"""What a rule refuses comes with settings that it accepts, all at once."""

import re

import numpy as np
import pytest

from fedspeech.errors import CorpusError, ScenarioError
from simulations.scenario.reading import read_scenario
from simulations.setup.bases import layout_of
from simulations.setup.definition import Experiment
from simulations.setup.planning import plan_of
from simulations.setup.sentences import real_sentences


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Writes a corpus of features of so many speakers, eight sentences each."""

    def write(speakers):
        folder = tmp_path_factory.mktemp("sentences")
        np.savez(folder / "rows.npz", np.zeros((50, 13), np.float16))
        rows = [
            f"{speaker}-{number},s{speaker},0,{40 + number},go {'ab'[number % 2]}"
            for speaker in range(speakers)
            for number in range(8)
        ]
        header = "clip_id,speaker,first_frame,frames,transcript"
        (folder / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
        return folder

    return write


def planned(folder, changes=()):
    """The plan that a run on these recordings obeys."""
    scenario = read_scenario("asr-an4", [f'corpus.path="{folder}"', *changes])
    return plan_of(scenario.privacy, Experiment.from_scenario(scenario).sizes).plan


@pytest.mark.parametrize("speakers", [9, 10, 13, 20])
def test_too_few_speakers_are_told_a_division_and_settings_that_run(sentences, speakers):
    folder = sentences(speakers)
    with pytest.raises(CorpusError, match="nobody is left in the group") as refusal:
        planned(folder)
    accepted = re.findall(r"[a-z.]+\.[a-z_]+=[^,\s]+", str(refusal.value))
    assert {change.partition("=")[0] for change in accepted} >= {
        "corpus.public_speakers", "corpus.validation_speakers", "corpus.federated_speakers",
    }  # fmt: skip
    assert "--" not in str(refusal.value)  # whoever calls a function has no options
    assert planned(folder, accepted).rounds == 25


@pytest.mark.parametrize("federated", [4, 5])
def test_few_phones_are_told_settings_that_run(sentences, federated):
    folder = sentences(12)
    changes = [
        "corpus.public_speakers=2",
        "corpus.validation_speakers=1",
        f"corpus.federated_speakers={federated}",
    ]
    with pytest.raises(ScenarioError, match=f"{federated} phones are accepted with") as refusal:
        planned(folder, changes)
    accepted = re.findall(r"privacy\.[a-z_]+=[^,;\s]+", str(refusal.value))
    assert "--" not in str(refusal.value)
    assert planned(folder, [*changes, *accepted]).population == federated


def test_phones_that_no_setting_lets_run_are_told_how_many_more_it_takes(sentences):
    changes = [
        "corpus.public_speakers=2", "corpus.validation_speakers=1", "corpus.federated_speakers=3"
    ]  # fmt: skip
    with pytest.raises(ScenarioError, match=r"4 phones are accepted with privacy\."):
        planned(sentences(12), changes)


def test_speakers_too_few_for_any_division_are_told_so(sentences):
    with pytest.raises(CorpusError, match="no division of 8 speakers leaves enough"):
        planned(sentences(8))


def test_speakers_who_taught_the_base_are_the_public_ones_and_the_others_are_divided(sentences):
    """Drawn among all, teachers would be taken out of the other groups again, and empty them."""
    scenario = read_scenario(
        "asr-an4",
        [
            f'corpus.path="{sentences(30)}"',
            "corpus.public_speakers=20",
            "corpus.validation_speakers=1",
            "corpus.federated_speakers=6",
        ],
    )
    base = layout_of(scenario)
    taught = [f"s{number}" for number in range(20)]
    _, partition = real_sentences(scenario, scenario.corpus, base.reading, base.vocabulary, taught)
    assert sorted(phone.speaker_id for phone in partition.public) == sorted(taught)
    sizes = [len(partition.validation), len(partition.federated), len(partition.held_out)]
    assert sizes == [1, 6, 3]
