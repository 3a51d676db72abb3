"""Every combination is priced or refused with its rule; what was left out is filled in safely."""

import math

import pytest

from fedspeech.privacy import bad_events
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.privacy.pricing import price
from fedspeech.privacy.terms import Terms

BASE = {
    "mechanism": "distributed", "participation": "poisson", "population": 3000,
    "probability": 0.1, "rounds": 40, "noise_multiplier": 3.0, "dimension": 600,
}  # fmt: skip


def terms(**changes):
    fields = {**BASE, **changes}
    if fields.get("cohort") is not None:
        fields["probability"] = changes.get("probability")
    return Terms(**fields)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"mechanism": "gaussian"}, "mechanism must be one of"),
        ({"participation": "always"}, "participation must be one of"),
        ({"population": 0}, "population must be an integer from 1"),
        ({"population": 2.5}, "population must be an integer from 1"),
        ({"population": None}, "population must be an integer from 1"),
        ({"rounds": 0}, "rounds must be an integer from 1"),
        ({"rounds": 10**9}, "rounds must be an integer from 1"),
        ({"dimension": -1}, "dimension must be an integer from 1"),
        ({"noise_multiplier": math.nan}, "noise_multiplier must be finite"),
        ({"noise_multiplier": -1.0}, "noise_multiplier must be finite and not negative"),
        ({"noise_multiplier": math.inf}, "noise_multiplier must be finite"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"bits": 17}, "bits must be one of"),
        ({"delta": math.nan}, "delta must be in"),
        ({"delta": 0.0}, "delta must be in"),
        ({"delta": 1 / 3000}, "delta must be below 1 / population"),
        ({"probability": math.nan}, "probability must be in"),
        ({"probability": 0.0}, "probability must be in"),
        ({"probability": None}, "give either cohort or probability"),
        ({"probability": 0.1, "cohort": 300}, "give either cohort or probability"),
        ({"cohort": 3001}, "cohort must be in"),
        ({"cohort": math.nan}, "cohort must be in"),
        ({"cohort": 30.5, "participation": "fixed_size"}, "needs a whole number of phones"),
        ({"probability": 0.0333, "participation": "fixed_size"}, "needs a whole number"),
        ({"participation": "limited"}, "limited participation counts on no probability"),
        ({"colluders": -1}, "colluders must be an integer"),
        ({"colluders": 200, "min_survivors": 200}, "colluders must be fewer than min_survivors"),
        ({"dropout_rate": 1.0}, "dropout_rate must be in"),
        ({"dropout_rate": math.nan}, "dropout_rate must be in"),
        ({"min_survivors": 301}, "min_survivors must be at most the expected cohort"),
        ({"max_participations": 0}, "max_participations must be an integer"),
        ({"mechanism": "skellam"}, "poisson participation is refused with skellam noise"),
        ({"cohort_cap": 400, "cohort": 300, "participation": "fixed_size"}, "cohort_cap belongs"),
        ({"cohort_cap": 400, "cohort": 300, "participation": "limited"}, "cohort_cap belongs"),
        ({"availability": 0.0}, r"availability must be in \(0, 1\]"),
        ({"availability": math.nan}, r"availability must be in \(0, 1\]"),
        ({"availability": 0.5, "participation": "fixed_size"}, "1 unless participation is poisson"),
        ({"availability": 0.5, "cohort": 1501}, "cohort must be at most the phones"),
        ({"availability": 0.005}, "min_survivors must be below the honest phones .* expected=1.5"),
        ({"availability": 0.5, "min_survivors": 150}, "min_survivors must be below the honest"),
        ({"bits": 16, "mechanism": "central"}, "bits belongs to noise on phones"),
        ({"noise_multiplier": 0.01}, "noise of one phone must have stddev >= 2"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_rule(changes, rule):
    with pytest.raises(ValueError, match=rule):
        terms(**changes)


def test_a_plan_that_runs_is_a_case_of_these():
    """Same ring, same noise, same events and bad events as the plan that a run obeys."""
    for dimension, z, survivors, dropout in ((600, 3.0, 215, 0.0), (5140, 1.0, 150, 0.1)):
        plan = PrivacyPlan(
            dimension=dimension, clip_norm=0.1, noise_multiplier=z, population=3000,
            participation_probability=0.1, rounds=40, quota=18, min_cohort=survivors,
            min_survivors=survivors, colluders=3, dropout_rate=dropout, delta=1 / 30_000,
            epsilon_budget=100.0,
        )  # fmt: skip
        found = terms(
            dimension=dimension, noise_multiplier=z, min_survivors=survivors, colluders=3,
            dropout_rate=dropout, max_participations=18,
        )  # fmt: skip
        assert found.ring.bits == plan.bits
        assert found.ring.stddev == pytest.approx(plan.stddev, rel=1e-9)
        assert found.ring.sensitivity == pytest.approx(plan.sensitivity, rel=1e-9)
        assert found.coordinates == plan.padded_dimension
        assert found.honest == plan.honest
        assert found.floor_mass == pytest.approx(plan.cost.floor_mass, rel=1e-9)
        assert found.tail_mass == pytest.approx(plan.cost.tail_mass, rel=1e-9)
        assert found.quota_mass == pytest.approx(bad_events.quota_mass(40, 0.1, 18), rel=1e-9)
        assert found.target_delta == pytest.approx(plan.delta)


def test_the_sampler_of_the_server_counts_as_it_does_in_a_run():
    """Never less: beyond an epsilon of 50 it is most of delta, and a run has no bound any more."""
    for z, rounds in ((2.0, 40), (0.5, 20)):
        plan = PrivacyPlan(
            mechanism="central", dimension=600, clip_norm=0.1, noise_multiplier=z,
            population=3000, participation_probability=1.0, rounds=rounds, quota=rounds,
            min_cohort=1000, min_survivors=1000, delta=1 / 30_000, epsilon_budget=1e3,
        )  # fmt: skip
        found = terms(
            mechanism="central", probability=1.0, noise_multiplier=z, rounds=rounds,
            min_survivors=1000,
        )  # fmt: skip
        assert plan.cost.tail_mass <= found.tail_mass <= 2 * plan.cost.tail_mass
        run, priced = plan.guarantee(rounds).epsilon_release, price(found).release.epsilon
        assert math.isinf(run) == math.isinf(priced) == (z == 0.5)
        assert z == 0.5 or priced == pytest.approx(run, rel=1e-9)


def test_the_clip_norm_drops_out():
    assert terms(clip_norm=0.01).ring == terms(clip_norm=100.0).ring


def test_a_floor_that_was_left_out_is_one_that_a_phone_hardly_ever_decides():
    for changes in ({}, {"dropout_rate": 0.2}, {"colluders": 20}, {"population": 10**9,
                    "probability": 1e-6, "rounds": 1000}):  # fmt: skip
        found = terms(**changes)
        expected = found.expected_cohort * (1 - found.dropout_rate)
        assert found.colluders < found.floor <= 0.75 * expected
        assert found.rounds * found.floor_mass <= 1e-4 * found.target_delta


def test_a_quota_that_was_left_out_hardly_ever_stops_a_phone():
    found = terms()
    assert found.participations < 40
    assert found.quota_mass <= 1e-4 * found.target_delta
    fewer = terms(max_participations=found.participations - 1)
    assert fewer.quota_mass > 1e-4 * fewer.target_delta


def test_more_coordinates_are_assumed_than_any_adapter_has():
    assert terms(dimension=None).coordinates == 16_384


def test_noise_counts_honest_survivors_only():
    found = terms(min_survivors=200, colluders=50)
    assert found.given.shares == 150
    total = found.given.stddev * math.sqrt(150)
    assert total == pytest.approx(3.0 * found.ring.norm, rel=1e-12)


def test_one_phone_decides_no_cohort_of_fixed_size():
    fixed = terms(participation="fixed_size", min_survivors=299)
    assert fixed.floor_mass == 0.0


def test_one_phone_may_decide_a_limited_round():
    limited = {"participation": "limited", "cohort": 20, "max_participations": 3}
    assert terms(**limited, min_survivors=19).floor_mass == 0.0
    assert terms(**limited, min_survivors=20).floor_mass == 1.0
    assert terms(**limited, min_survivors=19, colluders=1).floor_mass == 1.0
    with_dropouts = terms(**limited, min_survivors=15, dropout_rate=0.2).floor_mass
    rates = (1 - 0.2 / 3, 0.8)  # a third of those who never send never reach the roster
    pivotal = sum(math.comb(19, 14) * rate**14 * (1 - rate) ** 5 for rate in rates)
    assert with_dropouts == pytest.approx(pivotal, rel=1e-9)
