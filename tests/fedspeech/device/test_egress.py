"""One door: three types leave, padded and late; nothing else has a way out."""

import dataclasses
import random

import numpy as np
import pytest
from phone import AREA, CLIP, Phone

from fedspeech.device.egress import (
    AggregateCounts,
    Door,
    ProtectedUpdate,
    ProtocolMessage,
    opened,
    padded_length,
)
from fedspeech.errors import ConsentMissing, EgressRefused

ROUND = bytes(range(16))
LENGTH, BITS = 40, 20
STAGES = {"advertise": 200, "share": 4096}


@pytest.fixture
def phone(tmp_path):
    phone = Phone(tmp_path)
    phone.agree()
    phone.agree(purpose="analytics")
    return phone


@pytest.fixture
def door(phone):
    return Door(consents=phone.consents, area=AREA, vector_length=LENGTH, bits=BITS,
                stages=STAGES)  # fmt: skip


def words(rng):
    return np.array([rng.randrange(1 << BITS) for _ in range(LENGTH)], dtype=np.uint32)


def payloads(rng):
    yield ProtectedUpdate(round_id=ROUND, words=words(rng))
    yield AggregateCounts(round_id=rng.randbytes(16), words=words(rng))
    stage = rng.choice(list(STAGES))
    yield ProtocolMessage(
        round_id=ROUND, purpose=rng.choice(["federated_training", "analytics"]), stage=stage,
        body=rng.randbytes(rng.randrange(STAGES[stage] + 1)),
    )  # fmt: skip


def same(one, other):
    return type(one) is type(other) and all(
        np.array_equal(getattr(one, part.name), getattr(other, part.name))
        for part in dataclasses.fields(one)
    )


def strange(rng):
    """Something that must not leave: content, or a payload that hides it."""
    audio = np.array([rng.gauss(0, 1) for _ in range(LENGTH)], dtype=np.float32)
    hidden = rng.choice(
        [
            audio,
            audio.view(np.uint32) | np.uint32(1 << 31),
            audio.tobytes(),
            "call anna",
            0.731,
            None,
            [1, 2],
            words(rng)[:-1],
            words(rng).reshape(2, -1),
            words(rng).astype(np.int64),
            np.ma.array(words(rng)),
            np.append(words(rng), np.uint32(7)),
            np.frombuffer(rng.randbytes(100), np.uint8).reshape(25, 4) % 64,  # tokens of speech
        ]
    )
    match rng.randrange(7):
        case 0:
            return hidden
        case 1:
            return ProtectedUpdate(round_id=ROUND, words=hidden)
        case 2:
            return AggregateCounts(round_id=ROUND, words=hidden)
        case 3:
            long = rng.randbytes(STAGES["share"] + rng.randrange(1, 99))
            return ProtocolMessage(
                round_id=ROUND, purpose="analytics", stage="share",
                body=rng.choice([long, "text", audio, bytearray(4)]),
            )  # fmt: skip
        case 4:
            stage = rng.choice(["transcript", "call anna", "", None, ("share",)])
            return ProtocolMessage(round_id=ROUND, purpose="analytics", stage=stage, body=b"")
        case 5:
            purpose = rng.choice(["debug", "personalization", "anything", 3])
            return ProtocolMessage(round_id=ROUND, purpose=purpose, stage="share", body=b"")
        case _:
            secret = rng.choice([b"call anna", "0" * 16, rng.randbytes(17), None, bytearray(16)])
            return ProtectedUpdate(round_id=secret, words=words(rng))


COUNTS = [600, pytest.param(10_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_no_payload_stays_and_no_refusal_says_what_it_holds(door, count):
    rng, refused = random.Random(3), 0
    while refused < count:
        payload = strange(rng)
        with pytest.raises(EgressRefused) as error:
            door.let_out(payload, made_s=0.0)
        refused += 1
        assert "anna" not in str(error.value)
        assert "0.7" not in str(error.value)


@pytest.mark.parametrize("count", COUNTS)
def test_what_leaves_is_read_as_it_was_and_a_changed_byte_makes_another_payload_or_none(count):
    rng, read, refused = random.Random(4), 0, 0
    door = Door(consents=Agreed(), area=AREA, vector_length=LENGTH, bits=BITS,
                stages=STAGES)  # fmt: skip
    while read + refused < count:
        for payload in payloads(rng):
            content = door.let_out(payload, made_s=0.0).content
            assert same(opened(content), payload)
            changed = bytearray(content)
            for _ in range(rng.choice([1, 1, 2, 9])):
                place = rng.choice([rng.randrange(32), rng.randrange(len(changed))])
                changed[place] = rng.randrange(256)
            changed = bytes(changed)[: rng.choice([len(changed)] * 3 + [rng.randrange(1500)])]
            try:
                found = opened(changed)
            except EgressRefused:
                refused += 1
                continue
            read += 1
            try:
                assert door._serialized(found) == changed[: len(door._serialized(found))]
            except EgressRefused:
                continue  # a stage or a word that no plan has: read, and never sent
    assert read > count / 20
    assert refused > count / 20


class Agreed:
    """A user who agreed to everything."""

    def require(self, *_):
        return self

    id = "receipt"


class Update(ProtectedUpdate):
    """A type that passes for another."""


def test_records_subclasses_and_content_of_a_phone_have_no_way_out(phone, door):
    clip = phone.use(phone.keep())
    update = Update(round_id=ROUND, words=words(random.Random(1)))
    for content in (clip, CLIP, update, phone.consents, {"loss": 0.3}, 0.3, type(clip)):
        with pytest.raises(EgressRefused, match="never leaves a phone"):
            door.let_out(content, made_s=0.0)


def test_nothing_leaves_without_consent_and_its_row_has_no_content(phone, door):
    update, counts, _ = payloads(random.Random(1))
    parcel = door.let_out(update, made_s=5.0)
    row = parcel.row
    assert set(row) == {"payload", "purpose", "area", "receipt", "round", "bytes", "release_s"}
    assert (row["payload"], row["purpose"]) == ("ProtectedUpdate", "federated_training")
    assert row["bytes"] == len(parcel.content) == 1024
    phone.vault.revoke(row["receipt"])
    with pytest.raises(ConsentMissing):
        door.let_out(update, made_s=5.0)
    door.let_out(counts, made_s=5.0)


def test_sizes_fall_into_few_buckets_at_an_eighth_of_cost():
    lengths = np.arange(1, 200_000, 7)
    padded = np.array([padded_length(int(length)) for length in lengths])
    assert (padded >= lengths).all()
    assert (padded[lengths > 1024] <= 1.125 * lengths[lengths > 1024]).all()
    assert len(set(padded)) < 160
    assert [padded_length(n) for n in (1, 1024, 1025, 9_000)] == [1024, 1024, 1088, 9216]


def test_a_release_tells_the_window_and_nothing_finer(door):
    """A rank correlation over 4,000 draws stays below 5 / sqrt(4,000): a false alarm in 10^6."""
    rng = np.random.default_rng(1)
    update = next(payloads(random.Random(1)))
    made = 900 * 7 + np.sort(rng.uniform(0, 900, 4000))
    released = np.array([door.let_out(update, made_s=float(s)).release_s for s in made])
    assert ((released >= 900 * 8) & (released < 900 * 9)).all()
    ranks = np.argsort(np.argsort(released))
    assert abs(np.corrcoef(np.arange(4000), ranks)[0, 1]) < 5 / np.sqrt(4000)
