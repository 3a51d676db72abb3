"""Rounds whose sums are masked: the integers of ideal ones, and phones that keep their rules."""

import dataclasses
import hashlib
import json
import multiprocessing

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.common.serde import (
    context_from_proto,
    context_to_proto,
    message_from_proto,
    message_to_proto,
)
from flwr.proto.message_pb2 import Context as ContextProto
from flwr.proto.message_pb2 import Message as MessageProto
from tiny_job import make_job
from whole_runs import run_in_grid, run_reference, run_through

import clients.app
from clients.masked import MaskedShard
from clients.state import SessionState
from fedspeech import messages
from fedspeech.job import Job
from fedspeech.messages import SessionAnswer, from_record, to_record
from fedspeech.privacy.ledger import Ledger
from fedspeech.secagg import client as secagg_client
from fedspeech.secagg import phone_state
from fedspeech.secagg.client import Phone
from fedspeech.secagg.dropouts import last_stage
from fedspeech.secagg.primitives import shared_primitives
from simulations.engines.in_process import InProcessGrid

STAGES = {
    "query.advertise": messages.Advertisements,
    "query.accept": messages.Nonces,
    "query.share": messages.SealedBatch,
    "train.masked": messages.MaskedVectors,
    "query.agree": messages.Agreements,
    "query.unmask": messages.UnmaskShares,
}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


WIDE = {
    "phones": 200, "participation_probability": 0.8, "min_cohort": 110, "min_reporting": 100,
    "colluders": 8, "rounds": 2, "max_participations": 2, "secure_aggregation": "masked",
}  # fmt: skip


def job_of(folder, **plan):
    return make_job(
        folder, **{"secure_aggregation": "masked", "rounds": 1, "max_participations": 1, **plan}
    )


def run(folder, job_path, job, arrays, grid=InProcessGrid):
    """All rounds through a grid: records, last state, ledger rows."""
    ledger = folder / "ledger.jsonl"
    records, state = run_in_grid(job_path, job, arrays, ledger, make_grid=grid)
    rows = [json.loads(row) for row in ledger.read_text().splitlines()]
    return records, state, rows


def reference(folder, job, arrays):
    return run_reference(job, arrays, folder / "reference.jsonl")[0]


@pytest.mark.slow
@pytest.mark.parametrize("dropout_rate", [0.0, 0.06])
def test_on_a_sparse_graph_too_the_grid_adds_up_what_the_ideal_party_does(tmp_path, dropout_rate):
    """160 of 200 phones: a ring of neighbors, nonces, and sessions that restart for them."""
    found = {}
    for way in ("ideal", "masked"):
        (tmp_path / way).mkdir()
        path, job, arrays = make_job(
            tmp_path / way, **{**WIDE, "secure_aggregation": way, "dropout_rate": dropout_rate}
        )
        records, _, rows = run(tmp_path / way, path, job, arrays)
        assert [record.reason for record in records] == ["", ""]
        found[way] = [record.total for record in records]
        assert {row["secure_aggregation"] for row in rows if row["kind"] == "charge"} == {way}
    np.testing.assert_array_equal(found["ideal"], found["masked"])
    np.testing.assert_array_equal(found["masked"], reference(tmp_path / "masked", job, arrays))
    graph = job.plan.terms(bytes(16), 0).parameters(160)
    assert not graph.complete


class TamperingGrid(InProcessGrid):
    """Honest shards behind a network that may change what they answer."""

    tamper = staticmethod(lambda kind, shard, answer: [answer])

    def send_and_receive(self, messages, *, timeout=None):
        nodes, replies = list(self.get_node_ids()), []
        for message in messages:
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            (reply,) = super().send_and_receive([message], timeout=timeout)
            if kind not in STAGES:
                replies.append(reply)
                continue
            answer = from_record(reply.content, STAGES[kind])
            for seen in self.tamper(kind, nodes.index(node), answer):
                if isinstance(seen, str):
                    replies.append(Message(Error(code=2, reason=seen), reply_to=message))
                else:
                    replies.append(Message(to_record(seen), reply_to=message))
        return replies


