"""What a session must cost is what it does, counted."""

import collections
import os

import numpy as np
import pytest

from fedspeech.secagg import client, keys, masks, primitives, shamir
from fedspeech.secagg.costs import operations, primitives_alone
from fedspeech.secagg.keys import IdentityDirectory
from fedspeech.secagg.primitives import SharedPrimitives
from fedspeech.secagg.protocol import SessionTerms, Stage
from fedspeech.secagg.session import sum_vectors


@pytest.mark.parametrize("phones", [12, pytest.param(140, marks=pytest.mark.slow)])
def test_operations_are_those_of_a_session_that_computes_nothing_twice(phones, monkeypatch):
    calls = collections.Counter()

    def counted(module, name, kind):
        original = getattr(module, name)

        def call(*arguments):
            calls[kind] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, call)

    counted(keys, "exchange", "exchanges")
    counted(keys, "hkdf", "derivations")
    counted(client, "seal", "seals")
    counted(client, "unseal", "unseals")
    counted(keys, "verify", "verifications")
    counted(keys.Identity, "sign", "signatures")
    counted(shamir, "share", "splits")
    counted(masks, "expand", "keystreams")
    original = primitives.apply_mask

    def applied(key, targets):
        calls["ring additions"] += len(targets)
        original(key, targets)

    monkeypatch.setattr(primitives, "apply_mask", applied)
    last = {1: Stage.SHARE, 3: Stage.SHARE, 4: Stage.MASK, 6: Stage.AGREE}
    directory = IdentityDirectory(os.urandom(32), b"", phones)
    for phone in range(phones):
        directory.public(phone)
    identities = [directory.identity(phone) for phone in range(phones)]
    monkeypatch.setattr(directory, "identity", identities.__getitem__)  # phones have theirs
    calls.clear()
    opened = sum_vectors(
        {phone: np.ones(5, np.uint32) for phone in range(phones)},
        terms=SessionTerms(
            round_id=bytes(16), round=0, dimension=5, bits=16, min_cohort=10, min_reporting=8,
            colluders=1,
        ),
        purpose=bytes(32),
        identities=directory,
        primitives=SharedPrimitives(),
        last_stage=lambda phone: last.get(phone, Stage.UNMASK),
    )  # fmt: skip
    reporting = len(opened.reporting)
    counts = operations(opened, signing=reporting - 1, unmasking=reporting - 2)
    assert opened.context.parameters.complete == (phones == 12)
    for kind, count in calls.items():
        assert counts[kind] == count, kind
    assert counts["joins"] == len(opened.reporting) + 2
    assert counts["key pairs"] == 2 * phones + 2
    assert set(counts) - set(calls) == {"joins", "key pairs"}


def test_primitives_alone_are_timed_for_every_operation():
    parameters = SessionTerms(
        round_id=bytes(16), round=0, dimension=5, bits=16, min_cohort=10, min_reporting=8
    ).parameters(10)
    counts = {"exchanges": 10, "joins": 3, "keystreams": 5}
    seconds = primitives_alone(counts, parameters, dimension=5, bits=16)
    assert list(seconds) == list(counts)
    assert all(value > 0 for value in seconds.values())
