"""The readable round: what it does to the adapter, what it refuses, what it pays first."""

import dataclasses
import json
from dataclasses import fields

import numpy as np
import pytest
from tiny_job import PHONES, TRAINING, make_job

from fedspeech.cohorts import draw_cohort
from fedspeech.errors import BudgetExhausted, CohortTooSmall, ProtocolAbort
from fedspeech.job import Job
from fedspeech.privacy.adaptive_clipping import AdaptiveClipping
from fedspeech.privacy.ledger import Ledger
from fedspeech.queries.training import AdapterTraining
from fedspeech.round import (
    ServerState,
    open_sum,
    privatize_phone,
    run_round,
)
from fedspeech.secagg.protocol import Stage


def asking(found):
    """A query whose phones contribute what `found(phones)` says."""

    class Asked(AdapterTraining):
        def contributions(self, phones, model, rngs):
            return found(phones)

    return Asked(**{field.name: getattr(TRAINING, field.name) for field in fields(TRAINING)})


def constant(value, seen=None):
    """A query to which every phone contributes the same; `seen` gets the size of each cohort."""

    def found(phones):
        if seen is not None:
            seen.append(len(phones))
        return [np.full(TRAINING.dimension, value, np.float32) for _ in phones]

    return asking(found)


def open_ledger(folder, job):
    return Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)


def no_noise(folder, **plan):
    """A job in which everybody takes part and the only disturbance is rounding."""
    return make_job(
        folder, mechanism="none", noise_multiplier=0.0, epsilon_budget=float("inf"),
        participation_probability=1.0, clip_norm=5.0, **plan,
    )  # fmt: skip


def test_without_noise_the_adapter_moves_by_the_server_step_of_the_mean(tmp_path):
    _, job, arrays = no_noise(tmp_path)
    state = ServerState.initial(job, arrays)
    after, _ = run_round(constant(0.02), state, job, arrays, open_ledger(tmp_path, job), 0)
    # Server learning rate 0.5; rounding disturbs each coordinate by less than 1e-3, not their mean.
    np.testing.assert_allclose(after.model, 0.5 * 0.02, atol=1e-3)
    assert after.model.mean() == pytest.approx(0.5 * 0.02, rel=0.02)
    assert after.completed == 1
    assert (state.model == 0).all()  # states are values: the old one stays


def test_the_mean_is_over_the_expected_cohort_never_over_who_came(tmp_path):
    # Half of the phones are expected; however many join, each weighs 1 / 30.
    _, job, arrays = make_job(
        tmp_path, mechanism="none", noise_multiplier=0.0, epsilon_budget=float("inf"),
        clip_norm=5.0, participation_probability=0.5,
    )  # fmt: skip
    ledger, cohorts = open_ledger(tmp_path, job), []
    query = constant(0.02, cohorts)
    for number in range(3):
        state = ServerState.initial(job, arrays)
        after, _ = run_round(query, state, job, arrays, ledger, number)
        expected = 0.5 * 0.02 * cohorts[-1] / (0.5 * PHONES)
        assert after.model.mean() == pytest.approx(expected, rel=0.02)
    assert len(set(cohorts)) > 1


def test_a_delta_longer_than_the_clip_norm_counts_as_one_clip_norm(tmp_path):
    _, job, arrays = no_noise(tmp_path, min_cohort=40, min_reporting=40)
    job = dataclasses.replace(job, plan=dataclasses.replace(job.plan, clip_norm=0.2))
    state = ServerState.initial(job, arrays)
    after, _ = run_round(constant(1e6), state, job, arrays, open_ledger(tmp_path, job), 0)
    assert np.linalg.norm(after.model) == pytest.approx(0.5 * 0.2, rel=1e-3)


def test_the_same_round_twice_gives_the_same_integers(tmp_path):
    _, job, arrays = make_job(tmp_path)
    totals = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ledger = open_ledger(tmp_path / name, job)
        state = ServerState.initial(job, arrays)
        totals.append(run_round(constant(0.01), state, job, arrays, ledger, 0)[1])
    np.testing.assert_array_equal(*totals)


def test_a_small_cohort_is_refused_before_anything_is_paid(tmp_path):
    _, job, arrays = make_job(
        tmp_path, participation_probability=0.05, min_cohort=2, min_reporting=2, rounds=16,
        noise_multiplier=8.0, max_participations=16,
    )  # fmt: skip
    ledger, refused = open_ledger(tmp_path, job), 0
    for number in range(16):
        try:
            run_round(constant(0), ServerState.initial(job, arrays), job, arrays, ledger, number)
        except CohortTooSmall:
            refused += 1
    assert 0 < refused < 16
    assert ledger.rounds_charged == 16 - refused


def test_the_budget_is_asked_before_anything_is_trained(tmp_path):
    _, job, arrays = make_job(tmp_path)
    cheap = job.plan.guarantee(1).epsilon_release / 2
    _, job, arrays = make_job(tmp_path, epsilon_budget=cheap)

    def found(_):
        raise AssertionError("asked")

    state, ledger = ServerState.initial(job, arrays), open_ledger(tmp_path, job)
    with pytest.raises(BudgetExhausted):
        run_round(asking(found), state, job, arrays, ledger, 0)


def test_the_charge_is_on_disk_before_anything_is_trained(tmp_path):
    _, job, arrays = make_job(tmp_path)

    def found(phones):
        rows = (tmp_path / "ledger.jsonl").read_text().splitlines()
        assert [json.loads(row)["kind"] for row in rows] == ["opened", "charge"]
        return constant(0).contributions(phones, None, None)

    state, ledger = ServerState.initial(job, arrays), open_ledger(tmp_path, job)
    run_round(asking(found), state, job, arrays, ledger, 0)


