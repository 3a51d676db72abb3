"""Rounds whose phones are dealt to groups: who stands where, what is summed and what is used."""

import dataclasses

import numpy as np
import pytest
from tiny_job import TRAINING, make_job, with_plan
from whole_runs import run_reference

from fedspeech.aggregation.robust import Defense
from fedspeech.cohorts import draw_cohort, group_of_each, groups_of
from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.job import Job
from fedspeech.privacy.encoding import to_ring
from fedspeech.privacy.ledger import Ledger
from fedspeech.queries.training import AdapterTraining
from fedspeech.round import ServerState, joining, open_sum, privatize_phone, run_round

GROUPS = {
    "groups": 3, "min_cohort": 3, "min_reporting": 3, "participation_probability": 0.5, "rounds": 1,
    "max_participations": 1,
}  # fmt: skip


def asking(found):
    """A query whose phones contribute what `found(phones)` says."""

    class Asked(AdapterTraining):
        def contributions(self, phones, model, rngs):
            return found(phones)

    return Asked(
        **{each.name: getattr(TRAINING, each.name) for each in dataclasses.fields(TRAINING)}
    )


@pytest.fixture
def job(tmp_path):
    return make_job(tmp_path, **GROUPS)[1]


def test_one_phone_more_moves_no_other_to_another_group(job):
    """The trap: dealing those who came would change every sum of the round with one phone."""
    key = job.round_key(0)
    came = np.array(joining(job, key))
    with_all, without = (group_of_each(job.plan, key, phones) for phones in (came, came[1:]))
    np.testing.assert_array_equal(with_all[came[1:]], without[came[1:]])
    assert (groups_of(job, key, came) == with_all[came]).all()


def test_a_phone_that_is_no_phone_is_in_no_group(job):
    assert groups_of(job, job.round_key(0), [-1, 60, 10**9]).tolist() == [-1, -1, -1]


def test_a_group_below_the_minimum_ends_the_round(job):
    job, ended = with_plan(job, min_cohort=6), 0
    for key in map(job.round_key, range(30)):
        called = draw_cohort(job, key)
        sizes = np.bincount(groups_of(job, key, called), minlength=3)
        if sizes.min() >= 6:
            assert joining(job, key) == called.tolist()
            continue
        ended += 1
        with pytest.raises(CohortTooSmall, match=rf"in group {sizes.argmin()}, the plan's min"):
            joining(job, key)
    assert 0 < ended < 30


def test_the_server_draws_noise_of_its_own_for_each_group(tmp_path):
    _, job, arrays = make_job(tmp_path, mechanism="central", **GROUPS)
    state = ServerState.initial(job, arrays)
    nothing = np.zeros(3 * job.plan.vector_length, np.uint32)
    seen = []

    class Watched(Defense):
        def combined(self, means):
            seen.append(means)
            return super().combined(means)

    open_sum(job.query, state, dataclasses.replace(job, defense=Watched()), job.round_key(0),
             nothing, 30)  # fmt: skip
    assert len(np.unique(seen[0], axis=0)) == 3
    assert abs(np.corrcoef(seen[0])[0, 1]) < 0.6


def lying(job, liars, length):
    """What phones send where some send so many clip norms, neither clipped nor noisy."""

    def send(plan, contribution, key, phone, entropy, clip_norm):
        if phone not in liars:
            return privatize_phone(plan, contribution, key, phone, entropy, clip_norm)
        share = length * plan.scale * clip_norm / np.sqrt(plan.vector_length)
        integers = np.full(plan.vector_length, round(share), np.int64)
        return to_ring(integers, plan.bits)

    return send


def played(job, arrays, folder, send):
    quiet = asking(lambda phones: [np.zeros(job.plan.dimension, np.float32)] * len(phones))
    ledger = Ledger.open(folder / f"{id(send)}.jsonl", job.plan, job.run_id, job.noise_entropy)
    return run_round(quiet, ServerState.initial(job, arrays), job, arrays, ledger, 0, send)[0]


def test_a_group_whose_sum_is_too_long_is_left_out_and_the_others_are_used(tmp_path):
    _, job, arrays = make_job(tmp_path, **GROUPS)
    cohort = joining(job, key := job.round_key(0))
    liar = lying(job, cohort[:1], 2 * job.plan.norm_bound)
    state = played(job, arrays, tmp_path, liar)
    assert state.defended == "sums of 1 groups are too long and left out"
    assert np.linalg.norm(state.summed_means) < 0.5 * job.plan.norm_bound * job.plan.clip_norm
    groups = groups_of(job, key, cohort)
    two = [cohort[int(np.flatnonzero(groups == group)[0])] for group in (0, 1)]
    with pytest.raises(ProtocolAbort, match="longer than honest phones can make it"):
        played(job, arrays, tmp_path, lying(job, two, 2 * job.plan.norm_bound))


def test_a_median_ignores_one_attacked_group_and_a_mean_does_not(tmp_path):
    moved = {}
    for rule in ("mean", "median"):
        (folder := tmp_path / rule).mkdir()
        _, job, arrays = make_job(folder, noise_multiplier=0.3, dimension=52, **GROUPS)
        job = dataclasses.replace(job, defense=Defense(rule=rule))
        liar = lying(job, joining(job, job.round_key(0))[:1], 0.5 * job.plan.norm_bound)
        moved[rule] = np.linalg.norm(played(job, arrays, folder, liar).summed_means)
        quiet = np.linalg.norm(played(job, arrays, folder, lying(job, [], 0)).summed_means)
        assert (moved[rule] > 2 * quiet) == (rule == "mean")


def test_masked_and_ideal_sums_of_groups_are_the_same_integers(tmp_path):
    sums = []
    for way in ("ideal", "masked"):
        (folder := tmp_path / way).mkdir()
        _, job, arrays = make_job(folder, secure_aggregation=way, **GROUPS)
        totals, _ = run_reference(job, arrays, folder / "ledger.jsonl")
        assert totals[0].shape == (3 * job.plan.vector_length,)
        sums.append(totals[0])
    np.testing.assert_array_equal(*sums)


@pytest.mark.parametrize(("rise", "taken"), [(0.0, False), (10.0, True)])
def test_a_step_that_raises_the_public_loss_is_paid_for_and_not_taken(tmp_path, rise, taken):
    _, job, arrays = make_job(tmp_path, noise_multiplier=0.3)
    job = dataclasses.replace(job, defense=Defense(max_loss_rise=rise))
    worse = asking(
        lambda phones: [-np.random.default_rng(1).normal(size=52).astype(np.float32)] * len(phones)
    )
    state = ServerState.initial(job, arrays)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    after, _ = run_round(worse, state, job, arrays, ledger, 0)
    assert (after.query is not state.query) == taken
    assert after.completed == 1
    assert len(after.public_losses) == 2
    assert ("step rejected" in after.defended) == (not taken)
    assert ledger.guarantee().rounds == 1


def test_a_defense_travels_with_its_job_and_belongs_to_its_identity(tmp_path):
    path, job, _ = make_job(tmp_path, **GROUPS)
    defended = dataclasses.replace(job, defense=Defense(rule="median", max_loss_rise=0.5))
    defended.save(path)
    assert Job.load(path) == defended
    assert defended.run_id != job.run_id
