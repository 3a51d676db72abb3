"""All figures are of the same clips, and the control never hears the phone it is judged on."""

import dataclasses

import numpy as np
import pytest
from tiny_experiment import tiny_experiment, tiny_scenario

from fedspeech.corpora.synthetic import SyntheticCorpus, SyntheticSpec
from fedspeech.evaluation.metric import MODELS, Metric, Section
from fedspeech.models.adapters.scoring import score_clips
from fedspeech.tasks.kws_evaluation import KwsEvaluation
from simulations.evaluation import evaluator
from simulations.evaluation.evaluator import Evaluator


@pytest.fixture
def judge():
    return Evaluator(tiny_experiment(), tiny_scenario())


@pytest.mark.parametrize("phones", [2, 3, 17, 60])
@pytest.mark.parametrize("seed", range(5))
def test_the_control_gives_every_phone_another_phones_clips_and_each_phone_gives_once(phones, seed):
    givers = evaluator._derangement(phones, seed)
    assert sorted(givers) == list(range(phones))
    assert all(giver != phone for phone, giver in enumerate(givers))


def test_own_and_control_differ_only_in_whose_clips_they_are(judge, monkeypatch):
    calls = []

    def record(adapter, federated, own, *rest, **options):
        calls.append((own, rest))
        return [None] * len(own)

    monkeypatch.setattr(evaluator, "personalize", record)
    vector = tiny_experiment().job.load_arrays().initial
    judge._adapt(vector, 2, control=False)
    judge._adapt(vector, 2, control=True)
    (own, rest), (other, control_rest) = calls
    own_rows = [clips.embeddings.tobytes() for clips in own]
    other_rows = [clips.embeddings.tobytes() for clips in other]
    assert own_rows == [phone.own[2].embeddings.tobytes() for phone in tiny_experiment().held_out]
    assert sorted(own_rows) == sorted(other_rows)
    assert all(mine != theirs for mine, theirs in zip(own_rows, other_rows, strict=True))
    background, held_back, training, guard, streams, task = rest
    assert task is control_rest[5]
    assert (training, guard) == control_rest[2:4]
    assert background.labels.tobytes() == control_rest[0].labels.tobytes()
    assert held_back is control_rest[1]
    for first, second in zip(streams, control_rest[4], strict=True):
        assert first.integers(2**62) == second.integers(2**62)


def sections(found):
    """Sections by key."""
    return {section.key: section for section in found["sections"]}


def test_every_figure_counts_the_same_phones_and_clips(judge):
    built = tiny_experiment()
    found = sections(judge.personalization(built.job.load_arrays().initial))
    accuracy, (by_phone,) = found["accuracy"].by_model(), found["accuracy"].charts
    judged = tuple(len(phone.judged) for phone in built.held_out)
    assert by_phone.counted == judged
    for name in MODELS:
        shares = np.array(by_phone.of(name))
        correct = shares * judged
        np.testing.assert_allclose(correct, np.round(correct), atol=1e-9)
        assert accuracy[name].value == pytest.approx(shares.mean())
        assert accuracy[name].phones == 3
    # Before any round the federated adapter is the base's own head.
    assert by_phone.of("base") == by_phone.of("federated")
    assert sum(map(sum, found["detection"].matrices[0].counts)) == sum(judged)
    personalized, _, control = found["shots"].charts[0].curves
    assert personalized.x == (0, 1, 2)
    assert personalized.y[2] == accuracy["personalized"].value
    assert control.y[1] == accuracy["control"].value


def test_small_segments_are_merged_or_withheld(judge):
    built = tiny_experiment()
    found = judge.personalization(built.job.load_arrays().initial)
    # Three phones, and five are wanted in a cell.
    assert not [one for part in found["sections"] for one in part.metrics if one.segment]
    assert set(found["segments_withheld"].values()) == {3}


def test_a_task_brings_its_own_sections(judge):
    """Evaluation hands on what it does not know: names, units, visibilities."""

    class Tones(KwsEvaluation):
        accuracy = "tones told apart"

        def sections(self, scores, vectors, phones):
            yield Section(key="tones", title="Tones", metrics=(Metric(name="hertz", value=440.0),))

    kws = judge._task
    names = [field.name for field in dataclasses.fields(kws)]
    tones = Tones(**{name: getattr(kws, name) for name in names})
    built = tiny_experiment()
    judge = Evaluator(built, tiny_scenario(), tones)
    found = sections(judge.personalization(built.job.load_arrays().initial))
    assert found["tones"].metrics[0].value == 440.0
    assert found["accuracy"].names[0] == "tones told apart"


