"""Adversaries that try to beat the claim, with everything the accounting grants them.

A sound claim is beaten with a probability under 1e-4 (`auditing`); a broken mechanism is beaten for
certain. Where the server adds the noise: `test_central_distinguishers`.
"""

import dataclasses
import math

import dp_accounting
import dp_accounting.rdp
import numpy as np
import pytest
from auditing import (
    ENTROPY,
    RISK,
    Keyed,
    Silent,
    audited_epsilon,
    clip_after_noise,
    send,
    turn,
)
from scipy.stats import beta

from fedspeech.job import rotation_seed
from fedspeech.privacy import adversary_views, encoding, mechanisms
from fedspeech.privacy.participation import PoissonParticipation
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import privatize_phone
from fedspeech.secagg.ring import ring_sum

# --- The server: everybody else colludes, so it sees this phone's integers alone -----------------

ALONE = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=4, clip_norm=1.0, noise_multiplier=2.0, population=8,
    participation_probability=1.0, rounds=1, max_participations=1, min_cohort=6, min_reporting=2,
    colluders=1,
    delta=0.0125, epsilon_budget=10.0,
)  # fmt: skip


ON_PHONES = {
    "distributed": ALONE,
    "skellam": dataclasses.replace(ALONE, mechanism="skellam", participation="fixed_size"),
    # In the open: each phone's own noise is all there is, whatever the others do.
    "local": dataclasses.replace(ALONE, mechanism="local"),
}
ALL = pytest.mark.parametrize("mechanism", ON_PHONES)
ALL_BUT_LOCAL_QUICKLY = pytest.mark.parametrize(
    "mechanism", ["distributed", "skellam", pytest.param("local", marks=pytest.mark.slow)]
)


def worlds(plan, length):
    """What the phone says in either world, in clip norms: the worst that the claim covers."""
    replaced = plan.cost.server_relation == "replace"
    return (("said", length), ("instead", -length if replaced else 0.0))


def server_attack(plan, trials=4000, length=1.0):
    """Scores: the contribution along the direction that the phone may or may not have sent.

    Args:
      plan: with four coordinates.
      trials: of either input.
      length: norm of what may have been said, in clip norms.
    """
    direction = encoding.rotate(np.array([1.0, 0, 0, 0]), b"public")
    scores = []
    for name, content in worlds(plan, length):
        content = np.array([content * plan.clip_norm, 0, 0, 0])
        sent = [send(plan, content, name, trial) for trial in range(trials)]
        integers = encoding.from_ring(np.stack(sent), plan.bits)
        scores.append(integers @ direction / plan.scale)
    thresholds = np.linspace(-4, 5, 10) * ALONE.noise_multiplier / 2
    return audited_epsilon(*scores, thresholds, plan.delta)


@pytest.mark.parametrize(
    "mechanism",
    ["distributed", *(pytest.param(name, marks=pytest.mark.slow) for name in ("skellam", "local"))],
)
def test_the_server_never_beats_its_epsilon(mechanism):
    plan = ON_PHONES[mechanism]
    assert 0.2 < server_attack(plan) < plan.guarantee(1).epsilon_server


@ALL
def test_the_server_beats_noise_that_is_off(mechanism, monkeypatch):
    plan = ON_PHONES[mechanism]
    monkeypatch.setattr(mechanisms.IntegerDistribution, "of", lambda stddev: Silent())
    assert server_attack(plan, trials=300) > plan.guarantee(1).epsilon_server


@pytest.mark.slow
@ALL_BUT_LOCAL_QUICKLY
def test_the_server_beats_half_the_noise(mechanism, monkeypatch):
    plan = ON_PHONES[mechanism]
    half = plan.noise_distribution(plan.stddev / 2)
    monkeypatch.setattr(mechanisms.IntegerDistribution, "of", lambda stddev: half)
    trials = 8000 if mechanism == "local" else 4000
    assert server_attack(plan, trials) > plan.guarantee(1).epsilon_server


