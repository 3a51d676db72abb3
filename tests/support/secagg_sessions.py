"""Sessions of secure aggregation to test with: small, fixed keys, watched, foretold by hand."""

import hashlib
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest

from fedspeech.errors import CohortTooSmall, ProtocolAbort
from fedspeech.secagg import session
from fedspeech.secagg.client import Phone, mask_vectors
from fedspeech.secagg.primitives import Primitives, SharedPrimitives
from fedspeech.secagg.protocol import SessionTerms, Stage
from fedspeech.secagg.refusals import NeighborsBelowThreshold
from fedspeech.secagg.ring import ring_sum
from fedspeech.secagg.server import Server
from fedspeech.seeds import Keystream

PURPOSE = bytes(range(32))


class CheckedOnce(SharedPrimitives):
    """For attacks: signatures that held are not checked again, keys are each phone's own affair.

    What phones agree on is shared by no two of them: a liar could plant it, and an attack would be
    seen that is none, or not be seen.
    """

    agree = Primitives.agree


def terms_of(**changes):
    """SessionTerms with minimums so low that only the thresholds of the protocol count."""
    given = {
        "round_id": bytes(16), "round": 3, "dimension": 9, "bits": 16, "min_cohort": 2,
        "min_reporting": 2,
    }  # fmt: skip
    return SessionTerms(**(given | changes))


def vectors_of(rng, phones, terms):
    """A uniform ring vector for each phone."""
    return {
        phone: rng.integers(0, 2**terms.bits, terms.dimension, dtype=np.uint64).astype(np.uint32)
        for phone in phones
    }


def masked_vector(phone, inbox, vector, primitives, bits):
    """`Phone.mask`, applied to one phone's vector: its words, and the signature to send."""
    signature, masks = phone.mask(inbox)
    (words,) = mask_vectors([vector], [masks], primitives, bits)
    return words, signature


class FixedPhone(Phone):
    """A phone whose secret bytes are a function of session and number, for tests alone."""

    def __init__(self, number, identity, directory, terms, primitives, random=None):
        super().__init__(
            number, identity, directory, terms, primitives, fixed_random(terms, number)
        )


def fixed_random(terms, number):
    """The secret bytes of one phone in one session, in the order in which it draws them."""
    return Keystream(hashlib.sha256(terms.round_id + number.to_bytes(8, "big")).digest()).bytes


def recorded(vectors, *, phone=FixedPhone, **arguments):
    """Runs `sum_vectors` with fixed keys; returns what it opened and every message in order.

    A message is (stage, phone, bytes); what the server shows to phones and the sum stand in the
    same list, as phone None.
    """
    messages = []

    def told(stage, number, *fields):
        data = b"".join(np.asarray(field).tobytes() if hasattr(field, "dtype") else bytes(field)
                        for field in fields)  # fmt: skip
        messages.append((stage, number, data))

    class RecordedPhone(phone):
        def advertise(self):
            said = super().advertise()
            fields = (said.seal_key, said.mask_key, said.commitment, said.signature)
            told("advertise", said.phone, *fields)
            return said

        def accept(self, cohort_list, purpose):
            nonce = super().accept(cohort_list, purpose)
            told("nonce", self.number, nonce, cohort_list.digest)
            return nonce

        def share(self, nonces):
            said = super().share(nonces)
            told("share", self.number, said.sealed, said.commitment, said.signature)
            return said

        def mask(self, inbox):
            signature, masks = super().mask(inbox)
            told("mask", self.number, signature, *[key + bytes([added]) for key, added in masks])
            return signature, masks

        def agree(self, reporting, signatures):
            signature = super().agree(reporting, signatures)
            told("agree", self.number, signature)
            return signature

        def unmask(self, quorum):
            signature, shares = super().unmask(quorum)
            told("unmask", self.number, signature, shares)
            return signature, shares

    class RecordedServer(Server):
        def close_shares(self, *columns):
            sharers = super().close_shares(*columns)
            told("sharers", None, sharers.ids)
            return sharers

        def add_masked(self, number, words, signature):
            told("masked", number, words, signature)
            return super().add_masked(number, words, signature)

        def close_masked(self):
            reporting = super().close_masked()
            told("reporting", None, reporting.ids)
            return reporting

        def close_agreement(self, ids, signatures):
            quorum = super().close_agreement(ids, signatures)
            told("quorum", None, quorum.members.ids, quorum.signatures)
            return quorum

        def open(self, *columns):
            total = super().open(*columns)
            told("total", None, total)
            return total

    with (
        mock.patch.object(session, "Phone", RecordedPhone),
        mock.patch.object(session, "Server", RecordedServer),
    ):
        return session.sum_vectors(vectors, purpose=PURPOSE, **arguments), messages