def tampering(change):
    return type("Grid", (TamperingGrid,), {"tamper": staticmethod(change)})


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize(
    "what", ["the phone is on fire", pytest.param(None, marks=pytest.mark.slow)]
)
def test_a_shard_that_fails_at_any_stage_abandons_the_round(tmp_path, kind, what):
    """Before the masked vectors nothing is charged; from then on it stays charged."""

    def change(k, shard, answer):
        if (k, shard) == (kind, 1):
            return [] if what is None else [what]
        return [answer]

    path, job, arrays = job_of(tmp_path)
    (record,), state, rows = run(tmp_path, path, job, arrays, tampering(change))
    assert record.status == "abandoned"
    assert f"shard 1: {what or 'silence'}" in record.reason
    assert record.total is None
    assert state.completed == 0
    asked_for_vectors = kind in ("train.masked", "query.agree", "query.unmask")
    assert sum(row["kind"] == "charge" for row in rows) == asked_for_vectors


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [kind if kind == "train.masked" else slow(kind) for kind in STAGES]
)
def test_bits_that_flip_on_the_way_give_the_right_sum_or_none(tmp_path, kind):
    """A flipped bit in any array of any stage: a phone is lost, or the round; never the sum."""
    path, job, arrays = job_of(tmp_path)
    for name in ("seal_keys", "mask_keys", "commitments", "signatures", "nonces", "sealed",
                 "packed", "shares"):  # fmt: skip
        flipped = []

        def change(k, shard, answer, name=name, flipped=flipped):
            if k == kind and shard == 0 and hasattr(answer, name) and len(answer.phones):
                table = getattr(answer, name).copy()
                if table.size:
                    table.reshape(len(table), -1)[0, -1] ^= 1
                    object.__setattr__(answer, name, table)
                    flipped.append(answer.phones[0])
            return [answer]

        folder = tmp_path / name
        folder.mkdir()
        (record,), _, _ = run(folder, path, job, arrays, tampering(change))
        if not flipped:
            continue
        if name == "packed":  # that phone's own vector, whatever it is: the others' part is exact
            assert record.status == "completed"
            difference = (record.total - _honest(tmp_path, job, arrays)) % job.plan.modulus
            assert set(difference.tolist()) <= {0, 2**8, 2**16 - 2**8}
        elif record.status == "abandoned":
            assert record.total is None
        elif record.reporting == record.cohort:
            np.testing.assert_array_equal(record.total, _honest(tmp_path, job, arrays))
        else:
            assert record.reporting == record.cohort - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [kind if kind == "train.masked" else slow(kind) for kind in STAGES]
)
def test_what_a_shard_says_for_a_phone_of_another_is_left_out(tmp_path, kind):
    """Even if it has that phone's own signatures, and is read before its own answer."""
    stolen = {}

    def change(k, shard, answer):
        if k != kind or shard == 1:
            return [answer]
        rows = {
            field.name: getattr(answer, field.name)
            for field in dataclasses.fields(answer)
            if field.name not in ("key", "session", "refused")
        }
        if shard == 2:
            stolen.update({name: column[:1] for name, column in rows.items()})
            return [answer]
        for name in stolen.keys() & {"packed", "sealed", "shares"}:
            stolen[name] = stolen[name] ^ 1
        more = {name: np.concatenate([column, stolen[name]]) for name, column in rows.items()}
        return [dataclasses.replace(answer, **more)]

    class LastFirst(tampering(change)):
        def send_and_receive(self, messages, *, timeout=None):
            return super().send_and_receive(messages[::-1], timeout=timeout)

    path, job, arrays = job_of(tmp_path)
    (record,), _, _ = run(tmp_path, path, job, arrays, LastFirst)
    assert (record.status, record.reporting) == ("completed", record.cohort), record.reason
    np.testing.assert_array_equal(record.total, _honest(tmp_path, job, arrays))


def _honest(folder, job, arrays):
    honest = folder / f"honest-{len(list(folder.glob('honest-*')))}"  # a ledger is never cut
    honest.mkdir()
    return reference(honest, job, arrays)[0]


