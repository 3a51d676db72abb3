"""Whatever a server tells a phone against the rules, the phone names the rule, forgets and is gone.

One session of eight phones, all adjacent, in the hands of its server; phone 0 is lied to. Ring
graphs, where nonces matter, have 140. Every phone computes for itself: no key is shared.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from secagg_sessions import CheckedOnce, masked_vector

from fedspeech.secagg import protocol, shamir
from fedspeech.secagg.client import Phone
from fedspeech.secagg.exchange import History, Inbox, Quorum
from fedspeech.secagg.keys import Identity, IdentityDirectory, public_key, seal
from fedspeech.secagg.primitives import Primitives
from fedspeech.secagg.protocol import (
    MAX_SESSIONS,
    CohortList,
    Members,
    SessionTerms,
    Stage,
    advertisement_statement,
    agreed_statement,
    table,
)
from fedspeech.secagg.refusals import (
    BadSignature,
    CiphertextMissing,
    CohortBelowMinimum,
    CohortListNotMine,
    KeyReused,
    Malformed,
    NeighborsBelowThreshold,
    NonceMismatch,
    NoQuorum,
    OutOfOrder,
    Replayed,
    ReportingInconsistent,
    SecondAnswer,
    SharersInconsistent,
    StaleState,
    UnknownPhone,
    WeakKey,
)
from fedspeech.secagg.server import Server

COUNT, SPARSE = 8, 140
PHONES = IdentityDirectory(os.urandom(32), b"tests", 200)
MODEL, OTHER_MODEL = bytes(32), b"\1" * 32
STRANGER = 999  # whom nobody enrolled
# Eight phones, two of them corrupt: six shares or signatures are needed, and a list has five.
TERMS = SessionTerms(
    round_id=bytes(16), round=4, dimension=5, bits=20, min_cohort=7, min_reporting=5, colluders=2
)
RING_TERMS = replace(TERMS, min_cohort=100, min_reporting=80, colluders=5)
COLUMNS = ("seal_keys", "mask_keys", "commitments", "signatures")
P = 2**255 - 19
LOW_ORDER = [
    number.to_bytes(32, "little")
    for number in (
        0, 1, P - 1, P, P + 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
]  # fmt: skip


class Session:
    """An honest session up to the next answer of its phones; attributes are what the server has."""

    def __init__(self, terms=TERMS, count=COUNT, *, own_terms=None, primitives=None, kind=Phone):
        self.terms = replace(terms, round_id=os.urandom(16))
        self.primitives = primitives or Primitives()
        self.server = Server(self.terms, PHONES, self.primitives)
        self.phones = [
            self.phone(number, own_terms if number == 0 and own_terms else {}, kind)
            for number in range(count)
        ]
        self.reached = 0

    def phone(self, number, own_terms=(), kind=Phone):
        terms = replace(self.terms, **dict(own_terms))
        return kind(number, PHONES.identity(number), PHONES, terms, self.primitives)

    def to(self, answers):
        """Lets every phone answer until each has given so many answers."""
        steps = (
            self.advertised, self.accepted, self.shared, self.masked, self.agreed, self.unmasked
        )  # fmt: skip
        for step in steps[self.reached : answers]:
            step()
            self.reached += 1
        return self

    @property
    def ids(self):
        return np.arange(len(self.phones))

    def advertised(self):
        told = [phone.advertise() for phone in self.phones]
        self.cohort_list = self.server.close_cohort_list(
            self.ids,
            table([one.seal_key for one in told], 32),
            table([one.mask_key for one in told], 32),
            table([one.commitment for one in told], 32),
            table([one.signature for one in told], 64),
        )
        self.context = self.server.bind(MODEL)

    def accepted(self, models=None):
        nonces = [
            phone.accept(self.cohort_list, models[phone.number] if models else MODEL)
            for phone in self.phones
        ]
        width = 0 if self.context.parameters.complete else 32
        self.nonces = self.server.close_nonces(self.ids, table(nonces, width))

    def shared(self):
        self.said = [phone.share(self.nonces) for phone in self.phones]
        self.server.close_shares(
            self.ids,
            np.array([one.sealed for one in self.said]),
            table([one.commitment for one in self.said], 32),
            table([one.signature for one in self.said], 64),
        )

    def masked(self):
        self.vectors = [np.full(self.terms.dimension, 1 + n, np.uint32) for n in self.ids]
        for phone in self.phones:
            inbox = self.server.inbox(phone.number)
            sent = masked_vector(
                phone, inbox, self.vectors[phone.number], self.primitives, self.terms.bits
            )
            assert self.server.add_masked(phone.number, *sent)
        self.reporting = self.server.close_masked()

    def agreed(self):
        told = [
            phone.agree(self.reporting, self.server.neighbors_signatures(phone.number))
            for phone in self.phones
        ]
        self.quorum = self.server.close_agreement(self.ids, table(told, 64))

    def unmasked(self):
        told = [phone.unmask(self.quorum) for phone in self.phones]
        shares, signatures = np.array([given for _, given in told]), [one for one, _ in told]
        self.total = self.server.open(self.ids, shares, table(signatures, 64))


def secrets_of(phone):
    """All secret bytes that a phone holds."""
    kept = (phone._seal_key, phone._mask_key, phone._nonce, phone._seed, phone._held)
    return b"".join(map(bytes, kept))


def ask(phone, answer):
    """Asks a phone for one of its six answers, with messages that it need not look at."""
    empty = np.zeros((0, 64), np.uint8)
    return (
        phone.advertise,
        lambda: phone.accept(None, MODEL),
        lambda: phone.share(()),
        lambda: phone.mask(None),
        lambda: phone.agree(members(), empty),
        lambda: phone.unmask(Quorum(members(), empty)),
    )[answer]()


def assert_gone(phone):
    assert not any(secrets_of(phone))
    for answer in range(6):
        with pytest.raises(Replayed, match="has left"):
            ask(phone, answer)


def refused(refusal, phone, answer, *arguments):
    """Checks that a phone holds secrets, refuses for this reason and no other, and is gone."""
    assert any(secrets_of(phone))
    with pytest.raises(refusal) as caught:
        answer(*arguments)
    assert type(caught.value) is refusal
    assert_gone(phone)


def members(*numbers):
    return Members(np.array(numbers, dtype=np.int64))


def changed(column, **rows):
    """A copy of a byte table with some rows replaced: `r3=` names row 3."""
    copy = column.copy()
    for name, row in rows.items():
        copy[int(name[1:])] = np.frombuffer(row, np.uint8) if isinstance(row, bytes) else row
    return copy


def flipped(column, row, place=0):
    copy = column.copy()
    copy[row, place] ^= 1
    return copy


def without(cohort_list, number):
    return only(cohort_list, [one for one in range(len(cohort_list)) if one != number])


def only(cohort_list, numbers):
    columns = {name: getattr(cohort_list, name)[numbers] for name in COLUMNS}
    return CohortList(members=Members(cohort_list.members.ids[numbers]), **columns)


def with_phone(
    cohort_list,
    number,
    identity,
    round_id,
    *,
    round_number=TERMS.round,
    seal_key=None,
    mask_key=None,
):
    """A cohort list with the advertisement of one more phone, or of this one anew."""
    keys = [
        given or public_key(X25519PrivateKey.generate()) for given in (seal_key, mask_key)
    ]  # fmt: skip
    commitment = os.urandom(32)
    signature = identity.sign(
        advertisement_statement(round_id, round_number, number, *keys, commitment)
    )
    others = cohort_list.members.ids != number
    order = np.argsort(np.append(cohort_list.members.ids[others], number))
    rows = (*keys, commitment, signature)
    columns = {
        name: np.vstack([getattr(cohort_list, name)[others], np.frombuffer(row, np.uint8)])[order]
        for name, row in zip(COLUMNS, rows, strict=True)
    }
    return CohortList(
        members=Members(np.append(cohort_list.members.ids[others], number)[order]), **columns
    )


def test_a_session_without_lies_ends_with_the_sum():
    session = Session().to(6)
    np.testing.assert_array_equal(session.total, np.full(5, sum(range(1, COUNT + 1))))
    assert not any(any(secrets_of(phone)) for phone in session.phones)


# The cohort list.


def swapped(column, one=2, other=3):
    copy = column.copy()
    copy[[one, other]] = copy[[other, one]]
    return copy


def own_replaced(name):
    return lambda s: replace(s.cohort_list, **{name: flipped(getattr(s.cohort_list, name), 0)})


def replaced(name):
    return lambda s: replace(s.cohort_list, **{name: flipped(getattr(s.cohort_list, name), 3, 31)})


def two_swapped(*names):
    return lambda s: replace(
        s.cohort_list, **{name: swapped(getattr(s.cohort_list, name)) for name in names}
    )


def replayed_advertisement(s):
    older = Session().to(1).cohort_list
    return replace(
        s.cohort_list, **{name: changed(getattr(s.cohort_list, name), r3=getattr(older, name)[3])
                     for name in COLUMNS}
    )  # fmt: skip


COHORT_LISTS = {
    "own sealing key replaced": (CohortListNotMine, own_replaced("seal_keys")),
    "own mask key replaced": (CohortListNotMine, own_replaced("mask_keys")),
    "own commitment replaced": (CohortListNotMine, own_replaced("commitments")),
    "own signature replaced": (BadSignature, own_replaced("signatures")),
    "a sealing key replaced": (BadSignature, replaced("seal_keys")),
    "a mask key replaced": (BadSignature, replaced("mask_keys")),
    "a commitment replaced": (BadSignature, replaced("commitments")),
    "a signature replaced": (BadSignature, replaced("signatures")),
    "sealing keys of two phones swapped": (BadSignature, two_swapped("seal_keys")),
    "mask keys of two phones swapped": (BadSignature, two_swapped("mask_keys")),
    "commitments of two phones swapped": (BadSignature, two_swapped("commitments")),
    "signatures of two phones swapped": (BadSignature, two_swapped("signatures")),
    "advertisements of two phones swapped": (BadSignature, two_swapped(*COLUMNS)),
    "both keys of one phone swapped": (
        BadSignature,
        lambda s: replace(
            s.cohort_list,
            seal_keys=changed(s.cohort_list.seal_keys, r3=s.cohort_list.mask_keys[3]),
            mask_keys=changed(s.cohort_list.mask_keys, r3=s.cohort_list.seal_keys[3]),
        ),
    ),
    "an advertisement of an earlier session": (BadSignature, replayed_advertisement),
    "an advertisement of another round under the same id": (
        BadSignature,
        lambda s: with_phone(
            s.cohort_list, 50, PHONES.identity(50), s.terms.round_id, round_number=TERMS.round - 1
        ),
    ),
    "the cohort list of another session": (
        CohortListNotMine, lambda s: Session().to(1).cohort_list),
    "an all-zero key that nobody signed": (
        BadSignature,
        lambda s: replace(s.cohort_list, seal_keys=changed(s.cohort_list.seal_keys, r3=bytes(32))),
    ),
    "a Sybil that nobody enrolled": (
        UnknownPhone,
        lambda s: with_phone(s.cohort_list, STRANGER, Identity(os.urandom(32)), s.terms.round_id),
    ),
    "a Sybil under an enrolled number": (
        BadSignature,
        lambda s: with_phone(s.cohort_list, 50, Identity(os.urandom(32)), s.terms.round_id)
    ),
    "a Sybil under the number of a phone that is there": (
        BadSignature,
        lambda s: with_phone(s.cohort_list, 3, Identity(os.urandom(32)), s.terms.round_id)
    ),
    "an enrolled phone's advertisement under another number": (
        BadSignature, lambda s: replace(s.cohort_list, members=members(0, 1, 2, 3, 4, 5, 6, 50))
    ),
    "fewer phones than the minimum": (CohortBelowMinimum, lambda s: only(s.cohort_list, range(6))),
    "this phone left out": (CohortListNotMine, lambda s: without(s.cohort_list, 0)),
    "no phone at all": (CohortListNotMine, lambda s: only(s.cohort_list, [])),
    "something else": (Malformed, lambda s: [s.cohort_list]),
}  # fmt: skip


@pytest.mark.parametrize(("refusal", "lie"), COHORT_LISTS.values(), ids=COHORT_LISTS)
def test_a_false_cohort_list_is_refused(refusal, lie):
    session = Session().to(1)
    phone = session.phones[0]
    refused(refusal, phone, phone.accept, lie(session), MODEL)


def test_a_cohort_list_names_no_phone_and_no_key_twice():
    cohort_list = Session().to(1).cohort_list
    with pytest.raises(Malformed, match="strictly increasing"):
        only(cohort_list, [0, 1, 2, 3, 3])
    for name in ("seal_keys", "mask_keys", "commitments"):
        column = getattr(cohort_list, name)
        with pytest.raises(KeyReused):
            replace(cohort_list, **{name: changed(column, r3=column[2])})
    with pytest.raises(KeyReused):  # as a key of the other kind
        replace(cohort_list, seal_keys=changed(cohort_list.seal_keys, r3=cohort_list.mask_keys[2]))


def test_a_cohort_list_with_more_colluders_than_can_be_outvoted_is_refused():
    session = Session(own_terms={"colluders": 7}).to(1)
    phone = session.phones[0]
    refused(CohortBelowMinimum, phone, phone.accept, session.cohort_list, MODEL)


@pytest.mark.parametrize("model", [b"", bytes(31), bytes(33), "x" * 32, None], ids=repr)
def test_a_purpose_that_is_no_hash_is_refused(model):
    session = Session().to(1)
    phone = session.phones[0]
    refused(Malformed, phone, phone.accept, session.cohort_list, model)


@pytest.mark.parametrize("again", ["the same", "another", "for another model"])
def test_a_second_cohort_list_is_refused(again):
    session = Session().to(2)
    phone = session.phones[0]
    cohort_list = without(session.cohort_list, 7) if again == "another" else session.cohort_list
    model = OTHER_MODEL if again == "for another model" else MODEL
    refused(SecondAnswer, phone, phone.accept, cohort_list, model)


@pytest.mark.parametrize("key", LOW_ORDER, ids=lambda key: key.hex()[:8])
@pytest.mark.parametrize("kind", ["seal_key", "mask_key"])
def test_a_public_key_of_low_order_is_refused_though_its_phone_signed_it(key, kind):
    session = Session().to(1)
    session.cohort_list = with_phone(
        session.cohort_list, 3, PHONES.identity(3), session.terms.round_id, **{kind: key}
    )
    session.phones[0].accept(session.cohort_list, MODEL)
    phone = session.phones[0]
    if kind == "seal_key":
        refused(WeakKey, phone, phone.share, ())
        return
    phone.share(())
    with pytest.raises(WeakKey):
        phone._masks(phone.context, [2])  # neighbor 3, as if its shares had come


# What must be alike: contexts differ, so no signature holds and no ciphertext opens.

OTHER_TERMS = [
    {"dimension": 6}, {"bits": 16}, {"min_cohort": 8}, {"min_reporting": 4},
    {"colluders": 1}, {"dropped_share": 0.0}, {"threat_model": "semi_honest"},
]  # fmt: skip


@pytest.mark.parametrize("own", OTHER_TERMS, ids=lambda own: next(iter(own)))
def test_a_phone_with_other_terms_believes_nobody_and_is_believed_by_nobody(own):
    session = Session(own_terms=own).to(2)
    session.said = [phone.share(()) for phone in session.phones]
    for number in (0, 1):
        phone = session.phones[number]
        refused(BadSignature, phone, phone.mask, forwarded(session, number))


@pytest.mark.parametrize(
    "own", [{"round_id": os.urandom(16)}, {"round": 5}], ids=["round_id", "round"]
)
def test_a_phone_of_another_session_refuses_the_cohort_list(own):
    session = Session(own_terms=own)
    told = [phone.advertise() for phone in session.phones]
    cohort_list = CohortList(
        members=Members(session.ids),
        seal_keys=table([one.seal_key for one in told], 32),
        mask_keys=table([one.mask_key for one in told], 32),
        commitments=table([one.commitment for one in told], 32),
        signatures=table([one.signature for one in told], 64),
    )
    for phone in session.phones[:2]:
        refused(BadSignature, phone, phone.accept, cohort_list, MODEL)


def forwarded(session, number):
    """What a phone gets if the server forwards everything and checks nothing."""
    graph = session.phones[0].graph
    neighbors, places = graph.neighbors[number], graph.places[number]
    return Inbox(
        sharers=session.cohort_list.members,
        sealed=np.array([o.sealed for o in session.said])[neighbors, places],
        commitments=table([session.said[n].commitment for n in neighbors], 32),
        signatures=table([session.said[n].signature for n in neighbors], 64),
    )


class Trusting(Phone):
    """A phone that checks no neighbor's signature."""

    def _check_signed(self, places, signatures, statements):
        pass


