"""A phone keeps its own rules, whatever the server asks."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_job import make_job

from clients.app import _nothing_told as nothing_told
from clients.client_shard import ClientShard
from clients.permissions import require_permission, require_turn
from clients.state import ShardState
from fedspeech.cohorts import draw_cohort
from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.messages import CohortListRequest, UpdateRequest
from fedspeech.privacy.factorization import Factorization
from fedspeech.secagg.exchange import History
from fedspeech.secagg.protocol import Stage


def turn(client_shard, request, state):
    """Whether it is the turn of a request, as the app asks before it has it answered."""
    require_turn(
        request, require_permission(request, client_shard.job.plan), client_shard.job, state
    )


@pytest.fixture
def joined(tmp_path):
    """A shard of all phones that has joined round 0."""
    _, job, arrays = make_job(
        tmp_path, num_shards=1, simulation_only=str(tmp_path / "simulation_only")
    )
    client_shard = ClientShard(job, 0)
    key = job.round_key(0)
    cohort_list, state = client_shard.join(CohortListRequest(key=key), ShardState())
    request = UpdateRequest(
        key=key, model=arrays.initial, clip_norm=job.plan.clip_norm, cohort_list=cohort_list.phones
    )
    return job, client_shard, request, state.answered(Stage.ADVERTISE, b"")


def test_a_repeated_request_is_refused_and_never_recomputed(joined):
    _, client_shard, request, state = joined
    turn(client_shard, request, state)
    _, state = client_shard.update(request, state)
    with pytest.raises(ProtocolAbort, match="no second answer"):
        turn(client_shard, request, state.answered(Stage.MASK, b""))


def test_a_replayed_cohort_list_request_is_refused(joined):
    _, client_shard, request, state = joined
    with pytest.raises(ProtocolAbort, match="replayed"):
        client_shard.join(CohortListRequest(key=request.key), state)


def test_a_round_beyond_the_plan_is_refused(joined):
    """The mass of running into the participation limit is that of so many coins and no more."""
    job, client_shard, _, state = joined
    client_shard.join(CohortListRequest(key=job.round_key(job.plan.rounds - 1)), state)
    with pytest.raises(ProtocolAbort, match="beyond the plan, which ends after 3 rounds"):
        client_shard.join(CohortListRequest(key=job.round_key(job.plan.rounds)), state)


def test_an_update_for_a_round_that_nobody_joined_is_refused(joined):
    job, client_shard, request, state = joined
    with pytest.raises(ProtocolAbort, match="not the session that these phones are in"):
        turn(client_shard, dataclasses.replace(request, key=job.round_key(1)), state)


def test_a_server_with_another_plan_is_refused(joined):
    job, client_shard, _, _ = joined
    other = dataclasses.replace(job, plan=dataclasses.replace(job.plan, noise_multiplier=0.9))
    with pytest.raises(ProtocolAbort, match="not this phone's"):
        turn(client_shard, CohortListRequest(key=other.round_key(0)), ShardState())


def test_a_cohort_list_that_adds_or_leaves_out_phones_of_the_shard_is_refused(joined):
    _, client_shard, request, state = joined
    absent = np.setdiff1d(np.arange(60), request.cohort_list)[:1]
    for cohort_list in (request.cohort_list[1:], np.sort(np.append(request.cohort_list, absent))):
        with pytest.raises(ProtocolAbort, match="not what shard 0 sent"):
            client_shard.update(dataclasses.replace(request, cohort_list=cohort_list), state)


def test_a_cohort_below_the_phones_own_minimum_is_refused(tmp_path):
    _, job, arrays = make_job(tmp_path, num_shards=3)
    client_shard = ClientShard(job, 1)
    key = job.round_key(0)
    cohort_list, state = client_shard.join(CohortListRequest(key=key), ShardState())
    alone = UpdateRequest(
        key=key, model=arrays.initial, clip_norm=job.plan.clip_norm, cohort_list=cohort_list.phones
    )
    with pytest.raises(CohortTooSmall, match="at least 15 phones"):
        client_shard.update(alone, state)


def test_the_count_of_sent_inputs_grows_for_reporting_only(joined):
    _, client_shard, request, state = joined
    update, state = client_shard.update(request, state)
    np.testing.assert_array_equal(state.senders, update.reporting)
    np.testing.assert_array_equal(state.inputs_sent, np.ones_like(update.reporting))


@pytest.mark.slow
@given(rounds=st.lists(st.sets(st.integers(40, 50)), max_size=6))
def test_counts_are_kept_of_those_who_sent_and_of_nobody_else(rounds):
    state, everybody = ShardState(), np.arange(40, 51)
    for number, phones in enumerate(rounds):
        state = state.counting(np.array(sorted(phones), dtype=np.int64), number)
    expected = [sum(phone in phones for phones in rounds) for phone in everybody]
    np.testing.assert_array_equal(state.sent_by(everybody), expected)
    joined = [[n for n, phones in enumerate(rounds) if phone in phones] for phone in everybody]
    last = [max(numbers, default=-1) for numbers in joined]
    np.testing.assert_array_equal(state.last_sent_by(everybody), last)
    assert len(state.senders) == len(set().union(*rounds))


def test_a_phone_beyond_its_participation_limit_does_not_join(tmp_path):
    _, job, _ = make_job(
        tmp_path, num_shards=1, participation_probability=1.0, max_participations=2
    )
    client_shard = ClientShard(job, 0)
    tired = ShardState(
        senders=np.arange(10, 60),
        inputs_sent=np.repeat([1, 2], [20, 30]),
        last_sent=np.full(50, -1),
    )
    cohort_list, _ = client_shard.join(CohortListRequest(key=job.round_key(0)), tired)
    np.testing.assert_array_equal(cohort_list.phones, np.arange(30))


def test_a_participation_limit_counts_anew_in_the_next_window(tmp_path):
    _, job, arrays = make_job(
        tmp_path, num_shards=1, participation="round_robin", participation_probability=1.0,
        max_participations=2,
        participation_window=2, rounds=4,
    )  # fmt: skip
    client_shard, state, joined = ClientShard(job, 0), ShardState(), []
    for number in range(4):
        key = job.round_key(number)
        cohort_list, state = client_shard.join(CohortListRequest(key=key), state)
        joined.append(len(cohort_list.phones))
        request = UpdateRequest(
            key=key, model=arrays.initial, clip_norm=0.2, cohort_list=cohort_list.phones
        )
        _, state = client_shard.update(request, state)
        assert set(state.inputs_sent) == {number % 2 + 1}
    assert joined == [60] * 4


def test_a_clip_norm_that_is_not_the_plans_is_refused(joined):
    _, client_shard, request, state = joined
    with pytest.raises(ProtocolAbort, match=r"does not clip to clip_norm=0\.21"):
        client_shard.update(dataclasses.replace(request, clip_norm=0.21), state)


@pytest.mark.parametrize("changes", [{"participation": "fixed_size"}, {"cohort_cap": 32}])
def test_a_cohort_that_the_server_draws_is_one_cohort_under_real_noise_too(tmp_path, changes):
    """Each shard draws for itself; only the round's id makes it the same draw.

    Of 60 coins at most 8 fall on heads with probability 2.9e-9, and two draws agree by chance with
    less than 1e-16: false alarms under 3e-9.
    """
    _, job, _ = make_job(tmp_path, noise_entropy="os", **changes)

    def cohort(key):
        request = CohortListRequest(key=key)
        shards = [ClientShard(job, shard).join(request, ShardState())[0] for shard in range(3)]
        return np.concatenate([shard.phones for shard in shards])

    key = job.round_key(0)
    drawn = draw_cohort(job, key)
    np.testing.assert_array_equal(cohort(key), drawn)
    fixed = "participation" in changes
    assert len(drawn) == 30 if fixed else 8 < len(drawn) <= 32
    assert not np.array_equal(cohort(job.round_key(0)), drawn)  # another id, another draw


def test_coins_are_tossed_once_a_round_however_often_its_session_starts(tmp_path):
    _, job, _ = make_job(tmp_path, num_shards=1, noise_entropy="os", secure_aggregation="masked")
    client_shard, key = ClientShard(job, 0), job.round_key(0)
    state = client_shard.enter(key, 0, ShardState())
    assert np.array_equal(client_shard.enter(key, 1, state).joined, state.joined)


def test_what_the_simulator_sees_is_the_exact_sum_and_stays_out_of_the_message(joined, tmp_path):
    job, client_shard, request, state = joined
    update, _ = client_shard.update(request, state)
    (file,) = (tmp_path / "simulation_only").glob("*.npz")
    left = np.load(file)
    wrapped = (left["exact_sum"] % job.plan.modulus).astype(np.uint32)
    np.testing.assert_array_equal(wrapped, update.total)
    assert len(left["delta_norms"]) == len(update.reporting)


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
    _, job, _ = make_job(tmp_path, num_shards=1, noise_entropy="os")
    client_shard = ClientShard(job, 0)
    first, state = client_shard.join(CohortListRequest(key=job.round_key(0)), ShardState())
    again, state = client_shard.join(CohortListRequest(key=job.round_key(0, attempt=1)), state)
    np.testing.assert_array_equal(first.phones, again.phones)
    later, _ = client_shard.join(CohortListRequest(key=job.round_key(1)), state)
    assert not np.array_equal(first.phones, later.phones)


CORRELATED = {
    "mechanism": "matrix_factorization", "participation": "round_robin",
    "participation_probability": 0.5, "rounds": 6, "max_participations": 3,
    "factorization": Factorization(min_separation=2, bands=2), "min_cohort": 15,
}  # fmt: skip


@pytest.mark.parametrize("window", [None, 2])
def test_a_phone_that_sent_too_lately_does_not_join_whatever_its_server_says(tmp_path, window):
    """A turn each second round: a state that says the last round was the one before stays away."""
    _, job, _ = make_job(tmp_path, num_shards=1, **CORRELATED, participation_window=window)
    client_shard, key = ClientShard(job, 0), job.round_key(2)
    turn = draw_cohort(job, key)
    for last, joins in ((0, True), (1, False)):
        state = dataclasses.replace(
            ShardState(history=History(round=1)),
            senders=turn, inputs_sent=np.ones_like(turn), last_sent=np.full_like(turn, last),
        )  # fmt: skip
        cohort_list, _ = client_shard.join(CohortListRequest(key=key), state)
        assert len(cohort_list.phones) == (len(turn) if joins else 0)
    # Kept with everything else that a phone must not forget, and by the round that it was sent in.
    _, entered = client_shard.join(CohortListRequest(key=key), ShardState())
    kept = entered.counting(turn[:3], 2).to_bytes(job.fingerprint)
    back = ShardState.from_bytes(kept, job.fingerprint)
    np.testing.assert_array_equal(back.last_sent, [2, 2, 2])


def test_a_phone_that_has_joined_as_often_as_it_may_stays_away_however_long_ago(tmp_path):
    _, job, _ = make_job(tmp_path, num_shards=1, **CORRELATED)
    client_shard, key = ClientShard(job, 0), job.round_key(5)
    turn = draw_cohort(job, key)
    state = ShardState(
        senders=turn, inputs_sent=np.full_like(turn, 3), last_sent=np.zeros_like(turn)
    )
    assert not len(client_shard.join(CohortListRequest(key=key), state)[0].phones)
