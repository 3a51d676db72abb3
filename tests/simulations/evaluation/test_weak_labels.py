"""What phones gain by weak labels, by how noisy these are, as a panel of a run."""

import numpy as np
import pytest
from tiny_experiment import tiny_experiment, tiny_scenario

from fedspeech.device.user_rates import UserRates
from fedspeech.device.weak_labels import LabelWeights
from fedspeech.errors import ScenarioError
from fedspeech.tasks.kws_evaluation import KwsEvaluation
from fedspeech.training.dataset import LocalDataset
from simulations.evaluation.evaluator import Evaluator
from simulations.evaluation.weak_labels import (
    NOISE,
    gains,
    turns_negative,
    weak_label_section,
)

WORDS, PHONES = 4, 60


def own(phone):
    rng = np.random.default_rng(phone)
    labels = rng.integers(0, WORDS, 50)
    return LocalDataset(np.zeros((50, 1, 1), np.float32), labels)


def answers(phone):
    rng = np.random.default_rng([phone, 1])
    return np.where(rng.random(50) < 0.4, WORDS, own(phone).labels)  # 4 in 10 are not heard


def accuracies(kept, datasets):
    """Of a phone that learns as many clips as its labels are right more often than wrong."""
    found = []
    for phone, (places, clips) in enumerate(zip(kept, datasets, strict=True)):
        right = clips.labels == own(phone).labels[places]
        found.append((clips.clip_weights * np.where(right, 1, -1)).sum() / 50)
    return np.array(found)


def test_the_gain_falls_with_the_noise_and_ends_where_it_should():
    """Here as many wrong labels as right ones bring nothing: at a noise of one half."""
    found = gains(
        [own(phone) for phone in range(PHONES)], [answers(phone) for phone in range(PHONES)],
        accuracies, words=WORDS, rates=UserRates(), weights=LabelWeights(retry=0.5), seed=1,
    )  # fmt: skip
    strong, weak, counts = found
    gain = (weak - strong).mean(axis=1)
    assert counts.sum(axis=1)[1] == 0, "nothing was taken for another word"
    np.testing.assert_allclose(gain[0], 0.5 * counts[2].mean() / 50, rtol=1e-6)
    assert (np.diff(gain) < 0).all()
    assert turns_negative(gain) == pytest.approx(0.5, abs=0.03)
    section = weak_label_section(*found, seed=1)
    (chart,) = section.charts
    (curve,) = chart.curves
    assert curve.x == NOISE
    assert all(
        low <= y <= high for low, y, high in zip(curve.low, curve.y, curve.high, strict=True)
    )
    (end,) = [metric for metric in section.metrics if metric.interval]
    assert end.interval.low <= end.value == chart.marked <= end.interval.high
    assert 0.4 < end.interval.low < end.interval.high < 0.6


@pytest.mark.parametrize(
    ("gain", "end"),
    [([1, 1, 1, 1, 1, 1], 1.0), ([0, 1, 1, 1, 1, 1], 0.0), ([1, -1, 1, 1, 1, 1], 0.1),
     ([1, 1, 1, 1, 1, -3], 0.85)],
)  # fmt: skip
def test_a_gain_ends_between_the_noises_where_it_changes_its_sign(gain, end):
    assert turns_negative(np.array(gain, dtype=float)) == pytest.approx(end)


@pytest.mark.slow
def test_a_run_says_what_weak_labels_bring_where_it_is_asked():
    built = tiny_experiment()
    start = built.job.load_arrays().initial
    keys = []
    for asked in ("false", "true"):
        scenario = tiny_scenario(f"personalization.weak_labels={asked}")
        found = Evaluator(built, scenario).personalization(start)["sections"]
        keys.append([section.key for section in found])
    assert "weak labels" not in keys[0]
    assert keys[1] == [*keys[0], "weak labels"]


@pytest.mark.slow
def test_where_phones_hear_more_than_words_it_is_refused_before_a_round(monkeypatch):
    built = tiny_experiment()
    monkeypatch.setattr(KwsEvaluation, "heard_words", lambda *_: None)
    with pytest.raises(ScenarioError, match="users react to words alone"):
        Evaluator(built, tiny_scenario("personalization.weak_labels=true"))
