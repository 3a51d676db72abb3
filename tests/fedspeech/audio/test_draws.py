"""Draws for many clips at once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.audio.draws import normals, uniforms, words


def test_words_are_those_of_splitmix64():
    # Published outputs for seed 1234567 (Vigna's splitmix64.c).
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert words(np.array([1234567], dtype=np.uint64), 5)[0].tolist() == expected


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9))
def test_draws_depend_on_their_own_seed_alone(seeds):
    together = normals(np.array(seeds, dtype=np.uint64), 7)
    alone = [normals(np.array([seed], dtype=np.uint64), 7)[0] for seed in seeds]
    assert np.array_equal(together, np.stack(alone))


def test_neighboring_seeds_give_unrelated_uniforms():
    draws = uniforms(np.arange(20_000, dtype=np.uint64), 2)
    assert draws.min() > 0
    assert draws.max() < 1
    # Standard error of each figure is at most .0021: six of them, false alarm below 1e-8.
    assert abs(draws.mean() - 0.5) < 0.0125
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.043
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.043


def test_normals_have_mean_zero_and_variance_one():
    draws = normals(np.arange(5_000, dtype=np.uint64), 4)
    # Standard errors .0071 and .01: six of them, false alarm below 1e-8.
    assert abs(draws.mean()) < 0.043
    assert abs(draws.var() - 1) < 0.06
