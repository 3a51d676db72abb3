import math

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedspeech.privacy import encoding
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import Keystream

FLOATS = st.floats(-1e4, 1e4)


def keystream(number: int = 0) -> Keystream:
    return Keystream(number.to_bytes(32, "big"))


@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_transform_is_the_hadamard_matrix_of_scipy(size):
    vector = np.random.default_rng(0).normal(size=size)
    expected = scipy.linalg.hadamard(size) @ vector / math.sqrt(size)
    np.testing.assert_allclose(encoding.hadamard(vector), expected, atol=1e-12)


@pytest.mark.slow
@given(arrays(np.float64, st.integers(1, 70), elements=FLOATS), st.binary(max_size=8))
def test_rotation_keeps_the_norm_and_is_undone(vector, seed):
    rotated = encoding.rotate(vector, seed)
    assert rotated.shape == (encoding.padded(vector.shape[0]),)
    np.testing.assert_allclose(np.linalg.norm(rotated), np.linalg.norm(vector), atol=1e-8)
    restored = encoding.unrotate(rotated, seed, vector.shape[0])
    np.testing.assert_allclose(restored, vector, atol=1e-8)


def test_rotation_flattens_a_peak_and_depends_on_the_seed():
    peak = np.zeros(1024)
    peak[17] = 1.0
    rotated = encoding.rotate(peak, b"round 1")
    np.testing.assert_allclose(np.abs(rotated), 1 / 32)
    assert not np.array_equal(
        encoding.rotation_signs(b"round 1", 1024), encoding.rotation_signs(b"round 2", 1024)
    )
    assert abs(encoding.rotation_signs(b"round 1", 1024).sum()) < 6 * 32  # false alarm 2e-9


def assert_rounding_is_unbiased():
    """False alarm below 1e-8 over 5 means of 40,000 roundings each."""
    for number, value in enumerate([0.1, 0.5, -0.3, -2.75, 1234.9]):
        rounded = encoding.stochastic_round(np.full(40_000, value), keystream(number))
        assert set(np.unique(rounded)) <= {math.floor(value), math.floor(value) + 1}
        share = value - math.floor(value)
        bound = 6.2 * math.sqrt(share * (1 - share) / 40_000)
        assert abs(rounded.mean() - value) < bound


def test_rounding_is_unbiased():
    assert_rounding_is_unbiased()


@pytest.mark.parametrize(
    "broken",
    [
        lambda values, stream: np.rint(values).astype(np.int64),
        lambda values, stream: np.trunc(values + stream.uniform(values.size)).astype(np.int64),
        lambda values, stream: np.floor(values + stream.uniform(values.size) ** 1.1).astype(
            np.int64
        ),
    ],
    ids=["nearest", "towards zero", "skewed"],
)
def test_biased_rounding_is_noticed(monkeypatch, broken):
    monkeypatch.setattr(encoding, "stochastic_round", broken)
    with pytest.raises(AssertionError):
        assert_rounding_is_unbiased()


def test_integers_stay_as_they_are():
    values = np.array([-3.0, 0.0, 2.0**40])
    np.testing.assert_array_equal(encoding.stochastic_round(values, keystream()), values)


def test_bound_after_rounding_is_that_of_the_paper():
    # Kairouz, Liu, Steinke 2021, Theorem 1, beta = exp(-1/2), by hand: norm 100, d = 64.
    assert encoding.rounded_norm_bound(100.0, 64) == math.floor(
        min((100 + 8) ** 2, 100**2 + 16 + 1.0 * (100 + 4))
    )
    assert encoding.rounded_norm_bound(0.5, 1) == 1  # 0.25 + 0.25 + 1 = 1.5 beats 2.25


@given(arrays(np.float64, 16, elements=st.floats(-50, 50)), st.integers(0, 2**32))
def test_norm_never_exceeds_the_bound_after_rounding(values, number):
    bound = encoding.rounded_norm_bound(float(np.linalg.norm(values)), 16)
    rounded = encoding.conditional_round(values, bound, keystream(number))
    assert sum(int(value) ** 2 for value in rounded) <= bound
    assert (np.abs(rounded - values) < 1).all() or not rounded.any()


def test_rounding_retries_within_the_bound_and_gives_up_as_zeros():
    values = np.full(64, 0.5)
    rounded = encoding.conditional_round(values, 26, keystream())  # P[Bin(64, .5) <= 26] = .08
    assert 0 < np.dot(rounded, rounded) <= 26
    np.testing.assert_array_equal(
        encoding.conditional_round(np.full(64, 3.5), 100, keystream()), np.zeros(64)
    )


def test_one_try_passes_with_the_probability_that_the_paper_promises():
    values = encoding.rotate(np.full(64, 12.5), b"seed")
    bound = encoding.rounded_norm_bound(float(np.linalg.norm(values)), 64)
    passed = sum(
        int(np.dot(r, r)) <= bound
        for r in (encoding.stochastic_round(values, keystream(i)) for i in range(400))
    )
    # At least 1 - exp(-1/2) = 0.39; 120 of 400 is 3.8 standard deviations under (1e-4).
    assert passed >= 120


@pytest.mark.parametrize("bits", [16, 24, 32])
@given(values=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=20))
def test_ring_returns_what_fits_into_it(bits, values):
    integers = np.array(values, dtype=np.int64)
    elements = encoding.to_ring(integers, bits)
    assert elements.dtype == np.uint32
    assert [int(e) for e in elements] == [value % 2**bits for value in values]
    np.testing.assert_array_equal(encoding.from_ring(elements, bits), integers)


def test_ring_wraps_at_its_edges():
    edges = np.array([2**15, -(2**15) - 1, 3 * 2**16 + 5], dtype=np.int64)
    np.testing.assert_array_equal(
        encoding.from_ring(encoding.to_ring(edges, 16), 16), [-(2**15), 2**15 - 1, 5]
    )


@given(
    st.lists(st.integers(-(2**30), 2**30), min_size=1, max_size=3),
    st.integers(-2, 2),
    st.integers(0, 2**32),
)
def test_the_norm_is_checked_to_the_last_integer(values, slack, number):
    """Squared norms of up to 2^61.6, where floats are 512 apart and would wave through one more."""
    exact = sum(value**2 for value in values)
    rounded = encoding.conditional_round(
        np.array(values, dtype=np.float64), exact + slack, keystream(number)
    )
    within = slack >= 0 or exact == 0
    assert [int(value) for value in rounded] == (values if within else [0] * len(values))


@given(
    bits=st.sampled_from([16, 24, 32]),
    rows=st.lists(
        st.lists(st.integers(-(2**40), 2**40), min_size=3, max_size=3), min_size=1, max_size=9
    ),
)
def test_sums_wrap_as_integers_do(bits, rows):
    """However far single vectors or their sum stand beyond the edge."""
    sent = [encoding.to_ring(np.array(row, dtype=np.int64), bits) for row in rows]
    total = encoding.from_ring(ring_sum(sent, bits), bits)
    half = 2 ** (bits - 1)
    exact = [(sum(column) + half) % 2**bits - half for column in zip(*rows, strict=True)]
    assert [int(value) for value in total] == exact
