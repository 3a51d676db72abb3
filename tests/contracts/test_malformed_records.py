"""Records that no honest side writes: refused by name, at the cost of their own bytes, every one.

A few hundred by default; 10,000 with `-m adversarial`.
"""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord
from tiny_job import make_job
from whole_runs import run_in_grid

from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.messages import MAX_REASON, RoundKey, from_record, to_record
from fedspeech.secagg.refusals import KINDS
from fedspeech.seeds import stream
from simulations.engines.in_process import InProcessGrid

KEY = RoundKey(round=0, attempt=0, round_id=bytes(16), context=bytes(32))
PHONES = np.array([1, 4, 9])
SIDES = {
    "total": (8,),
    "model": (5,),
    "packed": (3, 16),
    "sealed": (3, 4, 88),
    "shares": (3, 4, 9),
}
WIDTHS = {"signatures": 64}
MANY = 10_000
ADVERSARIAL = pytest.mark.adversarial
BY_DEFAULT = [("train", 0), ("query.accept", 0)]


def filled(kind):
    """A message that fits its type, every field with something in it."""
    values = {}
    for field in dataclasses.fields(kind):
        match field.type:
            case "RoundKey":
                values[field.name] = KEY
            case "NDArray[np.int64]":
                values[field.name] = PHONES
            case "int":
                values[field.name] = 1
            case "float":
                values[field.name] = 0.5
            case "bytes":
                values[field.name] = bytes(32)
            case array:
                shape = SIDES.get(field.name, (3, WIDTHS.get(field.name, 32)))
                values[field.name] = np.ones(shape, array.split(".")[-1][:-1])
    if "num_shards" in values:
        values["num_shards"] = 3
    if "refused" in values:
        values["refused"] = np.zeros(len(KINDS), np.int64)
    return kind(**values)


EVERY_KIND = [filled(kind) for kind in messages.Message.__args__]

# What else could stand where a number, a text or bytes stand.
ODD = [
    0, -1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.5, float("nan"), float("inf"), True, "",
    "x" * 100_000, "\x1b[31m\n\r\0", b"",
    bytes(15), bytes(1000), [], [1, 2], ["a"], [b"a"], [0.5], [True],
]  # fmt: skip
TYPES = [
    "uint8", "uint32", "int64", "float32", "float64", "uint64", ">u4", "<u4", "O", "V8", "U4",
    "M8[s]", "bfloat16", "", "u4,u4", "x" * 1000, "{'a': 1}",
]  # fmt: skip
SHAPES = [
    (), (0,), (3,), (3, 32), (-1,), (-3, -32), (2**31,), (2**62, 4), (2**63, 2**63), (0, 2**40),
    (0, -1), (1,) * 40, (3, 4, 88, 1),
]  # fmt: skip
WAYS = ["numpy.ndarray", "", "torch", "little-endian bytes", "pickle"]


def other_bytes(rng, data):
    """Bytes that are not those: cut, longer, random, or those of another format."""
    formats = [
        b"", data[:-1], data + b"\0", rng.bytes(len(data)), bytes(100_000),
        b"\x93NUMPY\x01\x00v\x00{'descr': '<u4'}", b"PK\x03\x04" + bytes(60), b"\x80\x04K\x01.",
    ]  # fmt: skip
    return formats[rng.integers(len(formats))]


def pick(rng, values):
    """One of some values, of whatever types."""
    return values[rng.integers(len(values))]


def malform(rng, record):
    """Changes one thing about a record, or a few."""
    for _ in range(rng.integers(1, 4)):
        if "vectors" not in record.array_records or "message" not in record.config_records:
            return record
        config, arrays = record["message"], dict(record["vectors"])
        name = pick(rng, sorted(arrays)) if arrays else ""
        match rng.integers(9):
            case 0:
                del record[pick(rng, sorted(record))]
            case 1:
                record[pick(rng, ["message", "vectors", "more"])] = pick(
                    rng, [ConfigRecord({}), ArrayRecord({}), MetricRecord({"loss": 0.1})]
                )
            case 2 if config:
                config[pick(rng, sorted(config))] = pick(rng, ODD)
            case 3:
                config[pick(rng, ["more", "round_id", "shares", "x" * 50_000])] = pick(rng, ODD)
            case 4 if config:
                del config[pick(rng, sorted(config))]
            case 5:
                arrays.pop(name, None)
                record["vectors"] = ArrayRecord(arrays)
            case 6:
                arrays[pick(rng, ["more", "round_id", "phones"])] = Array(np.ones(3))
                record["vectors"] = ArrayRecord(arrays)
            case _ if arrays:
                old = arrays[name]
                arrays[name] = Array(
                    dtype=pick(rng, [old.dtype, old.dtype, *TYPES]),
                    shape=pick(rng, [old.shape, old.shape, *SHAPES]),
                    stype=pick(rng, [old.stype, old.stype, old.stype, *WAYS]),
                    data=pick(rng, [old.data, other_bytes(rng, old.data)]),
                )
                record["vectors"] = ArrayRecord(arrays)
    return record


