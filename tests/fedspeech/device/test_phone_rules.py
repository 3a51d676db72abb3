"""Consent and clips of a population: shares as stated, one phone as in a million, no way back."""

import dataclasses
import math

import numpy as np
import pytest

from fedspeech.device.phone_rules import PhoneRules
from fedspeech.device.virtual_time import TimeAxis
from fedspeech.device.work_policy import WorkPolicy

RULES = PhoneRules(consent_rate=0.6, revoked_a_day=0.05, captures_a_day=2.0, clip_days=3.0)
AXIS = TimeAxis(seed=4, every_h=24.0, rules=RULES)
PHONES = 20_000


def test_as_many_agree_and_still_do_as_the_rates_say():
    """Five standard deviations: a false alarm in 10^6 a day."""
    for day in (0, 1, 10, 40):
        share = 0.6 * 0.95**day
        found = RULES.consented(1, 24.0 * day + 2, range(PHONES)).sum()
        assert abs(found - PHONES * share) < 5 * math.sqrt(PHONES * share * (1 - share))


def test_a_consent_that_was_taken_back_is_not_given_again():
    before = RULES.consented(1, 0.0, range(PHONES))
    for hour in (23.9, 24.0, 77.0, 500.0):
        now = RULES.consented(1, hour, range(PHONES))
        assert (now <= before).all()
        before = now
    some = [PHONES - 1, 3, 3]
    np.testing.assert_array_equal(RULES.consented(1, 500.0, some), before[some])


def test_a_phone_holds_the_clips_of_its_days_to_live_and_no_older_one():
    """Two a day for three days are six of forty; each is held for three days and then erased."""
    hours = np.arange(0, 24 * 60, 3.0)
    held = [set(RULES.held(1, hour, phone=7, clips=40).tolist()) for hour in hours]
    assert {len(one) for one in held} == {6}
    stay = [sum(clip in one for one in held) * 3 for clip in range(40)]
    # Of 60 days, in which a clip is captured every twentieth day.
    assert all(abs(one - 3 * 3 * 24) <= 3 * 24 + 9 for one in stay)
    for earlier, later in zip(held, held[24:], strict=False):  # 72 hours apart
        assert not earlier & later


def test_without_captures_or_with_few_clips_a_phone_holds_all():
    everything = PhoneRules().held(1, 5.0, phone=1, clips=9)
    np.testing.assert_array_equal(everything, np.arange(9))
    np.testing.assert_array_equal(RULES.held(1, 5.0, phone=1, clips=5), np.arange(5))
    assert RULES.held(1, 5.0, phone=1, clips=0).size == 0


def test_a_plan_may_count_on_those_who_agreed_and_may_work_in_the_worst_round():
    least = AXIS.least_available(8, 1000)
    there = [
        AXIS.share_available(number) * RULES.consented(4, AXIS.called_h(number), range(1000)).mean()
        for number in range(8)
    ]
    assert least == math.floor(1000 * min(there)) / 1000 < 0.25
    assert least < dataclasses.replace(AXIS, rules=PhoneRules()).least_available(8, 1000)


def test_who_is_there_has_agreed_and_may_work():
    hour = AXIS.called_h(3)
    expected = RULES.consented(4, hour, range(500)) & WorkPolicy().allows(
        AXIS.days.conditions(hour, range(500))
    )
    np.testing.assert_array_equal(AXIS.there(3, range(500)), expected)
    assert [AXIS.available(3, phone) for phone in range(500)] == expected.tolist()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"consent_rate": 0.0}, r"consent_rate must be .*got consent_rate=0"),
        ({"consent_rate": math.nan}, "consent_rate"),
        ({"revoked_a_day": 1.0}, "revoked_a_day"),
        ({"captures_a_day": 0.0}, "captures_a_day must be positive and finite or None"),
        ({"clip_days": math.inf}, "clip_days"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        PhoneRules(**changes)
