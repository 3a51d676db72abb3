from dataclasses import replace

import numpy as np
import pytest

from fedspeech.models.adapters.affine import AffineAdapter
from fedspeech.models.adapters.head import HeadAdapter
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.ridge import (
    SCORE,
    Ridge,
    adapt_heads,
    ridge_change,
    ridge_head,
    target_scores,
    with_one,
)

FEATURES, LABELS = 6, 4


def clips(count, seed=0, labels=LABELS - 2):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(count, FEATURES)).astype(np.float32)
    return LocalDataset(embeddings, rng.integers(labels, size=count))


def head(seed=1):
    return np.random.default_rng(seed).normal(size=(LABELS, FEATURES + 1))


def loss(found, start, data, weights, pull):
    errors = target_scores(data.labels, LABELS) - with_one(data.embeddings) @ found.T
    return weights @ (errors**2).sum(axis=1) + pull * ((found - start) ** 2).sum()


def test_the_change_minimizes_what_the_module_states():
    """Against the normal equations in the weights (Hoerl and Kennard 1970, Eq. 2.1)."""
    data, start, weights, pull = clips(5), head(), np.array([1, 0.5, 0.5, 2, 1.0]), 3.0
    rows = with_one(data.embeddings)
    normal = rows.T @ (weights[:, np.newaxis] * rows) + pull * np.eye(FEATURES + 1)
    gradient = (weights[:, np.newaxis] * (target_scores(data.labels, LABELS) - rows @ start.T)).T
    expected = gradient @ rows @ np.linalg.inv(normal)
    np.testing.assert_allclose(ridge_change(start, data, weights, pull), expected, atol=1e-10)


def test_no_neighbor_of_the_minimum_is_better():
    data, start, weights = clips(5), head(), np.ones(5)
    found = start + ridge_change(start, data, weights, 3.0)
    rng = np.random.default_rng(2)
    least = loss(found, start, data, weights, 3.0)
    for _ in range(20):
        assert loss(found + 0.01 * rng.normal(size=found.shape), start, data, weights, 3.0) > least


def test_a_strong_pull_keeps_the_global_head_and_a_weak_one_fits_the_clips():
    data, start = clips(4), head()
    none = data.first(0)
    np.testing.assert_allclose(ridge_head(start, data, none, Ridge(pull=1e9)), start, atol=1e-6)
    fitted = ridge_head(start, data, none, Ridge(pull=1e-9))
    scores = with_one(data.embeddings) @ fitted.T
    np.testing.assert_allclose(scores, target_scores(data.labels, LABELS), atol=1e-5)
    assert scores.max() == pytest.approx(SCORE)


def test_a_phone_without_clips_keeps_the_global_head():
    start, none = head(), clips(1).first(0)
    np.testing.assert_array_equal(ridge_head(start, none, none, Ridge()), start)


def test_copies_that_change_nothing_change_nothing():
    data, start = clips(3), head()
    twice = data.take(np.repeat(np.arange(3), 2))
    for share in (0.2, 0.8):
        np.testing.assert_allclose(
            ridge_head(start, data, twice, Ridge(own_share=share)),
            ridge_head(start, data, data.first(0), Ridge()),
            atol=1e-9,
        )


def test_copies_must_be_as_many_of_each_clip():
    with pytest.raises(ValueError, match="as many copies of each of 3 clips, got 4"):
        ridge_head(head(), clips(3), clips(4), Ridge())


class Shifting:
    def recalibrated(self, adapter, vector, negatives):
        assert len(negatives) == 2
        return vector + np.float32(1)


def test_every_phone_is_recalibrated_after_it_adapted():
    adapter = HeadAdapter(FEATURES, LABELS)
    start = np.zeros(adapter.spec.size, dtype=np.float32)
    own, none = [clips(4), clips(1).first(0)], clips(1).first(0)
    adapted, untouched = adapt_heads(
        adapter, start, own, [none, none], clips(2), Ridge(), Shifting()
    )
    np.testing.assert_array_equal(untouched.adapter(start), start + 1)
    matrix = ridge_head(np.zeros((LABELS, FEATURES + 1)), own[0], none, Ridge())
    parameters = adapter.spec.unflatten(adapted.adapter(start))
    np.testing.assert_allclose(parameters["head_weight"], matrix[:, :-1] + 1, atol=1e-6)
    np.testing.assert_allclose(parameters["head_bias"], matrix[:, -1] + 1, atol=1e-6)


def test_an_adapter_that_is_no_head_is_refused_by_name():
    adapter = AffineAdapter(1, FEATURES, LABELS)
    with pytest.raises(ValueError, match=r'adapter="affine"; set adapter = "head"'):
        adapt_heads(adapter, np.zeros(1, np.float32), [], [], clips(1), Ridge(), Shifting())


def test_a_clip_weighs_in_the_closed_form_what_its_dataset_says():
    """Of weight 0 it and its copies are as left out; two of weight one half are one of 1."""
    data, altered, start, settings = clips(4), clips(8, seed=5), head(), Ridge(pull=2.0)
    kept = np.array([0, 1, 3])
    weighed = replace(data, weights=np.array([1, 1, 0, 1], np.float32))
    rows = (kept[:, np.newaxis] * 2 + np.arange(2)).ravel()
    np.testing.assert_allclose(
        ridge_head(start, weighed, altered, settings),
        ridge_head(start, data.take(kept), altered.take(rows), settings),
        atol=1e-12,
    )
    twice = replace(data.joined(data), weights=np.full(8, 0.5, np.float32))
    none = data.first(0)
    np.testing.assert_allclose(
        ridge_head(start, twice, none, settings), ridge_head(start, data, none, settings),
        atol=1e-10,
    )  # fmt: skip