@pytest.mark.slow
def test_too_many_phones_that_vanish_leave_nothing_opened_and_a_charge(tmp_path, monkeypatch):
    """More than the plan expects, which says that nobody does."""
    monkeypatch.setattr(
        Job, "last_stages",
        lambda job, number, phones: np.array(
            [last_stage(0.45, job.seed, number, int(phone)) for phone in phones]
        ),
    )  # fmt: skip
    path, job, arrays = job_of(tmp_path, min_reporting=2, min_cohort=15)
    (record,), state, rows = run(tmp_path, path, job, arrays)
    assert record.status == "abandoned"
    assert record.reason.split(":")[0] in ("share", "mask", "agree", "unmask")
    assert (record.total, state.completed) == (None, 0)
    assert sum(row["kind"] == "charge" for row in rows) == 1


def test_refusals_of_phones_are_named_to_the_server(tmp_path, monkeypatch):
    """Another minimum on the phones' side: they refuse the cohort, each for itself."""
    path, job, arrays = job_of(tmp_path)
    original = Phone.accept

    def choosy(self, cohort_list, purpose):
        if self.number % 2:
            object.__setattr__(self._terms, "min_cohort", 1000)
        return original(self, cohort_list, purpose)

    monkeypatch.setattr(Phone, "accept", choosy)
    # SessionTerms are shared between the phones of a fleet only by value.
    monkeypatch.setattr(
        MaskedShard, "_phone",
        lambda self, message, number: Phone(
            number, self._identity_directory.identity(number), self._identity_directory,
            self._client_shard.job.terms(message.key, message.session), self._primitives,
        ),
    )  # fmt: skip
    (record,), _, _ = run(tmp_path, path, job, arrays)
    if record.status == "abandoned":
        assert "CohortBelowMinimum x" in record.reason
    else:
        assert record.reporting < record.cohort


def forget_everything():
    """What a fresh process would not know."""
    clients.app._open_shard.cache_clear()
    clients.app._open_masked.cache_clear()
    for cached in (phone_state.drawn_graph, secagg_client._advertised, secagg_client._agreed):
        cached.cache_clear()
    shared_primitives().forget()


class ForgetfulGrid(InProcessGrid):
    """Every node forgets all but its context between any two messages."""

    def send_and_receive(self, messages, *, timeout=None):
        replies = []
        for message in messages:
            forget_everything()
            replies += super().send_and_receive([message], timeout=timeout)
        return replies


@pytest.mark.slow
def test_a_node_that_restarts_between_any_two_stages_changes_nothing(tmp_path):
    path, job, arrays = make_job(tmp_path, **{**WIDE, "dropout_rate": 0.06})
    records, _, _ = run(tmp_path, path, job, arrays, ForgetfulGrid)
    np.testing.assert_array_equal(
        [record.total for record in records], reference(tmp_path, job, arrays)
    )


def _handle(message, context):
    """One message in a process of its own."""
    from clients.app import app

    context = context_from_proto(ContextProto.FromString(context))
    reply = app(message_from_proto(MessageProto.FromString(message)), context)
    reply.metadata.__dict__["_message_id"] = "reply"
    return message_to_proto(reply).SerializeToString(), context_to_proto(
        context
    ).SerializeToString()