@pytest.mark.parametrize("message", EVERY_KIND, ids=lambda message: message.kind)
def test_every_kind_of_message_survives_the_journey(message):
    arrived = from_record(to_record(message), type(message))
    for field in dataclasses.fields(message):
        np.testing.assert_array_equal(getattr(arrived, field.name), getattr(message, field.name))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=ADVERSARIAL)])
def test_a_malformed_record_is_refused_and_nothing_else_happens(seed):
    rng = stream(seed, "malformed")
    reasons = []
    tracemalloc.start()
    for _ in range(MANY if seed else 300):
        message = pick(rng, EVERY_KIND)
        record = malform(rng, to_record(message))
        try:
            read = from_record(record, type(message))
        except ProtocolAbort as error:
            reasons.append(str(error))
        else:  # another number in its range is another message, not a malformed one
            assert type(read) is type(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(reasons) > 0.8 * (MANY if seed else 300)
    assert all(reason.isprintable() for reason in reasons)
    assert max(map(len, reasons)) <= MAX_REASON + 3
    assert peak < 8 << 20  # what was sent, a few times over; shapes of exabytes were claimed


class MalformingGrid(InProcessGrid):
    """Honest shards, of which the second sends malformed answers to one kind of request."""

    kind, rng = "", None

    def send_and_receive(self, messages, *, timeout=None):
        replies = list(super().send_and_receive(messages, timeout=timeout))
        for reply in replies:
            second = reply.metadata.src_node_id == self._node_ids[1]
            if second and reply.metadata.message_type == self.kind and reply.has_content():
                reply.content = malform(self.rng, reply.content)
        return replies


REQUESTS = {
    "ideal": ["query.cohort_list", "train"],
    "masked": [
        "query.advertise", "query.accept", "query.share", "train.masked", "query.agree",
        "query.unmask",
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "kind", "seed"),
    [
        pytest.param(way, kind, seed, marks=() if (kind, seed) in BY_DEFAULT else ADVERSARIAL)
        for way, kinds in REQUESTS.items()
        for kind in kinds
        for seed in range(3)
    ],
)
def test_one_node_that_sends_malformed_answers_ends_no_run(tmp_path, way, kind, seed):
    """Its rounds come to nothing, by its name and that of the request, or are right anyhow."""
    path, job, arrays = make_job(tmp_path, secure_aggregation=way, rounds=2, max_participations=2)
    grid = type("Grid", (MalformingGrid,), {"kind": kind, "rng": stream(seed, "node", kind)})
    records, _ = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl", make_grid=grid)
    assert len(records) == 2
    for record in records:
        if record.status == "completed":
            assert record.total.shape == (job.plan.vector_length,)
        else:
            assert record.reason.startswith(f"{kind}: shard 1: "), record.reason


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=ADVERSARIAL)])
def test_phones_refuse_malformed_requests_and_answer_as_before(tmp_path, seed):
    """In any order, of any kind: the node says why, and the next honest round is none the worse."""
    path, job, _ = make_job(tmp_path, rounds=1, max_participations=1)
    rng, kinds = stream(seed, "requests"), ["query.counts", *REQUESTS["ideal"], *REQUESTS["masked"]]
    with InProcessGrid("clients.app:app", job.num_shards, {"job": str(path)}) as grid:
        for _ in range(1000 if seed else 60):
            kind, message = pick(rng, kinds), pick(rng, EVERY_KIND)
            request = Message(malform(rng, to_record(message)), 2, kind)
            (reply,) = grid.send_and_receive([request])
            if reply.has_error():
                assert reply.error.reason.startswith("ProtocolAbort: "), (kind, reply.error.reason)


def test_what_a_node_says_of_its_failure_is_cut_and_made_printable(tmp_path):
    class Shouting(InProcessGrid):
        def send_and_receive(self, messages, *, timeout=None):
            replies = list(super().send_and_receive(messages, timeout=timeout))
            if messages[0].metadata.message_type == "train":
                replies[0] = Message(Error(2, "\x1b[2J\n" + "x" * 10**6), reply_to=messages[0])
            return replies

    path, job, arrays = make_job(tmp_path, rounds=1, max_participations=1)
    (record,), _ = run_in_grid(path, job, arrays, tmp_path / "ledger.jsonl", make_grid=Shouting)
    assert record.reason.isprintable()
    assert len(record.reason) < MAX_REASON + 100
