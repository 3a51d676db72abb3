"""Adversaries that try to beat the claim, with everything the accounting grants them.

A lower bound on epsilon is ln((p - delta) / q) for an event of probability p on one input and q on
its neighbour, with Clopper-Pearson limits. A sound claim is beaten with a probability under 1e-4;
a broken mechanism is beaten for certain.
"""

import dataclasses
import math

import dp_accounting
import dp_accounting.rdp
import numpy as np
import pytest
from scipy.stats import beta

from fedspeech.job import rotation_seed
from fedspeech.messages import RoundKey
from fedspeech.privacy import encoding, mechanisms, views
from fedspeech.privacy.participation import PoissonParticipation
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import privatize_phone
from fedspeech.secagg import ideal
from fedspeech.seeds import NoiseEntropy
from fedspeech.vectors import Delta

ENTROPY = NoiseEntropy.rehearsal(11, "distinguishers")
RISK = 1e-4


def audited_epsilon(scores_p, scores_q, thresholds, delta):
    """Best lower bound over events `score > t` and `score < t`, either input in either role."""
    tests = 4 * len(thresholds)
    n, risk = len(scores_p), RISK / (2 * tests)
    best = -math.inf
    for t in thresholds:
        for side in (1, -1):
            for one, other in ((scores_p, scores_q), (scores_q, scores_p)):
                hits = int((side * one > side * t).sum())
                misses = int((side * other > side * t).sum())
                low = beta.ppf(risk, hits, n - hits + 1) if hits else 0.0
                high = beta.ppf(1 - risk, misses + 1, n - misses) if misses < n else 1.0
                if low > delta:
                    best = max(best, math.log((low - delta) / high))
    return best


def send(plan, vector, *name):
    return plan.privatize(
        vector,
        rotation_seed=b"public",
        rounding=ENTROPY.keystream("round", *name),
        noise=ENTROPY.keystream("noise", *name),
    )


# --- The server: everybody else colludes, so it sees this phone's integers alone -----------------

ALONE = PrivacyPlan(
    dimension=4, clip_norm=1.0, noise_multiplier=2.0, population=8,
    participation_probability=1.0, rounds=1, quota=1, min_cohort=6, min_survivors=2, colluders=1,
    delta=0.0125, epsilon_budget=10.0,
)  # fmt: skip


def server_attack(plan, trials=4000, length=1.0):
    """Scores: the contribution along the direction that the phone may or may not have sent.

    Args:
      plan: with four coordinates.
      trials: of either input.
      length: norm of what may have been said, in clip norms.
    """
    direction = encoding.rotate(np.array([1.0, 0, 0, 0]), b"public")
    scores = []
    for name, content in (("said", length * plan.clip_norm), ("silent", 0.0)):
        content = np.array([content, 0, 0, 0])
        sent = [send(plan, content, name, trial) for trial in range(trials)]
        integers = encoding.from_ring(np.stack(sent), plan.bits)
        scores.append(integers @ direction / plan.scale)
    thresholds = np.linspace(-4, 5, 10) * ALONE.noise_multiplier / 2
    return audited_epsilon(*scores, thresholds, plan.delta)


def test_the_server_never_beats_its_epsilon():
    found = server_attack(ALONE)
    assert 0.2 < found < ALONE.guarantee(1).epsilon_server


OTHERS = {
    "skellam": dataclasses.replace(ALONE, mechanism="skellam", participation="fixed_size"),
    # In the open: each phone's own noise is all there is, whatever the others do.
    "local": dataclasses.replace(ALONE, mechanism="local"),
}


@pytest.mark.parametrize("mechanism", [pytest.param("local", marks=pytest.mark.slow), "skellam"])
def test_the_server_never_beats_the_epsilon_of_other_noise_on_phones(mechanism):
    plan = OTHERS[mechanism]
    assert 0.2 < server_attack(plan) < plan.guarantee(1).epsilon_server


@pytest.mark.parametrize("mechanism", [pytest.param("local", marks=pytest.mark.slow), "skellam"])
def test_the_server_beats_other_noise_where_it_is_missing(mechanism, monkeypatch):
    monkeypatch.setattr(mechanisms.IntegerLaw, "of", lambda stddev: Silent())
    plan = OTHERS[mechanism]
    assert server_attack(plan) > plan.guarantee(1).epsilon_server


def reader_attack(plan, trials=4000, factor=1.0):
    """Scores of the decoded sum where the server adds the noise and one phone's vector is known."""
    vector = np.array([plan.clip_norm, 0, 0, 0])
    scores = []
    for name, content in (("said", vector), ("silent", np.zeros(4))):
        found = []
        for trial in range(trials):
            sent = send(plan, content, name, trial)
            noise = ENTROPY.keystream("server", name, trial)
            found.append(plan.decode(sent, rotation_seed=b"public", noise=noise).mean[0])
        scores.append(np.array(found) * plan.expected_cohort * factor)
    return audited_epsilon(*scores, np.linspace(-4, 5, 10) * plan.noise_multiplier / 2, plan.delta)