@pytest.mark.parametrize("way", ["ideal", pytest.param("masked", marks=pytest.mark.slow)])
def test_a_round_that_fails_after_its_charge_is_settled_as_failed(tmp_path, monkeypatch, way):
    def mostly_gone(job, number, phone):
        return Stage.UNMASK if phone < 2 else Stage.SHARE

    _, job, arrays = make_job(tmp_path, secure_aggregation=way)
    monkeypatch.setattr(Job, "last_stage", mostly_gone)
    state, ledger = ServerState.initial(job, arrays), open_ledger(tmp_path, job)
    with pytest.raises((CohortTooSmall, ProtocolAbort)) as caught:
        run_round(constant(0), state, job, arrays, ledger, 0)
    rows = [json.loads(row) for row in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["opened", "charge", "outcome"]
    assert (rows[-1]["completed"], rows[-1]["reason"]) == (False, str(caught.value))
    assert [(run.charged, run.completed) for run in ledger.runs] == [(1, 0)]


def ratios(job, arrays, ledger, delta, rounds):
    """Signal to noise of rounds in which every phone sends one delta: each, and all so far."""
    found, seen, state = [], [], ServerState.initial(job, arrays)
    query = constant(delta, seen)
    for number in range(rounds):
        before = state
        state, total = run_round(query, state, job, arrays, ledger, number)
        _, latest = open_sum(query, before, job, job.round_key(number), total, seen[-1])
        found.append((latest, state.signal_to_noise))
    return found


def test_noise_alone_shows_no_signal_in_one_round_nor_in_all(tmp_path):
    _, job, arrays = make_job(tmp_path, rounds=12, max_participations=12)
    # Two deviations of noise alone: |mean|^2 / (d v) - 1 > 2 sqrt(2 / d), as a ratio of lengths.
    limit = (8 / job.plan.dimension) ** 0.25
    found = ratios(job, arrays, open_ledger(tmp_path, job), 0.0, 12)
    # Above the limit by chance in about 3 of 100 rounds: more than 3 of 12, error under 1e-3.
    assert sum(latest > limit for latest, _ in found) <= 3
    assert found[-1][1] <= 1.5 * limit


def test_signal_to_noise_of_a_known_signal_grows_like_the_root_of_rounds(tmp_path):
    _, job, arrays = make_job(
        tmp_path, rounds=9, max_participations=9, participation_probability=1.0
    )
    plan, delta = job.plan, 0.02
    found = ratios(job, arrays, open_ledger(tmp_path, job), delta, 9)
    expected = delta * plan.dimension**0.5 / plan.noise_norm(PHONES)
    # With d = 52 the estimate's relative deviation in one round is about 0.1 here.
    assert np.mean([latest for latest, _ in found]) == pytest.approx(expected, rel=0.15)
    assert found[-1][1] == pytest.approx(3 * expected, rel=0.15)


def test_without_noise_there_is_no_ratio(tmp_path):
    _, job, arrays = make_job(
        tmp_path, mechanism="none", noise_multiplier=0.0, epsilon_budget=float("inf")
    )
    nothing = np.zeros(job.plan.vector_length, np.uint32)
    state = ServerState.initial(job, arrays)
    after, latest = open_sum(job.query, state, job, job.round_key(0), nothing, 20)
    assert (latest, after.signal_to_noise) == (None, None)


def test_the_cap_on_a_cohort_holds_when_it_is_drawn(tmp_path):
    _, job, _ = make_job(
        tmp_path, mechanism="central", secure_aggregation="ideal", cohort_cap=32,
        noise_entropy="os",
        participation_probability=0.5, rounds=3, max_participations=3,
    )  # fmt: skip
    uncapped = dataclasses.replace(job, plan=dataclasses.replace(job.plan, cohort_cap=None))
    free = [len(draw_cohort(uncapped, uncapped.round_key(number))) for number in range(200)]
    assert sum(size > 32 for size in free) > 20, "or the cap is never met"
    for number in range(200):
        assert len(draw_cohort(job, job.round_key(number))) <= 32


class Recording:
    """A source of keystreams that remembers what for each was opened and how much was read."""

    def __init__(self, source):
        self._source, self.opened = source, {}

    def keystream(self, *names):
        assert names not in self.opened, "one keystream, one use"
        self.opened[names] = self._source.keystream(*names)
        return self.opened[names]


@pytest.mark.parametrize("adaptive", [False, True])
def test_rounding_and_noise_of_a_phone_have_keystreams_of_their_own(tmp_path, adaptive):
    clipping = AdaptiveClipping(
        target_quantile=0.5, bit_noise=4.0, min_clip_norm=0.01, max_clip_norm=10.0
    )
    _, job, _ = make_job(tmp_path, adaptive_clipping=clipping if adaptive else None)
    plan, key, entropy = job.plan, job.round_key(0), Recording(job.entropy())
    delta = np.full(plan.dimension, 0.01, np.float32)
    for phone in range(3):
        privatize_phone(plan, delta, key, phone, entropy, plan.clip_norm)
    purposes = {names[0] for names in entropy.opened}
    assert purposes == {"rounding", "noise"}
    assert len(entropy.opened) == 6
    for names, stream in entropy.opened.items():
        words = plan.padded_dimension + (adaptive and names[0] == "noise")
        read = 8 * words
        # Rounding starts over where the norm came out too long, as many times as it takes.
        assert stream._num_read % read == 0 if names[0] == "rounding" else stream._num_read == read
    first = [stream.bytes(16) for stream in entropy.opened.values()]
    assert len(set(first)) == 6
