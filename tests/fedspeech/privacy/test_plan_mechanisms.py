"""Every mechanism with every kind of participation: what runs is what is priced, and suffices."""

import dataclasses
import math
from typing import get_args

import numpy as np
import pytest

from fedspeech.privacy.config import Participation
from fedspeech.privacy.events import Joint
from fedspeech.privacy.phrasing import paragraphs
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.secagg.ring import ring_sum
from fedspeech.seeds import NoiseEntropy

NOISY = ("central", "distributed", "skellam", "local")
ENTROPY = NoiseEntropy.seeded(8, "mechanisms")
PAIRS = [
    (mechanism, participation)
    for mechanism in NOISY
    for participation in get_args(Participation)
    if (mechanism, participation) != ("skellam", "poisson")
]


def plan(mechanism, participation, **changes):
    fields = {
        "mechanism": mechanism, "participation": participation, "dimension": 600,
        "clip_norm": 0.1, "noise_multiplier": 0.2 if mechanism == "local" else 3.0,
        "population": 3000, "participation_probability": 0.1, "rounds": 40,
        "max_participations": 18,
        "min_cohort": 215, "min_reporting": 215, "delta": 1 / 30_000, "epsilon_budget": 1e6,
        "secure_aggregation": "ideal", "dropout_rate": 0.0,
    }  # fmt: skip
    return PrivacyPlan(**{**fields, **changes})


@pytest.mark.slow
@pytest.mark.parametrize(("mechanism", "participation"), PAIRS)
def test_words_name_the_relation_and_who_must_be_honest(mechanism, participation):
    found = plan(mechanism, participation, noise_multiplier=4.0).guarantee(40)
    words = paragraphs(found)
    assert f"({found.relation_release}" in words
    assert ("epsilon_server is infinite" in words) == (mechanism == "central")
    assert ("sees every vector" in words) == (mechanism == "local")
    honest = {
        "poisson": "keeps its coin secret",
        "fixed_size": "whom the server draws",
        "round_robin": "counts its rounds",
    }
    assert honest[participation] in words
    assert ("no sampling" in words) == (participation == "round_robin")


def small(mechanism, **changes):
    fields = {
        "dimension": 100, "clip_norm": 1.0, "population": 1000, "min_cohort": 700,
        "noise_multiplier": 0.1 if mechanism == "local" else 3.0,
        "min_reporting": 700, "participation_probability": 1.0, "rounds": 1,
        "max_participations": 1,
        "delta": 1e-4,
    }  # fmt: skip
    return plan(mechanism, "fixed_size", **{**fields, **changes})


@pytest.mark.parametrize("mechanism", ["distributed", "skellam", "central", "local"])
@pytest.mark.parametrize(
    "dropped", [300, *(pytest.param(few, marks=pytest.mark.slow) for few in (0, 100, 200))]
)
def test_the_noise_of_a_thousand_phones_is_the_one_promised_and_never_less(mechanism, dropped):
    """Decoded means of zeros in 100 coordinates, 3 rounds; 5 standard errors, 1e-6 in all."""
    candidate, zeros, seen = small(mechanism), np.zeros(100), []
    for trial in range(3):
        sent = [
            candidate.privatize(
                zeros, rotation_seed=b"public", rounding=ENTROPY.keystream("r", trial, phone),
                noise=ENTROPY.keystream("n", mechanism, dropped, trial, phone),
            )
            for phone in range(1000 - dropped)
        ]  # fmt: skip
        total = ring_sum(sent, candidate.bits)
        noise = ENTROPY.keystream("server", dropped, trial)
        seen.append(candidate.decode(total, rotation_seed=b"public", noise=noise).mean * 1000)
    found = np.concatenate(seen)
    error = 5 * math.sqrt(2 / found.size)
    promised = candidate.noise_norm(1000 - dropped) ** 2 * 1000**2 / 100
    assert abs(found.var() / promised - 1) < error
    least = 3.0**2 if mechanism != "local" else 0.1**2 * 700
    assert found.var() > least * (1 - error)


def test_a_bound_that_cannot_be_stated_is_not_printed_as_a_number():
    """One phone's fifth of a clip norm of noise, eighteen times, in plain sight of the server."""
    found = plan("local", "poisson").guarantee(40)
    assert math.isinf(found.epsilon_server)
    assert "epsilon_server is infinite, because no finite bound can be stated" in paragraphs(found)
    assert found.epsilon_release < 2


