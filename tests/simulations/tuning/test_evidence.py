"""Intervals cover, differences are paired, and the choice follows its rule."""

import math

import numpy as np
import pytest

from fedspeech.seeds import stream
from simulations.tuning.evidence import Evidence


def built(rng, seeds, phones, effects, *, by_seed=0.0, by_phone=0.1, by_setting=0.02):
    """Accuracies with phones that differ much and settings that differ little."""
    found = []
    for _ in range(seeds):
        luck = by_seed * rng.normal(size=(1, len(effects)))
        skill = by_phone * rng.normal(size=(phones, 1))
        noise = by_setting * rng.normal(size=(phones, len(effects)))
        found.append(0.7 + np.array(effects) + luck + skill + noise)
    return found


def test_paired_differences_are_sharper_than_accuracies():
    evidence = Evidence(built(stream(0, "paired"), 2, 40, (0.0, 0.03)), stream(0, "draws"))
    alone, paired = evidence.accuracy(1), evidence.difference(1, 0)
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    assert paired.low > 0


@pytest.mark.parametrize(
    ("seeds", "by_seed"), [(1, 0.0), pytest.param(5, 0.02, marks=pytest.mark.slow)]
)
def test_intervals_of_differences_cover(seeds, by_seed):
    rng, covered = stream(1, "coverage", seeds), 0
    for draw in range(60):
        found = built(rng, seeds, 30, (0.0, 0.02), by_seed=by_seed)
        truth = Evidence(found, stream(draw, "draws")).difference(1, 0)
        covered += truth.low <= 0.02 <= truth.high
    # Aimed at 95 %, somewhat less with five seeds. Fewer than 46 of 60 at a true 88 %: 1.3 %.
    assert covered >= 46


def test_phones_alone_would_miss_the_luck_of_a_seed():
    rng = stream(2, "luck")
    found = built(rng, 4, 200, (0.0, 0.0), by_seed=0.03, by_setting=0.001)
    both = Evidence(found, stream(0, "draws")).difference(1, 0)
    pooled = Evidence([np.concatenate(found)], stream(0, "draws")).difference(1, 0)
    assert both.high - both.low > 5 * (pooled.high - pooled.low)


def test_the_most_private_setting_near_the_best_is_chosen():
    found = [np.tile([0.80, 0.798, 0.797, 0.79], (10, 1))]
    evidence = Evidence(found, stream(0, "draws"))
    prices = [8.0, 4.0, 4.0, 1.0]
    choice = evidence.choose(range(4), prices, within=0.005)
    assert (choice.index, choice.best, choice.share_same) == (1, 0, 1.0)
    assert evidence.choose([0, 3], prices, within=0.005).index == 0
    assert evidence.choose(range(4), prices, within=0.02).index == 3
    assert evidence.choose(range(4), [math.inf] * 4, within=0.005).index == 0


def jittered(means, phones, spread):
    """Accuracies of settings on phones that differ among themselves by `spread`, of those means."""
    rng = stream(5, "jitter")
    noise = spread * rng.normal(size=(phones, len(means)))
    return np.array(means) + noise - noise.mean(axis=0)


def test_the_smaller_epsilon_is_chosen_where_chance_may_have_made_the_difference():
    """Two points apart: nothing on 8 unequal phones, a certain loss on 800."""
    means, prices = (0.80, 0.78, 0.50), [8.0, 2.0, 0.1]
    few = Evidence([jittered(means, 8, 0.1)], stream(0, "draws"))
    assert few.difference(1, 0).low < 0 < few.difference(1, 0).high
    choice = few.choose(range(3), prices, within=0.005)
    assert (choice.index, choice.best) == (1, 0)
    assert 0.7 < choice.share_same < 1
    many = Evidence([jittered(means, 800, 0.1)], stream(0, "draws"))
    assert many.difference(1, 0).high < 0
    choice = many.choose(range(3), prices, within=0.005)
    assert (choice.index, choice.best) == (0, 0)
    assert choice.share_same > 0.95
    assert many.choose(range(3), prices, within=0.03).index == 1


def test_what_rounding_costs_is_no_reason_to_prefer_a_clip_norm():
    evidence = Evidence([np.tile([0.796, 0.80], (10, 1))], stream(0, "draws"))
    assert evidence.choose(range(2), [4.0, 4.01], within=0.005).index == 1
    assert evidence.choose(range(2), [4.0, 4.10], within=0.005).index == 0


def test_being_the_best_of_many_equals_flatters_and_is_unsure():
    rng = stream(3, "equals")
    found = built(rng, 1, 20, np.zeros(25), by_setting=0.1)
    choice = Evidence(found, stream(0, "draws")).choose(range(25), [1.0] * 25, within=0.0)
    assert choice.flattery > 0.005
    assert choice.share_same < 0.7
    assert len(choice.unresolved) > 5


def test_seeds_need_the_same_settings():
    with pytest.raises(ValueError, match="the same settings"):
        Evidence([np.zeros((3, 2)), np.zeros((3, 1))], stream(0, "draws"))
