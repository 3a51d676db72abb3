"""What a run hands over names no segment of few phones, and leaves none to be worked out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.evaluation.metric import Metric, Segment
from simulations.artifacts.shared_files import _of_enough

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


def figures(sizes, everybody):
    segments = [None, *(Segment(name="accent", value=f"a{n}") for n in range(len(sizes)))]
    return [
        Metric(name="accuracy", value=0.5, unit="share", phones=phones, segment=segment)
        for segment, phones in zip(segments, (everybody, *sizes), strict=True)
    ]


@given(SIZES, st.integers(0, 40))
def test_what_is_withheld_of_an_attribute_is_nobody_or_enough(sizes, unknown):
    everybody = sum(sizes) + unknown
    kept = [each for each in _of_enough(figures(sizes, everybody), 20) if each.segment]
    rest = everybody - sum(each.phones for each in kept)
    assert all(each.phones >= 20 for each in kept)
    assert rest == 0 or rest >= 20 or everybody < 20


@pytest.mark.parametrize(
    ("sizes", "kept"), [((29, 31), [29, 31]), ((31, 25, 4), [31]), ((50, 10), []), ((60,), [60])]
)
def test_the_smallest_segment_goes_with_the_small_one(sizes, kept):
    found = _of_enough(figures(sizes, sum(sizes)), 20)
    assert sorted(each.phones for each in found if each.segment) == kept