class FreshProcessGrid(InProcessGrid):
    """A process for every message, as Flower's deployment engine has it.

    Each is a copy of one that has imported the app and handled nothing: imports take seconds.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        fresh = multiprocessing.get_context("forkserver")
        fresh.set_forkserver_preload(["clients.app"])
        self._pool = fresh.Pool(2, maxtasksperchild=1)

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        jobs = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"to node {message.metadata.dst_node_id}"
            context = self._nodes[message.metadata.dst_node_id]._context
            jobs.append(
                (
                    message_to_proto(message).SerializeToString(),
                    context_to_proto(context).SerializeToString(),
                )
            )
        replies = []
        for message, (reply, context) in zip(
            messages, self._pool.starmap(_handle, jobs, chunksize=1), strict=True
        ):
            node = self._nodes[message.metadata.dst_node_id]
            node._context = context_from_proto(ContextProto.FromString(context))
            replies.append(message_from_proto(MessageProto.FromString(reply)))
        return replies

    def close(self):
        super().close()
        self._pool.terminate()


@pytest.mark.slow
def test_a_fresh_process_for_every_message_gives_the_same_sum(tmp_path):
    path, job, arrays = job_of(tmp_path, num_shards=2, dropout_rate=0.1)
    (record,), _, _ = run(tmp_path, path, job, arrays, FreshProcessGrid)
    assert record.reason == ""
    np.testing.assert_array_equal(record.total, reference(tmp_path, job, arrays)[0])


class RepeatingGrid(InProcessGrid):
    """Asks everything twice and keeps the first answers; `again` holds the second ones."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.again = {}

    def send_and_receive(self, messages, *, timeout=None):
        messages = list(messages)
        first = list(super().send_and_receive(messages, timeout=timeout))
        kind = messages[0].metadata.message_type
        if kind in STAGES:
            again = [Message(m.content, m.metadata.dst_node_id, kind) for m in messages]
            self.again[kind] = list(super().send_and_receive(again, timeout=timeout))
        return first


@pytest.mark.slow
def test_a_repeated_request_is_refused_at_every_stage_and_never_recomputed(tmp_path):
    path, job, arrays = job_of(tmp_path)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with RepeatingGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        records, _ = run_through(grid, job, arrays, ledger)
    assert set(grid.again) == set(STAGES)
    for kind, replies in grid.again.items():
        for reply in replies:
            assert reply.has_error(), kind
            words = "a replayed request" if kind == "query.advertise" else "no second answer"
            assert words in reply.error.reason
    assert records[0].status == "completed"
    np.testing.assert_array_equal(records[0].total, reference(tmp_path, job, arrays)[0])


def test_no_secret_of_a_session_is_on_disk_or_in_a_message_that_is_printed(tmp_path, monkeypatch):
    path, job, arrays = job_of(tmp_path)
    secrets, printed = set(), []
    original = Phone.save

    def watched(self):
        saved = original(self)
        for secret in (self._seal_key, self._mask_key, self._seed):
            if any(secret):
                secrets.add(bytes(secret))
        return saved

    monkeypatch.setattr(Phone, "save", watched)

    def change(kind, shard, answer):
        assert isinstance(answer, SessionAnswer)
        printed.append(repr(answer))
        return [answer]

    (record,), _, _ = run(tmp_path, path, job, arrays, tampering(change))
    assert record.status == "completed"
    assert len(secrets) > 60
    identities = (tmp_path / "identities.key").read_bytes()
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != "identities.key":
            data = file.read_bytes()
            for secret in (*secrets, identities):
                assert secret not in data, file
                assert secret.hex().encode() not in data, file
    assert max(map(len, printed)) < 80


@pytest.mark.slow
def test_what_a_node_keeps_holds_no_secret_once_the_sum_is_open(tmp_path):
    path, job, arrays = job_of(tmp_path)
    ledger = Ledger.open(tmp_path / "ledger.jsonl", job.plan, job.run_id, job.noise_entropy)
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        run_through(grid, job, arrays, ledger)
        for node in grid._nodes.values():
            kept = node._context.state["session"]["bytes"]
            session = SessionState.from_bytes(kept, hashlib.sha256(kept).digest())
            assert session.reporting is not None
            assert not session.secrets


@pytest.mark.slow
def test_shards_without_phones_in_a_round_are_no_failures(tmp_path):
    """A dozen phones in eight shards: in most rounds some shard has nobody."""
    path, job, arrays = make_job(
        tmp_path, phones=14, num_shards=8, secure_aggregation="masked", rounds=6,
        max_participations=6,
        participation_probability=0.6, min_cohort=3, min_reporting=2, dropout_rate=0.05,
        clip_norm=0.2, noise_multiplier=4.0,
    )  # fmt: skip
    records, _, _ = run(tmp_path, path, job, arrays)
    reasons = [record.reason for record in records if record.status != "completed"]
    assert not [reason for reason in reasons if "shard" in reason]
    assert len(reasons) < 3
