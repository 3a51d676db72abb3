"""Numbers and promises are written so that nobody reads more into them than holds."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.privacy.phrasing import scientific_up
from simulations.report import phrasing
from simulations.results.summary import Utility


@given(st.floats(min_value=1e-3, max_value=1e4))
def test_printed_epsilon_never_promises_more_than_was_proven(value):
    printed = float(phrasing.epsilon(value).replace(",", ""))
    assert printed >= value
    assert printed <= value + 0.1001


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (0.938, "0.94"),
        (0.94, "0.94"),
        (0.0, "0.00"),
        (10.01, "10.1"),
        (0.9400000000001, "0.95"),
        (9.999, "10.00"),
        (12345.6, "12,345.6"),
        (math.inf, "∞"),
    ],
)
def test_epsilon_is_rounded_up(value, printed):
    assert phrasing.epsilon(value) == printed


def test_delta_says_its_odds():
    assert phrasing.delta(1 / 30_000) == "3.4 × 10⁻⁵ (1 in 30,000)"
    assert phrasing.delta(1e-6) == "1.0 × 10⁻⁶ (1 in 1,000,000)"
    assert phrasing.delta(0) == "0"


@given(st.floats(min_value=1e-300, max_value=0.5))
def test_a_printed_delta_is_never_below_what_was_proven(value):
    for digits in (1, 2):
        printed = float(scientific_up(value, digits))
        assert value <= printed <= value * (1 + 1.0001 * 10**-digits)
    figure, _, odds = phrasing.delta(value).partition(" (1 in ")
    mantissa, power = figure.split(" × 10")
    power = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    assert float(f"{mantissa}e{power}") >= value
    assert int(odds.rstrip(")").replace(",", "")) <= 1 / value


@pytest.mark.parametrize(
    ("value", "printed"),
    [(1e-5, "1.00e-05"), (1 / 120, "8.34e-03"), (9.999e-6, "1.00e-05"), (0.0, "0.00e+00")],
)
def test_a_delta_of_few_digits_stays_as_it_is(value, printed):
    assert scientific_up(value) == printed


@pytest.mark.parametrize(
    ("change", "printed"), [(0.098, "+9.8"), (-0.0123, "−1.2"), (0.0004, "±0.0"), (-1e-9, "±0.0")]
)
def test_points_carry_a_sign(change, printed):
    assert phrasing.points(change) == printed


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [(1.234, "1.2 s"), (41, "41 s"), (119.7, "2 min 00 s"), (601, "10 min 01 s")],
)
def test_durations_are_readable(seconds, printed):
    assert phrasing.duration(seconds) == printed


@pytest.mark.parametrize(
    ("num_bytes", "printed"), [(999, "999 B"), (8_192, "8.2 kB"), (4_815_814, "4.8 MB")]
)
def test_sizes_are_readable(num_bytes, printed):
    assert phrasing.size(num_bytes) == printed


def test_each_promise_names_its_observer_and_its_odds(example):
    release, server = phrasing.promises(example.account(1.0).guarantee)
    assert "neither the server nor a member of a cohort" in release.says
    assert "2.56" in release.says
    assert "in 15 rounds" in server.says
    assert "498" in server.says
    assert "that it took part is not hidden" in server.relation


def test_infinite_and_huge_epsilons_are_no_protection(example):
    nothing, huge = phrasing.promises(
        example.account(1.0, epsilon_release=math.inf, epsilon_server=45.0).guarantee
    )
    assert not nothing.finite
    assert "Nothing is promised" in nothing.says
    assert "no protection to speak of" in huge.says


def test_simulated_sum_is_called_so_and_a_plain_one_too(example):
    ideal = " ".join(phrasing.caveats(example.account(1.0)))
    plain = " ".join(phrasing.caveats(example.account(1.0, mechanism="local")))
    masked = " ".join(phrasing.caveats(example.account(1.0, secure_aggregation="masked")))
    assert "The secure sum is simulated here (ideal)" in ideal
    assert "The server sees every vector" in plain
    assert "no secure sum is counted on" in plain
    assert "simulated here" not in masked
    assert "a server that lies" in masked
    semi_honest = " ".join(
        phrasing.caveats(
            example.account(1.0, secure_aggregation="masked", threat_model="semi_honest")
        )
    )
    assert "not for one that lies" in semi_honest
    assert "plays both sides, so the protocol ran, and kept nothing from this machine" in masked


def test_unknown_relation_is_printed_as_it_is(example):
    release, _ = phrasing.promises(example.account(1.0, relation_release="replace-two").guarantee)
    assert release.relation == "replace-two"


def test_collapse_says_what_was_tested_and_is_not_said_where_phones_gained(example):
    fallen = Utility(
        base=0.97, federated=0.6, clips=224, signal_to_noise=0.1, collapsed=True, by_noise=0.55
    )
    gained = example.summary(utility=fallen)
    found = gained.section("error").by_model()
    assert found["federated"].value < found["base"].value
    assert phrasing.collapse(gained) == ""
    lost = example.errors(federated=0.5)
    text = phrasing.collapse(example.changed_sections(gained, lost))
    for part in ("97.0 %", "60.0 %", "55.0 %", "three standard errors", "20 draws"):
        assert part in text
    calm = fallen.model_copy(update={"collapsed": False})
    unharmed = example.changed_sections(example.summary(utility=calm), lost)
    assert phrasing.collapse(unharmed) == ""
