"""The one door: typed messages and nothing else."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedspeech import messages
from fedspeech.errors import ProtocolAbort
from fedspeech.messages import (
    PROTOCOL_VERSION,
    CohortList,
    CohortListRequest,
    Counts,
    CountsRequest,
    ProtectedUpdate,
    RoundKey,
    UpdateRequest,
    from_record,
    to_record,
)
from fedspeech.training.dataset import LocalDataset
from fedspeech.vectors import Delta

KEY = RoundKey(round=3, attempt=0, round_id=bytes(16), context=bytes(32))
INDICES = np.array([1, 4, 9])
EXAMPLES = [
    CountsRequest(),
    CohortListRequest(key=KEY),
    UpdateRequest(key=KEY, model=np.ones(5, np.float32), clip_norm=0.1, cohort_list=INDICES),
    Counts(shard=1, num_shards=4, num_phones=10),
    CohortList(key=KEY, phones=INDICES),
    ProtectedUpdate(key=KEY, reporting=INDICES, total=np.arange(8, dtype=np.uint32)),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: message.kind)
def test_a_message_survives_the_journey(message):
    arrived = from_record(to_record(message), type(message))
    for field in dataclasses.fields(message):
        np.testing.assert_array_equal(getattr(arrived, field.name), getattr(message, field.name))


FROM_PHONES = (
    messages.Counts, messages.CohortList, messages.ProtectedUpdate,
    *get_args(messages.MaskedAnswer),
)  # fmt: skip


def test_what_leaves_a_phone_has_no_floating_point_field_and_no_free_form_field():
    allowed = {"RoundKey", "int", "NDArray[np.int64]", "NDArray[np.uint32]", "NDArray[np.uint8]"}
    for kind in FROM_PHONES:
        assert {field.type for field in dataclasses.fields(kind)} <= allowed, kind


@pytest.mark.parametrize(
    "secret",
    [
        np.zeros(16_000, np.float32),  # audio
        np.zeros((3, 64), np.float32),  # embeddings
        np.zeros(8, np.float64),  # losses, norms
        np.zeros(8, np.int64),  # counts of examples
        ["call", "arun"],  # a transcript
        "call arun",
        Delta(np.zeros(8, np.float32)),
        LocalDataset(np.zeros((1, 2), np.float32), np.zeros(1, np.int64)),
    ],
    ids=["audio", "embeddings", "losses", "counts", "words", "text", "delta", "dataset"],
)
def test_nothing_else_passes_as_an_update(secret):
    with pytest.raises(ProtocolAbort):
        ProtectedUpdate(key=KEY, reporting=INDICES, total=secret)
    with pytest.raises(ProtocolAbort):
        to_record(secret)


def test_a_field_beside_the_agreed_ones_is_refused():
    record = to_record(EXAMPLES[-1])
    record["message"]["num_examples"] = 17
    with pytest.raises(ProtocolAbort, match="exactly"):
        from_record(record, ProtectedUpdate)


def test_a_record_beside_the_agreed_ones_is_refused():
    record = to_record(EXAMPLES[-1])
    record["metrics"] = MetricRecord({"loss": 0.3})
    with pytest.raises(ProtocolAbort, match="records message and vectors"):
        from_record(record, ProtectedUpdate)


def test_a_missing_field_another_kind_or_another_version_is_refused():
    with pytest.raises(ProtocolAbort, match="expected a cohort_list"):
        from_record(to_record(EXAMPLES[-1]), CohortList)
    record = to_record(EXAMPLES[-1])
    record["message"]["version"] = 99
    with pytest.raises(ProtocolAbort, match="version"):
        from_record(record, ProtectedUpdate)
    bare = RecordDict(
        {
            "message": ConfigRecord({"kind": "protected-update", "version": PROTOCOL_VERSION}),
            "vectors": ArrayRecord({"total": Array(np.zeros(4, np.uint32))}),
        }
    )
    with pytest.raises(ProtocolAbort, match="must carry"):
        from_record(bare, ProtectedUpdate)


@pytest.mark.parametrize("indices", [[3, 3], [4, 1], [-1, 2]])
def test_phone_indices_are_strictly_increasing(indices):
    with pytest.raises(ProtocolAbort, match="strictly increasing"):
        CohortList(key=KEY, phones=np.array(indices))


def test_a_global_adapter_with_nan_is_refused():
    with pytest.raises(ProtocolAbort, match="finite"):
        UpdateRequest(
            key=KEY, model=np.array([np.nan], np.float32), clip_norm=0.1, cohort_list=INDICES
        )


def test_printing_an_update_shows_no_value():
    assert "4242" not in repr(
        ProtectedUpdate(key=KEY, reporting=INDICES, total=np.full(8, 4242, np.uint32))
    )
