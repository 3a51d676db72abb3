import math

import numpy as np
import pytest
from scipy.stats import norm

from fedspeech.anonymization.embedding import (
    GaussianNoise,
    LaplaceNoise,
    PoolVoice,
    Rotation,
    masking,
    nullspace,
    whitening,
)
from fedspeech.anonymization.learned import Vae, adversarial_projection
from fedspeech.seeds import Keystream

WIDE, PEOPLE, EACH = 12, 20, 10
SPEAKERS = np.repeat(np.arange(PEOPLE), EACH)


def keystream(number=0):
    return Keystream(bytes([number]) * 32)


@pytest.fixture(scope="module")
def rows():
    """Speakers differ in the first 4 of 12 features."""
    rng = np.random.default_rng(1)
    voices = np.zeros((PEOPLE, WIDE))
    voices[:, :4] = 3 * rng.standard_normal((PEOPLE, 4))
    return 1 + voices[SPEAKERS] + rng.standard_normal((PEOPLE * EACH, WIDE))


def found(rows):
    """Share of rows whose nearest mean of the others' halves is their speaker's; chance 0.05."""
    rows = (rows - rows.mean(axis=0)) / rows.std()
    even = np.arange(len(rows)) % 2 == 0
    means = np.stack([rows[even & (who == SPEAKERS)].mean(axis=0) for who in range(PEOPLE)])
    away = ((rows[~even][:, None] - means) ** 2).sum(axis=2)
    return (away.argmin(axis=1) == SPEAKERS[~even]).mean()


def test_whitening_leaves_mean_0_and_covariance_1(rows):
    white = whitening(rows)(rows, draws=keystream())
    assert white.mean(axis=0) == pytest.approx(np.zeros(WIDE), abs=1e-9)
    assert np.cov(white.T) == pytest.approx(np.eye(WIDE), abs=0.05)  # the ridge takes a little


def test_masking_takes_the_features_in_which_speakers_differ(rows):
    masked = masking(rows, SPEAKERS, share=4 / WIDE)(rows, draws=keystream())
    assert not masked[:, :4].any()
    assert masked[:, 4:].all()


def test_a_nullspace_is_a_projection_without_the_directions_of_speakers(rows):
    method = nullspace(rows, SPEAKERS, rounds=2, directions=2)
    assert method.matrix @ method.matrix == pytest.approx(method.matrix, abs=1e-9)
    assert np.linalg.matrix_rank(method.matrix, tol=1e-6) == WIDE - 4
    after = method(rows, draws=keystream())
    assert found(rows) > 0.7
    assert found(after) < 0.3
    assert np.abs(method.matrix[:4]).max() < 0.3


def test_the_noise_of_gauss_is_exactly_enough():
    """Balle and Wang 2018, equation 6, beside the library that finds the deviation."""
    method = GaussianNoise(clip_norm=1.0, epsilon=2.0, delta=1e-5)
    a, b = 2 / (2 * method.stddev), 2.0 * method.stddev / 2
    delta = norm.cdf(a - b) - math.exp(2.0) * norm.cdf(-a - b)
    assert 0.99e-5 < delta <= 1e-5


def test_the_scale_of_laplace_is_the_sensitivity_over_epsilon():
    assert LaplaceNoise(clip_norm=2.0, epsilon=15.0).scale == pytest.approx(0.26667, abs=1e-5)


@pytest.mark.parametrize("method", [GaussianNoise(clip_norm=2.0), LaplaceNoise(clip_norm=2.0)])
def test_rows_are_clipped_before_noise_of_the_stated_size(method):
    far = np.zeros((4000, 2))
    far[:, 0] = 1e6
    after = method(far, draws=keystream())
    size = method.stddev if isinstance(method, GaussianNoise) else math.sqrt(2) * method.scale
    assert after.mean(axis=0) == pytest.approx([2, 0], abs=5 * size / math.sqrt(4000))
    assert after.std(axis=0) == pytest.approx([size, size], rel=0.1)  # 5 standard deviations


def test_a_rotation_keeps_angles_within_a_release_and_not_across(rows):
    one, same, other = (Rotation()(rows, draws=keystream(n)) for n in (1, 1, 2))
    assert one @ one.T == pytest.approx(rows @ rows.T)
    assert np.array_equal(one, same)
    assert not np.allclose(one, other, atol=0.1)


def test_a_pool_voice_is_far_and_of_the_sex_that_was_asked_for():
    pool = np.repeat([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], 5, axis=0)
    sexes = np.repeat(["f", "m", "f", "m"], 5)
    far = PoolVoice(pool=pool, farthest=5, averaged=3, noise=0.0)
    assert far(np.array([[2.0, 0.1]]), draws=keystream()) == pytest.approx(np.array([[-1, 0]]))
    cross = {"pool": pool, "farthest": 5, "averaged": 3, "noise": 0.0, "sexes": sexes}
    row, who = np.array([[-1.0, -0.1]]), np.array(["f"])
    other = PoolVoice(sex="other", **cross)(row, draws=keystream(), sexes=who)
    same = PoolVoice(sex="same", **cross)(row, draws=keystream(), sexes=who)
    assert other == pytest.approx(np.array([[0, -1]]))
    assert same == pytest.approx(np.array([[1, 0]]))
    with pytest.raises(ValueError, match="sex of every speaker"):
        PoolVoice(sex="other", **cross)(row, draws=keystream())


def test_a_pool_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="at most the pool"):
        PoolVoice(pool=np.ones((10, 2)))
    pool, sexes = np.ones((10, 2)), np.array(["f"] * 9 + ["m"])
    few = PoolVoice(pool=pool, farthest=4, averaged=2, sexes=sexes, sex="other")
    with pytest.raises(ValueError, match="too few voices"):
        few(np.ones((1, 2)), draws=keystream(), sexes=np.array(["f"]))


@pytest.mark.slow
def test_a_projection_behind_a_turned_gradient_tells_less_than_one_without(rows):
    strong, none = (
        adversarial_projection(rows, SPEAKERS, width=6, strength=weight, seed=1)
        for weight in (3.0, 0.0)
    )
    assert found(strong(rows, draws=keystream())) < found(none(rows, draws=keystream())) - 0.2


@pytest.mark.slow
def test_an_autoencoder_rebuilds_rows_from_draws(rows):
    method = Vae.fit(rows, latent=8, seed=1)
    white = whitening(rows)(rows, draws=keystream())
    one, other = (method(rows, draws=keystream(n)) for n in (1, 2))
    assert np.mean((one - white) ** 2) < 0.8
    assert not np.allclose(one, other)


@pytest.mark.parametrize("bad", [np.full((2, WIDE), np.nan), np.zeros((2, WIDE + 1)), np.zeros(3)])
def test_rows_that_are_none_are_refused(rows, bad):
    with pytest.raises(ValueError, match="finite rows"):
        nullspace(rows, SPEAKERS, rounds=1)(bad, draws=keystream())
