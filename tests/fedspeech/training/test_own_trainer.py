"""A local trainer of another package: what it may break, and what no phone shows of it."""

import dataclasses
import functools
import logging
import re
import sys
import types

import numpy as np
import pytest
from own_rules import OneByOne
from sources import ROOT
from tiny_job import TRAINING, make_arrays, make_job

from fedspeech import own_code
from fedspeech.errors import OwnCodeFailed, ScenarioError
from fedspeech.job import Job
from fedspeech.privacy.examples import ExamplePrivacy
from fedspeech.queries.training import AdapterTraining
from fedspeech.seeds import stream
from fedspeech.training.local import train_adapter
from fedspeech.training.own_trainer import OwnTrainer

DECLARED = OwnTrainer(trainer="own_rules:OneByOne")


@pytest.fixture(autouse=True)
def nothing_handed_over(monkeypatch):
    monkeypatch.setattr(own_code, "_HANDED_OVER", {})


@functools.cache
def arrays():
    return make_arrays()


def contributions(trainer, phones=range(6)):
    query = dataclasses.replace(TRAINING, trainer=trainer)
    return query.contributions(
        [arrays().phone(phone) for phone in phones],
        arrays().initial,
        [stream(5, "batches", 0, phone) for phone in phones],
    )


def test_the_loop_to_read_gives_the_deltas_of_the_fast_one():
    for own, ours in zip(contributions(DECLARED), contributions(None), strict=True):
        np.testing.assert_allclose(own, ours, atol=1e-5)
        assert own.dtype == np.float32


def test_a_job_file_names_it_and_builds_the_same(tmp_path):
    query = dataclasses.replace(TRAINING, trainer=DECLARED)
    path, job, _ = make_job(tmp_path, query=query)
    assert Job.load(path) == job
    assert b"one phone at a time" in query.code()
    assert "trainer" not in TRAINING.settings(), "a run without one keeps its identity"


def whole_numbers(adapter, parameters, dataset, training, rng):
    return np.zeros(adapter.spec.size, np.int64)


def too_short(adapter, parameters, dataset, training, rng):
    return np.zeros(3, np.float32)


def unlimited(adapter, parameters, dataset, training, rng):
    return np.full(adapter.spec.size, np.inf, np.float32)


def raising(adapter, parameters, dataset, training, rng):
    raise KeyError("what was said")


SEEN = []


def remembering(adapter, parameters, dataset, training, rng):
    SEEN.append(len(dataset))
    return np.full(adapter.spec.size, len(SEEN), np.float32)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (whole_numbers, r"must return floats of shape \(52,\), got int64"),
        (too_short, r"must return floats of shape \(52,\), got float32 of shape \(3,\)"),
        (unlimited, "must return finite numbers"),
        (raising, "raised KeyError on 2 public clips"),
        (remembering, "whatever it trained before"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_trainer_is_named_before_a_round_is_paid_for(function, words):
    """Public clips find it, so that its text may be shown and no phone has sent anything."""
    query = dataclasses.replace(TRAINING, trainer=OwnTrainer.of(function))
    with pytest.raises(OwnCodeFailed, match=words):
        query.initial(arrays())


def fails_on_long_phones(adapter, parameters, dataset, training, rng):
    if len(dataset) > 6:
        raise ValueError(f"{len(dataset)} clips are too many")
    return np.ones(adapter.spec.size, np.float32)


def test_a_phone_on_which_it_fails_sends_zeros_and_says_nothing(caplog):
    """Or who reports would depend on what it holds, and so would an abandoned round."""
    caplog.set_level(logging.WARNING)
    found = contributions(OwnTrainer.of(fails_on_long_phones), range(20))
    long = [len(arrays().phone(phone)) > 6 for phone in range(20)]
    assert any(long)
    assert [not vector.any() for vector in found] == long
    assert "ValueError" in caplog.text
    assert "too many" not in caplog.text


def spoiling(adapter, parameters, dataset, training, rng):
    dataset.embeddings[:] = 0
    for value in parameters.values():
        value[:] = 1
    return np.zeros(adapter.spec.size, np.float32)


def test_it_spoils_nothing_that_others_train_on():
    contributions(OwnTrainer.of(spoiling))
    np.testing.assert_array_equal(arrays().embeddings, make_arrays().embeddings)
    assert not arrays().initial.any()


def test_an_instance_sees_one_phone():
    made = []

    class Watched(OneByOne):
        def __call__(self, *given):
            made.append(self)
            return super().__call__(*given)

    own_code._HANDED_OVER["watched"] = Watched
    contributions(OwnTrainer(trainer="watched"))
    assert len({id(one) for one in made}) == len(made) == 6


def test_single_clips_are_not_promised_anything_beside_it():
    privacy = ExamplePrivacy(noise_multiplier=1.0, clip_norm=1.0, delta=1e-5)
    with pytest.raises(ValueError, match="must not be set beside an own trainer"):
        dataclasses.replace(TRAINING, trainer=DECLARED, example_privacy=privacy)


def test_the_trainer_of_the_documentation_is_one(monkeypatch):
    text = (ROOT / "docs" / "own-server.md").read_text("utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "half" in b)
    module = types.ModuleType("the_page")
    monkeypatch.setitem(sys.modules, "the_page", module)
    exec(block, vars(module))
    halves = contributions(OwnTrainer.of(module.half_as_far))
    for half, whole in zip(halves, contributions(DECLARED), strict=True):
        np.testing.assert_array_equal(half, whole / 2)


def test_what_cannot_be_called_is_no_trainer():
    own_code._HANDED_OVER["rule"] = object
    with pytest.raises(ScenarioError, match="a function or a class with __call__"):
        OwnTrainer(trainer="rule")


def test_settings_of_a_function_are_refused():
    own_code.hand_over(train_adapter)
    address = own_code.address_of(train_adapter)
    with pytest.raises(ScenarioError, match="is no class, so it takes no settings"):
        OwnTrainer(trainer=address, settings={"longer": 2.0})


def test_a_trainer_in_process_still_has_no_name(tmp_path):
    query = dataclasses.replace(TRAINING, trainer=lambda *_: [])
    assert isinstance(query, AdapterTraining)
    with pytest.raises(TypeError, match="no name in a job file"):
        query.settings()