@pytest.mark.parametrize("kind", [Phone, Trusting])
def test_two_models_for_two_groups_leave_no_ciphertext_and_no_mask_in_common(kind):
    session = Session(kind=kind).to(1)
    session.accepted([MODEL] * 4 + [OTHER_MODEL] * 4)
    session.said = [phone.share(()) for phone in session.phones]
    ours, theirs = session.phones[0], session.phones[7]
    own = ours._masks(ours.context, [5, 6])[2]  # neighbors 6 and 7; their masks after its own
    other = theirs._masks(theirs.context, [0])[1]
    assert (own[1], other[1]) == (True, False)
    assert own[0] != other[0]
    refusal = BadSignature if kind is Phone else CiphertextMissing
    for phone in session.phones[1:7]:
        refused(refusal, phone, phone.mask, forwarded(session, phone.number))


def test_a_group_of_one_model_is_too_small_to_be_summed_apart():
    session = Session().to(1)
    session.accepted([MODEL] * 5 + [OTHER_MODEL] * 3)
    session.said = [phone.share(()) for phone in session.phones]
    for phone in session.phones[:5]:
        inbox = replace(forwarded(session, phone.number), sharers=members(0, 1, 2, 3, 4))
        refused(NeighborsBelowThreshold, phone, phone.mask, inbox)


