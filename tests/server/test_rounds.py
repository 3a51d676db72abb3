"""A server keeps its order and its minimums, whatever comes back from the nodes."""

import dataclasses
import json
import re
from concurrent.futures import Future

import numpy as np
import pytest
from flwr.app import Error, Message
from tiny_job import make_job
from whole_runs import run_in_grid, run_through

from fedspeech.errors import ProtocolAbort
from fedspeech.messages import CohortList, Counts, ProtectedUpdate, from_record, to_record
from fedspeech.privacy.factorization import Factorization
from fedspeech.privacy.ledger import Ledger
from simulations.engines.in_process import InProcessGrid

ANSWERS = {"query.counts": Counts, "query.cohort_list": CohortList, "train": ProtectedUpdate}


class MaliciousGrid(InProcessGrid):
    """Honest shards behind a network that may change what they answer.

    `tamper(kind, shard, answer)` returns the answers that arrive: messages, or strings for errors.
    """

    def __init__(self, path, job, tamper):
        super().__init__("clients.app:app", job.num_shards, {"job": str(path)})
        self._tamper = tamper
        self.asked = []

    def send_and_receive(self, messages, *, timeout=None):
        nodes, replies = list(self.get_node_ids()), []
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            self.asked.append(kind)
            (reply,) = super().send_and_receive([message], timeout=timeout)
            answer = from_record(reply.content, ANSWERS[kind])
            for seen in self._tamper(kind, nodes.index(node), answer):
                if isinstance(seen, str):
                    replies.append(Message(Error(code=2, reason=seen), reply_to=message))
                else:
                    replies.append(Message(to_record(seen), reply_to=message))
        return replies


def run(folder, tamper, **plan):
    """All rounds of a tiny job behind a malicious grid: records, state, ledger, kinds asked."""
    path, job, arrays = make_job(
        folder, num_shards=3, **{"rounds": 1, "max_participations": 1, **plan}
    )
    ledger = Ledger.open(folder / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with MaliciousGrid(path, job, tamper) as grid:
        records, state = run_through(grid, job, arrays, ledger)
    return records, state, ledger, grid.asked


def honest(kind, shard, answer):
    return [answer]


def only(kind, shard, change):
    """Changes one shard's answers of one kind."""
    return lambda k, s, answer: change(answer) if (k, s) == (kind, shard) else [answer]


def test_honest_shards_complete_the_round(tmp_path):
    (record,), state, ledger, asked = run(tmp_path, honest)
    assert (record.status, record.reason) == ("completed", "")
    assert record.reporting == record.cohort
    assert state.completed == ledger.rounds_charged == 1
    assert asked == ["query.counts"] * 3 + ["query.cohort_list"] * 3 + ["train"] * 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda answer: ["the phone is on fire"], "shard 1: the phone is on fire"),
        (lambda answer: [], "shard 1: silence"),
        (
            lambda answer: [
                dataclasses.replace(answer, key=dataclasses.replace(answer.key, round=7))
            ],
            "shard 1: an answer to round 8, not 1",
        ),
        (
            lambda answer: [CohortList(key=answer.key, phones=answer.reporting)],
            "shard 1: expected a",
        ),
        (lambda answer: [answer, answer], "shard 1: a second answer to one request"),
    ],
    ids=["error", "silence", "another round", "another kind", "second answer"],
)
def test_an_answer_that_is_no_answer_abandons_the_round_and_the_charge_stays(
    tmp_path, change, words
):
    (record,), state, ledger, _ = run(tmp_path, only("train", 1, change))
    assert record.status == "abandoned"
    assert words in record.reason
    assert record.total is None
    assert (state.completed, ledger.rounds_charged) == (0, 1)
    assert (state.model == 0).all()


@pytest.mark.parametrize("kind", ["query.cohort_list", "train"])
def test_if_no_shard_answers_the_run_ends_and_says_why(tmp_path, kind):
    def mute(k, shard, answer):
        return ["no power"] if k == kind else [answer]

    with pytest.raises(ProtocolAbort, match=f"round 1: no shard answered {kind}: shard 0: no pow"):
        run(tmp_path, mute)


def test_reporting_below_the_minimum_abandon_the_round(tmp_path):
    def thin(kind, shard, answer):
        if kind == "train":
            return [dataclasses.replace(answer, reporting=answer.reporting[:2])]
        return [answer]

    (record,), state, ledger, _ = run(tmp_path, thin)
    assert record.status == "abandoned"
    assert record.reason == "6 phones reported, the plan's minimum is 8"
    assert (state.completed, ledger.rounds_charged) == (0, 1)
    assert [(run.charged, run.completed) for run in ledger.runs] == [(1, 0)]


def test_a_phone_outside_the_cohort_list_in_the_reporting_fails_that_shard(tmp_path):
    def intruder(answer):
        absent = np.setdiff1d(np.arange(20, 40), answer.reporting)[:1]
        return [dataclasses.replace(answer, reporting=np.sort([*answer.reporting, *absent]))]

    (record,), state, ledger, _ = run(tmp_path, only("train", 1, intruder))
    assert record.reason == "train: shard 1: a phone outside the cohort list sent an update"
    assert (record.status, record.total) == ("abandoned", None)
    assert (state.completed, ledger.rounds_charged) == (0, 1)


def test_a_shard_that_speaks_for_a_phone_of_another_fails(tmp_path):
    def claims(answer):
        return [dataclasses.replace(answer, phones=np.sort([3, *answer.phones]))]

    (record,), _, ledger, _ = run(tmp_path, only("query.cohort_list", 1, claims))
    assert record.reason == (
        "query.cohort_list: shard 1: it answers for phone 3, which it does not host"
    )
    assert ledger.rounds_charged == 0


