"""A plan is filled in safely where nothing was given, or refused with the rule that is broken."""

import math

import pytest

from fedspeech.privacy import binomial_tails
from fedspeech.privacy.filling import fill

BASE = {
    "mechanism": "distributed", "participation": "poisson", "population": 3000,
    "probability": 0.1, "rounds": 40, "noise_multiplier": 3.0, "dimension": 600,
    "secure_aggregation": "ideal",
}  # fmt: skip


def filled(**changes):
    fields = {**BASE, **changes}
    if fields.get("cohort") is not None:
        fields["probability"] = changes.get("probability")
    return fill(**fields).plan


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mechanism": "gaussian"}, "mechanism must be distributed or skellam"),
        ({"participation": "always"}, "participation must be poisson or fixed_size"),
        ({"population": 0}, "population must be an integer from 1"),
        ({"population": 2.5}, "population must be an integer from 1"),
        ({"population": None}, "population must be an integer from 1"),
        ({"rounds": 0}, "rounds must be an integer from 1"),
        ({"rounds": 10**9}, "rounds must be an integer from 1"),
        ({"dimension": -1}, "dimension must be a positive integer"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be positive"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be positive and finite"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be positive"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"ring_bits": 17}, "bits must be one of"),
        ({"delta": math.nan}, "delta must be positive and at most"),
        ({"delta": 0.0}, "delta must be positive and at most"),
        ({"delta": 1 / 3000}, r"delta must be .* at most 1 / \(10 \* population"),
        ({"probability": math.nan}, "probability must be in"),
        ({"probability": 0.0}, "probability must be in"),
        ({"probability": None}, "give either cohort or probability"),
        ({"probability": 0.1, "cohort": 300}, "give either cohort or probability"),
        ({"cohort": 3001}, "cohort must be in"),
        ({"cohort": math.nan}, "cohort must be in"),
        ({"cohort": 30.5, "participation": "fixed_size"}, "needs a whole number of phones"),
        ({"colluders": -1}, "colluders must be an integer"),
        ({"colluders": 200, "min_reporting": 200}, r"colluders must be .* \[0, min_reporting\)"),
        ({"dropout_rate": 1.0}, "dropout_rate must be in"),
        ({"dropout_rate": math.nan}, "dropout_rate must be in"),
        ({"min_reporting": 301}, "min_cohort must be at most 75%"),
        ({"max_participations": 0}, "max_participations must be a positive integer"),
        ({"mechanism": "skellam"}, "poisson participation is refused with skellam noise"),
        ({"cohort_cap": 400, "cohort": 300, "participation": "fixed_size"}, "cohort_cap belongs"),
        ({"cohort_cap": 400, "cohort": 300, "participation": "round_robin"}, "cohort_cap belongs"),
        ({"availability": 0.0}, r"availability must be in \(0, 1\]"),
        ({"availability": math.nan}, r"availability must be in \(0, 1\]"),
        ({"availability": 0.5, "participation": "fixed_size"}, "1 unless participation is poisson"),
        ({"availability": 0.5, "cohort": 1501}, "cohort must be at most the phones"),
        ({"availability": 0.005}, "must be below the honest phones .* expected=1.5"),
        ({"availability": 0.5, "min_reporting": 150}, "must be below the honest"),
        ({"noise_multiplier": 0.01}, "noise of one phone must have stddev >= 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_rule(changes, rule):
    with pytest.raises(ValueError, match=rule):
        filled(**changes)


def test_the_clip_norm_drops_out():
    assert filled(clip_norm=0.01).ring == filled(clip_norm=100.0).ring


def test_a_minimum_that_was_left_out_is_one_that_a_phone_hardly_ever_decides():
    for changes in ({}, {"dropout_rate": 0.2}, {"colluders": 20}, {"population": 10**9,
                    "probability": 1e-6, "rounds": 1000}):  # fmt: skip
        found = filled(**changes)
        expected = found.expected_cohort * (1 - found.dropout_rate)
        assert found.colluders < found.min_reporting <= 0.75 * expected
        assert found.rounds * found.cost.minimum_failure <= 1e-4 * found.delta


def stopped(plan):
    return binomial_tails.max_participations_failure(plan.rounds, 0.1, plan.participations)


def test_a_participation_limit_that_was_left_out_hardly_ever_stops_a_phone():
    found = filled()
    assert found.participations < 40
    assert stopped(found) <= 1e-4 * found.delta
    fewer = filled(max_participations=found.participations - 1)
    assert stopped(fewer) > 1e-4 * fewer.delta


def test_more_coordinates_are_assumed_than_any_adapter_has():
    assert filled(dimension=None).padded_dimension == 16_384


def test_noise_counts_honest_reporting_only():
    found = filled(min_reporting=200, colluders=50)
    assert found.cost.given.shares == 150
    total = found.cost.given.stddev * math.sqrt(150)
    assert total == pytest.approx(3.0 * found.ring.norm, rel=1e-12)


def test_one_phone_decides_no_cohort_of_fixed_size():
    fixed = filled(participation="fixed_size", min_reporting=299)
    assert fixed.cost.minimum_failure == 0.0


def test_one_phone_may_decide_a_limited_round():
    round_robin = {"participation": "round_robin", "cohort": 20, "max_participations": 3}
    assert filled(**round_robin, min_reporting=19).cost.minimum_failure == 0.0
    assert filled(**round_robin, min_reporting=20).cost.minimum_failure == 1.0
    assert filled(**round_robin, min_reporting=19, colluders=1).cost.minimum_failure == 1.0
    with_dropouts = filled(**round_robin, min_reporting=15, dropout_rate=0.2).cost.minimum_failure
    rates = (1 - 0.2 / 3, 0.8)  # a third of those who never send never reach the cohort list
    pivotal = sum(math.comb(19, 14) * rate**14 * (1 - rate) ** 5 for rate in rates)
    assert with_dropouts == pytest.approx(pivotal, rel=1e-9)