# Nonces and the graph.


@pytest.fixture(scope="module")
def ring():
    """A session whose phones have revealed their nonces; each test lies to another phone."""
    session = Session(RING_TERMS, SPARSE, primitives=CheckedOnce()).to(2)
    assert not session.context.parameters.complete
    return session


def one_nonce(nonces, place, nonce):
    return (*nonces[:place], nonce, *nonces[place + 1 :])


NONCES = {
    "one missing": lambda nonces: nonces[:-1],
    "one missing in the middle": lambda nonces: (*nonces[:60], *nonces[61:]),
    "one empty": lambda nonces: one_nonce(nonces, 60, b""),
    "one truncated": lambda nonces: one_nonce(nonces, 60, nonces[60][:-1]),
    "one made up": lambda nonces: one_nonce(nonces, 60, os.urandom(32)),
    "one repeated": lambda nonces: one_nonce(nonces, 60, nonces[61]),
    "one too many": lambda nonces: (*nonces, bytes(32)),
    "two swapped": lambda nonces: (nonces[1], nonces[0], *nonces[2:]),
    "all in another order": lambda nonces: nonces[::-1],
    "none": lambda nonces: (),
    "all made up": lambda nonces: tuple(os.urandom(32) for _ in nonces),
    "of another session": lambda nonces: (
        Session(RING_TERMS, SPARSE, primitives=CheckedOnce()).to(2).nonces
    ),
}


