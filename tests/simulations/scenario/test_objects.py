"""Each object that a program may give becomes the section of a scenario that it is."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import fedspeech as fs
from fedspeech.corpora.recorded import RecordedCorpus
from fedspeech.errors import ScenarioError
from fedspeech.evaluation.kws import KwsCounts
from fedspeech.models.base import default_base_path
from fedspeech.tasks.asr import Asr
from fedspeech.tasks.kws import Kws
from simulations.scenario.corpora import FolderCorpus
from simulations.scenario.objects import (
    adapter_settings,
    base_settings,
    corpus_settings,
    described,
    privacy_settings,
    section_of,
    server_settings,
    start_of,
    task_settings,
    training_settings,
)
from simulations.scenario.reading import read_scenario
from simulations.setup.definition import Experiment

START = read_scenario("quick", [])


@dataclass(frozen=True)
class Steps:
    """A server rule of somebody's own."""

    rate: float = 0.5

    def init(self, parameters):
        return np.zeros_like(parameters)

    def apply(self, state, parameters, mean):
        return parameters + self.rate * mean, state


def changed(**changes):
    return described(START, "mine", changes)


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("training", fs.LocalTraining(batch_size=8), {"batch_size": 8}),
        ("training", {"local_epochs": 3}, {"local_epochs": 3}),
        ("server_optimizer", fs.FedOpt(learning_rate=0.3), {"learning_rate": 0.3}),
        ("early_stopping", fs.EarlyStopping(patience=3), {"patience": 3}),
        (
            "privacy",
            {
                "mechanism": "matrix_factorization", "participation": "round_robin",
                "matrix_factorization": fs.Factorization(min_separation=4, bands=3, momentum=0.5),
            },
            {"mechanism": "matrix_factorization"},
        ),
    ],
)  # fmt: skip
def test_an_object_changes_the_keys_of_its_section(key, given, expected):
    section = getattr(changed(**{key: given}), key)
    for name, value in expected.items():
        assert getattr(section, name) == value


def test_a_factorization_keeps_its_numbers():
    plan = {
        "mechanism": "matrix_factorization", "participation": "round_robin",
        "matrix_factorization": fs.Factorization(min_separation=4, bands=3, momentum=0.5),
    }  # fmt: skip
    found = changed(privacy=plan).privacy.matrix_factorization
    assert (found.min_separation, found.bands, found.momentum) == (4, 3, 0.5)


@pytest.mark.slow
def test_a_whole_plan_is_the_section_that_makes_it_again():
    """What a plan says is priced again, from the scenario; it must be the same plan."""
    changes = [
        "privacy.mechanism='matrix_factorization'", "privacy.participation='round_robin'",
        "privacy.noise_multiplier=20",
    ]  # fmt: skip
    for start in (START, read_scenario("quick", changes)):
        plan = Experiment(scenario=start).plan
        assert Experiment(scenario=start, plan=plan).plan == plan
    assert isinstance(privacy_settings(plan)["matrix_factorization"], dict)


def test_a_mapping_stays_as_it_is():
    given = {"rounds": 3}
    assert privacy_settings(given) is given
    assert server_settings(given) is given
    assert training_settings(given) is given


def test_a_rule_of_somebodys_own_is_named_with_its_settings():
    found = server_settings(Steps(rate=0.25))
    assert found["rule"].endswith(":Steps")
    assert found["settings"] == {"rate": 0.25}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ("affine", {"adapter": "affine"}),
        (fs.LoraSettings(rank=2), {"adapter": "lora", "lora": fs.LoraSettings(rank=2)}),
    ],
)
def test_an_adapter_is_a_name_or_low_rank_factors(given, expected):
    assert adapter_settings(given) == expected


@pytest.mark.parametrize("given", [3, KwsCounts, torch.nn.Linear(2, 2)])
def test_what_is_no_adapter_is_refused(given):
    with pytest.raises(ScenarioError, match="adapter is a name, LoraSettings or a subclass"):
        adapter_settings(given)


@pytest.mark.parametrize(
    ("corpus", "task", "expected"),
    [
        (None, None, None),
        (None, Asr(), {"kind": "sentences"}),
        ("/x/recordings", None, {"kind": "folder", "path": "/x/recordings"}),
        ("/x/recordings", Asr(), {"kind": "transcribed", "path": "/x/recordings"}),
        ({"federated_phones": 5}, None, {"federated_phones": 5}),
        (object(), None, {"kind": "provided"}),
    ],
)
def test_a_corpus_is_a_folder_settings_or_speech_in_memory(corpus, task, expected):
    assert section_of(corpus, task, None) == expected


def test_settings_of_a_corpus_are_its_section_and_the_division_goes_on_top():
    found = section_of(FolderCorpus(path="/x"), None, {"federated_speakers": 4})
    assert found["path"] == "/x"
    assert found["federated_speakers"] == 4


def test_an_open_folder_keeps_the_share_of_rows_that_its_opener_allowed(tmp_path):
    corpus = RecordedCorpus.__new__(RecordedCorpus)
    corpus.folder, corpus.max_unusable_share = tmp_path, 0.5
    assert section_of(corpus, None, None) == {
        "kind": "folder", "path": str(tmp_path), "max_unusable_share": 0.5,
    }  # fmt: skip


def test_keys_of_the_start_stay_where_the_kind_of_corpus_is_the_same():
    given = corpus_settings({"federated_phones": 7}, START)
    assert given["federated_phones"] == 7
    assert given["held_out_phones"] == START.corpus.held_out_phones
    assert corpus_settings({"kind": "folder", "path": "/x"}, START) == {
        "kind": "folder", "path": "/x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (None, {}),
        (Kws(), {"evaluation": {}}),
        (Kws(["yes", "no"]), {"evaluation": {}, "vocabulary": ["yes", "no"]}),
        (Kws(["yes"], false_accept_rate=0.01),
         {"evaluation": {"false_accept_rate": 0.01}, "vocabulary": ["yes"]}),
        (Asr(), {"decoding": {}}),
    ],
)  # fmt: skip
def test_a_task_is_its_words_and_what_differs_from_its_defaults(task, expected):
    assert task_settings(task) == expected


@pytest.mark.parametrize(
    ("base", "words", "expected"),
    [
        (None, None, None),
        ("my-base", None, {"source": "my-base", "sha256": ""}),
        (None, ["lamp"], {"source": "synthetic", "sha256": ""}),
        (None, list(START.vocabulary), None),
    ],
)
def test_a_base_is_a_place_or_is_made_for_other_words(base, words, expected):
    assert base_settings(base, words, START) == expected


def test_a_base_object_is_provided_and_held_to_its_hash():
    base = fs.Base.load(default_base_path())
    assert base_settings(base, None, START) == {"source": "provided", "sha256": base.sha256}
    held = described(START, "mine", {"base": {"source": "provided", "sha256": "0" * 64}})
    with pytest.raises(ScenarioError, match="must have 0000"):
        base_settings(base, None, held)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(None, "default"), ("folder", "real-commands"), ("sentences", "asr-default"),
     ("transcribed", "asr-an4"), ("provided", "real-commands")],
)  # fmt: skip
def test_what_is_not_given_is_as_in_the_scenario_that_suits_the_corpus(kind, name):
    assert start_of(None, kind).name == name


def test_a_misspelled_key_is_refused_with_the_nearest():
    with pytest.raises(ScenarioError, match=r"(?s)experiment mine.*mean training\.local_epochs"):
        changed(training={"local_epoch": 3})
