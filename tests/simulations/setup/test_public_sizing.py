"""Clip norm and server rate from public speakers: what noise moves, and what is said of it."""

import numpy as np
import pytest
from scipy.stats import norm

from fedspeech.errors import ScenarioError
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining
from simulations.scenario.schema import PrivacySettings
from simulations.setup.public_sizing import SHARE_OF_MARGIN, PublicFigures, public_figures, sized

FEATURES, LABELS = 8, 4
ADAPTER = HeadAdapter(FEATURES, LABELS)
TRAINING = LocalTraining(batch_size=64, max_examples=64)


def speakers(count, seed=0):
    rng = np.random.default_rng(seed)
    datasets = []
    for _ in range(count):
        labels = rng.integers(LABELS, size=6)
        embeddings = rng.normal(size=(6, FEATURES)) + 2 * np.eye(LABELS, FEATURES)[labels]
        datasets.append(LocalDataset(embeddings.astype(np.float32), labels))
    return datasets


def start():
    weight = np.eye(LABELS, FEATURES, dtype=np.float32)
    return ADAPTER.spec.flatten(ADAPTER.initial(weight, np.zeros(LABELS, np.float32)))


def figures(count=7):
    people = speakers(count)
    return people, public_figures(ADAPTER, start(), people, people[0].first(0), TRAINING, seed=1)


def settings(**changes):
    return PrivacySettings(noise_multiplier=2.0, rounds=16, **changes)


def test_the_clip_norm_is_the_median_norm_of_their_deltas():
    people, found = figures()
    parameters = ADAPTER.spec.unflatten(start())
    norms = [
        np.linalg.norm(train_adapter(ADAPTER, parameters, one, TRAINING, None).vector)
        for one in people
    ]
    assert found.delta_norm == pytest.approx(np.median(norms), rel=1e-4)
    assert sized(found, settings(), 10.0, 1.0, {}).clip_norm == found.delta_norm


def test_noise_of_the_run_moves_a_score_as_stated():
    """Sixteen rounds of noise on a mean over ten phones, drawn (5 standard errors: 1 in 10^6)."""
    people, found = figures()
    sizing = sized(found, settings(), 10.0, 0.05, {})
    rng = np.random.default_rng(0)
    stddev = 2.0 * found.delta_norm / 10
    draws = 4_000
    summed = sizing.learning_rate * rng.normal(0, stddev * 4, size=(draws, FEATURES + 1))
    clips = np.concatenate([one.embeddings for one in people])
    rows = np.concatenate([clips, np.ones((len(clips), 1))], axis=1)
    moved = (summed @ rows.T).std(axis=0).mean()
    assert moved == pytest.approx(sizing.noise_of_score, rel=5 / np.sqrt(2 * draws))


def test_the_rate_falls_until_noise_is_a_tenth_of_the_median_margin():
    _, found = figures()
    free, held = (sized(found, settings(), cohort, 1.0, {}) for cohort in (1e6, 5.0))
    assert free.learning_rate == 1.0
    assert held.learning_rate < 1.0
    assert held.noise_of_score == pytest.approx(SHARE_OF_MARGIN * found.median_margin)


def test_without_noise_nothing_is_lost_and_the_rate_stays():
    _, found = figures()
    for plan in (settings(mechanism="none"), PrivacySettings(noise_multiplier=0.0)):
        sizing = sized(found, plan, 5.0, 0.7, {})
        assert (sizing.learning_rate, sizing.noise_of_score, sizing.answers_lost) == (0.7, 0, 0)


def test_noise_of_every_phone_adds_up():
    _, found = figures()
    one, each = (
        sized(found, settings(mechanism=mechanism), 100.0, 1e-3, {})
        for mechanism in ("distributed", "local")
    )
    assert each.noise_of_score == pytest.approx(10 * one.noise_of_score)


def test_correlated_noise_is_refused_by_name():
    _, found = figures()
    with pytest.raises(ScenarioError, match='mechanism = "matrix_factorization" is not'):
        sized(found, settings(mechanism="matrix_factorization"), 10.0, 1.0, {})


def test_answers_lost_follow_the_margins():
    found = PublicFigures(
        speakers=2, delta_norm=1.0, embedding_norm=1.0, margins=np.array([1.0, 1.0, -1.0, 3.0])
    )
    sizing = sized(found, settings(), 1.0, 1.0, {})
    moved = np.sqrt(2) * sizing.noise_of_score
    expected = 0.75 - norm.cdf(np.array([1, 1, -1, 3]) / moved).mean()
    assert sizing.answers_lost == pytest.approx(expected)


def test_what_more_speakers_are_worth_halves_with_what_they_were():
    _, found = figures()
    known = {
        "head_held_out_words_right": 0.9,
        "head_held_out_words_right_of_half_the_speakers": 0.8,
        "head_recorded_speakers": 50,
    }
    assert sized(found, settings(), 50.0, 1.0, known).words_gained == pytest.approx(0.05)
    assert sized(found, settings(), 50.0, 1.0, {}).words_gained is None
    few = sized(found, settings(), 0.5, 1.0, known)
    if few.answers_lost > few.words_gained:
        assert "less than the noise costs" in few.in_words


def test_a_plan_whose_noise_costs_more_than_speakers_are_worth_says_so():
    found = PublicFigures(
        speakers=2, delta_norm=1.0, embedding_norm=1.0, margins=np.array([0.1, 0.2, 3.0, 3.0, 3.0])
    )
    worth = {
        "head_held_out_words_right": 0.95,
        "head_held_out_words_right_of_half_the_speakers": 0.949,
        "head_recorded_speakers": 75,
    }
    assert "less than the noise costs" in sized(found, settings(), 5.0, 1.0, worth).in_words
    assert "less than" not in sized(found, settings(mechanism="none"), 5.0, 1.0, worth).in_words


def test_no_public_speakers_are_refused_with_a_way_out():
    with pytest.raises(ScenarioError, match=r"set corpus.public_speakers, or"):
        figures(count=1)