@dataclass(frozen=True)
class End:
    """How a session must end: with the sum of some phones, or refused."""

    stage: str
    reporting: tuple[int, ...] = ()
    refusal: type[Exception] | None = None
    text: str = ""


def foretold(terms, last):
    """How a session on the complete graph ends, counted from who reaches which stage.

    Args:
      terms: of the session.
      last: the last stage that each phone answers.
    """

    def reach(stage):
        return sorted(phone for phone, its_last in last.items() if its_last >= stage)

    n = len(reach(Stage.ADVERTISE))
    t = quorum = (n + terms.colluders) // 2 + 1
    if n < terms.min_cohort:
        return End("advertise", refusal=CohortTooSmall, text="^advertise: ")
    if (
        n < t + 1
    ):  # t others must be there for each reporting phone, however few are expected to vanish
        return End("advertise", refusal=ProtocolAbort, text="^advertise: no graph")
    sharers, reporting = reach(Stage.SHARE), reach(Stage.MASK)
    if len(sharers) < terms.min_reporting:
        return End("share", refusal=ProtocolAbort, text="^share: ")
    if reporting and len(sharers) - 1 < t:
        text = f"^mask: at least {t} neighbors must have shared"
        return End("mask", refusal=NeighborsBelowThreshold, text=text)
    if len(reporting) < terms.min_reporting:
        return End("mask", refusal=ProtocolAbort, text="^mask: ")
    if len(reach(Stage.AGREE)) < quorum:
        return End("agree", refusal=ProtocolAbort, text="^agree: ")
    if len(reach(Stage.UNMASK)) < t + 1:
        return End("unmask", refusal=ProtocolAbort, text="^unmask: ")
    return End("sum", reporting=tuple(reporting))


class Watched:
    """What a session let out: keys, vectors that arrived, sums opened, who gave shares."""

    def __init__(self):
        """Nothing yet."""
        self.keys, self.arrived, self.opened, self.unmasked = [], [], [], []

    def sum_vectors(self, vectors, **arguments):
        """`session.sum_vectors`, watched."""
        watched = self

        class WatchedServer(Server):
            def add_masked(self, phone, words, signature):
                assert (words <= 2**self._terms.bits - 1).all(), "sent more bits than the ring has"
                added = super().add_masked(phone, words, signature)
                if added:
                    watched.arrived.append(phone)
                return added

            def open(self, *columns):
                total = super().open(*columns)
                watched.opened.append(total)
                return total

        class WatchedPhone(Phone):
            def advertise(self):
                said = super().advertise()
                watched.keys += [said.seal_key, said.mask_key, said.commitment]
                return said

            def unmask(self, quorum):
                given = super().unmask(quorum)
                watched.unmasked.append(self.number)
                return given

        with (
            mock.patch.object(session, "Server", WatchedServer),
            mock.patch.object(session, "Phone", WatchedPhone),
        ):
            return session.sum_vectors(vectors, **arguments)


def check_end(rng, terms, last, identities, primitives):
    """Runs one session on the complete graph and checks its end against `foretold`; returns it."""
    end = foretold(terms, last)
    vectors = vectors_of(rng, last, terms)
    before = {phone: vector.copy() for phone, vector in vectors.items()}
    watched = Watched()
    arguments = {
        "terms": terms, "purpose": PURPOSE, "identities": identities, "primitives": primitives,
        "last_stage": last.__getitem__,
    }  # fmt: skip
    if end.refusal is None:
        found = watched.sum_vectors(vectors, **arguments)
        check_sum(found, vectors, terms)
        assert tuple(found.reporting.ids.tolist()) == end.reporting == tuple(watched.arrived)
        assert found.sessions == 1
    else:
        with pytest.raises(end.refusal, match=end.text):
            watched.sum_vectors(vectors, **arguments)
        assert watched.opened == []
        assert end.stage == "unmask" or watched.unmasked == []
    for phone, vector in before.items():
        np.testing.assert_array_equal(vectors[phone], vector)
    return end


def check_sum(found, vectors, terms):
    """The opened sum is bit for bit the plain one of those who survived."""
    reporting = found.reporting.ids.tolist()
    expected = ring_sum([vectors[phone] for phone in reporting], terms.bits)
    assert found.total.dtype == np.uint32
    np.testing.assert_array_equal(found.total, expected)
