"""A personal adapter is dropped at the age that the policy names, and only then."""

import pytest

from fedspeech.rollout.drift import ResetPolicy


def test_an_adapter_is_dropped_at_its_age_and_when_its_age_cannot_be_told():
    policy = ResetPolicy(30)
    assert [policy.drops(100, today) for today in (99, 100, 129, 130, 500)] == [
        True, False, False, True, True
    ]  # fmt: skip
    assert not ResetPolicy(None).drops(0, 10**6)
    with pytest.raises(ValueError, match="after_days must be at least 1"):
        ResetPolicy(0)
