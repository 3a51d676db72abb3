"""Thresholds of a benchmark allow so many events and are spent where they find words."""

import numpy as np
import pytest
from scipy import special

from benchmarks.mined_base import FLOOR, _levels, _peaks


def test_an_event_is_counted_once_and_the_next_after_its_cooldown():
    means = np.full((400, 3), special.expit(FLOOR - 1.0))  # one word, and two labels for none
    means[[100, 140, 220], 0] = special.expit([2.0, 1.0, 0.5])
    assert [pytest.approx(2.0), pytest.approx(0.5)] == [level for level, _ in _peaks(means)]


def test_what_is_allowed_is_spent_on_the_word_that_gains_by_it():
    events = [(3.0, 0, "speech"), (2.0, 0, "music"), (1.0, 1, "noise")]
    scores = [("plain", 0, 3.5), ("plain", 0, 2.5), ("plain", 0, 2.6), ("plain", 1, 1.5)]
    levels, woken = _levels(events, scores, 0)
    assert levels == [3.0, 1.0]
    assert woken == []
    levels, woken = _levels(events, scores, 1)
    assert levels == [2.0, 1.0]
    assert woken == [(3.0, 0, "speech")]
    levels, woken = _levels(events, scores, 3)  # no word is left that another event would find
    assert len(woken) == 1
    assert sum(score > levels[word] for _, word, score in scores) == 4