@pytest.mark.slow
@ALL_BUT_LOCAL_QUICKLY
def test_a_long_vector_is_hidden_like_any_other_unless_it_is_clipped_after_the_noise(
    mechanism, monkeypatch
):
    plan = ON_PHONES[mechanism]
    claimed = plan.guarantee(1).epsilon_server
    assert server_attack(plan, trials=1000, length=100.0) < claimed
    monkeypatch.setattr(PrivacyPlan, "privatize", clip_after_noise)
    assert server_attack(plan, trials=300, length=100.0) > claimed


def twin_attack(plan, kept, twin, trials=500):
    """Somebody knows the noise of the twin, and that of the phone if both draw from one key.

    Args:
      plan: with four coordinates.
      kept: of the names of a draw, those that its key is made of.
      twin: "phone", a colluder in the same round, or "round", another one of the same phone.
      trials: of either input.
    """
    scores = []
    for world, said in worlds(plan, 1.0):
        found = []
        for trial in range(trials):
            key = turn(world, trial)
            other = (key, 1) if twin == "phone" else (turn(world, trial, "again"), 0)
            own, known = (
                encoding.from_ring(
                    privatize_phone(
                        plan, np.array([content, 0, 0, 0], dtype=np.float32),
                        of, phone, Keyed(kept), plan.clip_norm,
                    ),
                    plan.bits,
                )
                for content, (of, phone) in ((said, (key, 0)), (0.0, other))
            )  # fmt: skip
            direction = encoding.rotate(np.array([1.0, 0, 0, 0]), rotation_seed(key))
            found.append((own - known) @ direction / plan.scale)
        scores.append(np.array(found))
    return audited_epsilon(*scores, np.linspace(-4, 5, 10), plan.delta)


@pytest.mark.slow
@ALL_BUT_LOCAL_QUICKLY
def test_noise_of_another_phone_tells_nothing_unless_both_share_a_seed(mechanism):
    plan = ON_PHONES[mechanism]
    claimed = plan.guarantee(1).epsilon_server
    assert twin_attack(plan, lambda *names: names, "phone") < claimed
    shared = twin_attack(plan, lambda use, rid, attempt, phone: (use, rid, attempt), "phone", 300)
    assert shared > claimed


@pytest.mark.slow
@ALL
def test_noise_of_another_round_tells_nothing_unless_both_share_a_seed(mechanism):
    plan = ON_PHONES[mechanism]
    claimed = plan.guarantee(1).epsilon_server
    assert twin_attack(plan, lambda *names: names, "round") < claimed
    assert twin_attack(plan, lambda use, rid, attempt, phone: (use, phone), "round", 300) > claimed


@pytest.mark.slow
def test_the_server_beats_noise_that_is_sized_for_those_expected(monkeypatch):
    """Four honest were expected, one stayed: its share alone is half of what was accounted."""
    claimed = ALONE.guarantee(1).epsilon_server
    monkeypatch.setattr(PrivacyPlan, "honest", property(lambda plan: 4))
    assert server_attack(ALONE) > claimed


@pytest.mark.slow
def test_the_server_beats_a_path_that_does_not_clip(monkeypatch):
    claimed = ALONE.guarantee(1).epsilon_server
    triple = dataclasses.replace(ALONE, clip_norm=3.0, noise_multiplier=2.0 / 3)
    assert triple.stddev / triple.scale == pytest.approx(ALONE.stddev / ALONE.scale, rel=1e-6)
    assert server_attack(triple) > claimed


# --- Readers of the models: all is known but one phone's coin ------------------------------------

COIN = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=512, clip_norm=1.0, noise_multiplier=50.0, population=200,
    participation_probability=0.5, rounds=1, max_participations=1, min_cohort=10, min_reporting=10,
    delta=5e-4, epsilon_budget=100.0,
)  # fmt: skip


