"""A phone keeps its own rules, whatever the server asks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_job import make_job

from clients.app import _nothing_told as nothing_told
from clients.client_shard import Fleet
from clients.permissions import require_permission, require_turn
from clients.state import FleetState
from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.messages import RosterRequest, UpdateRequest
from fedspeech.secagg.protocol import Stage


def turn(fleet, request, state):
    """Whether it is the turn of a request, as the app asks before it has it answered."""
    require_turn(request, require_permission(request, fleet.job.plan), fleet.job, state)


@pytest.fixture
def joined(tmp_path):
    """A fleet of all phones that has joined round 0."""
    _, job, arrays = make_job(tmp_path, num_shards=1, eye=str(tmp_path / "eye"))
    fleet = Fleet(job, 0)
    key = job.round_key(0)
    roster, state = fleet.join(RosterRequest(key=key), FleetState())
    request = UpdateRequest(
        key=key, model=arrays.initial, clip_norm=job.plan.clip_norm, roster=roster.phones
    )
    return job, fleet, request, state.answered(Stage.ADVERTISE, b"")


def test_a_repeated_request_is_refused_and_never_recomputed(joined):
    _, fleet, request, state = joined
    turn(fleet, request, state)
    _, state = fleet.update(request, state)
    with pytest.raises(ProtocolAbort, match="no second answer"):
        turn(fleet, request, state.answered(Stage.MASK, b""))


def test_a_replayed_roster_request_is_refused(joined):
    _, fleet, request, state = joined
    with pytest.raises(ProtocolAbort, match="replayed"):
        fleet.join(RosterRequest(key=request.key), state)


def test_a_round_beyond_the_plan_is_refused(joined):
    """The mass of running into the quota is that of so many coins and no more."""
    job, fleet, _, state = joined
    fleet.join(RosterRequest(key=job.round_key(job.plan.rounds - 1)), state)
    with pytest.raises(ProtocolAbort, match="beyond the plan, which ends after 3 rounds"):
        fleet.join(RosterRequest(key=job.round_key(job.plan.rounds)), state)


def test_an_update_for_a_round_that_nobody_joined_is_refused(joined):
    job, fleet, request, state = joined
    with pytest.raises(ProtocolAbort, match="not the session that these phones are in"):
        turn(fleet, dataclasses.replace(request, key=job.round_key(1)), state)


def test_a_server_with_another_plan_is_refused(joined):
    job, fleet, _, _ = joined
    other = dataclasses.replace(job, plan=dataclasses.replace(job.plan, noise_multiplier=0.9))
    with pytest.raises(ProtocolAbort, match="not this phone's"):
        turn(fleet, RosterRequest(key=other.round_key(0)), FleetState())


def test_a_roster_that_adds_or_leaves_out_phones_of_the_shard_is_refused(joined):
    _, fleet, request, state = joined
    absent = np.setdiff1d(np.arange(60), request.roster)[:1]
    for roster in (request.roster[1:], np.sort(np.append(request.roster, absent))):
        with pytest.raises(ProtocolAbort, match="not what shard 0 sent"):
            fleet.update(dataclasses.replace(request, roster=roster), state)


def test_a_cohort_below_the_phones_own_floor_is_refused(tmp_path):
    _, job, arrays = make_job(tmp_path, num_shards=3)
    fleet = Fleet(job, 1)
    key = job.round_key(0)
    roster, state = fleet.join(RosterRequest(key=key), FleetState())
    alone = UpdateRequest(
        key=key, model=arrays.initial, clip_norm=job.plan.clip_norm, roster=roster.phones
    )
    with pytest.raises(CohortTooSmall, match="at least 15 phones"):
        fleet.update(alone, state)


def test_the_count_of_sent_inputs_grows_for_survivors_only(joined):
    _, fleet, request, state = joined
    update, state = fleet.update(request, state)
    np.testing.assert_array_equal(state.senders, update.survivors)
    np.testing.assert_array_equal(state.inputs_sent, np.ones_like(update.survivors))


@pytest.mark.slow
@given(rounds=st.lists(st.sets(st.integers(40, 50)), max_size=6))
def test_counts_are_kept_of_those_who_sent_and_of_nobody_else(rounds):
    state, everybody = FleetState(), np.arange(40, 51)
    for phones in rounds:
        state = state.counting(np.array(sorted(phones), dtype=np.int64))
    expected = [sum(phone in phones for phones in rounds) for phone in everybody]
    np.testing.assert_array_equal(state.sent_by(everybody), expected)
    assert len(state.senders) == len(set().union(*rounds))


def test_a_phone_beyond_its_quota_does_not_join(tmp_path):
    _, job, _ = make_job(tmp_path, num_shards=1, participation_probability=1.0, quota=2)
    fleet = Fleet(job, 0)
    tired = FleetState(senders=np.arange(10, 60), inputs_sent=np.repeat([1, 2], [20, 30]))
    roster, _ = fleet.join(RosterRequest(key=job.round_key(0)), tired)
    np.testing.assert_array_equal(roster.phones, np.arange(30))


def test_a_quota_counts_anew_in_the_next_window(tmp_path):
    _, job, arrays = make_job(
        tmp_path, num_shards=1, participation="limited", participation_probability=1.0, quota=2,
        quota_window=2, rounds=4,
    )  # fmt: skip
    fleet, state, joined = Fleet(job, 0), FleetState(), []
    for number in range(4):
        key = job.round_key(number)
        roster, state = fleet.join(RosterRequest(key=key), state)
        joined.append(len(roster.phones))
        request = UpdateRequest(key=key, model=arrays.initial, clip_norm=0.2, roster=roster.phones)
        _, state = fleet.update(request, state)
        assert set(state.inputs_sent) == {number % 2 + 1}
    assert joined == [60] * 4


def test_a_clip_norm_that_is_not_the_plans_is_refused(joined):
    _, fleet, request, state = joined
    with pytest.raises(ProtocolAbort, match=r"does not clip to clip_norm=0\.21"):
        fleet.update(dataclasses.replace(request, clip_norm=0.21), state)


@pytest.mark.parametrize("changes", [{"participation": "fixed_size"}, {"cohort_cap": 32}])
def test_a_cohort_that_the_server_draws_is_one_cohort_under_real_noise_too(tmp_path, changes):
    """Each shard draws for itself; only the round's id makes it the same draw."""
    _, job, _ = make_job(tmp_path, noise="os", **changes)
    key = job.round_key(0)
    joined = [
        Fleet(job, shard).join(RosterRequest(key=key), FleetState())[0].phones for shard in range(3)
    ]
    assert 20 < len(np.concatenate(joined)) <= (30 if "participation" in changes else 32)
    again = Fleet(job, 0).join(RosterRequest(key=job.round_key(0)), FleetState())[0].phones
    assert not np.array_equal(again, joined[0])  # another id, another draw: 1 in 10^4 by chance