@pytest.mark.parametrize("name", NONCES)
def test_a_graph_from_other_nonces_is_refused(ring, name):
    phone = ring.phones[list(NONCES).index(name)]
    refused(NonceMismatch, phone, phone.share, NONCES[name](ring.nonces))


def test_a_phone_refuses_another_nonce_than_its_own(ring):
    phone = ring.phones[30]
    refused(NonceMismatch, phone, phone.share, one_nonce(ring.nonces, 30, os.urandom(32)))


def test_a_second_graph_is_refused(ring):
    phone = ring.phones[31]
    phone.share(ring.nonces)
    refused(SecondAnswer, phone, phone.share, ring.nonces)


# What neighbors sealed.


def inbox_of(session, number=0, **lies):
    return replace(session.server.inbox(number), **lies)


def malicious_row(row):
    """An inbox in which the ciphertext of the first neighbor, phone 1, is another one."""
    return lambda s: inbox_of(s, sealed=changed(inbox_of(s).sealed, r0=row(s)))


def another_inbox():
    return inbox_of(Session().to(3))


def malformed(name, make):
    return lambda s: inbox_of(s, **{name: make(getattr(inbox_of(s), name))})


INBOXES = {
    "sharers without this phone": (
        SharersInconsistent, lambda s: inbox_of(s, sharers=members(*range(1, COUNT)))
    ),
    "sharers with a stranger": (
        SharersInconsistent, lambda s: inbox_of(s, sharers=members(*range(7), STRANGER))
    ),
    "sharers that are no list": (SharersInconsistent, lambda s: inbox_of(s, sharers=s.ids)),
    "fewer sharers than the minimum": (
        CohortBelowMinimum, lambda s: inbox_of(s, sharers=members(0, 1, 2, 3))
    ),
    "fewer neighbors than the threshold": (
        NeighborsBelowThreshold, lambda s: inbox_of(s, sharers=members(0, 1, 2, 3, 4, 5))
    ),
    "a ciphertext withheld": (CiphertextMissing, malicious_row(lambda s: bytes(88))),
    "a ciphertext truncated": (
        CiphertextMissing, malicious_row(lambda s: inbox_of(s).sealed[0, :80].tobytes() + bytes(8))
    ),
    "a bit of a ciphertext flipped": (
        CiphertextMissing, lambda s: inbox_of(s, sealed=flipped(inbox_of(s).sealed, 3))
    ),
    "a bit of a tag flipped": (
        CiphertextMissing, lambda s: inbox_of(s, sealed=flipped(inbox_of(s).sealed, 3, 87))
    ),
    "a ciphertext meant for another phone": (
        CiphertextMissing, malicious_row(lambda s: inbox_of(s, 2).sealed[1])
    ),
    "this phone's own ciphertext sent back": (
        CiphertextMissing, malicious_row(lambda s: s.said[0].sealed[0])
    ),
    "a ciphertext of another session": (
        CiphertextMissing, malicious_row(lambda s: another_inbox().sealed[0])
    ),
    "ciphertexts of two senders swapped": (
        CiphertextMissing, lambda s: inbox_of(s, sealed=swapped(inbox_of(s).sealed))
    ),
    "a commitment made up": (
        BadSignature, lambda s: inbox_of(s, commitments=flipped(inbox_of(s).commitments, 2))
    ),
    "commitments of two senders swapped": (
        BadSignature, lambda s: inbox_of(s, commitments=swapped(inbox_of(s).commitments))
    ),
    "a signature made up": (
        BadSignature, lambda s: inbox_of(s, signatures=flipped(inbox_of(s).signatures, 2))
    ),
    "commitments and signatures swapped together": (
        BadSignature,
        lambda s: inbox_of(
            s, commitments=swapped(inbox_of(s).commitments),
            signatures=swapped(inbox_of(s).signatures),
        ),
    ),
    "the inbox of another phone": (BadSignature, lambda s: inbox_of(s, 3)),
    "the inbox of another session": (BadSignature, lambda s: another_inbox()),
    "one row too few": (Malformed, malformed("sealed", lambda column: column[:-1])),
    "narrow ciphertexts": (Malformed, malformed("sealed", lambda column: column[:, :-1])),
    "objects for bytes": (Malformed, malformed("sealed", lambda column: column.astype(object))),
    "wide commitments": (Malformed, malformed("commitments", lambda c: c.astype(np.int64))),
    "a list of signatures": (Malformed, malformed("signatures", lambda column: column.tolist())),
}  # fmt: skip