def test_noise_sized_for_those_expected_would_be_less(monkeypatch):
    """The test above sees it: 300 of 1,000 phones drop out, and the noise is .84 of the promise."""
    promised = small("distributed").noise_norm(700)
    monkeypatch.setattr(PrivacyPlan, "honest", property(lambda plan: 1000))
    assert small("distributed").noise_norm(700) < 0.85 * promised


def test_the_servers_noise_is_sized_for_the_norm_that_rounding_lets_through():
    for candidate in (small("central"), plan("central", "poisson")):
        before = candidate.clip_norm * candidate.scale
        assert candidate.norm_bound_squared > before**2
        wanted = candidate.noise_multiplier * math.sqrt(candidate.norm_bound_squared)
        assert candidate.server_stddev >= wanted * (1 - 1e-12)
        assert candidate.stddev == 0.0


def test_central_noise_is_not_forgotten():
    candidate = small("central")
    total = np.zeros(candidate.vector_length, np.uint32)
    with pytest.raises(ValueError, match="adds noise to the sum: none was given"):
        candidate.decode(total, rotation_seed=b"public")


@pytest.mark.parametrize("mechanism", ["distributed", "skellam"])
def test_a_window_of_the_participation_limit_counts_anew(mechanism):
    """Five rounds in every twenty are ten in forty."""
    whole = plan(mechanism, "round_robin", max_participations=10)
    windows = plan(mechanism, "round_robin", max_participations=5, participation_window=20)
    assert windows.participations == whole.participations == 10
    assert windows.guarantee(40).epsilon_server == whole.guarantee(40).epsilon_server
    assert (
        plan(mechanism, "round_robin", max_participations=4, participation_window=15).participations
        == 12
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"participation_window": 20}, "participation_window belongs to round-robin"),
        (
            {"participation": "round_robin", "participation_window": 0},
            "participation_window must be a positive",
        ),
        (
            {"participation": "round_robin", "max_participations": 3},
            "turn comes 4 times in 40 rounds",
        ),
        ({"participation": "round_robin", "participation_probability": 0.10001}, "a whole number"),
        ({"participation": "fixed_size", "cohort_cap": 400}, "cohort_cap belongs to poisson"),
        ({"cohort_cap": 100}, "cohort_cap must be an integer from min_cohort"),
        ({"mechanism": "local", "secure_aggregation": "masked"}, "needs no mask"),
        ({"mechanism": "local", "noise_multiplier": 1e-4}, "must have stddev >= 2"),
        ({"participation": "fixed_size", "min_cohort": 301}, "at most the cohort"),
        ({"participation": "often"}, "participation must be poisson or fixed_size"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_rule(changes, rule):
    fields = {"mechanism": "distributed", "participation": "poisson", **changes}
    with pytest.raises(ValueError, match=rule):
        plan(fields.pop("mechanism"), fields.pop("participation"), **fields)


@pytest.mark.slow
def test_a_cap_is_priced_by_loss_distributions_where_the_server_adds_noise():
    capped = plan("central", "poisson", cohort_cap=300).guarantee(40)
    free = plan("central", "poisson").guarantee(40)
    assert "loss distributions" in capped.accountant
    assert capped.epsilon_release > free.epsilon_release
    assert capped.relation_release == "add/remove"


def test_a_cap_with_noise_on_phones_is_a_bad_event_or_no_plan():
    far = plan("distributed", "poisson", cohort_cap=450)
    assert far.guarantee(40).relation_release == "add/remove"
    assert far.max_cohort == plan("distributed", "poisson").max_cohort
    with pytest.raises(ValueError, match="must hardly ever be reached"):
        plan("distributed", "poisson", cohort_cap=340).guarantee(40)


def test_a_plan_survives_its_plain_data():
    for mechanism, participation in PAIRS:
        candidate = plan(mechanism, participation)
        assert PrivacyPlan(**dataclasses.asdict(candidate)) == candidate


def test_events_of_the_plan_are_never_joint_without_a_bit():
    assert not any(isinstance(plan(*pair).cost.given, Joint) for pair in PAIRS)
