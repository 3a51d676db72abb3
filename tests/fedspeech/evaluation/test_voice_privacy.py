"""Figures of attacks against known answers, a kept library, and coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fedspeech.evaluation import roc as roc_module
from fedspeech.evaluation.roc import (
    detection_metrics,
    equal_error_rate,
    exact_interval,
    roc,
    share_interval,
    true_positive_rate_at,
)
from fedspeech.evaluation.voice_privacy import linking
from fedspeech.evaluation.voice_privacy.linking import Trials, linking_metrics, random_rank_p1

SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12).map(np.array)


@pytest.mark.parametrize(
    ("targets", "nontargets", "expected"),
    [
        ([1, 2, 3, 4], [0, 1.5, 2.5, -1], 0.25),
        ([2, 3], [0, 1], 0.0),
        ([0, 1], [2, 3], 1.0),  # upside down
        ([5, 5, 5], [5, 5], 0.5),  # one operating point
        ([0, 1], [0, 1], 0.5),
        ([3], [1, 4], 0.5),
        ([1, 3], [2], 0.5),
        # From (0, 2/3) over the tie to (1/2, 0): misses 2/3 - 4/3 x meet false alarms x at 2/7.
        ([9, 5, 5], [5, 1], 2 / 7),
    ],
)
def test_equal_error_rate_interpolates(targets, nontargets, expected):
    found = equal_error_rate(np.array(targets, float), np.array(nontargets, float))
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES)
def test_turned_scores_turn_every_figure(targets, nontargets):
    curve, turned = roc(targets, nontargets), roc(-targets, -nontargets)
    assert curve.equal_error_rate + turned.equal_error_rate == pytest.approx(1)
    assert curve.area + turned.area == pytest.approx(1)
    pairs = targets[:, None] - nontargets
    assert curve.area == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert (np.diff(curve.false_positives) >= 0).all()
    assert (np.diff(curve.true_positives) >= 0).all()


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES)
def test_the_curve_is_that_of_scikit_learn(targets, nontargets):
    metrics = pytest.importorskip("sklearn.metrics")
    truth = np.arange(len(targets) + len(nontargets)) < len(targets)
    scores = np.concatenate([targets, nontargets])
    false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    curve = roc(targets, nontargets)
    np.testing.assert_allclose(curve.false_positives, false, atol=1e-12)
    np.testing.assert_allclose(curve.true_positives, true, atol=1e-12)
    assert curve.area == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert curve.advantage == pytest.approx((true - false).max())


def test_scores_that_say_nothing_are_refused():
    for targets, nontargets in (([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.inf])):
        with pytest.raises(ValueError, match="finite"):
            equal_error_rate(np.array(targets), np.array(nontargets))


@pytest.mark.parametrize(
    ("nontargets", "rate", "expected"),
    [
        (np.arange(100.0), 0.01, 0.4),  # one of 100 may pass: above 98 are 98.5 to 99.5, and 99
        (np.arange(100.0), 0.001, 0.2),  # none may: above 99
        (np.append(np.arange(98.0), [99.0, 99.0]), 0.01, 0.2),  # ties pass together or not at all
    ],
)
def test_true_positives_at_a_rate_never_exceed_it(nontargets, rate, expected):
    targets = np.array([99.5, 98.5, 50.0, 20.0, 0.0])
    found = true_positive_rate_at(targets, nontargets, rate)
    assert found.value == pytest.approx(expected)
    assert (found.by_chance, found.counted) == (rate, len(nontargets))
    exact = binomtest(round(5 * expected), 5).proportion_ci(0.95, method="exact")
    assert (found.interval.low, found.interval.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("successes", [0, 1, 7, 20])
def test_exact_interval_is_that_of_scipy(successes):
    ours = exact_interval(successes, 20)
    theirs = binomtest(successes, 20).proportion_ci(0.95, method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def of_columns(scores, columns, **more):
    """Trials of probes with one true candidate each."""
    return Trials(scores, np.asarray(columns)[:, None] == np.arange(scores.shape[1]), **more)


def test_ranks_share_ties_and_top_1_credits_the_share():
    scores = np.array([[3.0, 1, 2], [1, 1, 1], [2, 2, 0], [0, 5, 5], [1, 4, 5]])
    trials = of_columns(scores, [0, 1, 2, 2, 1])
    np.testing.assert_array_equal(trials.ranks, [1, 2, 3, 1.5, 2])
    np.testing.assert_allclose(trials.first, [1, 1 / 3, 0, 0.5, 0])
    assert trials.first_by_chance == pytest.approx(1 / 3)


def test_of_a_sum_every_member_is_ranked_among_those_who_are_none():
    truth = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool)
    trials = Trials(np.array([[4.0, 1, 3, 2], [4, 3, 2, 1]]), truth)
    np.testing.assert_array_equal(trials.ranks, [1, 3, 2, 2])  # the other member stands in no way
    np.testing.assert_array_equal(trials.first, [1, 0])
    assert trials.first_by_chance == 0.5


def test_a_probe_is_not_compared_with_itself_where_that_does_not_count():
    speakers = np.array([0, 0, 1, 1])
    scores = np.array([[9.0, 2, 1, 0], [2, 9, 0, 1], [1, 0, 9, 2], [0, 1, 2, 9]])
    off = ~np.eye(4, dtype=bool)
    truth = speakers[:, None] == speakers
    eer, first, *_ = linking_metrics(
        Trials(scores, truth, counted=off, speakers=speakers), np.random.default_rng(1)
    )
    assert (eer.value, first.value, first.by_chance) == (0, 1, pytest.approx(1 / 3))
    assert (eer.phones, first.phones, first.counted) == (2, 2, 4)


def test_pairs_of_two_speakers_that_do_not_count_stand_in_no_way():
    counted = np.array([[True, False, True]])
    trials = of_columns(np.array([[1.0, 9.0, 0.0]]), [0], counted=counted)
    assert (trials.ranks.tolist(), trials.first.tolist()) == ([1], [1])
    assert trials.first_by_chance == 0.5
    assert linking_metrics(trials, np.random.default_rng(1))[0].value == 0


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.zeros((2, 3)), np.eye(2, dtype=bool)),
        (np.full((2, 2), np.nan), np.eye(2, dtype=bool)),
        (np.zeros((2, 2)), np.zeros((2, 2), bool)),
        (np.zeros((2, 2)), np.ones((2, 2), bool)),
    ],
)
def test_trials_that_say_nothing_are_refused(scores, truth):
    with pytest.raises(ValueError, match="expected"):
        Trials(scores, truth)


def test_rank_of_guessing():
    """The published table rounds the deviation: 3452.06 of 7,974 speakers and 100 trials."""
    assert random_rank_p1(7974, 100) == pytest.approx(3451.999, abs=1e-3)
    assert random_rank_p1(100, 1) == 1.0
    assert random_rank_p1(1000, 1) == 10.0
    assert random_rank_p1(10, 2) == 1.0  # both first: one of a hundred
    # The sum of eleven is close enough to normal for the two ways to meet.
    exact, normal = random_rank_p1(48, 11), 49 / 2 - 2.3263 * ((48**2 - 1) / 132) ** 0.5
    assert exact == pytest.approx(normal, abs=0.2)


def test_a_perfect_attack_and_a_constant_one():
    truth = np.repeat(np.arange(20), 3)
    found = linking_metrics(of_columns(np.eye(20)[truth], truth), np.random.default_rng(1))
    eer, first, median, p1 = found
    assert (eer.value, first.value, median.value, p1.value) == (0, 1, 1, 1)
    assert eer.interval.method == first.interval.method == "Clopper-Pearson"
    assert eer.interval.high == pytest.approx(1 - 0.025 ** (1 / 20))  # none of 20 missed
    assert [eer.by_chance, first.by_chance, median.by_chance] == pytest.approx([0.5, 0.05, 10.5])
    constant = linking_metrics(of_columns(np.zeros((60, 20)), truth), np.random.default_rng(1))
    assert [metric.value for metric in constant] == pytest.approx([0.5, 0.05, 10.5, 10.5])


@pytest.mark.slow
def test_intervals_cover_guessing(monkeypatch):
    """24 guesses of 30 speakers: each interval of 95 % misses chance at most 6 times.

    A binomial of 24 trials and 0.05 exceeds 6 in 2e-4 of cases, so a change of seeds alone fails
    one of the three in at most 0.1 %.
    """
    monkeypatch.setattr(linking, "RESAMPLES", 200)
    truth = np.repeat(np.arange(30), 2)
    misses = np.zeros(3, int)
    for seed in range(24):
        rng = np.random.default_rng([7, seed])
        # The columns are shifted: a speaker's pairs depend on one another, as an attack's do.
        scores = rng.normal(size=(60, 30)) + rng.normal(size=30) + rng.normal(size=(60, 1))
        for place, metric in enumerate(linking_metrics(of_columns(scores, truth), rng)[:3]):
            interval = metric.interval
            misses[place] += not interval.low <= metric.by_chance <= interval.high
    assert (misses <= 6).all(), misses


def test_detection_figures_and_their_intervals(monkeypatch):
    monkeypatch.setattr(roc_module, "RESAMPLES", 200)
    rng = np.random.default_rng(5)
    members, others = rng.normal(1, 1, 300), rng.normal(0, 1, 400)
    area, advantage, *rates = detection_metrics(members, others, rng)
    # Of two unit normals one deviation apart: Phi(1 / sqrt 2) and 2 Phi(1 / 2) - 1.
    assert area.interval.low < 0.7602 < area.interval.high
    assert advantage.interval.low < 0.3829 < advantage.interval.high
    assert [rate.name for rate in rates] == [
        "true positives at 1 % false positives", "true positives at 0.1 % false positives",
    ]  # fmt: skip
    assert area.interval.high - area.interval.low < 0.1


def test_only_certain_shares_get_the_exact_interval():
    assert share_interval(np.full(9, 0.4), 10).method == "bootstrap over phones"
    assert share_interval(np.zeros(9), 10).high == pytest.approx(1 - 0.025 ** (1 / 10))
