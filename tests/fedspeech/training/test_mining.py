"""A listener finds words where they are, and its hard negatives are what deceives it."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from fedspeech.training.mining import HeardWord, Mining, fit_listener

FEATURES, WINDOWS = 6, 3
SMALL = Mining(rounds=2, windows=40, steps=60, widths=(12, 8))
WORD = np.array([3.0, -3.0, 3.0, 0.0, 0.0, 0.0], np.float32)
DECOY = np.array([3.0, -3.0, 0.0, 3.0, 0.0, 0.0], np.float32)


def windows(frames):
    view = np.lib.stride_tricks.sliding_window_view(frames, WINDOWS, axis=0)
    return view.transpose(0, 2, 1)


def stream_with(rng, hops, sound=None, places=()):
    frames = rng.normal(size=(hops, FEATURES)).astype(np.float32)
    for place in places:
        frames[place : place + WINDOWS] += sound
    return windows(frames)


@pytest.fixture(scope="module")
def lesson():
    rng = np.random.default_rng(0)
    words = []
    for number in range(30):
        heard = stream_with(rng, 14, WORD, [6])
        # Of every third word the end is said to be where it is not.
        ends = np.array([1]) if number % 3 == 0 else np.array([6])
        words.append(HeardWord(heard, ends, 0))
    sounds = [stream_with(rng, 900, DECOY, range(20, 880, 90)) for _ in range(2)]
    return words, sounds


@pytest.fixture(scope="module")
def fitted(lesson):
    return fit_listener(*lesson, 3, seed=1, mining=SMALL)


def margins(fitted, frames):
    rows = fitted.pooling(torch.from_numpy(np.ascontiguousarray(frames)))[:, 0].numpy()
    logits = rows @ fitted.weight.T + fitted.bias
    return logits[:, 0] - np.logaddexp(logits[:, 1], logits[:, 2])


@pytest.mark.slow
def test_a_listener_finds_new_words_and_is_not_deceived_by_what_was_mined(fitted):
    rng = np.random.default_rng(5)
    found = [margins(fitted, stream_with(rng, 14, WORD, [6]))[6] for _ in range(50)]
    decoys = margins(fitted, stream_with(rng, 3_000, DECOY, range(20, 2_900, 90)))
    assert np.mean(np.array(found) > np.sort(decoys)[-3]) > 0.9


@pytest.mark.slow
def test_decoys_are_among_the_hard_negatives_one_of_each_event_hardest_first(lesson, fitted):
    scores = margins(fitted, fitted.hard)
    assert (np.diff(scores) <= 1e-4).all()
    decoys = sum(len(range(20, 880, 90)) for _ in lesson[1])
    likeness = np.einsum("nwf,f->n", fitted.hard, DECOY) / WINDOWS
    found = (likeness > 9).sum()
    assert found > decoys / 2, "a decoy is 27 on average, noise 0; they are a hundredth of all"
    for one, other in pairwise(fitted.hard):
        assert not np.allclose(one[1:], other[:-1]), "windows of neighboring hops"


@pytest.mark.slow
def test_features_are_white_and_the_head_answers_as_the_network_did(lesson, fitted):
    words, _ = lesson
    rows = np.concatenate([np.stack([word.windows[6] for word in words]), fitted.hard])
    features = fitted.pooling(torch.from_numpy(rows))[:, 0].numpy()
    assert features.shape[1] == SMALL.widths[1]
    assert np.abs(features.std(axis=0)).max() < 2.0
    assert fitted.weight.shape == (3, SMALL.widths[1])


@pytest.mark.slow
def test_a_seed_decides_everything_and_torch_is_left_alone(lesson, fitted):
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    again = fit_listener(*lesson, 3, seed=1, mining=SMALL)
    assert torch.equal(torch.rand(1), before)
    assert np.array_equal(again.weight, fitted.weight)
    assert np.array_equal(again.hard, fitted.hard)
    other = fit_listener(*lesson, 3, seed=2, mining=SMALL)
    assert not np.array_equal(other.weight, fitted.weight)


def test_a_word_that_nobody_says_and_silence_alone_are_refused(lesson):
    words, sounds = lesson
    with pytest.raises(ValueError, match="no word of label 1"):
        fit_listener(words, sounds, 4, seed=0)
    with pytest.raises(ValueError, match="no such sound"):
        fit_listener(words, [sounds[0][:0]], 3, seed=0)
