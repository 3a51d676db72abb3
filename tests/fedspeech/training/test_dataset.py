import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.seeds import stream
from fedspeech.training.dataset import LocalDataset, pad_block, refuse_weights
from fedspeech.training.settings import LocalTraining


def dataset(num_examples, shape=(3,)):
    rng = np.random.default_rng(num_examples)
    return LocalDataset(
        rng.standard_normal((num_examples, *shape)).astype(np.float32),
        rng.integers(0, 4, num_examples),
    )


def batch_schedule(num_examples, *, rng, **settings):
    return LocalTraining(**settings).schedule(num_examples, [rng()], 0)


sizes = st.integers(0, 40)


@given(sizes, st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.integers(0, 99))
def test_each_epoch_visits_each_drawn_clip_once(count, limit, batch_size, epochs, seed):
    schedule = batch_schedule(
        count,
        max_examples=limit,
        batch_size=batch_size,
        local_epochs=epochs,
        max_steps=None,
        rng=lambda: stream(seed, "batches"),
    )
    drawn = min(count, limit)
    assert len(set(schedule.examples.tolist())) == len(schedule.examples) == drawn
    assert all(0 <= example < count for example in schedule.examples)
    steps_per_epoch = -(-drawn // min(batch_size, limit))
    assert schedule.batches.shape == (epochs * steps_per_epoch, min(batch_size, limit))
    if drawn:
        for epoch in schedule.batches.reshape(epochs, -1):
            assert sorted(epoch[epoch >= 0]) == list(range(drawn))
    assert (schedule.batches >= 0).any(axis=1).all()


def test_the_cap_on_steps_cuts_the_same_schedule():
    settings = {"max_examples": 30, "batch_size": 4, "local_epochs": 2}
    whole = batch_schedule(25, max_steps=None, rng=lambda: stream(1, "batches"), **settings)
    capped = batch_schedule(25, max_steps=3, rng=lambda: stream(1, "batches"), **settings)
    assert np.array_equal(capped.batches, whole.batches[:3])


def test_epochs_are_shuffled_apart():
    schedule = batch_schedule(
        32,
        max_examples=32,
        batch_size=8,
        local_epochs=2,
        max_steps=None,
        rng=lambda: stream(1, "batches"),
    )
    first, second = schedule.batches.reshape(2, -1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, np.arange(32))


def test_a_block_holds_the_scheduled_clips_and_zeros():
    members = [dataset(5), dataset(0), dataset(9)]
    settings = {"max_examples": 6, "batch_size": 4, "local_epochs": 1, "max_steps": None}
    schedules = [
        batch_schedule(len(member), rng=functools.partial(stream, 1, "batches", phone), **settings)
        for phone, member in enumerate(members)
    ]
    room = np.full((4, 6, 3), np.nan, dtype=np.float32)
    block = pad_block(members, schedules, room)
    assert block.embeddings.shape == (4, 6, 3)
    assert block.batches.shape == (4, 2, 4)
    assert np.array_equal(block.embeddings[0, :5], members[0].embeddings)
    assert np.array_equal(block.embeddings[2], members[2].embeddings[schedules[2].examples])
    assert np.array_equal(block.labels[2], members[2].labels[schedules[2].examples])
    assert not block.embeddings[0, 5:].any()
    assert not block.embeddings[[1, 3]].any()
    assert (block.batches[[1, 3]] == -1).all()
    assert repr(block) == "Block(shape=(4, 6, 3))"


def test_a_block_refuses_another_shape_and_too_many_phones():
    settings = {"max_examples": 6, "batch_size": 4, "local_epochs": 1, "max_steps": None}
    schedule = batch_schedule(5, rng=lambda: stream(1, "batches"), **settings)
    with pytest.raises(ValueError, match=r"expected embeddings of shape \(2,\), got \(3,\)"):
        pad_block([dataset(5)], [schedule], np.empty((1, 6, 2), np.float32))
    with pytest.raises(ValueError, match="a block holds 1 phones, got 2"):
        pad_block([dataset(5)] * 2, [schedule] * 2, np.empty((1, 6, 3), np.float32))


def test_a_dataset_shows_its_shape_only_and_checks_itself():
    assert repr(dataset(5)) == "LocalDataset(shape=(5, 3))"
    embeddings, labels = dataset(5).embeddings, dataset(5).labels
    with pytest.raises(ValueError, match="one label per embedding"):
        LocalDataset(embeddings, labels[:4])
    with pytest.raises(ValueError, match="float32 embeddings and int64 labels"):
        LocalDataset(embeddings.astype(np.float64), labels)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        LocalDataset(embeddings, np.array([0, 1, -1, 2, 0]))


def test_joining_and_taking_keep_clips_beside_their_labels():
    joined = dataset(5).joined(dataset(3))
    assert len(joined) == 8
    taken = joined.take(np.array([6, 0]))
    assert np.array_equal(taken.embeddings[0], dataset(3).embeddings[1])
    assert taken.labels[0] == dataset(3).labels[1]
    assert taken.labels[1] == dataset(5).labels[0]


def test_weights_follow_their_clips_and_clips_without_any_count_one():
    plain, weights = dataset(4), np.array([0, 0.25, 0.5, 1], np.float32)
    weighed = replace(plain, weights=weights)
    assert weighed.take(np.array([3, 1])).weights.tolist() == [1, 0.25]
    assert weighed.first(2).weights.tolist() == [0, 0.25]
    assert weighed.joined(plain).weights.tolist() == [*weights, 1, 1, 1, 1]
    assert plain.joined(weighed).weights.tolist() == [1, 1, 1, 1, *weights]
    assert not len(plain.joined(plain).weights)
    assert plain.clip_weights.tolist() == [1] * 4


@pytest.mark.parametrize(
    "weights",
    [np.ones(3, np.float32), np.ones(4), np.full(4, 1.5, np.float32),
     np.full(4, -0.1, np.float32), np.full(4, np.nan, np.float32)],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        replace(dataset(4), weights=weights)


def test_what_cannot_weigh_refuses_weights():
    refuse_weights([dataset(4)], "it")
    with pytest.raises(ValueError, match="it counts every clip alike"):
        refuse_weights([dataset(4), replace(dataset(4), weights=np.ones(4, np.float32))], "it")
