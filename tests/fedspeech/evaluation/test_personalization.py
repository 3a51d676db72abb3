import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from fedspeech.evaluation.personalization import (
    accuracy_metrics,
    bootstrap_interval,
    regression_metric,
    worst_decile,
)
from fedspeech.seeds import stream


def accuracy(correct):
    return accuracy_metrics(correct, stream(1, "bootstrap"), name="accuracy", model="base")[0]


def regression_rate(before, after):
    return regression_metric(before, after, model="personalized")


def phones(accuracies, clips=20):
    return [np.arange(clips) < round(accuracy * clips) for accuracy in accuracies]


def mistakes(correct):
    return [(~clips).astype(np.int64) for clips in correct]


def test_each_phone_counts_once_whatever_its_clips():
    correct = [np.ones(2, bool), np.zeros(98, bool)]
    assert accuracy(correct).value == 0.5


@pytest.mark.parametrize(("count", "worst"), [(1, 1), (10, 1), (11, 2), (25, 3)])
def test_the_worst_decile_is_the_mean_of_a_tenth_rounded_up(count, worst):
    accuracies = np.random.default_rng(0).permutation(np.arange(count) / count)
    assert worst_decile(accuracies) == pytest.approx(np.mean(np.arange(worst) / count))


@pytest.mark.slow
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    # 400 samples of 40 phones; coverage below 90 % at a nominal 95 % has probability < 1e-4
    # even if the percentile interval really covers 93.5 %, as it does at this size.
    covered = 0
    for trial in range(400):
        rng = stream(5, "coverage", trial)
        low, high = bootstrap_interval(rng.beta(6, 2, 40), rng)
        covered += low <= 0.75 <= high
    assert 0.90 <= covered / 400 <= 0.99


def test_chance_is_that_of_a_fair_coin_per_changed_clip():
    before = [np.array([1, 1, 0, 0], bool), np.ones(4, bool), np.array([1, 0, 0, 0], bool)]
    after = [np.array([1, 0, 1, 1], bool), np.ones(4, bool), np.array([0, 1, 0, 0], bool)]
    found = regression_rate(mistakes(before), mistakes(after))  # 3, 0 and 2 changed clips
    assert found.value == 0
    assert found.by_chance == pytest.approx((1 / 2 + 0 + 1 / 4) / 3)
    assert found.counted == 2


def test_the_share_by_chance_agrees_with_coins_thrown():
    # 20,000 throws: six standard errors of a share over 30 phones are below 0.004.
    rng = np.random.default_rng(3)
    before = [rng.random(12) < 0.7 for _ in range(30)]
    after = [np.where(rng.random(12) < 0.3, ~clips, clips) for clips in before]
    found = regression_rate(mistakes(before), mistakes(after))
    changed = np.array([(a != b).sum() for a, b in zip(before, after, strict=True)])
    lost = rng.binomial(changed, 0.5, (20_000, 30))
    worse = (2 * lost > changed).sum(axis=1)
    assert found.by_chance == pytest.approx(worse.mean() / 30, abs=0.004)


def test_mistakes_of_several_words_are_weighed_by_their_number():
    # Changes of +3, -1 and -1: worse by one. Four of the eight sums of
    # signs are positive: +3+1+1, +3+1-1 (twice), +3-1-1; none is 0.
    before, after = np.array([0, 2, 1]), np.array([3, 1, 0])
    found = regression_rate([before], [after])
    assert (found.value, found.counted, found.by_chance) == (1, 1, 0.5)
    # +2, -1 and -1 sum to 0, and so do two of the eight signs.
    found = regression_rate([np.array([0, 1, 1])], [np.array([2, 0, 0])])
    assert (found.value, found.by_chance) == (0, pytest.approx(3 / 8))


def test_phones_on_which_nothing_was_ever_right_are_not_called_unharmed():
    # No sentence is right before or after, and every phone writes more wrong words than before.
    before, after = [np.array([2, 3]), np.array([1, 4])], [np.array([3, 3]), np.array([2, 5])]
    assert regression_rate(before, after).value == 1
    assert regression_rate(before, before).counted == 0


def test_one_phone_gives_mcnemars_binomial_tail():
    before, after = np.ones(11, bool), np.arange(11) >= 7
    found = regression_rate(mistakes([before]), mistakes([after]))
    assert found.value == 1
    assert found.by_chance == pytest.approx(stats.binom.sf(3, 7, 0.5))


def test_phones_are_compared_on_the_same_clips():
    with pytest.raises(ValueError, match="same clips of the same phones"):
        regression_rate(mistakes(phones([0.5, 0.5])), mistakes(phones([0.5])))
    with pytest.raises(ValueError, match="same clips of the same phones"):
        regression_rate(mistakes(phones([0.5])), mistakes(phones([0.5], clips=7)))
    with pytest.raises(ValueError, match="at least one judged clip"):
        accuracy([np.zeros(0, bool)])
    with pytest.raises(ValueError, match="level must be in"):
        bootstrap_interval(np.ones(3), stream(1, "bootstrap"), level=1.0)


def test_rows_can_be_written_as_json():
    one = accuracy(phones([0.5, 0.7]))
    assert json.loads(json.dumps(dataclasses.asdict(one)))["phones"] == 2
    json.dumps(
        dataclasses.asdict(regression_rate(mistakes(phones([0.5])), mistakes(phones([0.6]))))
    )
