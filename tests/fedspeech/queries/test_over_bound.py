"""Whom a bound cuts, counted without being cut."""

import numpy as np
import pytest
from counting import Release, axis, phone, plan_for

from fedspeech.queries.over_bound import PhonesOverBound

QUERY = PhonesOverBound(
    segments=(axis("s", 0, 2),), axes=(axis("a", 1, 4),), checked_cells=2, checked_per_cell=3
)


def test_a_phone_says_whether_the_bound_would_cut_it():
    within = phone([(0, 1)] * 3 + [(0, 2)] * 3, [0])
    many = phone([(0, 1)] * 4, [1])
    wide = phone([(0, 0), (0, 1), (0, 2)], [1])
    found = QUERY.contributions([within, many, wide, phone([], [0]), phone([(0, 9)], [0])],
                                np.zeros(4, np.float32), [None] * 5)  # fmt: skip
    assert np.array(found).tolist() == [
        [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert QUERY.l2_bound == 1


def test_the_share_of_phones_that_are_cut_comes_with_an_interval():
    phones = [phone([(0, 1)] * (5 if index < 60 else 1), [0]) for index in range(200)]
    plan = plan_for(QUERY, population=200)
    share, empty = QUERY.estimates(Release(QUERY, plan, phones).run(1), plan)
    assert share.low < 0.3 < share.high  # one run, five of a hundred would fail
    assert 0.15 < share.value < 0.45
    assert empty.value is None


def test_it_says_one_thing():
    with pytest.raises(ValueError, match="a phone says one thing of itself"):
        PhonesOverBound(max_cells=2)
