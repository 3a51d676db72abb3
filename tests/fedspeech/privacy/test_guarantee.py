import dataclasses
import itertools
import math
import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspeech.privacy import accountant
from fedspeech.privacy.guarantee import price
from fedspeech.privacy.phrasing import judgment, paragraphs
from fedspeech.privacy.plan import PrivacyPlan

PLAN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=600, clip_norm=0.1, noise_multiplier=3.0, population=3000,
    participation_probability=0.1, rounds=40, max_participations=18, min_cohort=215,
    min_reporting=215,
    delta=1 / 30_000, epsilon_budget=2.0,
)  # fmt: skip
NONE = dataclasses.replace(PLAN, mechanism="none", noise_multiplier=0.0, epsilon_budget=math.inf)


def change(**changes):
    return dataclasses.replace(PLAN, **changes)


@pytest.mark.parametrize(("dimension", "expected"), [(1024, 0.9520), (4096, 1.1117)])
def test_epsilon_of_a_plan_is_that_of_its_noise_plus_the_cost_of_rounding(dimension, expected):
    """At sensitivity C a separate program gave .9494 and 1.1094; rounding adds 0.2 % to C."""
    found = change(dimension=dimension).guarantee(40)
    assert found.relation_release == "add/remove"
    assert found.epsilon_release == pytest.approx(expected, abs=5e-4)


def test_the_server_is_priced_at_the_participation_limit_and_without_amplification():
    guarantee = PLAN.guarantee(40)
    assert guarantee.epsilon_server == pytest.approx(
        accountant.epsilon(18 * accountant.rdp(PLAN.cost.given), PLAN.delta), rel=1e-9
    )
    assert guarantee.epsilon_server == PLAN.guarantee(30).epsilon_server
    assert PLAN.guarantee(5).epsilon_server == pytest.approx(
        accountant.epsilon(5 * accountant.rdp(PLAN.cost.given), PLAN.delta), rel=1e-9
    )
    assert guarantee.relation_server == "zero-out"
    assert guarantee.epsilon_server > guarantee.epsilon_release


def test_epsilons_grow_with_rounds_and_start_at_zero():
    guarantees = [PLAN.guarantee(rounds) for rounds in range(41)]
    assert guarantees[0].epsilon_release == guarantees[0].epsilon_server == 0.0
    release = [g.epsilon_release for g in guarantees]
    assert all(a < b for a, b in itertools.pairwise(release))


def test_bad_events_are_paid_out_of_delta_times_e_to_the_epsilon():
    guarantee = PLAN.guarantee(40)
    mass = guarantee.failure_probability
    assert 0 < math.exp(guarantee.epsilon_release) * mass < PLAN.delta / 10
    curve = 40 * accountant.rdp(PLAN.cost.release)
    spent = accountant.epsilon(curve, PLAN.delta - math.exp(guarantee.epsilon_release) * mass)
    assert guarantee.epsilon_release >= spent  # delta is the printed one, all included
    assert guarantee.epsilon_release > accountant.epsilon(curve, PLAN.delta)
    assert guarantee.delta == PLAN.delta


@pytest.mark.parametrize(
    "changes",
    [
        {"max_participations": 12},  # P[Bin(40, .1) > 12] = 8e-5
        {"min_cohort": 225, "min_reporting": 225, "max_participations": 14},
        # 1.0e-6 is under delta / 10 = 3.3e-6, but e^1.28 times that is not.
        {"min_cohort": 225, "min_reporting": 225, "dimension": 8192},
        {"dropout_rate": 0.2},
    ],
)
def test_without_room_for_bad_events_there_is_no_amplification_and_no_smaller_number(changes):
    plan = change(**changes)
    guarantee = plan.guarantee(40)
    assert guarantee.relation_release == "zero-out"
    assert guarantee.epsilon_release == guarantee.epsilon_server
    assert guarantee.epsilon_release > PLAN.guarantee(40).epsilon_release
    assert "exceeds a tenth of delta" in guarantee.reason
    assert "counting on no sampling" in paragraphs(guarantee)


def test_a_reader_who_sees_less_than_the_server_pays_no_more():
    """Few shares, many coordinates: what is withdrawn promised more, and was 100 times as large."""
    plan = change(
        dimension=8000, max_participations=1, min_cohort=40, min_reporting=40, noise_multiplier=20.0
    )
    guarantee = plan.guarantee(40)
    withdrawn = accountant.epsilon(40 * accountant.rdp(plan.cost.release), plan.delta)
    assert guarantee.relation_release == guarantee.relation_server == "zero-out"
    assert guarantee.epsilon_release <= guarantee.epsilon_server < withdrawn


