import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.secagg.ring import ring_sum

BITS = st.sampled_from([1, 8, 16, 24, 31, 32])


@st.composite
def contributions(draw):
    bits = draw(BITS)
    rows = st.lists(st.integers(0, 2**bits - 1), min_size=3, max_size=3)
    vectors = draw(st.lists(rows, min_size=1, max_size=12))
    return bits, [np.array(row, dtype=np.uint32) for row in vectors]


@given(contributions())
def test_sum_is_that_of_the_integers(case):
    bits, vectors = case
    expected = [sum(int(v[i]) for v in vectors) % 2**bits for i in range(3)]
    total = ring_sum(vectors, bits)
    assert total.dtype == np.uint32
    assert [int(value) for value in total] == expected


@given(contributions(), st.randoms(), st.integers(1, 5))
def test_sum_is_the_same_however_sharded_and_ordered(case, random, shards):
    bits, vectors = case
    whole = ring_sum(vectors, bits)
    shuffled = vectors.copy()
    random.shuffle(shuffled)
    parts = [part for part in (shuffled[i::shards] for i in range(shards)) if part]
    partials = [ring_sum(part, bits) for part in parts]
    np.testing.assert_array_equal(ring_sum(partials, bits), whole)


def test_contributions_are_left_alone():
    vectors = [np.array([1, 2], dtype=np.uint32), np.array([3, 4], dtype=np.uint32)]
    ring_sum(vectors, 16)
    np.testing.assert_array_equal(vectors, [[1, 2], [3, 4]])


def test_what_is_no_ring_vector_is_refused():
    good = np.zeros(2, dtype=np.uint32)
    with pytest.raises(ValueError, match="at least one vector"):
        ring_sum([], 16)
    with pytest.raises(ValueError, match="uint32"):
        ring_sum([np.zeros(2, dtype=np.int64)], 16)
    with pytest.raises(ValueError, match="shape"):
        ring_sum([good, np.zeros(3, dtype=np.uint32)], 16)
    with pytest.raises(ValueError, match=r"1\.\.32"):
        ring_sum([good, good], 33)
