"""Phones that are recipes: the same phone at every call, and different phones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.training.virtual_phones import VirtualPhones

OFFSETS = np.array([0, 30, 40, 76])


@given(phone=st.integers(0, 10**9), share=st.floats(0.1, 1.0))
def test_a_phone_holds_a_part_of_one_voice_and_always_the_same(phone, share):
    virtual_phones = VirtualPhones(seed=1, share=share)
    held = virtual_phones.clips(phone, OFFSETS)
    np.testing.assert_array_equal(held, virtual_phones.clips(phone, OFFSETS))
    (voice,) = set(np.searchsorted(OFFSETS, held, side="right") - 1)
    assert len(set(held)) == len(held) == round(share * (OFFSETS[voice + 1] - OFFSETS[voice]))
    assert (np.diff(held) > 0).all()


def test_phones_of_one_voice_hold_different_clips():
    """Two of a hundred phones hold the same half of 30 clips with probability 3e-5."""
    virtual_phones = VirtualPhones(seed=1, share=0.5)
    held = {virtual_phones.clips(phone, OFFSETS[:2]).tobytes() for phone in range(100)}
    assert len(held) == 100


def test_voices_are_drawn_alike():
    """Chi-squared with 2 degrees of freedom over 3,000 phones; false alarm 1e-5 at 23."""
    virtual_phones = VirtualPhones(seed=1, share=0.1)
    first = [virtual_phones.clips(phone, OFFSETS)[0] for phone in range(3000)]
    counts = np.bincount(np.searchsorted(OFFSETS, first, side="right") - 1)
    assert ((counts - 1000) ** 2 / 1000).sum() < 23


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\]"):
        VirtualPhones(seed=1, share=share)
