"""Solving inverts pricing: the answer meets epsilon, and a little more does not."""

import functools
import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedspeech.privacy.pricing import price
from fedspeech.privacy.solving import solve
from fedspeech.privacy.terms import Terms

BASE = {
    "mechanism": "distributed", "participation": "poisson", "population": 100_000,
    "cohort": 1000, "rounds": 100, "noise_multiplier": 1.0, "dimension": 600,
}  # fmt: skip


def maker(*without, **changes):
    fields = {**BASE, **changes}
    return functools.partial(Terms, **{k: v for k, v in fields.items() if k not in without})


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


COMBINATIONS = [
    slow("central", "poisson"), slow("central", "fixed_size"), slow("central", "limited"),
    ("distributed", "poisson"), ("distributed", "fixed_size"), ("distributed", "limited"),
    ("skellam", "fixed_size"), ("skellam", "limited"),
    slow("local", "poisson"), slow("local", "fixed_size"), slow("local", "limited"),
]  # fmt: skip


@pytest.mark.parametrize(("mechanism", "participation"), COMBINATIONS)
def test_the_noise_that_was_found_is_just_enough(mechanism, participation):
    make = maker("noise_multiplier", mechanism=mechanism, participation=participation,
                 max_participations=8)  # fmt: skip
    found = solve(make, "noise", 2.0)
    noise = found.terms.noise_multiplier
    assert found.release.epsilon <= 2.0
    assert price(make(noise_multiplier=noise)).release.epsilon == found.release.epsilon
    assert price(make(noise_multiplier=noise * 0.998)).release.epsilon > 2.0


@pytest.mark.parametrize(
    ("mechanism", "participation"),
    [slow("central", "poisson"), slow("central", "fixed_size"), ("distributed", "poisson"),
     ("skellam", "fixed_size"), ("local", "poisson")],
)  # fmt: skip
def test_one_round_more_is_too_many(mechanism, participation):
    noise = 0.1 if mechanism == "local" else 2.0
    make = maker("rounds", mechanism=mechanism, participation=participation,
                 noise_multiplier=noise)  # fmt: skip
    found = solve(make, "rounds", 2.5)
    assert found.release.epsilon <= 2.5
    assert price(make(rounds=found.terms.rounds + 1)).release.epsilon > 2.5


@pytest.mark.parametrize(
    "mechanism", [pytest.param("central", marks=pytest.mark.slow), "distributed"]
)
def test_one_phone_more_is_too_many(mechanism):
    make = maker("cohort", mechanism=mechanism)
    found = solve(make, "cohort", 1.5)
    cohort = found.terms.cohort
    assert found.release.epsilon <= 1.5
    assert price(make(cohort=cohort + 1)).release.epsilon > 1.5


def test_the_narrowest_ring_is_found():
    make = maker("bits", cohort=1000)
    free = price(make()).terms.ring
    found = solve(make, "bits", 3.0)
    assert found.terms.bits <= free.bits
    tight = solve(make, "bits", price(make(bits=24)).release.epsilon * 1.0001)
    assert tight.terms.bits == min(24, tight.terms.bits)


def test_the_servers_epsilon_can_be_asked_for():
    make = maker("noise_multiplier")
    found = solve(make, "noise", 4.0, against="server")
    assert 3.98 < found.server.epsilon <= 4.0
    with pytest.raises(ValueError, match="no noise is enough"):
        solve(maker("noise_multiplier", mechanism="central"), "noise", 4.0, against="server")


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_no_bound_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be positive and finite"):
        solve(maker("rounds"), "rounds", epsilon)


def test_what_cannot_be_met_says_how_near_it_came():
    with pytest.raises(ValueError, match=r"not even one round .* nearest epsilon_release is"):
        solve(maker("rounds", noise_multiplier=0.5), "rounds", 1e-4)
    wide = maker("noise_multiplier", dimension=2**20, population=3000, cohort=100)
    with pytest.raises(ValueError, match="no noise is enough"):
        solve(wide, "noise", 0.5)


def test_a_rule_that_forbids_every_candidate_is_named():
    with pytest.raises(ValueError, match="poisson participation is refused with skellam"):
        solve(maker("noise_multiplier", mechanism="skellam"), "noise", 1.0)
    with pytest.raises(ValueError, match="bits belongs to noise on phones"):
        solve(maker("bits", mechanism="central"), "bits", 1.0)
    with pytest.raises(ValueError, match="unknown must be one of"):
        solve(maker("rounds"), "clip", 1.0)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.9, 6.0),
    st.integers(200, 5000),
    st.integers(1, 300),
    st.sampled_from(["poisson", "fixed_size"]),
)
def test_solving_for_noise_inverts_pricing(noise, cohort, rounds, participation):
    make = maker("noise_multiplier", cohort=cohort, rounds=rounds, participation=participation,
                 min_survivors=cohort // 2, max_participations=40)  # fmt: skip
    target = price(make(noise_multiplier=noise)).release.epsilon
    assume(math.isfinite(target))  # too little noise for so many rounds has no bound to invert
    found = solve(make, "noise", target)
    assert found.release.epsilon <= target
    assert found.terms.noise_multiplier <= noise * 1.001
