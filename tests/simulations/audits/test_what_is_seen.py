"""Transcripts of one run: over messages and by the functions of a round, bit for bit."""

import dataclasses

import numpy as np
import pytest
from tiny_job import make_job
from whole_runs import run_reference

from fedspeech.audits.observed_sums import observed
from fedspeech.job import rotation_seed
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState, run_round
from simulations.audits.playing import play
from simulations.audits.wire import for_network, for_reader, recorded, traffic

CORRELATED = {
    "mechanism": "matrix_factorization", "participation": "round_robin",
    "factorization": Factorization(min_separation=2, bands=2, momentum=0.5),
}  # fmt: skip
WAYS = [
    {"secure_aggregation": "masked", "dropout_rate": 0.1, "rounds": 2},
    pytest.param({"mechanism": "central"}, marks=pytest.mark.slow),
    pytest.param(CORRELATED, marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", WAYS, ids=("masked", "central", "correlated"))
def test_sums_of_a_transcript_are_those_of_the_run(tmp_path, changes):
    _, job, arrays = make_job(tmp_path, **changes)
    totals, state = run_reference(job, arrays, tmp_path / "reference.jsonl")
    played = play(job, arrays)
    seen, wire = played.seen_by("server", masked=True), recorded(job)
    assert len(seen.rounds) == len(wire.rounds) == job.plan.rounds
    noise = state.noise
    for one, over_messages, total in zip(seen.rounds, wire.rounds, totals, strict=True):
        key = job.round_key(one.number)
        decoded = job.plan.decode(
            total,
            rotation_seed=rotation_seed(key),
            noise=job.entropy().keystream("server noise", key.round_id, key.attempt)
            if noise is None
            else noise.row(key.round),
        )
        expected = decoded.mean * job.plan.expected_cohort
        np.testing.assert_array_equal(one.total, expected)
        np.testing.assert_array_equal(over_messages.total, expected)
        np.testing.assert_array_equal(one.senders, over_messages.senders)
        np.testing.assert_array_equal(one.sent, over_messages.sent)
    np.testing.assert_array_equal(seen.releases[-1], state.model)
    np.testing.assert_array_equal(wire.releases, seen.releases)


def test_a_server_under_masks_has_no_single_contribution(tmp_path):
    _, job, arrays = make_job(tmp_path, secure_aggregation="masked", rounds=1)
    wire = recorded(job)
    assert not wire.single
    assert all(one.singles is None for one in wire.rounds)
    assert wire.observations.shape == (1, job.plan.dimension)
    assert not play(job, arrays).seen_by("server", masked=True).single
    assert not for_reader(wire).rounds[0].senders.size
    network = for_network(wire)
    assert not network.rounds
    assert not len(network.releases)
    kinds = {kind for kind, *_ in traffic(network)}
    assert {"query.advertise", "train.masked", "query.unmask"} <= kinds


def test_without_masks_the_singles_add_up_to_the_sum(tmp_path):
    """Of a plan whose phones add the noise; rounding of the decoded rows to float32 is all."""
    _, job, arrays = make_job(tmp_path, rounds=1)
    seen = play(job, arrays).seen_by("server", masked=False).rounds[0]
    assert len(seen.singles) == len(seen.senders)
    np.testing.assert_allclose(seen.singles.sum(0), seen.total, atol=1e-5)
    apart = np.linalg.norm(seen.singles - seen.singles[0], axis=1)
    assert (apart[1:] > 0.01).all()


def test_who_is_absent_contributes_noise_alone(tmp_path):
    without = {"mechanism": "none", "noise_multiplier": 0.0, "epsilon_budget": float("inf")}
    _, job, arrays = make_job(tmp_path, rounds=1, **without)
    reporting = play(job, arrays).rounds[0].reporting
    gone = int(reporting[0])
    seen = play(job, arrays, absent={gone}).rounds[0]
    np.testing.assert_array_equal(seen.reporting, reporting)
    assert not seen.singles[0].any()
    assert np.abs(seen.singles[1:]).max() > 0.001


def test_a_phone_keeps_its_participation_limit(tmp_path):
    _, job, arrays = make_job(tmp_path, max_participations=1, rounds=2, min_cohort=10)
    rounds = play(job, arrays).rounds
    seen = np.concatenate([one.reporting for one in rounds])
    assert len(np.unique(seen)) == len(seen)


def test_noise_of_the_operating_system_is_refused(tmp_path):
    _, job, arrays = make_job(tmp_path)
    job = dataclasses.replace(job, noise_entropy="os")
    with pytest.raises(ValueError, match="noise_entropy must be"):
        play(job, arrays)


def test_a_member_of_cohorts_has_its_cohort_and_its_own_vector(tmp_path):
    _, job, arrays = make_job(tmp_path)
    run = play(job, arrays)
    member = int(run.busiest[0])
    seen, server = run.seen_by("cohort_member", masked=True, member=member), run.rounds
    assert any(one.own is not None for one in seen.rounds)
    for one, whole in zip(seen.rounds, server, strict=True):
        assert (one.own is not None) == (member in whole.reporting)
        if one.own is None:
            continue
        np.testing.assert_array_equal(one.senders, whole.cohort)
        (row,) = np.flatnonzero(whole.reporting == member)
        np.testing.assert_array_equal(one.own, whole.singles[row])
        optimizer = job.query.optimizer
        others = observed(seen, optimizer)[one.number]
        np.testing.assert_allclose(others, whole.totals[0] - one.own, atol=1e-3)


def test_a_server_sees_a_sum_of_each_group_and_the_mean_is_that_of_the_run(tmp_path):
    changes = {"groups": 3, "secure_aggregation": "ideal", "mechanism": "central", "rounds": 2}
    _, job, arrays = make_job(tmp_path, phones=120, min_cohort=12, min_reporting=10, **changes)
    run = play(job, arrays)
    seen = run.seen_by("server", masked=True)
    assert len(seen.rounds) == 3 * len(run.rounds) == 6
    for one in run.rounds:
        parts = [set(two.senders) for two in seen.rounds if two.number == one.number]
        assert sum(map(len, parts)) == len(one.reporting)
        assert set.union(*parts) == set(one.reporting)
    ledger = Ledger.open(
        tmp_path / "groups.jsonl", job.plan, job.run_id, job.noise_entropy, scratch=True
    )
    state, query = ServerState.initial(job, arrays), job.query.on(arrays)
    for number in range(2):
        state, _ = run_round(query, state, job, arrays, ledger, number)
    np.testing.assert_array_equal(run.releases[-1], state.model)