def test_an_adapter_without_gain_on_public_speakers_does_not_ship(judge):
    base = tiny_experiment().job.load_arrays().initial
    assert judge.choose(base.copy()).chosen == "base"  # as good as the base is no gain
    ruined = -base
    choice = judge.choose(ruined)
    assert choice.chosen == "base"
    assert choice.federated > choice.base
    assert judge.shipped(ruined, choice).tobytes() == base.tobytes()
    found = sections(judge.personalization(ruined, choice))
    error = {model: metric.value for model, metric in found["error"].by_model().items()}
    assert found["validation"].by_model()["base"].value == choice.base
    assert error["federated"] > error["base"]
    # Phones start from the base: what they make of it is worse than what they began with only where
    # their own clips mislead them, never as bad as the ruined adapter.
    assert error["personalized"] < error["federated"]
    untouched = found["shots"].charts[0].curves[0].y[0]
    assert untouched == found["accuracy"].by_model()["base"].value


def test_a_better_adapter_ships(judge):
    base = tiny_experiment().job.load_arrays().initial
    better = Evaluator(tiny_experiment(), tiny_scenario())
    better._base = -base
    assert better.choose(base).chosen == "federated"
    assert better.shipped(base, better.choose(base)) is base


def test_nobody_chooses_by_speakers_of_another_corpus():
    built = tiny_experiment()
    others = SyntheticCorpus(SyntheticSpec(seed=1, groups=()))
    speakers = dataclasses.replace(built.speakers, corpus=others)
    judge = Evaluator(dataclasses.replace(built, speakers=speakers), tiny_scenario())
    base = built.job.load_arrays().initial
    assert judge.choose(-base) is None
    assert judge.shipped(-base, None).tobytes() == (-base).tobytes()


def test_thresholds_are_set_on_guard_negatives_and_judged_on_others(judge):
    built = tiny_experiment()
    found = sections(judge.personalization(built.job.load_arrays().initial))
    thresholds = found["operating_points"].by_model("threshold")
    assert set(thresholds) == {"base", "federated", "personalized", "control"}
    # With other guard negatives the threshold is another; the clips that judge do not move it.
    louder = dataclasses.replace(built, guard_negatives=built.guard_negatives.take(np.arange(3)))
    other = Evaluator(louder, tiny_scenario()).personalization(built.job.load_arrays().initial)
    others = sections(other)["operating_points"].by_model("threshold")
    assert thresholds["base"].value != others["base"].value
    assert found["error"].by_model()["base"] == sections(other)["error"].by_model()["base"]


def test_the_servers_figures_come_from_public_validation_alone(judge):
    built = tiny_experiment()
    arrays = built.job.load_arrays()
    seen = judge.validation(arrays.initial)
    assert set(seen) == {"validation_accuracy", "validation_loss"}
    assert 0.5 < seen["validation_accuracy"] <= 1
    worse = judge.validation(np.zeros_like(arrays.initial))
    assert worse["validation_loss"] == pytest.approx(np.log(12), rel=1e-6)


@pytest.fixture
def by_ridge():
    return Evaluator(
        tiny_experiment(), tiny_scenario("personalization.rule=ridge", "personalization.copies=0")
    )


def passing(built, vector):
    """Share of guard negatives of each label that are taken for a target word."""
    guard = built.guard_negatives
    targets = len(built.task.labels.labels) - 2
    logits = score_clips(built.adapter, vector[np.newaxis], guard.embeddings)[0]
    accepted = logits.argmax(axis=1) < targets
    return [accepted[guard.labels == label].mean() for label in np.unique(guard.labels)]


def test_by_ridge_every_stage_and_phone_lets_as_many_negatives_pass(by_ridge):
    built = tiny_experiment()
    raw = built.job.load_arrays().initial
    start = by_ridge.shipped(raw, None)
    assert max(passing(built, start)) <= built.task.false_accept_rate
    for control in (False, True):
        for phone in by_ridge._adapt(start, 2, control=control):
            assert max(passing(built, phone.adapter(start))) <= built.task.false_accept_rate
            assert phone.delta.vector.any()


def test_by_ridge_the_control_takes_another_phones_clips(by_ridge, monkeypatch):
    calls = []

    def record(adapter, start, own, copies, *rest):
        calls.append([clips.embeddings.tobytes() for clips in own])
        return [None] * len(own)

    monkeypatch.setattr(evaluator, "adapt_heads", record)
    start = tiny_experiment().job.load_arrays().initial
    by_ridge._adapt(start, 1, control=False)
    by_ridge._adapt(start, 1, control=True)
    own, other = calls
    assert sorted(own) == sorted(other)
    assert all(mine != theirs for mine, theirs in zip(own, other, strict=True))


def test_by_ridge_headlines_stand_together_at_every_stage(by_ridge):
    found = sections(by_ridge.personalization(tiny_experiment().job.load_arrays().initial))
    for key, name in (
        ("accuracy", "accuracy with non-words counted"),
        ("target_accuracy", "accuracy among target words"),
        ("operating_points", "false accepts"),
    ):
        stages = found[key].by_model(name)
        assert set(stages) == set(MODELS)
        assert all(metric.headline for metric in stages.values())
