"""Who is there, and who is late: by the hour and the device, and whatever the data."""

import dataclasses
import math

import numpy as np
import pytest

from fedspeech.device.device_classes import DEVICES
from fedspeech.device.virtual_time import (
    CHECK_IN_S,
    PhoneWork,
    TimeAxis,
)
from fedspeech.device.work_policy import WorkPolicy

AXIS = TimeAxis(seed=3, first_round_h=2.0, every_h=1.0, deadline_s=20.0)
WORK = PhoneWork(bytes_up=20_000, bytes_down=30_000, round_trips=6, flops=4e6)


def test_the_smallest_share_of_a_run_is_that_of_its_worst_hour_rounded_down():
    hours = [AXIS.days.share(hour) for hour in range(2, 26)]
    assert AXIS.least_available(24, 400) == math.floor(1000 * min(hours)) / 1000
    assert AXIS.least_available(2, 400) == math.floor(1000 * AXIS.days.share(2.0)) / 1000
    nightly = dataclasses.replace(AXIS, first_round_h=7.0, every_h=24.0)
    shares = [nightly.share_available(number) for number in range(7)]
    assert len({round(share, 9) for share in shares}) == 2  # of work days and of free days
    assert nightly.least_available(7, 400) == math.floor(1000 * min(shares)) / 1000


def test_who_is_there_is_who_may_work_then():
    for number in (0, 13):
        conditions = AXIS.days.conditions(AXIS.called_h(number), range(400))
        allowed = WorkPolicy().allows(conditions)
        assert [AXIS.available(number, phone) for phone in range(400)] == allowed.tolist()


def test_devices_come_in_their_shares():
    assert sum(device.share for device in DEVICES) == 1
    found = [AXIS.device(phone).name for phone in range(2000)]
    for device in DEVICES:
        spread = 5 * math.sqrt(2000 * device.share * (1 - device.share))
        assert abs(found.count(device.name) - 2000 * device.share) < spread


@pytest.mark.slow
def test_the_share_that_is_late_is_the_share_that_the_plan_is_held_to():
    """Five standard deviations of 6,000 phones: a false alarm in 10^6 a deadline."""
    seconds = np.array([AXIS.seconds(WORK, 5, phone) for phone in range(6_000)])
    for deadline_s in (2.5, 4.0, 8.0):
        share = dataclasses.replace(AXIS, deadline_s=deadline_s).share_late(WORK)
        assert 0.01 < share < 0.9
        late = (seconds > deadline_s).sum()
        assert abs(late - 6_000 * share) < 5 * math.sqrt(6_000 * share * (1 - share))


def test_a_deadline_before_anybody_can_start_drops_all():
    assert dataclasses.replace(AXIS, deadline_s=1.0).share_late(WORK) == 1.0


def test_slower_devices_and_more_work_take_longer():
    phones = {device.name: [] for device in DEVICES}
    for phone in range(900):
        phones[AXIS.device(phone).name].append(AXIS.seconds(WORK, 0, phone))
    fast, middling, slow = (np.median(phones[device.name]) for device in DEVICES)
    assert fast < middling < slow
    more = dataclasses.replace(WORK, bytes_up=10 * WORK.bytes_up)
    assert all(AXIS.seconds(more, 0, p) > AXIS.seconds(WORK, 0, p) for p in range(20))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first_round_h": 24.0}, r"first_round_h must be in \[0, 24\), got first_round_h=24"),
        ({"deadline_s": 0.0}, "deadline_s must be positive and finite, got deadline_s=0"),
        ({"deadline_s": math.nan}, "deadline_s must be positive and finite, got deadline_s=nan"),
        ({"every_h": CHECK_IN_S / 3600}, r"every_h must be at least 0\.25\d*, got 0\.25"),
        ({"every_h": math.inf}, "every_h must be positive and finite, got every_h=inf"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(AXIS, **changes)
