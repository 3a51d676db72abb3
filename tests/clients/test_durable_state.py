"""What phones must not forget outlives every process, and goes back under seeded noise only."""

import dataclasses
import hashlib
import os

import numpy as np
import pytest

from clients.durable_state import DurableState, alone, go_back
from clients.state import SessionState, ShardState
from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.messages import RoundKey
from fedspeech.secagg.exchange import History
from fedspeech.secagg.protocol import CohortList, Members, Stage

JOB = "ab" * 32
STATE = ShardState(
    senders=np.array([21, 25]), inputs_sent=np.array([3, 1]),
    last_sent=np.array([6, 4]), joined=np.array([22, 30]),
    key=RoundKey(round=7, attempt=2, round_id=bytes(range(16)), context=bytes(range(32))),
    history=History(round=7, session=2, stage=Stage.SHARE), session_sha256=bytes(range(1, 33)),
)  # fmt: skip


def test_every_field_of_a_shards_state_outlives_its_node():
    fresh, read = ShardState(), ShardState.from_bytes(STATE.to_bytes(JOB), JOB)
    for field in dataclasses.fields(ShardState):  # a new field must be kept, and set here
        assert repr(getattr(STATE, field.name)) != repr(getattr(fresh, field.name)), field.name
        np.testing.assert_equal(getattr(read, field.name), getattr(STATE, field.name))


@pytest.mark.parametrize(
    "damage", [lambda kept: b"", lambda kept: kept[:-1], lambda kept: b"fleet"]
)
def test_memory_that_is_damaged_or_of_another_version_is_refused_and_never_taken_for_none(damage):
    with pytest.raises(ProtocolAbort, match="damaged, or was written by another version"):
        ShardState.from_bytes(damage(STATE.to_bytes(JOB)), JOB)


def test_memory_of_another_job_is_refused_by_name():
    with pytest.raises(ProtocolAbort, match="belongs to job abababababab, not to cdcdcdcdcdcd"):
        ShardState.from_bytes(STATE.to_bytes(JOB), "cd" * 32)


def test_a_session_is_read_back_whole_and_only_under_its_own_digest():
    cohort_list = CohortList(
        members=Members(np.array([3, 8])),
        **{
            name: np.arange(2 * width, dtype=np.uint8).reshape(2, width) + start
            for name, width, start in (
                ("seal_keys", 32, 0), ("mask_keys", 32, 100), ("commitments", 32, 0),
                ("signatures", 64, 0),
            )
        },
    )  # fmt: skip
    session = SessionState(
        model_sha256=bytes(range(32)), cohort_list=cohort_list,
        nonces=(bytes(32), bytes(range(32))),
        sharers=Members(np.array([3, 8])), reporting=Members(np.array([8])),
        secrets={8: b"of eight", 3: b"", 5: b"of five"},
    )  # fmt: skip
    kept = session.to_bytes()
    read = SessionState.from_bytes(kept, hashlib.sha256(kept).digest())
    assert read.cohort_list.digest == cohort_list.digest
    assert (read.model_sha256, read.nonces) == (session.model_sha256, session.nonces)
    assert (read.sharers.digest, read.reporting.digest) == (
        session.sharers.digest, session.reporting.digest,
    )  # fmt: skip
    assert read.secrets == session.secrets
    older = dataclasses.replace(session, reporting=None).to_bytes()
    with pytest.raises(ProtocolAbort, match="not the one that its phones answered last"):
        SessionState.from_bytes(older, hashlib.sha256(kept).digest())


def test_the_last_two_rounds_are_kept_and_a_seeded_goes_back_to_the_one_before(tmp_path):
    memory = DurableState(tmp_path / "phones", 3)
    assert memory.read() is None
    for number in (0, 2, 5):
        memory.write(number, b"entered %d" % number)
    memory.write(5, b"sent 5")
    assert memory.read() == b"sent 5"
    assert len(list((tmp_path / "phones").glob("shard-*"))) == 2
    assert DurableState(tmp_path / "phones", 4).read() is None
    go_back(tmp_path / "phones", 5, "seeded")
    assert memory.read() == b"entered 2"
    with pytest.raises(FedspeechError, match="under seeded noise only"):
        go_back(tmp_path / "phones", 2, "os")
    assert memory.read() == b"entered 2"


def test_nobody_hosts_phones_while_they_are_set_back(tmp_path):
    DurableState(tmp_path / "phones", 0)
    with alone(tmp_path / "phones"), pytest.raises(ProtocolAbort, match="being set back"):
        DurableState(tmp_path / "phones", 0)
    DurableState(tmp_path / "phones", 0)


def test_rounds_are_told_apart_by_number_and_not_by_name(tmp_path):
    memory = DurableState(tmp_path / "phones", 0)
    for number in (99_999, 100_000):
        memory.write(number, b"%d" % number)
    assert memory.read() == b"100000"


def test_one_message_is_answered_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("clients.durable_state._WAIT_S", 0.1)
    with (
        DurableState(tmp_path / "phones", 3).held(),
        DurableState(tmp_path / "phones", 4).held(),
        pytest.raises(ProtocolAbort, match="busy with another message"),
        DurableState(tmp_path / "phones", 3).held(),
    ):
        pass
    with DurableState(tmp_path / "phones", 3).held():
        pass


@pytest.mark.parametrize(("lasting", "syncs"), [(True, 2), (False, 0)])
def test_what_lasts_is_flushed_to_the_disk_with_its_name(tmp_path, monkeypatch, lasting, syncs):
    flushed, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(file), real(file)))
    memory = DurableState(tmp_path / "phones", 0, lasting=lasting)
    memory.write(0, b"entered 0")
    assert len(flushed) == syncs
    assert memory.read() == b"entered 0"
