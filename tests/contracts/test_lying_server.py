"""A server that lies, against the phones' real app: what phones answer, when, and how often."""

import contextlib

import numpy as np
import pytest
from lying_server import ROUTES, LyingGrid, Refused, update_request
from tiny_job import make_job
from whole_runs import run_through

from clients.fleet import Fleet
from clients.permissions import PERMISSIONS, require_permission
from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.messages import RosterRequest
from fedspeech.privacy.ledger import Ledger

MASKED = {"secure_aggregation": "masked", "rounds": 2, "quota": 2}
CENTRAL = {"mechanism": "central", "noise_multiplier": 1.0}


def run(folder, lie, **settings):
    """All rounds of a small job under a lying server; returns records and job."""
    path, job, arrays = make_job(folder, **{**MASKED, **settings})
    ledger = Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise)
    with LyingGrid(path, lie) as grid:
        records, _ = run_through(grid, job, arrays, ledger)
        lie(grid, None)
    return records, job


@pytest.mark.parametrize("changes", [{}, CENTRAL], ids=["noise of phones", "noise of the server"])
def test_phones_of_a_masked_plan_never_send_a_vector_without_its_mask(
    tmp_path, monkeypatch, changes
):
    """Before every stage of a session: a roster, then an update, of a round of the server's."""
    own, real = [], Fleet.vectors

    def vectors(fleet, request, phones):
        encoded = real(fleet, request, phones)
        own.extend(encoded)
        return encoded

    monkeypatch.setattr(Fleet, "vectors", vectors)
    tried = []

    def lie(grid, request):
        for number in range(grid.job.plan.rounds):
            key = grid.job.round_key(number)
            for shard in range(grid.job.num_shards):
                joined = np.array(grid.job.shard_phones(shard))[:4]
                with contextlib.suppress(Refused):
                    joined = grid.ask(RosterRequest(key=key), shard).phones
                everybody = np.union1d(joined, np.arange(grid.job.plan.population))
                for roster in (joined, everybody):
                    tried.append(type(request))
                    with pytest.raises(Refused, match="a phone never answers UpdateRequest"):
                        grid.ask(update_request(grid.job, key, roster), shard)

    records, _ = run(tmp_path, lie, **changes)
    assert len(set(tried)) == 8  # counts, the six stages, and the end
    assert [record.status for record in records] == ["completed"] * 2
    assert len(own) == sum(record.survivors for record in records)  # asked by honest rounds alone


@pytest.mark.parametrize("secure_aggregation", ["masked", "ideal"])
def test_a_message_that_has_no_permission_is_refused(tmp_path, secure_aggregation):
    """Whatever is added to the protocol is refused until it has a row."""
    _, job, _ = make_job(tmp_path, secure_aggregation=secure_aggregation)

    class NewRequest(messages.CountsRequest):
        pass

    for request in (NewRequest(), messages.Counts(shard=0, num_shards=1, num_phones=2), None):
        with pytest.raises(ProtocolAbort, match="a phone never answers"):
            require_permission(request, job.plan)
    assert set(PERMISSIONS) == set(ROUTES)