CENTRAL = dataclasses.replace(ALONE, mechanism="central", participation="limited")


def test_a_reader_never_beats_noise_that_the_server_adds():
    claimed = CENTRAL.guarantee(1)
    assert claimed.relation_release == "add/remove"
    assert 0.2 < reader_attack(CENTRAL) < claimed.epsilon_release


@pytest.mark.slow
def test_a_reader_beats_half_the_noise_of_the_server(monkeypatch):
    claimed = CENTRAL.guarantee(1).epsilon_release
    half = mechanisms.RoundedGaussian(CENTRAL.server_stddev / 2)
    monkeypatch.setattr(mechanisms.RoundedGaussian, "of", lambda stddev: half)
    assert reader_attack(CENTRAL) > claimed


EDGE = dataclasses.replace(
    CENTRAL, dimension=64, population=200, min_cohort=150, min_survivors=150, delta=5e-4
)


def edge_attack(plan, trials=300):
    """Others whose sum stands one step inside the ring's edge; the phone pushes it over, or not."""
    others = np.zeros(64, dtype=np.int64)
    others[7] = plan.modulus // 2 - 1
    direction = encoding.unrotate((others > 0).astype(float), b"public", 64)
    scores = []
    for name, content in (("said", direction), ("silent", np.zeros(64))):
        found = []
        for trial in range(trials):
            own = send(plan, content, name, trial)
            total = ideal.add([encoding.to_ring(others, plan.bits), own], plan.bits)
            noise = ENTROPY.keystream("edge", name, trial)
            found.append(plan.decode(total, rotation_seed=b"public", noise=noise).mean @ direction)
        scores.append(np.array(found))
    return audited_epsilon(*scores, [0.0], plan.delta)


def test_the_noise_of_the_server_hides_a_phone_at_the_edge_of_the_ring():
    assert edge_attack(EDGE) < EDGE.guarantee(1).epsilon_release


def test_noise_that_comes_after_the_sum_is_unwrapped_hides_nothing_there(monkeypatch):
    noise = mechanisms.RoundedGaussian.of(EDGE.server_stddev)
    centred = PrivacyPlan._centred
    monkeypatch.setattr(PrivacyPlan, "_with_server_noise", lambda plan, total, stream: total)
    monkeypatch.setattr(
        PrivacyPlan,
        "_centred",
        lambda plan, total: centred(plan, total) + noise.draw(ENTROPY.keystream("late"), 64),
    )
    assert edge_attack(EDGE) > EDGE.guarantee(1).epsilon_release


class Silent:
    def draw(self, keystream, num_values):
        return np.zeros(num_values, dtype=np.int64)


@pytest.mark.parametrize("factor", [0.0, 0.5], ids=["noise off", "half the noise"])
def test_the_server_beats_a_mechanism_with_too_little_noise(factor, monkeypatch):
    broken = mechanisms.DiscreteGaussian(factor * ALONE.stddev) if factor else Silent()
    monkeypatch.setattr(mechanisms.DiscreteGaussian, "of", lambda stddev: broken)
    assert server_attack(ALONE) > ALONE.guarantee(1).epsilon_server


def clip_after_noise(plan, vector, *, rotation_seed, rounding, noise, clip_norm=None):
    """The right pieces in the wrong order: what is clipped has its noise already."""
    drawn = plan.law.of(plan.stddev).draw(noise, plan.padded_dimension)
    noisy = encoding.rotate(vector, rotation_seed) * plan.scale + drawn
    noisy *= min(1, plan.clip_norm * plan.scale / np.linalg.norm(noisy))
    return encoding.to_ring(encoding.stochastic_round(noisy, rounding), plan.bits)


def test_a_long_vector_is_hidden_like_any_other_unless_it_is_clipped_after_the_noise(monkeypatch):
    claimed = ALONE.guarantee(1).epsilon_server
    assert server_attack(ALONE, trials=1000, length=100.0) < claimed
    monkeypatch.setattr(PrivacyPlan, "privatize", clip_after_noise)
    assert server_attack(ALONE, trials=1000, length=100.0) > claimed


def other_phone_attack(names, trials=500):
    """A colluder knows its own noise, and that of the phone if both draw from one key.

    Args:
      names: of a draw to those that its keys are made of.
      trials: of either input.
    """
    key = RoundKey(round=0, attempt=0, rid=bytes(16), context=bytes(32))
    scores = []
    for said in (1.0, 0.0):
        found = []
        for trial in range(trials):
            turn = dataclasses.replace(key, rid=(2 * trial + int(said)).to_bytes(16, "big"))
            both = [
                privatize_phone(
                    ALONE, Delta(np.array([content, 0, 0, 0], dtype=np.float32)),
                    turn, phone, Keyed(names), 1.0,
                )
                for phone, content in ((0, said), (1, 0.0))
            ]  # fmt: skip
            own, other = (encoding.from_ring(sent, ALONE.bits) for sent in both)
            direction = encoding.rotate(np.array([1.0, 0, 0, 0]), rotation_seed(turn))
            found.append((own - other) @ direction / ALONE.scale)
        scores.append(np.array(found))
    return audited_epsilon(*scores, np.linspace(-4, 5, 10), ALONE.delta)


