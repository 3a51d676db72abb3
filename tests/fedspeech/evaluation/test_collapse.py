"""Noise is blamed only where noise alone does the harm, and its share of false alarms is kept."""

import numpy as np
import pytest

from fedspeech.evaluation.collapse import DRAWS, fell, moved_by_noise, noise_did_it
from fedspeech.seeds import stream

DIMENSION, CLASSES, CLIPS = 8, 6, 400


@pytest.mark.parametrize(
    ("after", "clips", "worse"),
    [(0.80, 672, True), (0.95, 672, False), (0.95, 100_000, True), (0.99, 672, False),
     (0.80, 0, False)],
)  # fmt: skip
def test_a_fall_within_chance_is_none(after, clips, worse):
    assert fell(0.964, after, clips) is worse


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.97])
def test_models_as_good_as_their_base_are_hardly_ever_called_worse(accuracy):
    rng = stream(0, "collapse", str(accuracy))
    shares = rng.binomial(672, accuracy, (30_000, 2)) / 672
    called = np.mean([fell(before, after, 672) for before, after in shares])
    assert called < 0.003  # as stated; the binomial's tail is heavier than 0.135 %


def test_noise_that_typically_costs_less_than_half_of_a_fall_is_hardly_ever_blamed():
    rng = stream(0, "blame")
    costs = rng.choice([0.0, 1.0], (400_000, DRAWS))  # the worst case: half of all directions
    blamed = np.mean((costs < 0.5).sum(axis=1) <= 1)
    assert blamed < 1 / 40_000 + 4 * np.sqrt(1 / 40_000 / 400_000)
    assert not noise_did_it(0.9, 0.5, [0.9] * 2 + [0.1] * 18)
    assert noise_did_it(0.9, 0.5, [0.9] + [0.1] * 19)


def test_ways_of_noise_have_the_lengths_of_the_model_s_and_its_share_of_noise():
    rng = stream(0, "ways")
    base, model = rng.normal(size=(2, 500)).astype(np.float32)
    ways = moved_by_noise(base, model, 0.75, rng) - base
    np.testing.assert_allclose(np.abs(ways), np.abs(model - base) / 1.25 * np.ones((DRAWS, 1)),
                               rtol=1e-4, atol=1e-6)  # fmt: skip
    overlap = ways @ (model - base) / np.linalg.norm(model - base) ** 2
    assert np.abs(overlap).max() < 0.3, "what phones taught is gone"


def built(rng, shift):
    """Public speakers, phones whose words lie elsewhere by `shift`, and a base for the former."""
    centers = rng.normal(size=(CLASSES, DIMENSION))
    moved = centers + shift * rng.normal(size=(CLASSES, DIMENSION))

    def clips(where, count):
        labels = rng.integers(CLASSES, size=count)
        return where[labels] + 0.9 * rng.normal(size=(count, DIMENSION)), labels

    return centers, clips(centers, CLIPS), clips(moved, 600), clips(moved, CLIPS)


def accuracy(vector, data):
    sound, labels = data
    return float((np.argmax(sound @ vector.reshape(CLASSES, -1).T, axis=1) == labels).mean())


def run(rng, shift, noise, rounds=10, rate=0.5):
    """Rounds of softmax regression under Gaussian noise; verdict, and what phones gained."""
    base, public, phones, held_out = built(rng, shift)
    base = base.astype(np.float32).reshape(-1)
    model, means, power = base.astype(np.float64), np.zeros(base.size), 0.0
    for _ in range(rounds):
        sound, labels = phones
        logits = sound @ model.reshape(CLASSES, -1).T
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        share[np.arange(len(labels)), labels] -= 1
        step = -(share.T @ sound / len(labels)).reshape(-1)
        step *= min(1.0, 1.0 / np.linalg.norm(step))
        mean = step + rng.normal(scale=noise / np.sqrt(base.size), size=base.size)
        means, power = means + mean, power + noise**2
        model += rate * mean
    ratio = np.sqrt(max(0.0, means @ means / power - 1))
    before, after = accuracy(base, public), accuracy(model, public)
    alone = [accuracy(way, public) for way in moved_by_noise(base, model, ratio, rng)]
    said = fell(before, after, CLIPS) and noise_did_it(before, after, alone)
    return said, accuracy(model, held_out) - accuracy(base, held_out), before - after


def test_runs_that_gain_are_not_called_collapsed_though_public_speakers_lose():
    rng = stream(0, "gaining")
    runs = [run(rng, shift=1.5, noise=1.0) for _ in range(100)]
    gains, losses = np.array([found[1:] for found in runs]).T
    assert gains.min() > 0.0
    assert (losses > 0.1).sum() > 10, "or nothing would be shown"
    assert sum(said for said, _, _ in runs) <= 1


def test_runs_that_noise_ruined_are_called_collapsed():
    rng = stream(0, "collapsing")
    runs = [run(rng, shift=0.3, noise=10.0) for _ in range(100)]
    assert max(gain for _, gain, _ in runs) < 0.0
    assert np.mean([said for said, _, _ in runs]) > 0.85


def test_runs_with_little_noise_and_like_phones_are_not_called_collapsed():
    rng = stream(0, "plain")
    assert not any(run(rng, shift=0.0, noise=1.0)[0] for _ in range(100))