@pytest.mark.parametrize(("refusal", "lie"), INBOXES.values(), ids=INBOXES)
def test_a_false_inbox_is_refused(refusal, lie):
    session = Session().to(3)
    phone = session.phones[0]
    refused(refusal, phone, phone.mask, lie(session))


def test_a_share_outside_the_field_is_refused_though_its_phone_sealed_it():
    session = Session().to(3)
    phone, accomplice = session.phones[:2]
    share = np.full(2 * shamir.LIMBS, shamir.PRIME, "<u4").tobytes()
    info = protocol.share_info(session.context.digest, accomplice._own, phone._own)
    (key,) = accomplice._agree(
        accomplice._seal_key, session.cohort_list.seal_rows, [phone.number], [info]
    )
    row = seal(key, share, info + bytes(4))
    inbox = inbox_of(session, sealed=changed(inbox_of(session).sealed, r0=row))
    refused(Malformed, phone, phone.mask, inbox)


# Reporting phones.


@pytest.fixture
def seven():
    """A session in which phone 7 never shared, so that it is no sharer."""
    session = Session().to(2)
    session.said = [phone.share(()) for phone in session.phones]
    session.server.close_shares(
        session.ids[:7],
        np.array([one.sealed for one in session.said[:7]]),
        table([one.commitment for one in session.said[:7]], 32),
        table([one.signature for one in session.said[:7]], 64),
    )
    session.phones.pop()
    return session


def mask_all(session, **shown):
    """Masks; `p1=` is the list of sharers that phone 1 is shown instead of the true one."""
    for phone in session.phones:
        inbox = session.server.inbox(phone.number)
        sharers = shown.get(f"p{phone.number}", inbox.sharers)
        signature, _ = phone.mask(replace(inbox, sharers=sharers))
        session.server._arrived[phone.number] = signature
    session.reporting = session.server.close_masked()


def signatures_of(session):
    return session.server.neighbors_signatures(0)


