"""A packed file comes back bit for bit, whatever its values, and gives no more than was asked."""

import numpy as np
import pytest
from adapters_to_send import adapter_file, stepped
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspeech.rollout.adapter_file import AdapterFile
from fedspeech.rollout.compression import pack, unpack

ANY = st.binary(max_size=300)


@settings(max_examples=30)
@given(content=ANY, parent=st.none() | ANY)
def test_any_bytes_come_back_with_any_parent(content, parent):
    assert unpack(pack(content, parent), parent, len(content)) == content


@settings(max_examples=30)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_every_bit_pattern_of_a_float_comes_back(bits, seed):
    """NaN with a payload, negative zero, denormals: nothing is computed with them as floats."""
    content = adapter_file(np.array(bits, np.uint32).view(np.float32))
    parent = adapter_file(seed=seed)
    assert unpack(pack(content, parent), parent, len(content)) == content


def test_a_small_step_costs_less_than_the_whole_and_no_step_almost_nothing():
    old = adapter_file(size=2000)
    new = stepped(old, step=3e-4)
    whole, difference = len(pack(new)), len(pack(new, old))
    assert difference < 0.7 * whole
    assert len(pack(old, old)) < 60


def test_values_that_cross_zero_are_near_each_other():
    old, new = (adapter_file(np.full(500, sign * 1e-39)) for sign in (1, -1))
    assert len(pack(new, old)) < 120


def test_a_bomb_is_not_unpacked():
    packed = pack(bytes(8) + bytes(10**6))
    assert len(packed) < 2000
    with pytest.raises(ValueError, match="more than the 92 bytes that are left"):
        unpack(packed, None, 100)


def test_every_cut_is_refused():
    old = adapter_file()
    new = stepped(old)
    packed = pack(new, old)
    for end in range(len(packed)):
        with pytest.raises(ValueError, match=r"cut|expected|damaged"):
            unpack(packed[:end], old, len(new))
    for wrong in (packed + b"x", packed[:4] + b"\xff" + packed[5:]):
        with pytest.raises(ValueError, match=r"behind its end|damaged|cut"):
            unpack(wrong, old, len(new))


def test_another_parent_gives_another_file_or_none():
    old, other = adapter_file(), adapter_file(seed=5)
    new = stepped(old)
    assert unpack(pack(new, old), other, len(new)) != new
    assert AdapterFile.from_bytes(unpack(pack(new, old), old, len(new))).base_sha256 == "ab" * 32
