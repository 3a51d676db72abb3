"""Readers of the models who try to beat the claim where the server adds the noise.

A sound claim is beaten with a probability under 1e-4 (`auditing`); a broken mechanism is beaten for
certain.
"""

import dataclasses

import numpy as np
import pytest
from auditing import ENTROPY, Keyed, Silent, audited_epsilon, send, turn

from fedspeech.errors import ProtocolAbort
from fedspeech.job import rotation_seed
from fedspeech.privacy import encoding, mechanisms
from fedspeech.privacy.plan import PrivacyPlan
from fedspeech.round import ServerState, open_sum
from fedspeech.secagg.ring import ring_sum
from fedspeech.vectors import GlobalState

CENTRAL = PrivacyPlan(secure_aggregation="ideal", dropout_rate=0.0,
    mechanism="central", participation="round_robin", dimension=4, clip_norm=1.0,
    noise_multiplier=2.0, population=8, participation_probability=1.0, rounds=1,
    max_participations=1,
    min_cohort=6, min_reporting=2, colluders=1, delta=0.0125, epsilon_budget=10.0,
)  # fmt: skip


def reader_attack(plan, trials=4000, length=1.0):
    """Scores of the decoded sum where the server adds the noise and one phone's vector is known.

    Args:
      plan: with four coordinates.
      trials: of either input.
      length: norm of that vector, in clip norms.
    """
    vector = np.array([length * plan.clip_norm, 0, 0, 0])
    scores = []
    for name, content in (("said", vector), ("silent", np.zeros(4))):
        found = []
        for trial in range(trials):
            sent = send(plan, content, name, trial)
            noise = ENTROPY.keystream("server", name, trial)
            found.append(plan.decode(sent, rotation_seed=b"public", noise=noise).mean[0])
        scores.append(np.array(found) * plan.expected_cohort)
    return audited_epsilon(*scores, np.linspace(-4, 5, 10) * plan.noise_multiplier / 2, plan.delta)


@pytest.mark.slow
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


def test_a_reader_beats_noise_of_the_server_that_is_off(monkeypatch):
    monkeypatch.setattr(mechanisms.RoundedGaussian, "of", lambda stddev: Silent())
    assert reader_attack(CENTRAL, trials=300) > CENTRAL.guarantee(1).epsilon_release


@pytest.mark.slow
def test_a_long_vector_is_hidden_unless_the_server_clips_what_it_has_noised(monkeypatch):
    claimed = CENTRAL.guarantee(1).epsilon_release
    assert reader_attack(CENTRAL, trials=600, length=30.0) < claimed
    decode = PrivacyPlan.decode

    def privatize_unclipped(plan, vector, *, rotation_seed, rounding, noise, clip_norm=None):
        exact = encoding.rotate(vector, rotation_seed) * plan.scale
        return encoding.to_ring(encoding.stochastic_round(exact, rounding), plan.bits)

    def decode_clipped(plan, total, **of_the_round):
        found = decode(plan, total, **of_the_round)
        longest = plan.clip_norm / plan.expected_cohort
        clipped = found.mean * min(1, longest / np.linalg.norm(found.mean))
        return dataclasses.replace(found, mean=clipped)

    monkeypatch.setattr(PrivacyPlan, "privatize", privatize_unclipped)
    monkeypatch.setattr(PrivacyPlan, "decode", decode_clipped)
    assert reader_attack(CENTRAL, trials=300, length=30.0) > claimed


class Summing:
    """As much of a query as opening a sum asks for."""

    def initial(self, _):
        return GlobalState(np.zeros(CENTRAL.dimension))

    def update(self, state, mean):
        return GlobalState(state.parameters + mean)


class Served:
    """As much of a job as opening its sums asks for."""

    plan = CENTRAL
    query = Summing()
    decides_by_public_loss, defense = False, None
    staleness = 0

    def __init__(self, kept=lambda *names: names):
        self._entropy = Keyed(kept)

    def entropy(self):
        return self._entropy

    def open(self, key, total):
        """The sum of a round as it reaches the model, shape (4,)."""
        after, _ = open_sum(
            self.query, ServerState.initial(self, None), self, key, total, reporting=8
        )
        return after.summed_means * self.plan.expected_cohort


