"""Days of phones: shares that a formula knows, the published factor, one phone as in a million."""

import math
import time

import numpy as np
import pytest

from fedspeech.device.day_model import DayModel
from fedspeech.device.device_classes import DEVICES
from fedspeech.device.work_policy import Conditions, WorkPolicy

DAYS = DayModel(seed=3)
WEEK = range(7 * 24)


def test_as_many_may_work_as_the_formula_says_at_every_hour_of_a_week():
    """Five standard deviations of 20,000 phones: a false alarm in 10^6 an hour."""
    phones = 20_000
    for hour in np.arange(0.25, 168, 4.9):
        share = DAYS.share(hour)
        found = WorkPolicy().allows(DAYS.conditions(hour, range(phones))).sum()
        assert abs(found - phones * share) < 5 * math.sqrt(phones * share * (1 - share)), hour


WAIVED = (
    {"wifi": False}, {"charging": False}, {"idle": False}, {"charging": False, "idle": False},
    {"wifi": False, "charging": False, "idle": False, "least_battery": 0.8},
    {"charging": False, "least_battery": 0.0},
)  # fmt: skip


@pytest.mark.parametrize("waived", WAIVED, ids=str)
def test_so_many_may_work_under_any_policy(waived):
    """Five standard deviations of 20,000 phones: a false alarm in 10^6 an hour."""
    phones, policy = 20_000, WorkPolicy(**waived)
    for hour in (3.0, 9.3, 15.2, 23.0, 130.5):
        share = DAYS.share(hour, policy)
        found = policy.allows(DAYS.conditions(hour, range(phones))).sum()
        assert abs(found - phones * share) < 5 * math.sqrt(phones * share * (1 - share)) + 1


def test_night_and_day_differ_by_the_published_factor():
    """Bonawitz et al. (2019), section 9: a factor of 4 within 24 hours."""
    for day in (1, 4, 5):  # followed by a work day, by a free day, by a free day after one
        shares = [DAYS.share(24 * day + hour / 2) for hour in range(24, 72)]
        assert max(shares) / min(shares) == pytest.approx(4, abs=0.25)
        assert max(shares) == pytest.approx(0.41, abs=0.02)


def test_free_days_begin_later_and_classes_differ():
    tuesday, saturday = DAYS.share(24 + 8), DAYS.share(5 * 24 + 8)
    assert saturday > 1.4 * tuesday
    conditions, classes = DAYS.conditions(27, range(30_000)), DAYS.classes(range(30_000))
    there = WorkPolicy().allows(conditions)
    fast, middling, slow = (there[classes == c].mean() for c in range(3))
    assert fast > middling + 0.05
    assert middling > slow + 0.05
    for number, device in enumerate(DEVICES):
        spread = 5 * math.sqrt(device.share * (1 - device.share) / 30_000)
        assert abs((classes == number).mean() - device.share) < spread


def test_one_phone_is_what_it_is_among_a_million():
    for hour in (3.0, 15.0, 22.4, 7.3, 171.2):
        many, some = DAYS.conditions(hour, range(5000)), [4999, 0, 17, 17]
        few, part = DAYS.conditions(hour, some), DAYS.conditions(hour, range(4990, 5000))
        for name in Conditions.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(many, name)[some], getattr(few, name))
            np.testing.assert_array_equal(getattr(many, name)[4990:], getattr(part, name))


def test_conditions_hang_together():
    for hour in np.arange(0, 48, 0.7):
        now = DAYS.conditions(hour, range(3000))
        assert not (now.idle & now.speaking).any()
        assert ((now.battery >= 0.1) & (now.battery <= 1)).all()
        assert (now.battery[now.charging] >= 0.5).all()
        assert now.cool[~now.charging].all()
        strict = WorkPolicy().allows(now)
        for name in ("wifi", "charging", "idle"):
            assert (strict <= getattr(now, name)).all()
            loose = WorkPolicy(**{name: False}).allows(now)
            assert (strict <= loose).all()


def test_a_phone_that_has_worked_its_minutes_works_no_more():
    now = DAYS.conditions(27.0, range(1000))
    worked = np.where(np.arange(1000) % 2, 1799.0, 1800.0)
    allowed = WorkPolicy().allows(now, worked)
    assert not allowed[::2].any()
    np.testing.assert_array_equal(allowed[1::2], WorkPolicy().allows(now)[1::2])


@pytest.mark.slow
def test_a_million_phones_take_at_most_two_cpu_seconds():
    begin = time.process_time()
    allowed = WorkPolicy().allows(DAYS.conditions(27.0, range(1_000_000)))
    assert time.process_time() - begin < 2
    assert 0.3 < allowed.mean() < 0.5
