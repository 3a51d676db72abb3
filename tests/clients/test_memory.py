"""What phones must not forget outlives every process, and goes back in a rehearsal only."""

import dataclasses

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from tiny_job import make_job

import clients.app
from clients.fleet import Fleet, FleetState
from clients.memory import Memory, alone, go_back
from fedspeech.errors import FedspeechError, ProtocolAbort
from fedspeech.secagg.exchange import History


def context():
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})


@pytest.fixture
def fleet(tmp_path):
    _, job, _ = make_job(tmp_path)
    return Fleet(dataclasses.replace(job, memory=str(tmp_path / "phones")), 1)


def test_every_field_of_a_shards_state_outlives_its_node(fleet):
    state = FleetState(
        senders=np.array([21, 25]), inputs_sent=np.array([3, 1]), rid=bytes(range(16)),
        joined=np.array([22, 30]), history=History(round=7, session=2, masked=True),
    )  # fmt: skip
    fresh = FleetState()
    for field in dataclasses.fields(FleetState):  # a new field must be kept, and set here
        assert repr(getattr(state, field.name)) != repr(getattr(fresh, field.name)), field.name
    clients.app._keep_state(context(), fleet, state)
    read = clients.app._read_state(context(), fleet)
    for field in dataclasses.fields(FleetState):
        np.testing.assert_equal(getattr(read, field.name), getattr(state, field.name))


def test_memory_of_another_version_is_refused_by_name(fleet, tmp_path):
    kept = context()
    clients.app._keep_state(kept, fleet, FleetState())
    del kept.state.array_records["phones"]["senders"]
    kept.state["fleet"]["another"] = 1
    del kept.state["fleet"]["rid"]
    with pytest.raises(ProtocolAbort, match="written by another version of fedspeech"):
        clients.app._read_state(kept, fleet)


def test_the_last_two_rounds_are_kept_and_a_rehearsal_goes_back_to_the_one_before(tmp_path):
    memory = Memory(tmp_path / "phones", 3)
    assert memory.read() is None
    for number in (0, 2, 5):
        memory.write(number, b"entered %d" % number)
    memory.write(5, b"sent 5")
    assert memory.read() == b"sent 5"
    assert len(list((tmp_path / "phones").glob("shard-*"))) == 2
    assert Memory(tmp_path / "phones", 4).read() is None
    go_back(tmp_path / "phones", 5, "rehearsal")
    assert memory.read() == b"entered 2"
    with pytest.raises(FedspeechError, match="in a rehearsal only"):
        go_back(tmp_path / "phones", 2, "os")
    assert memory.read() == b"entered 2"


def test_nobody_hosts_phones_while_they_are_set_back(tmp_path):
    Memory(tmp_path / "phones", 0)
    with alone(tmp_path / "phones"), pytest.raises(ProtocolAbort, match="being set back"):
        Memory(tmp_path / "phones", 0)
    Memory(tmp_path / "phones", 0)
