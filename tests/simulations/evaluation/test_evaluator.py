"""All figures are of the same clips, and the control never hears the phone it is judged on."""

import dataclasses

import numpy as np
import pytest
from tiny_world import tiny_scenario, tiny_world

from simulations.evaluation import evaluator
from simulations.evaluation.evaluator import Judge


@pytest.fixture
def judge():
    return Judge(tiny_world(), tiny_scenario())


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
    vector = tiny_world().job.load_arrays().initial
    judge._adapt(vector, 2, control=False)
    judge._adapt(vector, 2, control=True)
    (own, rest), (other, control_rest) = calls
    own_rows = [clips.embeddings.tobytes() for clips in own]
    other_rows = [clips.embeddings.tobytes() for clips in other]
    assert own_rows == [phone.own[2].embeddings.tobytes() for phone in tiny_world().unseen]
    assert sorted(own_rows) == sorted(other_rows)
    assert all(mine != theirs for mine, theirs in zip(own_rows, other_rows, strict=True))
    background, held_back, training, guard, streams, task = rest
    assert task is control_rest[5]
    assert (training, guard) == control_rest[2:4]
    assert background.labels.tobytes() == control_rest[0].labels.tobytes()
    assert held_back is control_rest[1]
    for first, second in zip(streams, control_rest[4], strict=True):
        assert first.integers(2**62) == second.integers(2**62)


def test_every_figure_counts_the_same_phones_and_clips(judge):
    world = tiny_world()
    found = judge.personalization(world.job.load_arrays().initial)
    accuracy, by_phone = found["accuracy"], found["phone_accuracies"]
    judged = tuple(len(phone.judged) for phone in world.unseen)
    assert by_phone.clips == judged
    for name in ("base", "federated", "personalized", "control"):
        shares = np.array(getattr(by_phone, name))
        correct = shares * judged
        np.testing.assert_allclose(correct, np.round(correct), atol=1e-9)
        assert getattr(accuracy, name).mean == pytest.approx(shares.mean())
        assert getattr(accuracy, name).phones == 3
    # Before any round the federated adapter is the base's own head.
    assert by_phone.base == by_phone.federated
    assert sum(map(sum, found["confusion"].counts)) == sum(judged)
    assert [take.clips_per_word for take in found["takes"]] == [0, 1, 2]
    assert found["takes"][2].personalized.mean == accuracy.personalized.mean
    assert found["takes"][2].control.mean == accuracy.control.mean


def test_small_segments_are_merged_or_withheld(judge):
    world = tiny_world()
    found = judge.personalization(world.job.load_arrays().initial)
    assert not found["segments"]  # three phones, and five are wanted in a cell
    assert set(found["segments_withheld"].values()) == {3}


def test_an_adapter_without_gain_on_public_speakers_does_not_ship(judge):
    base = tiny_world().job.load_arrays().initial
    assert judge.choose(base.copy()).chosen == "base"  # as good as the base is no gain
    ruined = -base
    choice = judge.choose(ruined)
    assert choice.chosen == "base"
    assert choice.federated > choice.base
    assert judge.shipped(ruined, choice).tobytes() == base.tobytes()
    found = judge.personalization(ruined, choice)
    assert found["headline"].federated > found["headline"].base
    # Phones start from the base: what they make of it is worse than what they began with only where
    # their own clips mislead them, never as bad as the ruined adapter.
    assert found["headline"].personalized < found["headline"].federated
    assert found["takes"][0].personalized.mean == found["accuracy"].base.mean


def test_a_better_adapter_ships(judge):
    base = tiny_world().job.load_arrays().initial
    better = Judge(tiny_world(), tiny_scenario())
    better._base = -base
    assert better.choose(base).chosen == "federated"
    assert better.shipped(base, better.choose(base)) is base


def test_nobody_chooses_by_speakers_of_another_corpus():
    world = dataclasses.replace(tiny_world(), validates=False)
    judge = Judge(world, tiny_scenario())
    base = world.job.load_arrays().initial
    assert judge.choose(-base) is None
    assert judge.shipped(-base, None).tobytes() == (-base).tobytes()


def test_thresholds_are_set_on_guard_negatives_and_judged_on_others(judge):
    world = tiny_world()
    found = judge.personalization(world.job.load_arrays().initial)
    assert set(found["operating_points"]) == {"base", "federated", "personalized", "control"}
    # With other guard negatives the threshold is another; the clips that judge do not move it.
    louder = dataclasses.replace(world, held_back=world.held_back.take(np.arange(3)))
    other = Judge(louder, tiny_scenario()).personalization(world.job.load_arrays().initial)
    points, others = found["operating_points"]["base"], other["operating_points"]["base"]
    assert points.threshold != others.threshold
    assert found["headline"].base == other["headline"].base


def test_the_servers_figures_come_from_public_validation_alone(judge):
    world = tiny_world()
    arrays = world.job.load_arrays()
    seen = judge.validation(arrays.initial)
    assert set(seen) == {"validation_accuracy", "validation_loss"}
    assert 0.5 < seen["validation_accuracy"] <= 1
    worse = judge.validation(np.zeros_like(arrays.initial))
    assert worse["validation_loss"] == pytest.approx(np.log(12), rel=1e-6)
