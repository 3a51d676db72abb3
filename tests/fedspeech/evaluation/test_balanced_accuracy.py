"""Balanced accuracy against a kept library, and what it makes of guessing."""

import numpy as np
import pytest

from fedspeech.evaluation.balanced_accuracy import balanced_accuracy_metric


def test_it_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    truth = rng.choice(3, 90, p=[0.7, 0.2, 0.1])
    scores = rng.normal(size=(90, 3)) + 1.5 * np.eye(3)[truth]
    found = balanced_accuracy_metric(scores, truth, np.arange(90), rng)
    assert found.value == pytest.approx(
        metrics.balanced_accuracy_score(truth, scores.argmax(1)), abs=1e-12
    )
    assert found.by_chance == pytest.approx(1 / 3)
    assert found.interval.low < found.value < found.interval.high


def test_whoever_always_says_the_frequent_value_is_at_chance():
    truth = np.repeat([0, 1], [95, 5])
    scores = np.tile([1.0, 0.0], (100, 1))
    found = balanced_accuracy_metric(scores, truth, np.arange(100), np.random.default_rng(1))
    assert found.value == 0.5
    tied = balanced_accuracy_metric(0 * scores, truth, np.arange(100), np.random.default_rng(1))
    assert tied.value == 0.5


def test_trials_of_one_speaker_are_drawn_together():
    """Ten times the same trials are no more evidence."""
    truth, speakers = np.repeat([0, 1], 10), np.arange(20)
    scores = np.eye(2)[(truth + (speakers % 3 == 0)) % 2]
    once = balanced_accuracy_metric(scores, truth, speakers, np.random.default_rng(1)).interval
    again = balanced_accuracy_metric(
        np.repeat(scores, 10, axis=0), np.repeat(truth, 10), np.repeat(speakers, 10),
        np.random.default_rng(1),
    ).interval  # fmt: skip
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize(
    ("scores", "truth"),
    [
        (np.zeros((4, 2)), [0, 0, 0, 0]),
        (np.zeros((4, 2)), [0, 1, 2, 0]),
        (np.zeros((4, 2)), [0, 1]),
        (np.full((2, 2), np.inf), [0, 1]),
    ],
)
def test_trials_that_say_nothing_are_refused(scores, truth):
    with pytest.raises(ValueError, match="expected"):
        balanced_accuracy_metric(
            scores, np.array(truth), np.arange(len(truth)), np.random.default_rng(1)
        )