def repeated_attack(job, trials=400):
    """A reader knows all of another round, and so its noise; the phone speaks in this one, or not.

    Rounds are rotated each by its own public seed, so what is subtracted is the rotated sums.
    """
    plan, scores = job.plan, []
    for world, said in (("said", plan.clip_norm), ("silent", 0.0)):
        found = []
        for trial in range(trials):
            sums = []
            for content, key in ((said, turn(world, trial)), (0.0, turn(world, trial, "again"))):
                seed = rotation_seed(key)
                sent = plan.privatize(
                    np.array([content, 0, 0, 0]), rotation_seed=seed,
                    rounding=ENTROPY.keystream("round", key.round_id), noise=None,
                )  # fmt: skip
                sums.append(encoding.rotate(job.open(key, sent), seed))
            direction = encoding.rotate(np.array([1.0, 0, 0, 0]), rotation_seed(turn(world, trial)))
            found.append((sums[0] - sums[1]) @ direction)
        scores.append(np.array(found))
    return audited_epsilon(*scores, np.linspace(-4, 5, 10), plan.delta)


@pytest.mark.slow
def test_one_round_tells_nothing_of_another_unless_the_server_noises_both_from_one_seed():
    claimed = CENTRAL.guarantee(1).epsilon_release
    assert repeated_attack(Served()) < claimed
    assert repeated_attack(Served(lambda use, rid, attempt: (use, attempt)), 300) > claimed


def abandoning_attack(job, trials=400):
    """Others stand half a clip norm inside the longest sum that is used; the phone adds one more.

    Readers see that a round brought no model. The noise has to be in the sum by then.
    """
    plan, scores = job.plan, []
    for world, said in (("said", 0.5), ("silent", -0.5)):
        found = []
        for trial in range(trials):
            key = turn(world, trial)
            exact = np.array([plan.norm_bound + said, 0, 0, 0]) * plan.clip_norm * plan.scale
            integers = encoding.rotate(exact, rotation_seed(key)).round().astype(np.int64)
            try:
                job.open(key, encoding.to_ring(integers, plan.bits))
                found.append(0.0)
            except ProtocolAbort:
                found.append(1.0)
        scores.append(np.array(found))
    return audited_epsilon(*scores, [0.5], plan.delta), scores


@pytest.mark.slow
def test_that_a_round_is_abandoned_as_too_long_tells_no_more_than_its_noisy_sum():
    found, scores = abandoning_attack(Served())
    assert found < CENTRAL.guarantee(1).epsilon_release
    assert all(0.2 < flags.mean() < 0.8 for flags in scores)  # both happen in both worlds


@pytest.mark.slow
def test_a_round_that_is_abandoned_by_its_exact_sum_betrays_the_phone(monkeypatch):
    decode = PrivacyPlan.decode

    def decode_after_the_check(plan, total, **of_the_round):
        too_long = plan.norm_warning(total)
        return dataclasses.replace(decode(plan, total, **of_the_round), too_long=too_long)

    monkeypatch.setattr(PrivacyPlan, "decode", decode_after_the_check)
    assert abandoning_attack(Served())[0] > CENTRAL.guarantee(1).epsilon_release


EDGE = dataclasses.replace(
    CENTRAL, dimension=64, population=200, min_cohort=150, min_reporting=150, delta=5e-4
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
            total = ring_sum([encoding.to_ring(others, plan.bits), own], plan.bits)
            noise = ENTROPY.keystream("edge", name, trial)
            found.append(plan.decode(total, rotation_seed=b"public", noise=noise).mean @ direction)
        scores.append(np.array(found))
    return audited_epsilon(*scores, [0.0], plan.delta)


def test_the_noise_of_the_server_hides_a_phone_at_the_edge_of_the_ring():
    assert edge_attack(EDGE) < EDGE.guarantee(1).epsilon_release


def test_noise_that_comes_after_the_sum_is_unwrapped_hides_nothing_there(monkeypatch):
    noise = mechanisms.RoundedGaussian.of(EDGE.server_stddev)
    centered = PrivacyPlan._centered
    monkeypatch.setattr(PrivacyPlan, "_with_server_noise", lambda plan, total, stream: total)
    monkeypatch.setattr(
        PrivacyPlan,
        "_centered",
        lambda plan, total: centered(plan, total) + noise.draw(ENTROPY.keystream("late"), 64),
    )
    assert edge_attack(EDGE) > EDGE.guarantee(1).epsilon_release