REPORTING = {
    "a phone that never shared": (
        ReportingInconsistent, lambda s: (members(*range(8)), signatures_of(s))
    ),
    "a stranger": (
        ReportingInconsistent, lambda s: (members(*range(7), STRANGER), signatures_of(s))
    ),
    "without this phone": (
        ReportingInconsistent, lambda s: (members(*range(1, 7)), signatures_of(s))
    ),
    "no list": (ReportingInconsistent, lambda s: (list(range(7)), signatures_of(s))),
    "fewer than the minimum": (
        CohortBelowMinimum, lambda s: (members(0, 1, 2, 3), signatures_of(s))
    ),
    "a reporting phone who signed nothing": (
        BadSignature, lambda s: (s.reporting, changed(signatures_of(s), r0=bytes(64)))
    ),
    "signatures of two reporting phones swapped": (
        BadSignature, lambda s: (s.reporting, swapped(signatures_of(s)))
    ),
    "a signature of another stage": (
        BadSignature,
        lambda s: (s.reporting, changed(signatures_of(s), r0=s.said[1].signature)),
    ),
    "a signature of another session": (
        BadSignature,
        lambda s: (s.reporting, signatures_of(Session().to(4))),
    ),
    "one signature too few": (Malformed, lambda s: (s.reporting, signatures_of(s)[:-1])),
    "signatures as numbers": (
        Malformed, lambda s: (s.reporting, signatures_of(s).astype(np.float64))
    ),
}  # fmt: skip


@pytest.mark.parametrize(("refusal", "lie"), REPORTING.values(), ids=REPORTING)
def test_a_false_list_of_reporting_is_refused(seven, refusal, lie):
    mask_all(seven)
    phone = seven.phones[0]
    refused(refusal, phone, phone.agree, *lie(seven))


def test_a_list_of_sharers_shown_to_one_phone_is_refused_by_it_and_by_its_neighbors():
    session = Session().to(3)
    mask_all(session, p1=members(*range(7)))
    reporting = members(*range(7))  # phone 7 is in only one of the two lists
    for phone in session.phones[:7]:
        signatures = session.server.neighbors_signatures(phone.number)
        refused(BadSignature, phone, phone.agree, reporting, signatures)


def test_a_second_list_of_reporting_is_refused(seven):
    mask_all(seven)
    phone = seven.phones[0]
    phone.agree(seven.reporting, signatures_of(seven))
    refused(SecondAnswer, phone, phone.agree, members(*range(6)), signatures_of(seven))


# The quorum.


def by(session, *numbers):
    return Quorum(members(*numbers), session.quorum.signatures[list(numbers)])


def signed(session, numbers, reporting):
    """A quorum over another reporting list, signed with identities the server may hold."""
    statement = agreed_statement(
        session.context.digest, session.cohort_list.members.digest, reporting.digest
    )
    told = [PHONES.identity(number).sign(statement) for number in numbers]
    return Quorum(members(*numbers), table(told, 64))


QUORUMS = {
    "too few signatures": (NoQuorum, lambda s: by(s, 0, 1, 2, 3, 4)),
    "none": (NoQuorum, lambda s: by(s)),
    "a phone that is no reporting phone": (
        NoQuorum,
        lambda s: Quorum(members(*range(7), STRANGER), s.quorum.signatures),
    ),
    "something else": (Malformed, lambda s: (s.quorum.members, s.quorum.signatures)),
    "members that are none": (Malformed, lambda s: Quorum([0, 1, 2], s.quorum.signatures)),
    "one signature for two signers": (
        BadSignature,
        lambda s: Quorum(
            s.quorum.members, changed(s.quorum.signatures, r5=s.quorum.signatures[4])
        ),
    ),
    "signatures in another order": (
        BadSignature, lambda s: Quorum(s.quorum.members, swapped(s.quorum.signatures))
    ),
    "one false signature beyond a quorum": (
        BadSignature, lambda s: Quorum(s.quorum.members, flipped(s.quorum.signatures, 7))
    ),
    "signatures over another list": (
        BadSignature, lambda s: signed(s, range(8), members(*range(7)))
    ),
    "signatures over another list of sharers": (
        BadSignature,
        lambda s: Quorum(s.quorum.members, table([
            PHONES.identity(n).sign(agreed_statement(
                s.context.digest, members(*range(7)).digest, s.reporting.digest))
            for n in range(8)
        ], 64)),
    ),
    "the quorum of another session": (BadSignature, lambda s: Session().to(5).quorum),
    "fewer signatures than signers": (
        Malformed, lambda s: Quorum(s.quorum.members, s.quorum.signatures[:-1])
    ),
}  # fmt: skip


@pytest.mark.parametrize(("refusal", "lie"), QUORUMS.values(), ids=QUORUMS)
def test_a_false_quorum_is_refused(refusal, lie):
    session = Session().to(5)
    phone = session.phones[0]
    refused(refusal, phone, phone.unmask, lie(session))


def test_a_quorum_names_no_signer_twice():
    with pytest.raises(Malformed, match="strictly increasing"):
        by(Session().to(5), 0, 1, 2, 3, 4, 4)


def test_a_quorum_for_fewer_colluders_is_refused():
    session = Session().to(5)
    lowered = replace(session.terms, colluders=0).quorum(COUNT)
    assert lowered == 5 < session.context.quorum
    phone = session.phones[0]
    refused(NoQuorum, phone, phone.unmask, by(session, *range(lowered)))