class Keyed:
    """An entropy whose keys are made of some of the names."""

    def __init__(self, kept):
        self._kept = kept

    def keystream(self, *names):
        return ENTROPY.keystream(*self._kept(*names))


def test_noise_of_another_phone_tells_nothing_unless_both_share_a_seed():
    claimed = ALONE.guarantee(1).epsilon_server
    assert other_phone_attack(lambda *names: names) < claimed
    assert other_phone_attack(lambda use, rid, attempt, phone: (use, rid, attempt)) > claimed


def test_the_server_beats_noise_that_is_sized_for_those_expected(monkeypatch):
    """Four honest were expected, one stayed: its share alone is half of what was accounted."""
    claimed = ALONE.guarantee(1).epsilon_server
    monkeypatch.setattr(PrivacyPlan, "honest", property(lambda plan: 4))
    assert server_attack(ALONE) > claimed


def test_the_server_beats_a_path_that_does_not_clip(monkeypatch):
    claimed = ALONE.guarantee(1).epsilon_server
    triple = dataclasses.replace(ALONE, clip_norm=3.0, noise_multiplier=2.0 / 3)
    assert triple.stddev / triple.scale == pytest.approx(ALONE.stddev / ALONE.scale, rel=1e-6)
    assert server_attack(triple) > claimed


# --- Readers of the models: all is known but one phone's coin ------------------------------------

COIN = PrivacyPlan(
    dimension=512, clip_norm=1.0, noise_multiplier=50.0, population=200,
    participation_probability=0.5, rounds=1, quota=1, min_cohort=10, min_survivors=10,
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
            centred = encoding.from_ring(ideal.partial_sum(shares, plan.bits), plan.bits)
            score = float((centred.astype(float) ** 2).sum()) / plan.stddev**2 / plan.dimension
            scores[world].append(score)
    thresholds = plan.honest * np.linspace(0.9, 1.3, 9)
    return audited_epsilon(
        np.array(scores["with"]), np.array(scores["without"]), thresholds, plan.delta
    )


def test_a_coin_shows_in_the_variance_and_only_the_corrected_epsilon_covers_it():
    found = coin_attack(COIN)
    sampled = dp_accounting.PoissonSampledDpEvent(0.5, dp_accounting.GaussianDpEvent(50.0))
    uncorrected = dp_accounting.rdp.RdpAccountant().compose(sampled).get_epsilon(COIN.delta)
    corrected = COIN.guarantee(1)
    assert corrected.relation_release == "add/remove"
    assert uncorrected < 0.1 < found < corrected.epsilon_release


def test_with_many_shares_the_coin_hides():
    crowd = dataclasses.replace(
        COIN, population=2000, min_cohort=600, min_survivors=600, delta=5e-5, dimension=4
    )
    assert crowd.guarantee(1).epsilon_release < 0.2


# --- Readers who see that a round was abandoned ---------------------------------------------------

FLOORED = PrivacyPlan(
    dimension=4, clip_norm=1.0, noise_multiplier=20.0, population=40,
    participation_probability=0.5, rounds=30, quota=30, min_cohort=15, min_survivors=15,
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


def test_a_reader_of_abandoned_rounds_beats_the_uncorrected_epsilon_and_no_other_is_printed():
    betrayed, at_least = abandoned_attack(FLOORED, trials=300)
    without = dataclasses.replace(FLOORED.cost, floor_mass=0.0)
    uncorrected = views.release([(without, 30)], FLOORED.delta)
    assert uncorrected.relation == "add/remove"
    assert math.isfinite(uncorrected.epsilon)
    assert at_least > FLOORED.delta  # whatever the epsilon
    assert betrayed / 300 < 30 * FLOORED.cost.floor_mass  # what was counted, and did not fit
    found = FLOORED.guarantee(30)
    assert (found.relation_release, found.amplified) == ("zero-out", False)
    assert found.epsilon_release >= uncorrected.epsilon


def test_a_floor_far_below_the_cohort_betrays_nobody():
    """Where presence is promised, what abandoned rounds tell is a tenth of delta at most."""
    crowd = dataclasses.replace(
        FLOORED, population=2000, min_cohort=700, min_survivors=700, delta=5e-5
    )
    found = crowd.guarantee(30)
    assert found.relation_release == "add/remove"
    assert 30 * crowd.cost.floor_mass * math.exp(found.epsilon_release) <= crowd.delta / 10
