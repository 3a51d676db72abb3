"""The schedule that simulations play is the model that minimums are priced by."""

import numpy as np
import pytest
from scipy import stats

from fedspeech.secagg.dropouts import last_stage, share_answering
from fedspeech.secagg.protocol import Stage


def test_nobody_vanishes_at_rate_zero():
    assert all(share_answering(0.0, stage) == 1.0 for stage in Stage)
    assert {last_stage(0.0, 1, 2, phone) for phone in range(50)} == {Stage.UNMASK}


@pytest.mark.parametrize("rate", [0.03, 0.3, 0.9])
def test_the_rate_is_the_share_that_never_sends_its_vector(rate):
    assert share_answering(rate, Stage.MASK) == pytest.approx(1 - rate)
    assert share_answering(rate, Stage.NONE) == 1.0
    assert share_answering(rate, Stage.UNMASK) == pytest.approx(max(0, 1 - 5 / 3 * rate))
    shares = [share_answering(rate, stage) for stage in Stage]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.12, 0.9])
def test_the_schedule_follows_the_model(rate):
    """Chi-square over 20,000 phones at a false-alarm rate of 1e-6."""
    found = [last_stage(rate, 7, phone % 40, phone) for phone in range(20_000)]
    answering = [share_answering(rate, stage) for stage in Stage] + [0.0]
    expected = -np.diff(answering) * len(found)
    counts = np.array([found.count(stage) for stage in Stage], dtype=float)
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    assert stats.chisquare(counts[possible], expected[possible]).pvalue > 1e-6


def test_the_schedule_is_that_of_seed_round_and_phone():
    def schedule(seed, number):
        return [last_stage(0.5, seed, number, phone) for phone in range(100)]

    assert schedule(1, 2) == schedule(1, 2)
    assert schedule(1, 2) != schedule(1, 3) != schedule(2, 3)


def test_phones_vanish_at_every_point_of_a_round():
    points = {last_stage(0.5, 1, 0, phone) for phone in range(300)}
    assert points == {
        Stage.NONE, Stage.ADVERTISE, Stage.SHARE, Stage.MASK, Stage.AGREE, Stage.UNMASK
    }  # fmt: skip
