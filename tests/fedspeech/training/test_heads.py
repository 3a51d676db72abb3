import numpy as np
import pytest
import torch

from fedspeech.training.heads import LabelWeights, PublicFeatures, clip_weights, fit_head
from fedspeech.training.ridge import target_scores

TARGETS, FRAMES, FEATURES = 3, 4, 5
LABELS = TARGETS + 2


def speech(speakers=12, clips=10, spread=0.6, seed=0, synthetic=()):
    """Frames (n, w, f) and their pooled features; each speaker has an offset of its own."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(LABELS, FEATURES))
    centers *= np.array([1, 10, 100, 1, 0.1])  # scales that whitening must even out
    names = [f"s{number:02}" for number in range(speakers)]
    offsets = {name: 0.3 * rng.normal(size=FEATURES) for name in names}
    labels = np.tile(np.arange(LABELS), speakers * clips // LABELS)
    who = np.repeat(names, clips)
    scale = np.array([1, 10, 100, 1, 0.1])
    frames = np.stack(
        [
            centers[label] + scale * (offsets[name] + spread * rng.normal(size=(FRAMES, FEATURES)))
            for label, name in zip(labels, who, strict=True)
        ]
    )
    pooled = np.concatenate([frames.mean(axis=1), frames.max(axis=1)], axis=1)
    made = np.isin(who, list(synthetic))
    return frames.astype(np.float32), PublicFeatures(pooled, labels, list(who), made)


def test_the_head_is_the_weighted_ridge_regression_of_standardized_features():
    """Against the normal equations, and through the pooling as a base applies it."""
    frames, features = speech()
    fitted = fit_head(features, LABELS, seed=0, regularizations=(0.3,))
    weights = clip_weights(features, LABELS, LabelWeights())
    mean = weights @ features.pooled
    rows = (features.pooled - mean) / np.sqrt(weights @ (features.pooled - mean) ** 2)
    scores = target_scores(features.labels, LABELS)
    second = (rows * weights[:, np.newaxis]).T @ rows
    cross = (rows * weights[:, np.newaxis]).T @ (scores - weights @ scores)
    expected = rows @ np.linalg.inv(second + 0.3 * np.eye(len(second))) @ cross + weights @ scores
    vectors = fitted.pooling(torch.from_numpy(frames))[:, 0].numpy()
    np.testing.assert_allclose(vectors @ fitted.weight.T + fitted.bias, expected, atol=2e-4)


def test_directions_are_whitened():
    frames, features = speech()
    fitted = fit_head(features, LABELS, seed=0, regularizations=(1e-6,))
    vectors = fitted.pooling(torch.from_numpy(frames))[:, 0].numpy()
    weights = clip_weights(features, LABELS, LabelWeights())
    second = (vectors * weights[:, np.newaxis]).T @ vectors
    np.testing.assert_allclose(second, np.eye(len(second)), atol=0.02)


def test_labels_and_kinds_weigh_what_is_stated_however_many_clips_they_have():
    _, features = speech(synthetic=("s00", "s01", "s02"))
    found = clip_weights(features, LABELS, LabelWeights(unknown=2.0, silence=0.5, synthetic=0.25))
    assert found.sum() == pytest.approx(1)
    total = TARGETS + 2.5
    for label, weight in ((0, 1), (TARGETS, 2.0), (TARGETS + 1, 0.5)):
        here = features.labels == label
        assert found[here].sum() == pytest.approx(weight / total)
        assert found[here & features.synthetic].sum() == pytest.approx(0.25 * weight / total)


def test_a_label_of_one_kind_keeps_its_whole_weight():
    _, features = speech(synthetic=[f"s{number:02}" for number in range(12)])
    found = clip_weights(features, LABELS, LabelWeights())
    assert found[features.labels == 0].sum() == pytest.approx(1 / (TARGETS + 2.5))


def test_speakers_never_judge_the_head_that_they_trained():
    """Labels that only the speaker's offset tells: across clips they look learnable."""
    rng = np.random.default_rng(1)
    names = [f"s{number:02}" for number in range(40)]
    who = np.repeat(names, 5)
    offsets = {name: rng.normal(size=20) for name in names}
    said = {name: rng.integers(LABELS) for name in names}
    pooled = np.stack([offsets[name] + 0.01 * rng.normal(size=20) for name in who])
    labels = np.array([said[name] for name in who])
    features = PublicFeatures(pooled, labels, list(who), np.zeros(len(who), bool))
    fitted = fit_head(features, LABELS, seed=0, regularizations=(0.01,))
    # 40 coins of probability 1/5: above 0.5 once in 10,000.
    assert fitted.held_out_right < 0.5


def test_more_noise_asks_for_more_regularization():
    quiet, loud = (
        fit_head(speech(spread=spread)[1], LABELS, seed=0).regularization for spread in (0.05, 8.0)
    )
    assert quiet < loud


def test_figures_are_of_speakers_who_were_left_out():
    fitted = fit_head(speech(speakers=20)[1], LABELS, seed=0)
    assert fitted.held_out_words_right > 0.8
    assert 0 <= fitted.half_words_right <= 1
    few = fit_head(speech(speakers=2)[1], LABELS, seed=0)
    assert np.isnan(few.half_words_right)


def test_the_same_speakers_in_another_order_give_the_same_regularization():
    _, features = speech()
    order = np.random.default_rng(3).permutation(len(features.labels))
    one, other = (fit_head(f, LABELS, seed=0) for f in (features, features.take(order)))
    assert one.regularization == other.regularization
    np.testing.assert_allclose(one.weight, other.weight, atol=1e-4)


def test_what_cannot_be_fit_is_refused():
    _, features = speech()
    without = features.take(np.flatnonzero(features.labels != 1))
    with pytest.raises(ValueError, match="label 1 has none"):
        fit_head(without, LABELS, seed=0)
    alone = features.take(np.flatnonzero(np.array(features.speakers) == "s00"))
    with pytest.raises(ValueError, match="needs two speakers"):
        fit_head(alone, LABELS, seed=0)
    with pytest.raises(ValueError, match="must be finite"):
        PublicFeatures(
            np.full((2, 3), np.nan), np.zeros(2, np.int64), ["a", "b"], np.zeros(2, bool)
        )
