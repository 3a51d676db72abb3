"""A risk policy: what it asks, what that saves, and what it costs users."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import stats

from fedspeech.device import risk_policy
from fedspeech.device.risk_policy import Guard, RiskPolicy, measured
from fedspeech.device.simulated_user import SimulatedUsers
from fedspeech.device.telemetry import telemetry_schema
from fedspeech.device.user_rates import UserRates
from fedspeech.errors import ScenarioError

WORDS = ("call", "play", "stop")
DOCUMENT = {
    "intents": {"high": ["call"]},
    "high": {"confirm": True, "unlock": True, "idle_threshold": 0.8},
    "low": {"idle_threshold": 0.7},
}
FALSE_ALARM = 1e-6


@functools.cache
def effects():
    schema = telemetry_schema(WORDS)
    attributes = np.zeros((2_000, len(schema.attributes)), dtype=np.int16)
    users = SimulatedUsers(schema, attributes, UserRates(days=5, false_accepts_per_day=1.0), 1)
    return {
        (one.risk, one.measures): one for one in measured(RiskPolicy.read(DOCUMENT, WORDS), users)
    }


def test_each_measure_is_counted_alone_and_all_together():
    all_of_high = ("idle_threshold", "unlock", "confirm")
    assert list(effects()) == [
        ("low", ()), ("low", ("idle_threshold",)),
        ("high", ()), *(("high", (one,)) for one in all_of_high), ("high", all_of_high),
    ]  # fmt: skip
    assert {one.phone_days for one in effects().values()} == {10_000}
    assert effects()["low", ()].intents == 2


def test_without_measures_every_accepted_moment_acts():
    for risk in ("low", "high"):
        nothing = effects()[risk, ()]
        assert nothing.lost == nothing.slowed == 0
    # The rate of false accepts, and the share of risky words among them: one of three.
    hours = 14 / 24  # of a day, on average
    every = sum(effects()[risk, ()].false_accepts for risk in ("low", "high"))
    assert every == pytest.approx(10_000 * hours, rel=0.1)
    assert stats.binomtest(effects()["high", ()].false_accepts, every, 1 / 3).pvalue > FALSE_ALARM


def test_unlocking_and_confirming_stop_their_shares_of_false_accepts():
    before = effects()["high", ()]
    for measure, share in (
        ("unlock", risk_policy.UNLOCKED[False]), ("confirm", risk_policy.CONFIRMED_BY_MISTAKE)
    ):  # fmt: skip
        after = effects()["high", (measure,)]
        left = stats.binomtest(after.false_accepts, before.false_accepts, share)
        assert left.pvalue > FALSE_ALARM, measure
        assert after.accepted == before.accepted


def test_all_measures_together_stop_more_than_each_alone():
    together = effects()["high", ("idle_threshold", "unlock", "confirm")]
    for measure in ("idle_threshold", "unlock", "confirm"):
        alone = effects()["high", (measure,)]
        assert together.false_accepts <= alone.false_accepts < effects()["high", ()].false_accepts
        assert together.lost >= alone.lost


def test_each_measure_costs_users_what_it_asks():
    lost = {measure: effects()["high", (measure,)] for measure in risk_policy.MEASURES}
    assert lost["idle_threshold"].slowed == 0 < lost["idle_threshold"].lost
    assert lost["unlock"].lost == 0 < lost["unlock"].slowed
    assert lost["confirm"].slowed == 1
    assert lost["confirm"].lost == pytest.approx(risk_policy.NOT_CONFIRMED, abs=0.02)
    assert lost["unlock"].slowed == pytest.approx(1 - risk_policy.UNLOCKED[True], abs=0.03)


def test_a_guard_of_one_measure_asks_nothing_else():
    guard = Guard(confirm=True, idle_threshold=0.9)
    assert guard.measures == ("idle_threshold", "confirm")
    assert dataclasses.astuple(Guard()) == (False, False, 0.0)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"severe": {}}, "severe"),
        ({"intents": {"highest": ["call"]}}, "highest"),
        ({"intents": {"high": ["open the door"]}}, "open the door"),
        ({"intents": {"high": ["call"], "medium": ["call"]}}, "call"),
        ({"high": {"ask_twice": True}}, "ask_twice"),
        ({"high": {"idle_threshold": 1.5}}, "idle_threshold"),
        ({"high": {"idle_threshold": 1.0}}, "below 1"),
        ({"high": {"idle_threshold": "0.8"}}, "idle_threshold"),
        ({"high": {"confirm": "yes"}}, "confirm"),
    ],
)
def test_what_a_policy_cannot_say_is_refused_by_name(change, named):
    with pytest.raises(ScenarioError, match=named):
        RiskPolicy.read({**DOCUMENT, **change}, WORDS)