def test_a_phone_that_joins_out_of_its_turn_fails_its_shard_or_is_left_out(tmp_path):
    """Half of the phones have their turn; another one of shard 1 says that it joins too."""
    plan = {
        "mechanism": "matrix_factorization", "participation": "round_robin", "rounds": 1,
        "factorization": Factorization(min_separation=2, bands=2),
    }  # fmt: skip

    def early(answer):
        absent = np.setdiff1d(np.arange(20, 40), answer.phones)[:1]
        return [dataclasses.replace(answer, phones=np.sort([*answer.phones, *absent]))]

    (record,), _, ledger, _ = run(tmp_path, only("query.cohort_list", 1, early), **plan)
    assert re.search("cohort_list: shard 1: phone [0-9]+ joins, and it is not", record.reason)
    assert ledger.rounds_charged == 0


def test_a_sum_longer_than_honest_phones_can_make_is_not_used(tmp_path):
    def shout(answer):  # a quarter of the ring of 2^16, on every coordinate
        return [dataclasses.replace(answer, total=np.full_like(answer.total, 2**14))]

    (record,), state, ledger, _ = run(tmp_path, only("train", 1, shout))
    assert record.status == "abandoned"
    assert "longer than honest phones can make it" in record.reason
    assert (state.completed, ledger.rounds_charged) == (0, 1)
    assert np.isfinite(state.model).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda total: total[:-1], "a sum must have 64 coordinates, got 63"),
        (lambda total: total | 2**16, "a sum must be below 65536 in every coordinate"),
    ],
)
def test_a_sum_of_another_length_or_ring_is_that_shards_failure(tmp_path, change, words):
    def wrong(answer):
        return [dataclasses.replace(answer, total=change(answer.total))]

    (record,), state, ledger, _ = run(tmp_path, only("train", 1, wrong))
    assert record.reason == f"train: shard 1: {words}"
    assert (state.completed, ledger.rounds_charged) == (0, 1)


@pytest.mark.parametrize(
    "change", [{"num_phones": 19}, {"num_shards": 4}, {"shard": 1}, {"shard": 3, "num_shards": 4}]
)
def test_a_node_that_hosts_another_shard_is_refused_before_any_charge(tmp_path, change):
    """Of another population, another split, in another node's place, beyond the job's."""

    def other(answer):
        return [dataclasses.replace(answer, **change)]

    with pytest.raises(ProtocolAbort, match="the plan is for 60 phones in 3 shards"):
        run(tmp_path, only("query.counts", 2, other))
    assert '"charge"' not in (tmp_path / "ledger.jsonl").read_text()


class OneMore(InProcessGrid):
    """A node more than the job has, which cannot host its phones: perhaps another job's."""

    def __init__(self, app, num_nodes, run_config, workers):
        super().__init__(app, num_nodes, run_config, workers)
        self._node_ids.append(99)

    def push_messages(self, messages):
        (message,) = messages
        if message.metadata.dst_node_id != 99:
            return super().push_messages(messages)
        message.metadata.__dict__["_message_id"] = "to 99"
        self._replies["to 99"] = Future()
        self._replies["to 99"].set_result(
            Message(Error(code=2, reason="no such job"), reply_to=message)
        )
        return ["to 99"]

    def send_and_receive(self, messages, *, timeout=None):
        return [reply for m in messages for reply in super(OneMore, self).send_and_receive([m])]


def test_a_node_that_is_none_of_this_jobs_is_left_out(tmp_path):
    path, job, arrays = make_job(tmp_path, rounds=1, max_participations=1)
    records, _ = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl", make_grid=OneMore)
    assert [record.status for record in records] == ["completed"]


def test_a_node_that_cannot_open_its_phones_ends_the_run_with_its_reason(tmp_path):
    with pytest.raises(ProtocolAbort, match="cannot host its phones: the job is gone"):
        run(tmp_path, only("query.counts", 2, lambda answer: ["the job is gone"]))


def test_the_refused_round_asks_nobody(tmp_path):
    _, job, _ = make_job(tmp_path, rounds=1, max_participations=1)
    budget = job.plan.guarantee(1).epsilon_release / 2
    (record,), _, ledger, asked = run(tmp_path, honest, epsilon_budget=budget)
    assert record.status == "refused"
    assert asked == ["query.counts"] * 3
    assert ledger.rounds_charged == 0


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


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "charges"), [("query.cohort_list", 2), ("train", 3)])
def test_a_round_with_a_silent_shard_is_abandoned_though_the_others_are_above_the_minimums(
    tmp_path, lost, charges
):
    """Or presence shows: without one of the plan's four shards the others stand at a minimum.

    There 4e-3 a round is the mass on which one phone decides, where its delta has room for 3e-6.
    """
    path, job, arrays = make_job(tmp_path, min_cohort=15, min_reporting=8)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with LosesReplies("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        grid.lost = lost
        records, state = run_through(grid, job, arrays, ledger)
    assert [record.status for record in records] == ["completed", "abandoned", "completed"]
    assert records[1].reason == f"{lost}: shard 0: silence"
    assert records[1].total is None
    present = records[1].cohort if lost == "query.cohort_list" else records[1].reporting
    assert present >= job.plan.min_cohort
    assert state.completed == 2
    rows = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "charge" for row in rows) == charges
