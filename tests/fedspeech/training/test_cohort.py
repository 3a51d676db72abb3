"""The batched cohort against the one-phone loop, and against itself in other company."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.models.adapters import Adapter, make_adapter
from fedspeech.seeds import stream
from fedspeech.training.cohort import train_cohort
from fedspeech.training.dataset import LocalDataset
from fedspeech.training.local import train_adapter
from fedspeech.training.settings import LocalTraining

WINDOWS, FEATURES, LABELS = 3, 13, 5
NAMES = ("head", "affine", "bottleneck")


def build(name, seed=0):
    rng = np.random.default_rng(seed)
    adapter = make_adapter(name, WINDOWS, FEATURES, LABELS)
    parameters = adapter.initial(
        rng.standard_normal((LABELS, FEATURES)).astype(np.float32),
        rng.standard_normal(LABELS).astype(np.float32),
    )
    return adapter, parameters


def phone_clips(adapter, count, seed):
    rng = np.random.default_rng([seed, count])
    labels = rng.integers(0, LABELS, count)
    centers = np.random.default_rng(9).standard_normal((LABELS, *adapter.embedding_shape))
    noise = rng.standard_normal((count, *adapter.embedding_shape))
    # Every third phone weighs its clips.
    weights = rng.random(count if seed % 3 == 2 else 0).astype(np.float32)
    embeddings = (centers[labels] + noise).astype(np.float32)
    return LocalDataset(embeddings, labels, weights=weights)


def rngs(phones):
    return [stream(7, "batches", 0, phone) for phone in phones]


trainings = st.builds(
    LocalTraining,
    optimizer=st.sampled_from(["sgd", "adam"]),
    learning_rate=st.sampled_from([0.01, 0.1]),
    momentum=st.sampled_from([0.0, 0.9]),
    batch_size=st.integers(1, 12),
    local_epochs=st.integers(1, 3),
    max_steps=st.sampled_from([None, 2]),
    max_examples=st.integers(1, 12),
    proximal_mu=st.sampled_from([0.0, 0.3]),
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NAMES), trainings, st.lists(st.integers(0, 15), min_size=1, max_size=6))
def test_a_cohort_equals_the_one_phone_loop(name, training, counts):
    adapter, parameters = build(name)
    datasets = [phone_clips(adapter, count, phone) for phone, count in enumerate(counts)]
    phones = range(len(counts))
    together = train_cohort(adapter, parameters, datasets, training, rngs(phones))
    for dataset, delta, rng in zip(datasets, together, rngs(phones), strict=True):
        alone = train_adapter(adapter, parameters, dataset, training, rng)
        if not (np.abs(alone.vector) < 3).all():
            continue  # a training that runs away magnifies its last bits without bound
        # Adam divides by the size of a gradient, so the last bits of a small one are magnified.
        atol = 1e-5 if training.optimizer == "sgd" else 1e-3 * training.learning_rate
        np.testing.assert_allclose(delta.vector, alone.vector, atol=atol)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [2, 64])
def test_a_clip_of_weight_one_half_pulls_half_as_much(name, batch_size):
    """One step of plain SGD is linear in the weights."""
    adapter, parameters = build(name)
    training = LocalTraining(
        optimizer="sgd", momentum=0.0, batch_size=batch_size, max_steps=1, local_epochs=1
    )
    clips = phone_clips(adapter, 6, 0)

    def moved(weight):
        weighted = replace(clips, weights=np.full(6, weight, np.float32))
        return train_cohort(adapter, parameters, [weighted], training, rngs([0]))[0].vector

    plain = train_cohort(adapter, parameters, [clips], training, rngs([0]))[0].vector
    np.testing.assert_array_equal(moved(1.0), plain)
    np.testing.assert_allclose(moved(0.5), plain / 2, atol=1e-6)
    assert not moved(0.0).any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_size", [4, 64])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_bits_of_a_phone_do_not_depend_on_its_company(name, batch_size, optimizer):
    adapter, parameters = build(name)
    training = LocalTraining(
        local_epochs=5, optimizer=optimizer, batch_size=batch_size, max_examples=11, proximal_mu=0.1
    )
    counts = np.random.default_rng(3).integers(0, 17, Adapter.block_phones + 30)
    datasets = [phone_clips(adapter, count, phone) for phone, count in enumerate(counts)]
    phones = np.arange(len(datasets))

    def train(members):
        chosen = [datasets[phone] for phone in members]
        deltas = train_cohort(adapter, parameters, chosen, training, rngs(map(int, members)))
        return dict(zip(members, deltas, strict=True))

    everybody = train(phones)
    shuffled = train(np.random.default_rng(4).permutation(phones))
    shards = train(phones[:20]) | train(phones[20:21]) | train(phones[21:])
    for phone in phones:
        bits = everybody[phone].vector.tobytes()
        assert bits == shuffled[phone].vector.tobytes()
        assert bits == shards[phone].vector.tobytes()


def test_training_runs_on_one_thread_and_leaves_the_setting_as_it_was(monkeypatch):
    adapter, parameters = build("affine")
    seen = []
    gradients = type(adapter).gradients

    def watched(self, *arguments):
        seen.append(torch.get_num_threads())
        return gradients(self, *arguments)

    monkeypatch.setattr(type(adapter), "gradients", watched)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        train_cohort(
            adapter,
            parameters,
            [phone_clips(adapter, 11, 0)],
            LocalTraining(batch_size=64, local_epochs=5),
            rngs([0]),
        )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_a_phone_that_diverges_or_is_empty_does_not_touch_the_others():
    adapter, parameters = build("head")
    datasets = [phone_clips(adapter, 8, phone) for phone in range(3)]
    training = LocalTraining(local_epochs=5, batch_size=4)
    clean = train_cohort(adapter, parameters, datasets, training, rngs(range(3)))
    poisoned = LocalDataset(np.full_like(datasets[1].embeddings, np.nan), datasets[1].labels)
    datasets[1], datasets[0] = poisoned, phone_clips(adapter, 0, 0)
    dirty = train_cohort(adapter, parameters, datasets, training, rngs(range(3)))
    assert not dirty[0].vector.any()
    assert np.isnan(dirty[1].vector).any()
    assert clean[2].vector.tobytes() == dirty[2].vector.tobytes()


def test_parameters_and_clips_are_left_as_they_were():
    adapter, parameters = build("affine")
    dataset = phone_clips(adapter, 8, 0)
    before = adapter.spec.flatten(parameters), dataset.embeddings.copy()
    train_cohort(
        adapter, parameters, [dataset], LocalTraining(batch_size=64, local_epochs=5), rngs([0])
    )
    assert np.array_equal(before[0], adapter.spec.flatten(parameters))
    assert np.array_equal(before[1], dataset.embeddings)


def test_a_cohort_wants_one_stream_per_phone():
    adapter, parameters = build("head")
    with pytest.raises(ValueError, match="expected a stream per phone, got 2 for 1"):
        train_cohort(
            adapter,
            parameters,
            [phone_clips(adapter, 3, 0)],
            LocalTraining(batch_size=64, local_epochs=5),
            rngs([0, 1]),
        )


def test_nobody_trains_when_nobody_came():
    adapter, parameters = build("head")
    assert (
        train_cohort(adapter, parameters, [], LocalTraining(batch_size=64, local_epochs=5), [])
        == []
    )