def test_reporting_split_in_two_have_no_quorum_on_either_side():
    # Phones 0 to 3 are told that phone 7 vanished, 4 to 6 that it did not; both corrupt phones, 2
    # and 3, sign for both sides. Shares of both kinds of phone 7 would open its vector.
    session = Session().to(4)
    here, there = members(*range(7)), session.reporting
    for phone in session.phones:
        mine = here if phone.number < 4 else there
        phone.agree(mine, session.server.neighbors_signatures(phone.number))
    one, other = signed(session, [0, 1, 2, 3], here), signed(session, [2, 3, 4, 5, 6], there)
    refused(NoQuorum, session.phones[0], session.phones[0].unmask, one)
    refused(NoQuorum, session.phones[4], session.phones[4].unmask, other)
    mixed = (
        signed(session, range(4), here).signatures,
        signed(session, range(4, 7), there).signatures,
    )
    both = Quorum(here, np.vstack(mixed))
    refused(BadSignature, session.phones[1], session.phones[1].unmask, both)
    refused(BadSignature, session.phones[5], session.phones[5].unmask, both)


def test_the_other_kind_of_share_is_never_given():
    session = Session().to(4)
    phone = session.phones[0]
    held = np.frombuffer(bytes(phone._held), np.uint32).reshape(-1, 2 * shamir.LIMBS)
    session.to(5)
    of_mask_keys = [row.tobytes() for row in held[:, shamir.LIMBS :]]
    assert not any(share in phone.save() for share in of_mask_keys)  # all survived: forgotten
    _, given = phone.unmask(session.quorum)
    np.testing.assert_array_equal(given, held[:, : shamir.LIMBS])  # seeds of reporting phones
    assert not any(secrets_of(phone))
    dropped = members(*range(7))
    for again in (
        lambda: phone.unmask(signed(session, range(7), dropped)),
        lambda: phone.agree(dropped, session.server.neighbors_signatures(0)),
    ):
        with pytest.raises((SecondAnswer, Replayed)):
            again()
    assert_gone(phone)


# Stages and sessions.

STATES = ("new", "advertised", "accepted", "shared", "masked", "agreed", "done")


@pytest.mark.parametrize("state", STATES)
def test_only_the_next_answer_is_given(state):
    given = STATES.index(state)
    session = Session().to(given)
    for answer in range(6):
        if answer == given:
            continue
        phone = session.phones[answer]
        assert any(secrets_of(phone)) == (0 < given < 6)
        refusal = SecondAnswer if answer < given else OutOfOrder
        with pytest.raises(refusal) as caught:
            ask(phone, answer)
        assert type(caught.value) is refusal
        assert_gone(phone)


def test_a_phone_enters_each_session_once_and_no_earlier_one():
    history = History().entering(5, 0).entering(5, 1).entering(5, 4)
    assert (history.round, history.session, history.stage) == (5, 4, Stage.NONE)
    for session in (0, 1, 3, 4):
        with pytest.raises(Replayed, match="not later"):
            history.entering(5, session)
    for earlier in (4, 0):
        with pytest.raises(Replayed, match="not later"):
            history.entering(earlier, MAX_SESSIONS - 1)
    assert history.entering(6, 0).round == 6
    with pytest.raises(Replayed, match="from 1, got 0"):
        History().entering(-1, 0)


@pytest.mark.parametrize("session", [MAX_SESSIONS, MAX_SESSIONS + 1, 10**9, -1])
def test_a_round_has_so_many_sessions_and_no_more(session):
    history = History()
    for one in range(MAX_SESSIONS):
        history = history.entering(5, one)
    for at in (History(), history):
        with pytest.raises(Replayed, match="sessions 0 to"):
            at.entering(5, session)


def test_no_session_of_a_round_is_entered_after_a_masked_vector_has_left():
    history = replace(History().entering(5, 0), stage=Stage.MASK)
    for session in range(MAX_SESSIONS):
        with pytest.raises(Replayed):
            history.entering(5, session)
    assert history.entering(6, 0).stage == Stage.NONE


# Stored state.


def restored(session, saved, counter, **lists):
    """A new process of phone 0 that goes on from what was saved."""
    seen = {
        "cohort_list": session.cohort_list, "purpose": MODEL,
        "nonces": getattr(session, "nonces", ()),
        "sharers": session.phones[0].sharers, "reporting": session.phones[0].reporting,
    }  # fmt: skip
    phone = session.phone(0)
    return phone, lambda: phone.restore(saved, stage=counter, **(seen | lists))


@pytest.mark.slow
@pytest.mark.parametrize(("terms", "count"), [(TERMS, COUNT), (RING_TERMS, SPARSE)])
def test_a_phone_that_is_stored_after_every_answer_goes_on(terms, count):
    session = Session(terms, count, primitives=CheckedOnce())
    for answers in range(1, 6):
        session.to(answers)
        old = session.phones[0]
        session.phones[0], restore = restored(session, old.save(), old.stage)
        restore()
        assert session.phones[0].stage == old.stage
        assert secrets_of(session.phones[0]) == secrets_of(old)
    session.to(6)
    np.testing.assert_array_equal(session.total, np.full(5, sum(range(1, count + 1))))


