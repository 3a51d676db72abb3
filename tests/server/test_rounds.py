"""What the server does when part of the phones' side goes missing."""

import json

import pytest
from tiny_job import make_job

from fedspeech.privacy.ledger import Ledger
from fedspeech.round import ServerState
from server.rounds import run_rounds
from simulations.grid import InProcessGrid


class LosesReplies(InProcessGrid):
    """Loses what the first node answers to one kind of message in round 1."""

    lost = ""

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(messages, timeout=timeout)
        return [
            reply
            for reply in replies
            if reply.metadata.message_type != self.lost
            or reply.metadata.group_id != "1"
            or reply.metadata.src_node_id != self._node_ids[0]
        ]


@pytest.mark.parametrize(("lost", "charges"), [("query.roster", 2), ("train", 3)])
def test_a_round_with_a_silent_shard_is_abandoned_though_the_others_are_above_the_floors(
    tmp_path, lost, charges
):
    """Or presence shows: without one of the default plan's four shards the others stand at a floor.

    There 4e-3 a round is the mass on which one phone decides, where its delta has room for 3e-6.
    """
    path, job, arrays = make_job(tmp_path, min_cohort=15, min_survivors=8)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise)
    records = []
    with LosesReplies("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        grid.lost = lost
        state = run_rounds(
            grid, job, ledger, ServerState.initial(job, arrays), lambda r, s: records.append(r)
        )
    assert [record.status for record in records] == ["completed", "abandoned", "completed"]
    assert records[1].reason == "shard 0: silence"
    assert records[1].total is None
    present = records[1].cohort if lost == "query.roster" else records[1].survivors
    assert present >= job.plan.min_cohort
    assert state.completed == 2
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "charge" for row in rows) == charges
