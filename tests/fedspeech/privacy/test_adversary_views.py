"""Rounds of several plans on one population: relations, limits and bad events together."""

import dataclasses
import math

import pytest

from fedspeech.privacy import accountant, adversary_views
from fedspeech.privacy.plan import PrivacyPlan

DELTA = 1 / 30_000


def cost(mechanism="distributed", participation="poisson", **changes):
    fields = {
        "mechanism": mechanism, "participation": participation, "dimension": 600,
        "clip_norm": 0.1, "noise_multiplier": 3.0, "population": 3000,
        "participation_probability": 0.1, "rounds": 40, "max_participations": 18, "min_cohort": 215,
        "min_reporting": 215, "delta": DELTA, "epsilon_budget": 1e6,
        "secure_aggregation": "ideal", "dropout_rate": 0.0,
    }  # fmt: skip
    return PrivacyPlan(**{**fields, **changes}).cost


def test_nothing_spent_is_nothing_under_the_relation_of_the_plan():
    found = adversary_views.release([(cost(), 0)], DELTA)
    assert (found.epsilon, found.relation, found.amplified) == (0.0, "add/remove", True)
    assert adversary_views.server([(cost(), 0)], DELTA).epsilon == 0.0


@pytest.mark.slow
def test_two_halves_of_one_relation_are_the_whole():
    for each in (cost(), cost("central"), cost("skellam", "fixed_size")):
        halves, whole = [(each, 20), (each, 20)], [(each, 40)]
        # The participation limit of two openings is twice one: only what counts on it may differ.
        free = dataclasses.replace(each, max_participations=40)
        assert adversary_views.release([(free, 20), (free, 20)], DELTA).epsilon == pytest.approx(
            adversary_views.release([(free, 40)], DELTA).epsilon, rel=1e-3
        )
        assert (
            adversary_views.server(halves, DELTA).epsilon
            >= adversary_views.server(whole, DELTA).epsilon
        )


def test_rounds_of_different_relations_count_on_no_sampling():
    """A coin's add/remove and a drawn cohort's replace are not one neighboring relation."""
    coins, drawn = cost(), cost(participation="fixed_size")
    found = adversary_views.release([(coins, 40), (drawn, 40)], DELTA)
    assert (found.relation, found.amplified) == ("zero-out", False)
    assert "different neighboring relations" in found.reason
    assert found.participations == 36
    spent = 18 * accountant.rdp(coins.given) + 18 * accountant.rdp(drawn.given)
    assert found.epsilon >= accountant.epsilon(spent, DELTA)
    assert found.epsilon > adversary_views.release([(coins, 40)], DELTA).epsilon


def test_one_run_without_noise_leaves_nothing_to_promise():
    none = cost("none", noise_multiplier=0.0, epsilon_budget=math.inf)
    for spent in ([(none, 1), (cost(), 40)], [(cost(), 40), (none, 1)]):
        assert math.isinf(adversary_views.release(spent, DELTA).epsilon)
        assert math.isinf(adversary_views.server(spent, DELTA).epsilon)


def test_a_run_that_trusts_the_server_leaves_no_promise_against_it():
    spent = [(cost(), 40), (cost("central"), 1)]
    assert math.isinf(adversary_views.server(spent, DELTA).epsilon)
    found = adversary_views.release(spent, DELTA)
    assert found.relation == "add/remove"
    assert adversary_views.release(spent[:1], DELTA).epsilon < found.epsilon < math.inf


def test_a_local_and_a_shared_run_promise_the_weaker_relation_against_the_server():
    local = cost("local", noise_multiplier=8.0)
    assert adversary_views.server([(local, 5)], DELTA).relation == "replace"
    assert adversary_views.server([(local, 5), (cost(), 5)], DELTA).relation == "zero-out"


@pytest.mark.slow
def test_loss_distributions_of_several_runs_compose():
    coins, turns = cost("central"), cost("central", "round_robin")
    found = adversary_views.release([(coins, 20), (turns, 4)], DELTA)
    assert set(found.epsilons) == {"rdp", "pld"}
    assert found.relation == "add/remove"
    assert found.amplified  # the coins of the one
    alone = [
        adversary_views.release([(each, n)], DELTA).epsilon for each, n in ((coins, 20), (turns, 4))
    ]
    assert max(alone) < found.epsilon < sum(alone)


def test_rounds_that_were_abandoned_before_a_charge_count_at_their_minimums():
    """Readers see that no model came, which may be one phone's doing: in delta from the start."""
    near = cost(min_cohort=222, min_reporting=222)
    assert 0 < 40 * near.minimum_failure < DELTA / 10
    for rounds in (0, 1, 40):
        assert (
            adversary_views.release([(near, rounds)], DELTA).failure_probability
            >= 40 * near.minimum_failure
        )
    risky = dataclasses.replace(near, minimum_failure=DELTA / 40)
    found = adversary_views.release([(risky, 0)], DELTA)
    assert found.relation == "zero-out"
    # Another run's abandoned rounds count too, charged or not.
    alone, beside = [(near, 40)], [(near, 40), (risky, 0)]
    assert adversary_views.release(alone, DELTA).relation == "add/remove"
    assert adversary_views.release(beside, DELTA).relation == "zero-out"
