import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedspeech.privacy.clipping import L2Clip

VECTORS = arrays(
    np.float32, st.integers(1, 40), elements=st.floats(-(2.0**100), 2.0**100, width=32)
)


@given(vector=VECTORS, clip_norm=st.floats(1e-6, 1e6))
def test_clipping_never_exceeds_the_norm_and_keeps_the_direction(vector, clip_norm):
    clipped = L2Clip(clip_norm=clip_norm)(vector)
    assert np.linalg.norm(clipped) <= clip_norm * (1 + 1e-12)
    wide = vector.astype(np.float64)
    norm = np.linalg.norm(wide)
    if norm <= clip_norm:
        np.testing.assert_array_equal(clipped, wide)
    else:
        np.testing.assert_allclose(clipped / clip_norm, wide / norm, atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_delta_that_is_not_finite_becomes_zeros(value):
    np.testing.assert_array_equal(L2Clip(clip_norm=1.0)(np.array([1.0, value])), [0.0, 0.0])


def test_clipping_leaves_its_argument_alone():
    vector = np.array([3.0, 4.0])
    L2Clip(clip_norm=1.0)(vector)
    np.testing.assert_array_equal(vector, [3.0, 4.0])


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_norm_that_bounds_nothing_is_refused(clip_norm):
    with pytest.raises(ValueError, match="clip_norm must be positive and finite"):
        L2Clip(clip_norm=clip_norm)