def test_coins_are_tossed_once_a_round_however_often_its_session_starts(tmp_path):
    _, job, _ = make_job(tmp_path, num_shards=1, noise="os", secure_aggregation="masked")
    fleet, key = Fleet(job, 0), job.round_key(0)
    state = fleet.enter(key, 0, FleetState())
    assert np.array_equal(fleet.enter(key, 1, state).joined, state.joined)


def test_what_the_simulator_sees_is_the_exact_sum_and_stays_out_of_the_message(joined, tmp_path):
    job, fleet, request, state = joined
    update, _ = fleet.update(request, state)
    (file,) = (tmp_path / "eye").glob("*.npz")
    left = np.load(file)
    wrapped = (left["exact_sum"] % job.plan.modulus).astype(np.uint32)
    np.testing.assert_array_equal(wrapped, update.total)
    assert len(left["delta_norms"]) == len(update.survivors)


def test_the_text_of_an_unforeseen_error_stays_in_the_shard():
    with (
        pytest.raises(ProtocolAbort, match="a ValueError in this shard") as refusal,
        nothing_told(),
    ):
        raise ValueError("phone 17 said 'call arun'")
    assert "arun" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_round_has_one_toss_however_often_the_server_names_it(tmp_path):
    """Tossing until a phone comes would force its presence. (60 coins agree once in 2^60.)"""
    _, job, _ = make_job(tmp_path, num_shards=1, noise="os")
    fleet = Fleet(job, 0)
    first, state = fleet.join(RosterRequest(key=job.round_key(0)), FleetState())
    again, state = fleet.join(RosterRequest(key=job.round_key(0, attempt=1)), state)
    np.testing.assert_array_equal(first.phones, again.phones)
    later, _ = fleet.join(RosterRequest(key=job.round_key(1)), state)
    assert not np.array_equal(first.phones, later.phones)