@pytest.mark.parametrize("mechanism", ["distributed", "skellam", "local"])
@pytest.mark.parametrize("participation", ["poisson", "fixed_size", "round_robin"])
@pytest.mark.parametrize("max_participations", [4, 40])
def test_a_reader_never_pays_more_than_the_server_for_the_same_promise(
    mechanism, participation, max_participations
):
    if (mechanism, participation) == ("skellam", "poisson"):
        return
    plan = change(
        mechanism=mechanism, participation=participation, noise_multiplier=0.7,
        max_participations=max_participations,
    )  # fmt: skip
    guarantee = plan.guarantee(40)
    implied = {"zero-out": {"zero-out", "replace"}, "replace": {"replace"}}
    if guarantee.relation_server in implied.get(guarantee.relation_release, set()):
        assert guarantee.epsilon_release <= guarantee.epsilon_server


def test_a_judgment_in_words_tells_a_small_epsilon_from_a_large_one():
    said = [judgment(epsilon).split(" (")[0] for epsilon in (0.1, 1.0, 1.01, 10.0, 14.0)]
    assert said == ["strong", "strong", "reasonable", "reasonable", "weak by itself"]
    assert "2.7 at most" in judgment(0.98)
    assert "1.3e+06" in judgment(14.0)
    assert judgment(math.inf) == "no protection"
    assert judgment(1e5)  # no overflow
    words = paragraphs(PLAN.guarantee(40))
    assert "strong (the odds" in words
    assert "reasonable (the odds" in words


def test_who_must_be_honest_is_said_in_one_short_sentence():
    for changes in ({}, {"secure_aggregation": "masked"}, {"participation": "round_robin"},
                    {"secure_aggregation": "masked", "threat_model": "semi_honest"},
                    {"mechanism": "central"}, {"mechanism": "local"}):  # fmt: skip
        trust = change(**changes).trust
        assert len(trust.split()) <= 60
        assert trust.count(".") == 1


def test_no_probability_is_above_one():
    guarantee = change(
        max_participations=1, dropout_rate=0.3, min_cohort=200, min_reporting=200
    ).guarantee(40)
    assert guarantee.relation_release == "zero-out"
    assert guarantee.failure_probability <= 1
    assert "e+0" not in guarantee.reason.replace("1.0e+00", "")


def test_minimum_of_three_quarters_is_accounted_and_of_four_fifths_refused():
    assert change(min_cohort=225, min_reporting=225).guarantee(40).relation_release == "add/remove"
    with pytest.raises(ValueError, match="min_cohort must be at most 75%"):
        change(min_cohort=240, min_reporting=240)


def test_without_noise_both_are_infinite_and_the_words_say_so_loudly():
    guarantee = NONE.guarantee(1)
    assert guarantee.epsilon_release == guarantee.epsilon_server == math.inf
    assert guarantee.relation_release == guarantee.relation_server == "none"
    assert paragraphs(guarantee).startswith("NO PRIVACY GUARANTEE")


def test_words_name_adversaries_unit_relation_delta_trust_and_what_is_simulated():
    words = paragraphs(PLAN.guarantee(40))
    for part in (
        "epsilon_release = 0.9", "epsilon_server = 6.", "3.34e-05", "40 rounds", "18 times",
        "add/remove", "zero-out", "215 phones of every sum", "one user", "one device", "simulated",
        "dp-accounting",
    ):  # fmt: skip
        assert part in words


def test_words_never_print_a_smaller_epsilon_than_the_one_they_stand_for():
    guarantee = dataclasses.replace(PLAN.guarantee(40), epsilon_release=0.9381, epsilon_server=2.0)
    words = paragraphs(guarantee)
    assert "epsilon_release = 0.939 at" in words
    assert "epsilon_server = 2.000 at" in words


def test_half_a_plan_twice_is_the_plan():
    cost = PLAN.cost
    twice = price([(cost, 9), (cost, 9)], PLAN, trust="x")
    once = price([(cost, 18)], PLAN, trust="x")
    # Two runs of the plan may abandon twice as many rounds.
    assert twice.epsilon_release == pytest.approx(once.epsilon_release, rel=1e-3)
    assert twice.epsilon_server == pytest.approx(once.epsilon_server, rel=1e-9)


def test_less_than_no_rounds_is_refused():
    with pytest.raises(ValueError, match="rounds must not be negative"):
        PLAN.guarantee(-1)


def test_a_guarantee_takes_well_under_a_second():
    plan = change(rounds=500, noise_multiplier=4.0, max_participations=90)
    plan.guarantee(1)
    started = time.process_time()
    for rounds in np.linspace(1, 500, 25).astype(int):
        plan.guarantee(int(rounds))
    assert time.process_time() - started < 2.5


@given(st.floats(1e-3, 700.0))
def test_the_factor_of_a_judgment_is_never_below_what_it_may_be(epsilon):
    said = float(re.search(r"factor of (\S+) at most", judgment(epsilon))[1].replace(",", ""))
    assert math.exp(epsilon) <= said * (1 + 1e-12) <= 1.2 * math.exp(epsilon) + 0.1