@pytest.mark.parametrize("answers", range(1, 6))
def test_a_state_older_than_the_last_answer_is_refused(answers):
    session = Session().to(answers)
    saved, stage = session.phones[0].save(), session.phones[0].stage
    lists = {"sharers": session.phones[0].sharers, "reporting": session.phones[0].reporting}
    session.to(6)
    for newer in range(stage + 1, Stage.UNMASK + 1):
        phone, restore = restored(session, saved, Stage(newer), **lists)
        with pytest.raises(StaleState):
            restore()
        assert_gone(phone)


def test_the_state_of_a_phone_that_has_left_answers_nothing():
    session = Session().to(4)
    old = session.phones[0]
    refused(ReportingInconsistent, old, old.agree, members(*range(1, 8)), signatures_of(session))
    phone, restore = restored(session, old.save(), old.stage)
    restore()
    assert_gone(phone)


@pytest.mark.parametrize("name", ["cohort_list", "purpose", "sharers", "reporting", "no sharers"])
def test_a_state_beside_other_lists_is_refused(name):
    session = Session().to(5)
    others = {
        "cohort_list": {"cohort_list": without(session.cohort_list, 7)},
        "purpose": {"purpose": OTHER_MODEL},
        "sharers": {"sharers": members(*range(7))}, "reporting": {"reporting": members(*range(7))},
        "no sharers": {"sharers": None},
    }  # fmt: skip
    lists = others[name]
    phone, restore = restored(session, session.phones[0].save(), Stage.AGREE, **lists)
    with pytest.raises(Malformed):
        restore()
    assert_gone(phone)


def test_a_phone_set_back_before_its_cohort_list_takes_no_second_one():
    session = Session(RING_TERMS, SPARSE, primitives=CheckedOnce()).to(1)
    saved, old = session.phones[0].save(), session.phones[0]
    old.accept(session.cohort_list, MODEL)  # the nonce is out, and the graph can be known
    phone, restore = restored(session, saved, old.stage)
    with pytest.raises(StaleState):
        restore()
    assert_gone(phone)


@pytest.mark.slow
def test_a_state_beside_other_nonces_is_refused():
    session = Session(RING_TERMS, SPARSE, primitives=CheckedOnce()).to(4)
    saved, stage = session.phones[0].save(), session.phones[0].stage
    for nonces in ((os.urandom(32),), one_nonce(session.nonces, 60, os.urandom(32))):
        _, restore = restored(session, saved, stage, nonces=nonces)
        with pytest.raises((Malformed, NonceMismatch)):
            restore()


# Requests that come at the same time.


STEPS = {
    "advertise": lambda s, phone: phone.advertise(),
    "accept": lambda s, phone: phone.accept(s.cohort_list, MODEL),
    "share": lambda s, phone: phone.share(s.nonces),
    "mask": lambda s, phone: phone.mask(s.server.inbox(phone.number)),
    "agree": lambda s, phone: phone.agree(
        s.reporting, s.server.neighbors_signatures(phone.number)
    ),
    "unmask": lambda s, phone: phone.unmask(s.quorum),
}  # fmt: skip


@pytest.mark.parametrize("stage", STEPS)
def test_of_threads_that_ask_at_once_one_gets_an_answer(stage):
    """A phone that checks, then acts, drew two masks in more than half of such trials."""
    session = Session().to(list(STEPS).index(stage))
    for phone in session.phones:  # eight trials
        barrier = threading.Barrier(3)

        def asked(_, phone=phone, barrier=barrier):
            barrier.wait()
            try:
                return STEPS[stage](session, phone)
            except (SecondAnswer, Replayed) as refusal:
                return refusal

        with ThreadPoolExecutor(3) as threads:
            told = list(threads.map(asked, range(3)))
        assert sum(not isinstance(one, Exception) for one in told) == 1
        assert_gone(phone)  # as whoever is asked twice


# Arrays that the server changes after a phone has looked at them.


def test_a_cohort_list_that_changes_after_it_was_checked_changes_nothing():
    given = Session().to(1).cohort_list
    columns = {name: getattr(given, name).copy() for name in COLUMNS}
    ids = given.members.ids.copy()
    cohort_list = CohortList(members=Members(ids), **columns)
    for array in (ids, *columns.values()):
        array[3] ^= 1
    assert cohort_list.digest == given.digest
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(cohort_list, name), getattr(given, name))
        with pytest.raises(ValueError, match="read-only"):
            getattr(cohort_list, name)[3] ^= 1


def test_a_list_that_changes_after_it_was_checked_has_one_meaning():
    ids = np.arange(6)
    told = Members(ids)
    assert told.place(5) == 5
    ids[5] = 7
    assert told.digest == members(*range(6)).digest
    with pytest.raises(ValueError, match="read-only"):
        told.ids[5] = 7


# Values that are no messages.


def test_a_list_names_nobody_twice_whatever_the_numbers():
    with pytest.raises(Malformed):
        members(5, -(2**63) + 3, -1, 5)  # no difference of neighbors is below zero


def test_values_that_have_no_hash_are_refused_by_name():
    session = Session().to(1)
    phone = session.phones[0]
    refused(Malformed, phone, phone.accept, session.cohort_list, bytearray(32))


def test_nonces_that_are_no_bytes_are_refused_by_name(ring):
    for phone, nonces in zip(
        ring.phones[32:], ([bytearray(32)] * SPARSE, [7] * SPARSE, ["x"]), strict=False
    ):
        refused(Malformed, phone, phone.share, nonces)