def coin_attack(plan, trials=400):
    """The phone says nothing at all; the variance of the sum betrays whether it was there."""
    zeros = np.zeros(plan.dimension)
    coins = np.random.default_rng(5).random(trials) < plan.participation_probability
    scores = {"with": [], "without": []}
    for trial in range(trials):
        others = [send(plan, zeros, "other", trial, phone) for phone in range(plan.honest)]
        own = [send(plan, zeros, "own", trial)] if coins[trial] else []
        for world, shares in (("with", others + own), ("without", others)):
            centered = encoding.from_ring(ring_sum(shares, plan.bits), plan.bits)
            score = float((centered.astype(float) ** 2).sum()) / plan.stddev**2 / plan.dimension
            scores[world].append(score)
    thresholds = plan.honest * np.linspace(0.9, 1.3, 9)
    return audited_epsilon(
        np.array(scores["with"]), np.array(scores["without"]), thresholds, plan.delta
    )


@pytest.mark.slow
def test_a_coin_shows_in_the_variance_and_only_the_corrected_epsilon_covers_it():
    found = coin_attack(COIN)
    sampled = dp_accounting.PoissonSampledDpEvent(0.5, dp_accounting.GaussianDpEvent(50.0))
    uncorrected = dp_accounting.rdp.RdpAccountant().compose(sampled).get_epsilon(COIN.delta)
    corrected = COIN.guarantee(1)
    assert corrected.relation_release == "add/remove"
    assert uncorrected < 0.1 < found < corrected.epsilon_release


def test_with_many_shares_the_coin_hides():
    crowd = dataclasses.replace(
        COIN, population=2000, min_cohort=600, min_reporting=600, delta=5e-5, dimension=4
    )
    assert crowd.guarantee(1).epsilon_release < 0.2


# --- Readers who see that a round was abandoned ---------------------------------------------------

FLOORED = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    dimension=4, clip_norm=1.0, noise_multiplier=20.0, population=40,
    participation_probability=0.5, rounds=30, max_participations=30, min_cohort=15,
    min_reporting=15,
    delta=1e-3, epsilon_budget=100.0,
)  # fmt: skip


def abandoned_attack(plan, trials=2000):
    """Share of runs in which the phone's coin alone opened a round; all other coins are known.

    Such a round is abandoned for certain where the phone never comes: an event of probability zero
    there, so no epsilon covers it and delta has to.
    """
    coins = PoissonParticipation(population=plan.population, probability=0.5)
    betrayed = 0
    for trial in range(trials):
        for number in range(plan.rounds):
            cohort = coins.cohort(ENTROPY.keystream("cohort", trial, number))
            if len(cohort) == plan.min_cohort and cohort[0] == 0:
                betrayed += 1
                break
    return betrayed, float(beta.ppf(RISK, betrayed, trials - betrayed + 1)) if betrayed else 0.0


@pytest.mark.slow
def test_a_reader_of_abandoned_rounds_beats_the_uncorrected_epsilon_and_no_other_is_printed():
    betrayed, at_least = abandoned_attack(FLOORED, trials=300)
    without = dataclasses.replace(FLOORED.cost, minimum_failure=0.0)
    uncorrected = adversary_views.release([(without, 30)], FLOORED.delta)
    assert uncorrected.relation == "add/remove"
    assert math.isfinite(uncorrected.epsilon)
    assert at_least > FLOORED.delta  # whatever the epsilon
    assert betrayed / 300 < 30 * FLOORED.cost.minimum_failure  # what was counted, and did not fit
    found = FLOORED.guarantee(30)
    assert (found.relation_release, found.amplified) == ("zero-out", False)
    # What is printed is the server's price of what was said, of which the reader sees a part.
    assert (
        found.epsilon_release == adversary_views.server([(FLOORED.cost, 30)], FLOORED.delta).epsilon
    )


def test_a_minimum_far_below_the_cohort_betrays_nobody():
    """Where presence is promised, what abandoned rounds tell is a tenth of delta at most."""
    crowd = dataclasses.replace(
        FLOORED, population=2000, min_cohort=700, min_reporting=700, delta=5e-5
    )
    found = crowd.guarantee(30)
    assert found.relation_release == "add/remove"
    assert 30 * crowd.cost.minimum_failure * math.exp(found.epsilon_release) <= crowd.delta / 10
